"""Which content queries are cyclic joins, and in which order their variables are enumerated.

A tree of inner joins is read as a conjunctive query: its leaves are atoms, its equal columns
variables. It is cyclic if its hypergraph, an edge for each atom, is not α-acyclic (Graham 1979, Yu
and Özsoyoğlu 1979: what GYO reduction leaves is not empty). Joined two atoms at a time, a cyclic
query has intermediate results greater than its output could ever be (Ngo, Ré and Rudra 2014).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from relann.algebra.nodes import Alias, Join, Map, Node, Select
from relann.algebra.terms import Content, column, conjuncts

Unique = Callable[[Node, str], bool]
"""Whether no two rows of a leaf agree in a column."""

Source = tuple[int, Content]
"""An expression over the columns of one leaf, by its number."""

MOST_VARIABLES = 60
"""More are left to the database: a set of variables is a word of 64 bits."""

_COMPARISONS: dict[type[exp.Expr], str] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
}  # fmt: skip
TURNED = {"<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_INTEGER = re.compile(r"^(U?(TINY|SMALL)INT|U?INTEGER|BIGINT)$")
_VOLATILE = re.compile(r"\b(random|uuid|uuidv4|uuidv7|gen_random_uuid|nextval)\s*\(", re.IGNORECASE)


@dataclass(frozen=True)
class Leaf:
    """A query the database runs on its own: the rows of `node` for which `predicates` are true."""

    node: Node
    predicates: tuple[Content, ...] = ()


@dataclass(frozen=True)
class Variable:
    """Columns that are equal in every row, by the name of one.

    They are not NULL, unless `nullable`, which only a single column is.
    """

    columns: tuple[Source, ...]
    name: str
    nullable: bool = False

    @property
    def kind(self) -> str:
        """What its values are: `integer`, or a DuckDB type."""
        kind = comparable(self.columns[0][1].type)
        assert kind is not None
        return kind


@dataclass(frozen=True)
class Comparison:
    """A condition between two variables by their numbers, `left` enumerated before `right`."""

    left: int
    sign: str
    right: int


@dataclass(frozen=True)
class Pattern:
    """A cyclic join: leaves, variables in the order of enumeration, what is compared and kept.

    `columns` says of each column of the result which leaf's expression it is.
    """

    leaves: tuple[Leaf, ...]
    variables: tuple[Variable, ...]
    comparisons: tuple[Comparison, ...]
    columns: tuple[Source, ...]

    def variables_of(self, leaf: int) -> dict[int, list[Content]]:
        """The variables of a leaf, in order, each with its columns there."""
        found: dict[int, list[Content]] = {}
        for number, variable in enumerate(self.variables):
            for of, content in variable.columns:
                if of == leaf:
                    found.setdefault(number, []).append(content)
        return found


def comparable(sql_type: str) -> str | None:
    """Under which name values of a type compare with each other as whole numbers or texts do.

    None for all others: what has a NaN, a scale or a zone is compared by the database only.
    """
    if _INTEGER.match(sql_type):
        return "integer"
    return sql_type if sql_type in ("VARCHAR", "DATE", "TIMESTAMP") else None


def _never(node: Node, column: str) -> bool:
    return False


def cyclic_pattern(
    node: Node, columns: Sequence[str], order: Sequence[str], unique: Unique = _never
) -> Pattern | None:
    """A content query as a cyclic join whose rows come sorted by `order`; None if it is none.

    None as well where some condition cannot be tested exactly as the database would. Leaves that
    are met by a `unique` column are functional lookups and close no cycle.
    """
    flat = _flat(node)
    if flat is None or len(flat.leaves) < 3:
        return None
    try:
        return _pattern(flat, columns, order, unique)
    except _NotComparableError:
        return None


def is_cyclic(edges: Iterable[Collection[int]]) -> bool:
    """Whether a hypergraph is not α-acyclic, by GYO reduction."""
    left = [set(edge) for edge in edges]
    while True:
        times = Counter(v for edge in left for v in edge)
        shared = [{v for v in edge if times[v] > 1} for edge in left]
        kept: list[set[int]] = []
        for number, edge in enumerate(shared):
            if not any(edge <= other for other in (*kept, *shared[number + 1 :])):
                kept.append(edge)
        if kept == left:
            return any(kept)
        left = kept


# -- flattening ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Compared:
    sign: str
    sides: tuple[Source, Source]


@dataclass(frozen=True)
class _Flat:
    """A tree of inner joins without its operators: where its columns are from, what must hold."""

    leaves: tuple[Leaf, ...]
    columns: dict[str, Source]
    compared: tuple[_Compared, ...] = ()
    names: tuple[tuple[Source, str], ...] = ()

    def beside(self, other: _Flat) -> _Flat:
        """Both, nothing between them compared; columns keep the names they have here."""
        by = len(self.leaves)

        def moved(source: Source) -> Source:
            return source[0] + by, source[1]

        columns = self.columns | {name: moved(s) for name, s in other.columns.items()}
        compared = [
            _Compared(c.sign, (moved(c.sides[0]), moved(c.sides[1]))) for c in other.compared
        ]
        names = dict(self.names) | {moved(source): name for source, name in other.names}
        for name, source in columns.items():
            names.setdefault(source, name)
        return _Flat(
            self.leaves + other.leaves,
            columns,
            (*self.compared, *compared),
            tuple(names.items()),
        )

    def within(self, content: Content) -> Source | None:
        """An expression over the columns as one over those of a single leaf; None if it is none."""
        if _opaque(content):
            return None
        if content.field is not None:
            return self.columns[content.field]
        read = {name: self.columns[name] for name in content.columns}
        leaves = {leaf for leaf, _ in read.values()}
        if len(leaves) > 1:
            return None
        value = content.substituted({name: source.sql for name, (_, source) in read.items()})
        return (leaves.pop() if leaves else 0), value

    def where(self, predicate: Content) -> _Flat | None:
        """The rows where a predicate is true; None if it is no conjunction of what has a place."""
        flat = self
        for part in conjuncts(predicate):
            compared = flat._compared(part)
            if compared is not None:
                flat = replace(flat, compared=(*flat.compared, compared))
                continue
            placed = flat.within(part)
            if placed is None:
                return None
            flat = flat.filtered(*placed)
        return flat

    def filtered(self, leaf: int, predicate: Content) -> _Flat:
        """The rows where a predicate is true of one leaf."""
        leaves = list(self.leaves)
        of = leaves[leaf]
        leaves[leaf] = Leaf(of.node, (*of.predicates, predicate))
        return replace(self, leaves=tuple(leaves))

    def _compared(self, part: Content) -> _Compared | None:
        whole = part.expression.unnest()
        sign = _COMPARISONS.get(type(whole))
        if sign is None:
            return None
        left, right = whole.this.unnest(), whole.expression.unnest()
        if not (isinstance(left, exp.Column) and isinstance(right, exp.Column)):
            return None
        one, other = self.columns[left.name], self.columns[right.name]
        kinds = {comparable(one[1].type), comparable(other[1].type)}
        if None in kinds or len(kinds) > 1:
            return None
        return _Compared(sign, (one, other))


def _flat(node: Node) -> _Flat | None:
    """A node flattened down to its leaves; None for what has columns that are no content."""
    flat = _opened(node)
    if flat is not None:
        return flat
    if any(c.type is None for c in node.columns):
        return None
    own = {c.name: (0, column(c.name, c.type)) for c in node.columns if c.type is not None}
    return _Flat((Leaf(node),), own)


def _opened(node: Node) -> _Flat | None:
    """The same of an operator that can be read as part of a join, else None."""
    match node:
        case Alias(source):
            flat = _flat(source)
            if flat is None:
                return None
            pairs = zip(source.names, node.names, strict=True)
            return replace(flat, columns={new: flat.columns[old] for old, new in pairs})
        case Select(source, predicate):
            flat = _flat(source)
            return None if flat is None else flat.where(predicate)
        case Map(source, outputs):
            flat = _flat(source)
            if flat is None:
                return None
            columns = {}
            for name, value in outputs:
                placed = flat.within(value) if isinstance(value, Content) else None
                if placed is None:
                    return None
                columns[name] = placed
            return replace(flat, columns=columns)
        case Join(left, right, "inner", on):
            sides = (_flat(left), _flat(right))
            if sides[0] is None or sides[1] is None:
                return None
            flat = sides[0].beside(sides[1])
            return flat if on is None else flat.where(on)
    return None


def _opaque(content: Content) -> bool:
    """Whether a value depends on more than its row."""
    return (
        content.windowed
        or _VOLATILE.search(content.sql) is not None
        or content.expression.find(exp.Query) is not None
    )


# -- variables -----------------------------------------------------------------------------------


class _NotComparableError(Exception):
    """A column that has to be a variable has values of a kind that is not compared here."""


class _Classes:
    """Which columns are equal: union and find."""

    def __init__(self) -> None:
        self._above: dict[Source, Source] = {}

    def find(self, source: Source) -> Source:
        while (above := self._above.setdefault(source, source)) != source:
            source = above
        return source

    def unite(self, one: Source, other: Source) -> None:
        self._above[self.find(other)] = self.find(one)

    def members(self) -> dict[Source, list[Source]]:
        found: dict[Source, list[Source]] = {}
        for source in list(self._above):
            found.setdefault(self.find(source), []).append(source)
        return {root: sorted(of, key=_place) for root, of in found.items()}


def _place(source: Source) -> tuple[int, str]:
    return source[0], source[1].sql


def _pattern(
    flat: _Flat, columns: Sequence[str], order: Sequence[str], unique: Unique
) -> Pattern | None:
    classes = _Classes()
    for compared in flat.compared:
        if compared.sign == "=":
            classes.unite(*compared.sides)
    joined = dict(classes.members())
    edges = _edges(flat, list(joined.values()), _never)
    if not is_cyclic(edges):
        return None
    rest = _edges(flat, list(joined.values()), unique)  # asked only where it matters
    if len(rest) < len(edges) and not is_cyclic(rest):
        return None
    between: list[tuple[Source, str, Source]] = []
    for compared in flat.compared:
        if compared.sign == "=":
            continue
        (leaf, x), (other, y) = compared.sides
        a, b = classes.find((leaf, x)), classes.find((other, y))
        if leaf == other and not (a in joined and b in joined):
            predicate = Content(f"({x.sql}) {compared.sign} ({y.sql})", "BOOLEAN")
            flat = flat.filtered(leaf, predicate)
        elif a == b:
            return None  # never true, or whenever it is not NULL
        else:
            between.append((a, compared.sign, b))
    required = {s for a, _, b in between for s in (a, b)}
    first = list(dict.fromkeys(classes.find(flat.columns[name]) for name in order))
    for source in first:
        if comparable(source[1].type) is None:
            raise _NotComparableError
    members, names = classes.members(), dict(flat.names)
    found = {
        root: Variable(
            tuple(of),
            names.get(of[0], of[0][1].sql),
            root in first and root not in joined and root not in required,
        )
        for root, of in members.items()
        if root in joined or root in required or root in first
    }
    roots = _enumeration_order(found, first)
    if len(roots) > MOST_VARIABLES:
        return None
    number = {root: k for k, root in enumerate(roots)}
    comparisons = set()
    for a, sign, b in between:
        i, j = number[a], number[b]
        comparisons.add(Comparison(i, sign, j) if i < j else Comparison(j, TURNED[sign], i))
    return Pattern(
        flat.leaves,
        tuple(found[root] for root in roots),
        tuple(sorted(comparisons, key=lambda c: (c.right, c.left, c.sign))),
        tuple(flat.columns[name] for name in columns),
    )


def _edges(flat: _Flat, joined: Sequence[Sequence[Source]], unique: Unique) -> list[set[int]]:
    """The hypergraph of the leaves over the columns that are equal, without functional lookups."""
    edges: list[set[int]] = [set() for _ in flat.leaves]
    looked_up: set[int] = set()
    for number, members in enumerate(joined):
        for leaf, content in members:
            edges[leaf].add(number)
            shared = content.field is not None and len({of for of, _ in members}) > 1
            if shared and unique(flat.leaves[leaf].node, content.field or ""):
                looked_up.add(leaf)
    return [edge for leaf, edge in enumerate(edges) if leaf not in looked_up]


def _enumeration_order(variables: dict[Source, Variable], first: Sequence[Source]) -> list[Source]:
    """Those that come first, then always one that closes most atoms, then touches most, …"""
    atoms: dict[int, set[Source]] = {}
    for root, variable in variables.items():
        for leaf, _ in variable.columns:
            atoms.setdefault(leaf, set()).add(root)
    order = list(first)
    left = [root for root in variables if root not in order]
    left.sort(key=lambda root: _place(variables[root].columns[0]))
    while left:
        bound = set(order)

        def rank(root: Source, bound: set[Source] = bound) -> tuple[int, int]:
            near = [a for a in atoms.values() if root in a and len(a) > 1 and a & bound]
            return (sum(a <= bound | {root} for a in near), len(near))

        # of equals the first, as `max` takes it
        best = max(left, key=rank)
        order.append(best)
        left.remove(best)
    return order
