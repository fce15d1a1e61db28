"""What predicates say about the order of the times in a row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlglot import exp

from relann.algebra.nodes import Column
from relann.algebra.terms import Content

TIMESTAMP = "TIMESTAMP"
_NAIVE = frozenset({"DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"})
_EXACT = _NAIVE - {"TIMESTAMP_NS"}  # a cast to TIMESTAMP keeps every value
_INTEGER = re.compile(r"^U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?$")
_COMPARED = (exp.EQ, exp.GTE, exp.GT, exp.LTE, exp.LT)

Columns = Mapping[str, Column]


@dataclass(frozen=True)
class Moment:
    """A value of a row: a column, its `cast` to TIMESTAMP where that may differ, or a constant."""

    name: str = ""
    cast: bool = False
    at: datetime | None = None

    @property
    def constant(self) -> bool:
        """Whether every row has the same."""
        return self.at is not None

    def __str__(self) -> str:
        return str(self.at) if self.constant else self.name


Bounds = Mapping[Moment, tuple[str, ...]]
"""Moments that bound a path, each with the comparisons that say so."""


@dataclass(frozen=True)
class Comparison:
    """`low <= high`, true for every row or pair of rows in question; then neither is NULL."""

    low: exp.Expr
    high: exp.Expr

    def __str__(self) -> str:
        low, high = (e.sql(dialect="duckdb").replace('"', "") for e in (self.low, self.high))
        return f"{low} <= {high}"


@dataclass(frozen=True)
class Order:
    """What holds in every row.

    upto     (x, y), transitively closed: x is NULL, or y is not and y <= x
    present  what is never NULL
    """

    upto: frozenset[tuple[Moment, Moment]] = frozenset()
    present: frozenset[Moment] = frozenset()

    def __or__(self, other: Order) -> Order:
        return Order(self.upto | other.upto, self.present | other.present)

    def below(self, value: exp.Expr, columns: Columns) -> frozenset[Moment]:
        """The y with: the value is NULL, or y is not and y <= value."""
        value = value.unnest()
        found = moment(value, columns)
        if found is not None:
            return frozenset({found, *(y for x, y in self.upto if x == found)})
        if not isinstance(value, exp.Coalesce | exp.Greatest):
            return frozenset()
        parts = [self.below(v, columns) for v in _choices(value)]
        common = frozenset.intersection(*parts)
        if isinstance(value, exp.Greatest):  # which leaves NULLs out
            sure = zip(_choices(value), parts, strict=True)
            return common.union(*(p for v, p in sure if self.is_present(v, columns)))
        return common

    def is_present(self, value: exp.Expr, columns: Columns) -> bool:
        """Whether a value is never NULL."""
        value = value.unnest()
        if isinstance(value, exp.Coalesce | exp.Greatest):
            return any(self.is_present(v, columns) for v in _choices(value))
        found = moment(value, columns)
        return found is not None and (found.constant or found in self.present)

    def given(self, predicate: Content | None, columns: Columns) -> Order:
        """What holds in the rows for which a predicate is true as well."""
        if predicate is None:
            return self
        told = comparisons(predicate, columns)
        sure = {moment(e, columns) for c in told for e in (c.low, c.high)}
        sure |= {moment(e, columns) for e in _not_null(predicate.expression)}
        order = Order(self.upto, self.present | {m for m in sure if m is not None})
        for comparison in told:
            high = moment(comparison.high, columns)
            if high is not None:
                pairs = {(high, low) for low in order.below(comparison.low, columns)}
                order = Order(_closed(order.upto | pairs), order.present)
        return order

    def equal(self, one: str, other: str) -> bool:
        """Whether two columns are equal in every row, or both NULL."""
        a, b = Moment(one), Moment(other)
        return a == b or {(a, b), (b, a)} <= self.upto

    def only(self, keep: Callable[[Moment], bool]) -> Order:
        """What is said about some moments; constants are kept."""
        kept = {m for pair in self.upto for m in pair if m.constant or keep(m)}
        return Order(
            frozenset((x, y) for x, y in self.upto if x in kept and y in kept),
            frozenset(m for m in self.present if keep(m)),
        )

    def through(self, outputs: Iterable[tuple[str, exp.Expr]], columns: Columns) -> Order:
        """What holds of the named values of a row."""
        outputs = list(outputs)
        images = renaming(outputs, columns)
        for _, y in self.upto:
            if y.constant:
                images.setdefault(y, set()).add(y)
        pairs, present = set(), set()
        for name, value in outputs:
            for low in self.below(value, columns):
                pairs |= {(Moment(name), image) for image in images.get(low, ())}
            if self.is_present(value, columns):
                present.add(Moment(name))
        for x, y in self.upto:
            pairs |= {(a, b) for a in images.get(x, ()) for b in images.get(y, ())}
        present |= {image for m in self.present for image in images.get(m, ())}
        return Order(frozenset(p for p in pairs if p[0] != p[1]), frozenset(present))


def renaming(
    outputs: Iterable[tuple[str, exp.Expr]], columns: Columns
) -> dict[Moment, set[Moment]]:
    """What each moment of a row is called among its named values."""
    images: dict[Moment, set[Moment]] = {}
    for name, value in outputs:
        found = moment(value, columns)
        if found is not None and not found.constant:
            images.setdefault(found, set()).add(Moment(name))
            if not found.cast:
                images.setdefault(Moment(found.name, cast=True), set()).add(Moment(name, cast=True))
    return images


def moment(value: exp.Expr, columns: Columns) -> Moment | None:
    """The moment that an expression is, if it is one."""
    value = value.unnest()
    if isinstance(value, exp.Column) and not value.table and value.name in columns:
        return Moment(value.name)
    if type(value) is not exp.Cast or value.to.sql(dialect="duckdb") != TIMESTAMP:
        return None
    inner = value.this.unnest()
    if isinstance(inner, exp.Literal) and inner.is_string:
        try:
            at = datetime.fromisoformat(inner.name)
        except ValueError:
            return None
        return None if at.tzinfo else Moment(at=at)
    if isinstance(inner, exp.Column) and not inner.table and inner.name in columns:
        return Moment(inner.name, cast=columns[inner.name].type not in _EXACT)
    return None


def comparisons(predicate: Content | None, columns: Columns) -> list[Comparison]:
    """What a predicate, where it is true, says of values that DuckDB compares as they are.

    Not between types that order their values differently, such as times with and without zone.
    """
    found = []
    for part in _conjuncts(predicate.expression) if predicate is not None else ():
        if isinstance(part, exp.Between):
            low, high = part.args["low"], part.args["high"]
            pairs = [(low, part.this), (part.this, high)]
        elif type(part) in _COMPARED:
            one, other = part.this, part.expression
            pairs = [(one, other), (other, one)]
            if not isinstance(part, exp.EQ):
                pairs = pairs[:1] if isinstance(part, exp.LTE | exp.LT) else pairs[1:]
        else:
            continue
        kinds = [_kind(e, columns) for e in (pairs[0][0], pairs[0][1])]
        if kinds[0] is not None and kinds[0] == kinds[1]:
            found += [Comparison(low.unnest(), high.unnest()) for low, high in pairs]
    return found


def raised(
    bounds: Bounds, order: Order, told: Iterable[Comparison], columns: Columns
) -> dict[Moment, tuple[str, ...]]:
    """All that bounds a path, given some that do: what is not below a bound is one itself."""
    out = dict(bounds)
    told = list(told)
    while True:
        before = len(out)
        for comparison in told:
            high = moment(comparison.high, columns)
            if high is not None and high not in out:
                chain = bounding(comparison.low, out, order, columns)
                if chain is not None:
                    out[high] = (*chain, str(comparison))
        for high, low in sorted(order.upto, key=str):
            if low in out and high not in out:
                out[high] = out[low]
        if len(out) == before:
            return out


def bounding(
    value: exp.Expr, bounds: Bounds, order: Order, columns: Columns
) -> tuple[str, ...] | None:
    """Why a value bounds a path whose bounds are given; None where it does not.

    A value chosen among bounds is one: the rows that choose the same do not change.
    """
    value = value.unnest()
    found = moment(value, columns)
    if found is not None:
        return bounds.get(found)
    if not isinstance(value, exp.Coalesce | exp.Greatest):
        return None
    chains = [bounding(v, bounds, order, columns) for v in _choices(value)]
    known = [c for c in chains if c is not None]
    if isinstance(value, exp.Greatest):
        for choice, chain in zip(_choices(value), chains, strict=True):
            if chain is not None and order.is_present(choice, columns):
                return chain
    return known[0] if len(known) == len(chains) else None


def _choices(value: exp.Expr) -> list[exp.Expr]:
    return [value.this, *value.expressions]


def _kind(value: exp.Expr, columns: Columns) -> str | None:
    value = value.unnest()
    if isinstance(value, exp.Coalesce | exp.Greatest):
        kinds = {_kind(v, columns) for v in _choices(value)}
        return kinds.pop() if len(kinds) == 1 else None
    found = moment(value, columns)
    if found is None:
        return None
    if found.constant or found.cast:
        return "time"
    kind = columns[found.name].type
    if kind is None:
        return None
    if kind in _NAIVE:
        return "time"
    return "integer" if _INTEGER.match(kind) else kind


def _conjuncts(predicate: exp.Expr) -> Iterable[exp.Expr]:
    predicate = predicate.unnest()
    if isinstance(predicate, exp.And):
        yield from _conjuncts(predicate.left)
        yield from _conjuncts(predicate.right)
    else:
        yield predicate


def _not_null(predicate: exp.Expr) -> Iterable[exp.Expr]:
    for part in _conjuncts(predicate):
        if isinstance(part, exp.Not):
            inner = part.this.unnest()
            if isinstance(inner, exp.Is) and isinstance(inner.expression, exp.Null):
                yield inner.this


def _closed(pairs: frozenset[tuple[Moment, Moment]]) -> frozenset[tuple[Moment, Moment]]:
    while True:
        further = {(x, z) for x, y in pairs for w, z in pairs if y == w and x != z}
        if further <= pairs:
            return frozenset((x, y) for x, y in pairs if x != y)
        pairs |= further
