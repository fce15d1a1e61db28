"""Sums of products over joins, computed before the joins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from relann.algebra.nodes import Aggregate, Join, Map, Node, Reduce, Select, fresh_name
from relann.algebra.statistics import Statistics
from relann.algebra.terms import (
    Apply,
    Constant,
    Content,
    Dropout,
    Field,
    Lift,
    Term,
    column,
    conjunction,
    conjuncts,
)

FEWER = 0.7
"""A sum before a join is worth its step when it leaves less than this share of the rows."""


def aggregate_before_join(node: Node, statistics: Statistics) -> Node | None:
    """Σ_{u ⋈ v} f(u)·g(v) = Σ_u f(u) · (Σ_{v ⋈ u} g(v)): an acyclic join is never materialised.

    Relations that join one other relation only are summed by the columns they join on, one after
    the other, from the leaves of the join's tree to the relation that holds the group's key. Fires
    where a relation has several rows for each value of these columns, and joining it would give
    more rows than it has. Never for dropout, which draws for each row of the join, nor for other
    reductions than plain sums.
    """
    match node:
        case Aggregate(Map(source, outputs), by, reductions):
            sums = _sums(reductions)
            query = None if sums is None else _flattened(source, dict(outputs), by, sums)
            if query is None:
                return None
            summed = 0
            while (found := query.leaf()) is not None:
                summed += query.absorb(*found, statistics)
            return query.rebuilt(dict(outputs), by, reductions) if summed else None
    return None


def _sums(reductions: Sequence[tuple[str, Content | Reduce]]) -> list[str] | None:
    """The columns that are summed, None if something else happens to any."""
    found = []
    for _, value in reductions:
        if not isinstance(value, Reduce) or value.how != "sum" or value.where is not None:
            return None
        found.append(value.column)
    return found or None


@dataclass(frozen=True)
class _Relation:
    """One relation of a join, with what it contributes to each summed product (none: factor 1)."""

    node: Node
    factors: Mapping[str, tuple[Term, ...]]


@dataclass
class _Query:
    """A join of relations under predicates, as a set: what it means does not depend on order.

    kept   columns that the group's key reads
    rest   factors that read no relation
    taken  names of columns
    """

    relations: list[_Relation]
    predicates: list[Content]
    kept: frozenset[str]
    rest: dict[str, tuple[Term, ...]]
    taken: set[str]

    def leaf(self) -> tuple[int, int] | None:
        """A relation the key does not read that joins one other relation only, and that one."""
        for number, relation in enumerate(self.relations):
            if self.kept & set(relation.node.names):
                continue
            partners = {k for p in self._joining(number) for k in self._read(p)} - {number}
            if len(partners) == 1:
                return number, partners.pop()
        return None

    def _read(self, predicate: Content) -> set[int]:
        return {k for k, r in enumerate(self.relations) if predicate.columns & set(r.node.names)}

    def _joining(self, number: int) -> list[Content]:
        names = set(self.relations[number].node.names)
        return [p for p in self.predicates if p.columns & names]

    def absorb(self, number: int, other: int, statistics: Statistics) -> int:
        """Join a leaf to its partner, summed beforehand where that pays; 1 if it was."""
        leaf, partner = self.relations[number], self.relations[other]
        joining = self._joining(number)
        on, read = conjunction(joining), {c for p in joining for c in p.columns}
        keys = [c for c in leaf.node.names if c in read]
        joined = Join(partner.node, leaf.node, "inner", on)
        pays = (
            statistics.rows(joined) > statistics.rows(leaf.node)
            and statistics.distinct_share(leaf.node, keys) < FEWER
        )
        absorbed = _summed(leaf, keys, partner.factors, self.taken) if pays else leaf
        together = {
            name: partner.factors[name] + absorbed.factors[name] for name in partner.factors
        }
        made = _Relation(Join(partner.node, absorbed.node, "inner", on), together)
        self.relations[other] = made
        del self.relations[number]
        self.predicates = [p for p in self.predicates if p not in joining]
        return int(pays)

    def rebuilt(
        self,
        outputs: Mapping[str, Content | Term],
        by: tuple[str, ...],
        reductions: tuple[tuple[str, Content | Reduce], ...],
    ) -> Node:
        """The sum over what is left of the join."""
        whole = self.relations[0].node
        left = list(self.predicates)
        for relation in self.relations[1:]:
            names = {*whole.names, *relation.node.names}
            ready = [p for p in left if p.columns <= names]
            left = [p for p in left if p not in ready]
            whole = Join(whole, relation.node, "inner", conjunction(ready) if ready else None)
        if left:
            whole = Select(whole, conjunction(left))
        made: dict[str, Content | Term] = {}
        for name, value in outputs.items():
            if isinstance(value, Content):
                made[name] = value
            else:
                parts = [f for r in self.relations for f in r.factors[name]]
                made[name] = _product([*self.rest[name], *parts])
        return Aggregate(Map(whole, tuple(made.items())), by, reductions)


def _flattened(
    source: Node, outputs: Mapping[str, Content | Term], by: tuple[str, ...], sums: Iterable[str]
) -> _Query | None:
    """The relations and predicates of a tree of inner joins, the factors of each sum apart.

    None if there is no join, or where a factor reads several relations or must not move.
    """
    predicates: list[Content] = []
    leaves = list(_leaves(source, predicates))
    if len(leaves) < 2:
        return None
    factors: list[dict[str, tuple[Term, ...]]] = [{} for _ in leaves]
    rest: dict[str, tuple[Term, ...]] = {}
    for name in dict.fromkeys(sums):
        term = outputs[name]
        assert isinstance(term, Term)
        rest[name] = ()
        for each in factors:
            each[name] = ()
        for factor in _factors(term):
            if factor.sees_other_rows or any(isinstance(t, Dropout) for t in factor.walk()):
                return None
            holders = [k for k, leaf in enumerate(leaves) if factor.columns <= set(leaf.names)]
            if not factor.columns:
                rest[name] += (factor,)
            elif holders:
                factors[holders[0]][name] += (factor,)
            else:
                return None
    keys = [outputs[k] for k in by]
    kept = frozenset(c for k in keys if isinstance(k, Content) for c in k.columns)
    if any(isinstance(v, Content) and v.windowed for v in outputs.values()):
        return None
    relations = [_Relation(n, f) for n, f in zip(leaves, factors, strict=True)]
    taken = {name for leaf in leaves for name in leaf.names}
    return _Query(relations, predicates, kept, rest, taken)


def _leaves(node: Node, predicates: list[Content]) -> Iterator[Node]:
    """The relations that inner joins and selections are made of; conjuncts go to `predicates`."""
    match node:
        case Join(left, right, "inner", on):
            if on is not None:
                predicates.extend(conjuncts(on))
            yield from _leaves(left, predicates)
            yield from _leaves(right, predicates)
        case Select(Join() | Select() as source, predicate) if not predicate.windowed:
            predicates.extend(conjuncts(predicate))
            yield from _leaves(source, predicates)
        case _:
            yield node


def _factors(term: Term) -> Iterator[Term]:
    match term:
        case Apply("mul", (left, right)):
            yield from _factors(left)
            yield from _factors(right)
        case _:
            yield term


def _product(factors: Sequence[Term]) -> Term:
    return reduce(lambda a, b: Apply("mul", (a, b)), factors) if factors else Constant(1.0)


def _summed(
    leaf: _Relation,
    joined_on: Sequence[str],
    wanted: Mapping[str, tuple[Term, ...]],
    taken: set[str],
) -> _Relation:
    """A relation's products summed by the columns it joins on, its rows counted where none are."""
    keys = [leaf.node.by_name[name] for name in joined_on]
    below: dict[str, Content | Term] = {c.name: column(c.name, c.type or "") for c in keys}
    outputs: dict[str, Content | Reduce] = {}
    factors: dict[str, tuple[Term, ...]] = {}
    for name in wanted:
        if leaf.factors[name]:
            product = _product(leaf.factors[name])
            inner = fresh_name("product", taken)
            outer = fresh_name("sum", taken)
            taken |= {inner, outer}
            below[inner], outputs[outer] = product, Reduce("sum", inner)
            factors[name] = (Field(outer, product.width),)
        else:
            counted = next((n for n, v in outputs.items() if isinstance(v, Content)), None)
            counted = counted or fresh_name("rows", taken)
            taken.add(counted)
            outputs[counted] = Content("count(*)", "BIGINT")
            factors[name] = (Lift(column(counted, "BIGINT")),)
    grouped = Aggregate(
        Map(leaf.node, tuple(below.items())), tuple(joined_on), tuple(outputs.items())
    )
    return _Relation(grouped, factors)


RULES = (aggregate_before_join,)
