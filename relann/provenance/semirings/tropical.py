"""(R with ∞, min, +): the cost of the cheapest derivation."""

from __future__ import annotations

import math

import numpy as np

from relann.errors import DataError
from relann.provenance.semirings.arrays import Array, ArraySemiring
from relann.provenance.semirings.semiring import BaseTuples


class Tropical(ArraySemiring[float]):
    """The least total cost of a derivation's base tuples.

    A tuple costs its weight, or 1: then it is the least number of base tuples needed, counted as
    often as they are used.
    """

    name = "tropical"
    zero = math.inf
    one = 0.0
    dtype = np.float64
    add_up = np.minimum
    multiply = np.add

    def plus(self, a: float, b: float) -> float:
        return min(a, b)

    def times(self, a: float, b: float) -> float:
        return a + b

    def base(self, tuples: BaseTuples) -> Array:
        weights = tuples.weights
        if weights is None:
            return np.ones(tuples.count)
        if not bool((weights > -math.inf).all()):
            raise DataError(f"a weight of `{tuples.table}` is no cost: it is −∞ or not a number")
        return weights
