"""A lifted query that computes the same and carries along which base tuples made each row."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from relann.algebra.nodes import (
    Aggregate,
    Alias,
    Join,
    Map,
    Node,
    Output,
    Query,
    Reduce,
    Scan,
    Select,
    Union,
    Window,
    fresh_name,
    passed,
)
from relann.algebra.terms import (
    Content,
    Encode,
    Field,
    Lift,
    Lookup,
    Marked,
    Pretrained,
    Term,
    Tokens,
    Use,
    column,
)
from relann.algebra.tuples import tuples
from relann.errors import QueryError
from relann.schema import Catalog

_READING = (Lift, Encode, Lookup, Tokens, Pretrained)
_SHOWN = 60  # characters of a sub-query that stands for a table
_MOST = 4000


def marked(node: Node, catalog: Catalog, aside: Collection[str] = ()) -> Node:
    """The query with `Marked` terms; values, parameters and their names stay as they are.

    Marked are: what is reduced over a group, by all tuples of its row, and, for the tuples of the
    predicted rows themselves, the terms that read their columns. A sub-query used in several places
    is computed in each. Tuples that only decide which rows there are (SEMI and ANTI JOIN) and those
    that SQL itself aggregates are not followed; rows of a query left to the database count as
    tuples, named by their content. Rows of the tables `aside` (as scans name them) are none.

    QueryError for a query with more than some thousands of places.
    """
    made = _Marking(catalog, aside).of(node, (), 0)
    outputs: list[Output] = []
    for c in node.columns:
        value = passed(c)
        if isinstance(value, Term) and made.uses:
            value = Marked(value, made.uses, counted=False)
        outputs.append((c.name, value))
    return Map(made.node, tuple(outputs))


@dataclass(frozen=True)
class _Rows:
    """A node with the columns of the original and those that name tuples.

    `owners` says of a content column which uses its values come from.
    """

    node: Node
    uses: tuple[Use, ...] = ()
    owners: Mapping[str, frozenset[Use]] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[tuple[str, Content], ...]:
        """The columns that name tuples, as outputs that leave them as they are."""
        return tuple((k.field or "", k) for use in self.uses for k in use.keys)

    def of(self, names: Iterable[str]) -> frozenset[Use]:
        """The uses that some columns come from."""
        return frozenset(u for n in names for u in self.owners.get(n, ()))


class _Marking:
    def __init__(self, catalog: Catalog, aside: Collection[str]) -> None:
        self.catalog = catalog
        self.aside = aside
        self.places = 0

    def of(self, node: Node, path: tuple[str, ...], depth: int) -> _Rows:
        """The node, its tuples named; `depth` groups lie between it and the prediction."""
        self.places += 1
        if self.places > _MOST:
            raise QueryError(
                "the model uses its tables in too many places to tell their lineage: sub-queries "
                "that are used several times count each time"
            )
        match node:
            case Scan(table) if table in self.aside:
                return _Rows(node)
            case Scan(table) if table.startswith("("):
                return self._derived(table[1:-1], node, path, depth)
            case Scan():
                found = tuples(node, self.catalog)
                return self._base(found.table, found.node, found.key, node, path, depth)
            case Query(sql, _, tables, inputs):
                if not tables and not inputs:
                    return _Rows(node)
                return self._derived(sql, node, path, depth)
            case Alias(source, name):
                return _alias(self.of(source, (*path, name), depth), name)
            case Select(source, predicate):
                rows = self.of(source, path, depth)
                return replace(rows, node=Select(rows.node, predicate))
            case Map(source, outputs):
                return _map(self.of(source, path, depth), outputs, depth)
            case Join():
                return self._join(node, path, depth)
            case Aggregate():
                return self._aggregate(node, path, depth)
            case Window(source, windows):
                rows = self.of(source, path, depth)
                return replace(rows, node=Window(rows.node, windows))
            case Union(parts):
                return _union(node, [self.of(p, path, depth) for p in parts])
        return _Rows(node)

    def _derived(self, sql: str, node: Node, path: tuple[str, ...], depth: int) -> _Rows:
        """Rows that the database computes, named by their content."""
        key = tuple(column(c.name, c.type) for c in node.columns if c.type is not None)
        name = sql if len(sql) <= _SHOWN else f"{sql[:_SHOWN]}…"
        return self._base(f"({name})", node, key, node, path, depth)

    def _base(
        self,
        table: str,
        rows: Node,
        key: tuple[Content, ...],
        node: Node,
        path: tuple[str, ...],
        depth: int,
    ) -> _Rows:
        names = [f"tuple {self.places}.{i}" for i in range(len(key))]
        kept: list[Output] = [(c.name, passed(c)) for c in node.columns]
        use = Use(
            table,
            path,
            depth,
            tuple(column(n, k.type) for n, k in zip(names, key, strict=True)),
        )
        owners = {c.name: frozenset({use}) for c in node.columns}
        return _Rows(Map(rows, (*kept, *zip(names, key, strict=True))), (use,), owners)

    def _join(self, node: Join, path: tuple[str, ...], depth: int) -> _Rows:
        left = self.of(node.left, path, depth)
        if node.kind in ("semi", "anti"):
            return replace(left, node=Join(left.node, node.right, node.kind, node.on))
        right = self.of(node.right, path, depth)
        joined = Join(left.node, right.node, node.kind, node.on)
        kept = (*((c.name, passed(c)) for c in node.columns), *left.keys, *right.keys)
        owners = {**left.owners, **right.owners}
        return _Rows(Map(joined, kept), left.uses + right.uses, owners)

    def _aggregate(self, node: Aggregate, path: tuple[str, ...], depth: int) -> _Rows:
        reduced = {v.column for _, v in node.outputs if isinstance(v, Reduce)}
        if not reduced:
            return _Rows(node)
        rows = self.of(node.source, path, depth + 1)
        if not rows.uses:
            return _Rows(Aggregate(rows.node, node.by, node.outputs))
        names = {n: fresh_name(f"marked {n}", rows.node.names) for n in sorted(reduced)}
        outputs: list[Output] = [(c.name, passed(c)) for c in node.source.columns]
        for name, fresh in names.items():
            width = node.source.by_name[name].width
            assert width is not None
            outputs.append((fresh, Marked(Field(name, width), rows.uses)))
        changed = tuple(
            (n, replace(v, column=names[v.column]) if isinstance(v, Reduce) else v)
            for n, v in node.outputs
        )
        return _Rows(Aggregate(Map(rows.node, tuple(outputs)), node.by, changed))


def _alias(rows: _Rows, name: str) -> _Rows:
    moved = {
        use: replace(use, keys=tuple(column(f"{name}.{k.field}", k.type) for k in use.keys))
        for use in rows.uses
    }
    owners = {f"{name}.{c}": frozenset(moved[u] for u in us) for c, us in rows.owners.items()}
    return _Rows(Alias(rows.node, name), tuple(moved.values()), owners)


def _map(rows: _Rows, outputs: tuple[Output, ...], depth: int) -> _Rows:
    def mark(term: Term) -> Term | None:
        read = {c for content in term.contents for c in content.columns}
        uses = tuple(u for u in rows.uses if u in rows.of(read))
        return Marked(term, uses) if isinstance(term, _READING) and uses else None

    changed: list[Output] = []
    owners = {}
    for name, value in outputs:
        if isinstance(value, Content):
            owners[name] = rows.of(value.columns)
            changed.append((name, value))
        else:
            changed.append((name, value if depth else value.transformed(mark)))
    return _Rows(Map(rows.node, (*changed, *rows.keys)), rows.uses, owners)


def _union(node: Union, parts: list[_Rows]) -> _Rows:
    """Each part's rows name tuples of the part, and none of the others'."""
    keys = [part.keys for part in parts]
    aligned: list[Node] = []
    for number, part in enumerate(parts):
        named: list[Output] = [(c.name, passed(c)) for c in node.columns]
        for other, columns in enumerate(keys):
            named += [
                (n, k if other == number else Content(f"CAST(NULL AS {k.type})", k.type))
                for n, k in columns
            ]
        aligned.append(Map(part.node, tuple(named)))
    owners = {
        name: frozenset(u for part in parts for u in part.owners.get(name, ()))
        for name in node.names
    }
    return _Rows(Union(tuple(aligned)), tuple(u for p in parts for u in p.uses), owners)
