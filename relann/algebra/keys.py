"""Which columns of a query identify its rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from sqlglot import exp

from relann.algebra.nodes import Aggregate, Alias, Join, Map, Node, Query, Scan, Select, Window
from relann.algebra.terms import Content, Term, conjuncts

Counted = Callable[[Node, Collection[str]], bool]
"""Whether columns of a table or an opaque query identify its rows, which only its data can tell."""

_ONE_EACH = ("asof", "asof_left")  # a left row meets the nearest right row, or none


def _unknown(node: Node, columns: Collection[str]) -> bool:
    return False


class Keys:
    """What the form of a query says of its keys: groups are distinct, a join multiplies what meets.

    Without `counted` no table has a key, and what is said holds whatever the data.
    """

    def __init__(self, counted: Counted = _unknown) -> None:
        self._counted = counted
        self._known: dict[tuple[Node, frozenset[str]], bool] = {}

    def holds(self, node: Node, columns: Collection[str]) -> bool:
        """Whether no two rows of a query agree in all of some columns, a key and maybe more."""
        asked = (node, frozenset(columns))
        if asked not in self._known:
            self._known[asked] = self._holds(*asked)
        return self._known[asked]

    def meets_one(self, node: Node, on: Content) -> bool:
        """Whether a row of another relation meets at most one row of a query under a condition."""
        return self.holds(node, equated(node, on))

    def _holds(self, node: Node, columns: frozenset[str]) -> bool:
        match node:
            case Scan() | Query():
                return self._counted(node, columns)
            case Aggregate(source, by):
                return _values(source, by) <= _values(source, columns)
            case Alias(source, name):
                return self.holds(source, [c[len(name) + 1 :] for c in columns])
            case Map(source, outputs):
                kept = {n: v.field for n, v in outputs if isinstance(v, Content)}
                return self.holds(source, [f for c in columns if (f := kept.get(c)) is not None])
            case Select(source) | Window(source):
                return self.holds(source, [c for c in columns if c in source.by_name])
            case Join():
                return self._joined(node, columns)
        return False

    def _joined(self, join: Join, columns: frozenset[str]) -> bool:
        left = [c for c in columns if c in join.left.by_name]
        if join.kind in ("semi", "anti", *_ONE_EACH):
            return self.holds(join.left, left)
        if join.on is None or join.kind not in ("inner", "left"):
            return False
        if join.kind == "inner":  # equal columns determine each other
            same = [pair for pair in _equalities(join.on) if columns & set(pair)]
            columns = columns.union(*same)
            left = [c for c in columns if c in join.left.by_name]
            right = [c for c in columns if c in join.right.by_name]
            if self.meets_one(join.left, join.on) and self.holds(join.right, right):
                return True
        return self.meets_one(join.right, join.on) and self.holds(join.left, left)


def equated(node: Node, on: Content) -> list[str]:
    """The columns of a relation that a condition says are equal to something of another."""
    found = []
    for sides in _equal_sides(on):
        for one, other in (sides, sides[::-1]):
            elsewhere = all(c.name not in node.by_name for c in other.find_all(exp.Column))
            if isinstance(one, exp.Column) and one.name in node.by_name and elsewhere:
                found.append(one.name)
    return found


def _equalities(on: Content) -> list[tuple[str, str]]:
    """The pairs of columns that a condition says are equal."""
    return [
        (one.name, other.name)
        for one, other in _equal_sides(on)
        if isinstance(one, exp.Column) and isinstance(other, exp.Column)
    ]


def _equal_sides(on: Content) -> Iterator[tuple[exp.Expr, exp.Expr]]:
    """Both sides of each equality that a condition demands."""
    for part in conjuncts(on):
        equal = part.expression.unnest()
        if isinstance(equal, exp.EQ):
            yield equal.this.unnest(), equal.expression.unnest()


def _values(node: Node, columns: Collection[str]) -> set[Content | Term | str]:
    """What columns are, where several of them may be the same."""
    made = dict(node.outputs) if isinstance(node, Map) else {}
    return {made.get(c, c) for c in columns}
