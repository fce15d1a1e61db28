"""Rows of two databases that are to be the same."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from tests.elsewhere.engines import Row


def same(mine: Sequence[Row], theirs: Sequence[Row], tolerance: float, keys: int = 1) -> None:
    """The same rows, numbers up to a share of their size; the first columns are a key."""
    assert len(mine) == len(theirs)
    both = zip(_sorted(mine, keys), _sorted(theirs, keys), strict=True)
    for a, b in both:
        assert _close(a, b, tolerance), (a, b)


def _sorted(rows: Sequence[Row], keys: int) -> list[Row]:
    return sorted(rows, key=lambda row: [f"{_plain(v)!s:>20}" for v in row[:keys]])


def _plain(value: Any) -> Any:
    """Spark's times are those of a zone, which its session says is UTC."""
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


def _close(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(b, tuple | list):
        return len(a) == len(b) and all(_close(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(b, float):
        return a is not None and abs(a - b) <= tolerance * max(1.0, abs(b))
    return bool(_plain(a) == _plain(b))
