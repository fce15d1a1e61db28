"""Semirings of numbers: columns are numpy arrays, sums are segment reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from relann.algebra.engines.protocol import Ints
from relann.provenance.semirings.semiring import Semiring

Element = TypeVar("Element")
Array = npt.NDArray[Any]


class ArraySemiring(Semiring[Element, Array]):
    """A semiring whose ⊕ and ⊗ are numpy's `add_up` and `multiply`, over elements of `dtype`."""

    dtype: type
    add_up: np.ufunc
    multiply: np.ufunc

    def ones(self, count: int) -> Array:
        return np.full(count, self.one, dtype=self.dtype)

    def take(self, values: Array, rows: Ints) -> Array:
        return values[rows]

    def products(self, left: Array, right: Array) -> Array:
        found: Array = self.multiply(left, right)
        return found

    def sums(self, values: Array, groups: Ints, count: int) -> Array:
        total: Array = np.full(count, self.zero, dtype=self.dtype)
        self.add_up.at(total, groups, values)
        return total

    def stacked(self, parts: Sequence[Array]) -> Array:
        return np.concatenate(parts)

    def arrow(self, values: Array) -> pa.Array:
        """The annotations as a column of a table."""
        return pa.array(values)
