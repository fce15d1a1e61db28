"""N[X]: how a tuple is derived, as a polynomial over the names of base tuples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from relann.algebra.engines.protocol import Ints
from relann.provenance.semirings.semiring import BaseTuples, Semiring

Element = TypeVar("Element")
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Variable:
    """A base tuple: its table and the values of its key."""

    table: str
    key: tuple[object, ...]

    @cached_property
    def order(self) -> tuple[object, ...]:
        """Tables by name, numbers by size, everything else as text."""
        number = [isinstance(k, int | float) for k in self.key]
        parts = zip(number, self.key, strict=True)
        return (self.table, *((not n, k if n else str(k)) for n, k in parts))

    def __str__(self) -> str:
        return f"{self.table}#{shown(self.key)}"


def shown(key: tuple[object, ...]) -> str:
    """The values of a key as text, in brackets if there are several."""
    parts = [_shown(k) for k in key]
    return parts[0] if len(parts) == 1 else f"({','.join(parts)})"


def _shown(value: object) -> str:
    """Text that could be taken for something else stands in quotes."""
    text = str(value)
    if not isinstance(value, str) or text.replace("_", "").isalnum():
        return text
    return "'" + text.replace("'", "''") + "'"


Monomial = tuple[tuple[Variable, int], ...]
"""Variables, in order, with exponents from 1 up: the base tuples of one derivation."""


@dataclass(frozen=True)
class Polynomial:
    """Σ coefficient · Π variable^exponent: each monomial once, coefficients from 1 up.

    Written with the highest degree first, then in the order of variables: a#1² + 2·a#1·b#2 + 3.
    """

    monomials: Mapping[Monomial, int]

    def __hash__(self) -> int:
        return hash(frozenset(self.monomials.items()))

    def evaluated(
        self, semiring: Semiring[Element, Any], value: Callable[[Variable], Element]
    ) -> Element:
        """The polynomial with an element for each variable: the one homomorphism that fits them."""
        total = semiring.zero
        for monomial, count in self.monomials.items():
            product = semiring.one
            for variable, exponent in monomial:
                product = semiring.times(product, semiring.power(value(variable), exponent))
            total = semiring.plus(total, semiring.multiple(count, product))
        return total

    def __str__(self) -> str:
        def order(monomial: Monomial) -> tuple[object, ...]:
            degree = sum(exponent for _, exponent in monomial)
            return (-degree, *((v.order, -e) for v, e in monomial))

        parts = [_written(m, self.monomials[m]) for m in sorted(self.monomials, key=order)]
        return " + ".join(parts) or "0"


def _written(monomial: Monomial, count: int) -> str:
    factors = [f"{v}{str(e).translate(_RAISED) if e > 1 else ''}" for v, e in monomial]
    if count > 1 or not factors:
        factors.insert(0, str(count))
    return "·".join(factors)


def _product(a: Monomial, b: Monomial) -> Monomial:
    exponents = Counter(dict(a))
    exponents.update(dict(b))
    return tuple(sorted(exponents.items(), key=lambda item: item[0].order))


def _summed(polynomials: Iterable[Polynomial]) -> Polynomial:
    total: Counter[Monomial] = Counter()
    for polynomial in polynomials:
        total.update(polynomial.monomials)
    return Polynomial(total)


Objects = npt.NDArray[np.object_]


class How(Semiring[Polynomial, Objects]):
    """Polynomials with whole coefficients: the most general annotation there is.

    Every other one follows from it: put elements of a semiring in place of the variables.
    """

    name = "how"
    zero = Polynomial({})
    one = Polynomial({(): 1})

    def variable(self, variable: Variable) -> Polynomial:
        """The annotation of a base tuple."""
        return Polynomial({((variable, 1),): 1})

    def plus(self, a: Polynomial, b: Polynomial) -> Polynomial:
        return _summed((a, b))

    def times(self, a: Polynomial, b: Polynomial) -> Polynomial:
        total: Counter[Monomial] = Counter()
        for left, m in a.monomials.items():
            for right, n in b.monomials.items():
                total[_product(left, right)] += m * n
        return Polynomial(total)

    def base(self, tuples: BaseTuples) -> Objects:
        keys = zip(*(k.to_pylist() for k in tuples.keys), strict=True)
        return _objects([self.variable(Variable(tuples.table, key)) for key in keys])

    def ones(self, count: int) -> Objects:
        return _objects([self.one] * count)

    def take(self, values: Objects, rows: Ints) -> Objects:
        return values[rows]

    def products(self, left: Objects, right: Objects) -> Objects:
        return _objects([self.times(a, b) for a, b in zip(left, right, strict=True)])

    def sums(self, values: Objects, groups: Ints, count: int) -> Objects:
        members = defaultdict[int, list[Polynomial]](list)
        for group, value in zip(groups.tolist(), values, strict=True):
            members[group].append(value)
        return _objects([_summed(members[group]) for group in range(count)])

    def stacked(self, parts: Sequence[Objects]) -> Objects:
        return np.concatenate(parts)

    def arrow(self, values: Objects) -> pa.Array:
        """The polynomials as text."""
        return pa.array([str(v) for v in values], pa.string())


def _objects(values: Sequence[Polynomial]) -> Objects:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
