"""({false, true}, ∨, ∧): whether a tuple is derived at all."""

from __future__ import annotations

import numpy as np

from relann.provenance.semirings.arrays import Array, ArraySemiring
from relann.provenance.semirings.semiring import BaseTuples


class Boolean(ArraySemiring[bool]):
    """Whether a tuple is in the answer, given which base tuples are: all that are in the table."""

    name = "boolean"
    zero = False
    one = True
    dtype = bool
    add_up = np.logical_or
    multiply = np.logical_and

    def plus(self, a: bool, b: bool) -> bool:
        return a or b

    def times(self, a: bool, b: bool) -> bool:
        return a and b

    def base(self, tuples: BaseTuples) -> Array:
        return self.ones(tuples.count)
