"""Which rows of a value are NULL: boolean tensors, true where not NULL, None for all true."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from relann.errors import PlanError

Mask = Tensor
"""One truth value for each row."""


class Masks:
    """Equal masks as one object, so that what is built for one is found for the other."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], list[Mask]] = {}

    def shared(self, mask: Mask | None) -> Mask | None:
        """The first mask equal to this one; None when all is true."""
        if mask is None:
            return None
        rows, held = len(mask), int(torch.count_nonzero(mask))
        if held == rows:
            return None
        alike = self._known.setdefault((rows, held), [])
        for other in alike:
            if other is mask or torch.equal(other, mask):
                return other
        alike.append(mask)
        return mask


def of_both(masks: Sequence[Mask | None]) -> Mask | None:
    """Where all are true."""
    known = [m for m in masks if m is not None]
    return reduce(torch.logical_and, known) if known else None


def of_any(masks: Sequence[Mask | None]) -> Mask | None:
    """Where any is true."""
    known = [m for m in masks if m is not None]
    return reduce(torch.logical_or, known) if len(known) == len(masks) else None


def picked(mask: Mask | None, rows: Tensor) -> Mask | None:
    """The mask of gathered rows, −1 standing for none."""
    missing = bool(len(rows)) and bool(rows.min() < 0)
    if mask is None:
        return rows >= 0 if missing else None
    if not len(mask):
        return torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    if not missing:
        return mask.index_select(0, rows)
    return mask.index_select(0, rows.clamp(min=0)) & (rows >= 0)


def seen(value: Tensor | None) -> Tensor:
    """A value that must have been computed and not been freed."""
    if value is None:
        raise PlanError("a step reads a value that is not there")
    return value
