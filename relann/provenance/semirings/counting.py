"""(N, +, ×): in how many ways a tuple is derived, as bag semantics counts."""

from __future__ import annotations

import numpy as np

from relann.algebra.engines.protocol import Ints
from relann.errors import DataError
from relann.provenance.semirings.arrays import Array, ArraySemiring
from relann.provenance.semirings.semiring import BaseTuples

_MOST = 2.0**62  # what int64 holds, and room for the rounding of the check


class Counting(ArraySemiring[int]):
    """The number of derivations; a base tuple counts once, or as often as its weight says.

    Columns are 64-bit: DataError where a count does not fit. Single elements have no bound.
    """

    name = "counting"
    zero = 0
    one = 1
    dtype = np.int64
    add_up = np.add
    multiply = np.multiply

    def plus(self, a: int, b: int) -> int:
        return a + b

    def times(self, a: int, b: int) -> int:
        return a * b

    def base(self, tuples: BaseTuples) -> Array:
        weights = tuples.weights
        if weights is None:
            return self.ones(tuples.count)
        if bool(((weights < 0) | (weights != np.floor(weights)) | (weights > _MOST)).any()):
            raise DataError(
                f"a weight of `{tuples.table}` is no count: 'counting' takes whole numbers from 0 "
                "up; 'tropical' takes any number"
            )
        return weights.astype(np.int64)

    def products(self, left: Array, right: Array) -> Array:
        _check(left.astype(np.float64) * right)
        return super().products(left, right)

    def sums(self, values: Array, groups: Ints, count: int) -> Array:
        _check(np.bincount(groups, values, minlength=count))
        return super().sums(values, groups, count)


def _check(estimate: Array) -> None:
    if bool((estimate > _MOST).any()):
        raise DataError("a tuple has more derivations than 64 bits count; ask for 'boolean'")
