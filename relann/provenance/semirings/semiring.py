"""What a commutative semiring is, for single annotations and for columns of them.

Green, Karvounarakis, Tannen: Provenance semirings, PODS 2007.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from relann.algebra.engines.protocol import Ints

Element = TypeVar("Element")
Values = TypeVar("Values")


@dataclass(frozen=True)
class BaseTuples:
    """The rows of a table whose annotations are asked for.

    `keys` hold, for each part of the table's key, the values of all rows; `weights` a number for
    each row, None where none is given.
    """

    table: str
    count: int
    keys: tuple[pa.Array, ...]
    weights: npt.NDArray[np.float64] | None = None


class Semiring(ABC, Generic[Element, Values]):
    """(K, ⊕, ⊗, 0, 1): both operations are associative and commutative, ⊗ distributes over ⊕.

    0 and 1 are neutral, and 0 ⊗ a = 0. `Values` is a column of elements, one for each row; what
    works on columns agrees, row by row, with what works on elements.
    """

    name: str
    zero: Element
    one: Element

    @abstractmethod
    def plus(self, a: Element, b: Element) -> Element:
        """a ⊕ b: either of two derivations."""

    @abstractmethod
    def times(self, a: Element, b: Element) -> Element:
        """a ⊗ b: both tuples together."""

    def multiple(self, count: int, of: Element) -> Element:
        """of ⊕ of ⊕ …, so many times; 0 for none."""
        total, doubled = self.zero, of
        while count:
            if count % 2:
                total = self.plus(total, doubled)
            count //= 2
            if count:
                doubled = self.plus(doubled, doubled)
        return total

    def power(self, of: Element, exponent: int) -> Element:
        """of ⊗ of ⊗ …, so many times; 1 for none."""
        total, squared = self.one, of
        while exponent:
            if exponent % 2:
                total = self.times(total, squared)
            exponent //= 2
            if exponent:
                squared = self.times(squared, squared)
        return total

    # columns

    @abstractmethod
    def base(self, tuples: BaseTuples) -> Values:
        """The annotations of base tuples."""

    @abstractmethod
    def ones(self, count: int) -> Values:
        """So many 1s."""

    @abstractmethod
    def take(self, values: Values, rows: Ints) -> Values:
        """The annotations of the given rows."""

    @abstractmethod
    def products(self, left: Values, right: Values) -> Values:
        """⊗ row by row."""

    @abstractmethod
    def sums(self, values: Values, groups: Ints, count: int) -> Values:
        """⊕ over the rows of each of `count` groups; 0 for a group without rows."""

    @abstractmethod
    def stacked(self, parts: Sequence[Values]) -> Values:
        """One column after the other."""
