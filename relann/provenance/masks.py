"""Which rows of a value are NULL: boolean arrays, true where not NULL, None for all true."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from relann.algebra.engines.protocol import Ints
from relann.errors import PlanError
from relann.provenance.inputs import Mask


class Masks:
    """Equal masks as one object, so that what is built for one is found for the other."""

    def __init__(self) -> None:
        self._known: dict[bytes, Mask] = {}

    def shared(self, mask: Mask | None) -> Mask | None:
        """The first mask equal to this one; None when all is true."""
        if mask is None or mask.all():
            return None
        digest = hashlib.blake2b(np.packbits(mask).tobytes(), digest_size=16).digest()
        return self._known.setdefault(digest + len(mask).to_bytes(8), mask)


def of_both(masks: Sequence[Mask | None]) -> Mask | None:
    """Where all are true."""
    known = [m for m in masks if m is not None]
    return np.logical_and.reduce(known) if known else None


def of_any(masks: Sequence[Mask | None]) -> Mask | None:
    """Where any is true."""
    known = [m for m in masks if m is not None]
    return np.logical_or.reduce(known) if len(known) == len(masks) else None


def picked(mask: Mask | None, rows: Ints) -> Mask | None:
    """The mask of gathered rows, −1 standing for none."""
    missing = bool(len(rows)) and bool(rows.min() < 0)
    if mask is None:
        return rows >= 0 if missing else None
    if not len(mask):
        return np.zeros(len(rows), dtype=bool)
    return mask[rows] & (rows >= 0) if missing else mask[rows]


def seen(value: Tensor | None) -> Tensor:
    """A value that must have been computed and not been freed."""
    if value is None:
        raise PlanError("a step reads a value that is not there")
    return value
