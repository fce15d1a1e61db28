"""How values compare, sort and group, as in DuckDB."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from relann.algebra.engines.interpreter.casts import cast
from relann.algebra.engines.interpreter.values import Interval, Value
from relann.errors import EngineError


def aligned(a: Value, b: Value) -> tuple[Value, Value]:
    """Two values of different types as values of the type DuckDB compares and computes in.

    FLOAT meets whole numbers and decimals as FLOAT and DOUBLE as DOUBLE; text becomes what it
    meets; a date meets a timestamp as midnight.
    """
    if type(a) is type(b):
        return a, b
    if (changed := _towards(a, b)) is not None:
        return aligned(changed, b)
    if (changed := _towards(b, a)) is not None:
        return aligned(a, changed)
    raise EngineError(f"{_kind(a)} and {_kind(b)} do not compare in the reference engine")


def _towards(one: Value, other: Value) -> Value | None:
    """`one` a step nearer to the type of `other`; None where `other` must move."""
    if isinstance(one, str):
        return None if isinstance(other, str) else cast(one, _type_met(other))
    if isinstance(one, bool) and isinstance(other, _NUMBER):
        return int(one)
    if isinstance(one, int) and isinstance(other, Decimal):
        return Decimal(one)
    if isinstance(one, int | Decimal) and isinstance(other, np.float32):
        return np.float32(one)
    if isinstance(one, int | Decimal | np.float32) and isinstance(other, float):
        return float(one)
    if not isinstance(one, datetime) and isinstance(one, date) and isinstance(other, datetime):
        return datetime(one.year, one.month, one.day)
    return None


_NUMBER = (int, float, Decimal, np.float32)


def _type_met(value: Value) -> str:
    """The type a text takes when it meets a value."""
    for kind, name in (
        *((bool, "BOOLEAN"), (int, "BIGINT"), (_NUMBER, "DOUBLE"), (datetime, "TIMESTAMP")),
        *((date, "DATE"), (Interval, "INTERVAL")),
    ):
        if isinstance(value, kind):
            return name
    return "VARCHAR"


def _kind(value: Value) -> str:
    return type(value).__name__


def compare(a: Value, b: Value) -> int:
    """−1, 0 or 1 as `a` is less than, equal to or greater than `b`, neither being NULL.

    NaN equals itself and is above every number; a NULL inside a list equals itself and is above
    every value.
    """
    if isinstance(a, tuple) and isinstance(b, tuple):
        return _compare_lists(a, b)
    a, b = aligned(a, b)
    if isinstance(a, Interval):
        a, b = a.size, b.size
    if isinstance(a, float | np.float32):
        a, b = _nan_above_all(float(a)), _nan_above_all(float(b))
    return int(a > b) - int(a < b)


def _nan_above_all(x: float) -> tuple[bool, float]:
    return (True, 0.0) if math.isnan(x) else (False, x)


def _compare_lists(a: tuple[Value, ...], b: tuple[Value, ...]) -> int:
    for x, y in zip(a, b, strict=False):
        found = int(x is None) - int(y is None) if x is None or y is None else compare(x, y)
        if found:
            return found
    return int(len(a) > len(b)) - int(len(a) < len(b))


def same(a: Value, b: Value) -> bool:
    """IS NOT DISTINCT FROM: equal, or both NULL."""
    if a is None or b is None:
        return a is None and b is None
    return compare(a, b) == 0


def identity(value: Value) -> Hashable:
    """A hashable that is equal for values of one type that GROUP BY puts together."""
    if isinstance(value, tuple):
        return tuple(identity(v) for v in value)
    if isinstance(value, float | np.float32):
        return "nan" if math.isnan(value) else float(value) + 0.0  # −0 is 0
    return value.size if isinstance(value, Interval) else value


def ordering(descending: bool = False, nulls_first: bool = False) -> Callable[[Value], Any]:
    """A sort key for ORDER BY one value."""
    sign = -1 if descending else 1

    def both(a: Value, b: Value) -> int:
        if a is None or b is None:
            return (int(a is None) - int(b is None)) * (-1 if nulls_first else 1)
        return sign * compare(a, b)

    return functools.cmp_to_key(both)
