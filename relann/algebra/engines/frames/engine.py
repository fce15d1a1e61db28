"""The frame engine: content queries over data frames, the database for what they do not compute."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import duckdb
import numpy as np
import pyarrow as pa

from relann.algebra.engines.duckdb import ArrowRelation, DuckDBEngine
from relann.algebra.engines.frames import joins
from relann.algebra.engines.frames.expressions import Expressions
from relann.algebra.engines.frames.keys import (
    Grouping,
    SortKey,
    group_numbers,
    ranks,
    sorted_rows,
)
from relann.algebra.engines.frames.library import Array, Library, Refused, rows
from relann.algebra.engines.frames.reductions import aggregated, by_row
from relann.algebra.engines.frames.vectors import (
    Vector,
    from_arrow,
    nothing,
    numbers,
    stacked,
    taken,
    to_arrow,
)
from relann.algebra.engines.protocol import Numbers, whole_numbers
from relann.algebra.nodes import (
    Aggregate,
    Alias,
    Column,
    Join,
    Map,
    Node,
    Query,
    Scan,
    Select,
    Union,
)
from relann.algebra.plan import (
    Groups,
    Held,
    Plan,
    Rows,
    Space,
    Stack,
    gathers,
    row_column,
)
from relann.algebra.rowmaps import read_contents
from relann.algebra.terms import Content
from relann.errors import EngineError

log = logging.getLogger("relann")
T = TypeVar("T")

_ONE = "one"  # stands in for a row without columns


@dataclass(frozen=True)
class FrameRelation:
    """Rows as columns of a data frame library, in row order."""

    library: Library
    columns: Mapping[str, Vector]
    count: int

    @cached_property
    def arrow(self) -> ArrowRelation:
        """The same rows as an Arrow table, for the database."""
        arrays = {n: to_arrow(self.library, v, self.count) for n, v in self.columns.items()}
        one = {_ONE: pa.array(np.ones(self.count, dtype=np.int8))}
        return ArrowRelation(pa.table(arrays or one))


@dataclass
class FrameEngine:
    """Content queries over a data frame library; tables come from the user's own connection.

    What the library does not compute exactly as the database does is left to the database, relation
    by relation: `fallbacks` lists why, newest last. With `fall_back` false it is an EngineError.
    """

    connection: duckdb.DuckDBPyConnection
    library: Library
    name: str
    fall_back: bool = True
    fallbacks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._database = DuckDBEngine(self.connection)
        self._shared: dict[Node, FrameRelation] | None = None
        self._sharing: frozenset[Node] = frozenset()

    @contextmanager
    def sharing(self, nodes: Sequence[Node], spaces: Sequence[Rows]) -> Iterator[None]:
        """See `Engine.sharing`: their rows, and those of tables, are kept while the block runs."""
        self._shared, self._sharing = {}, frozenset(nodes)
        try:
            yield
        finally:
            self._shared, self._sharing = None, frozenset()

    def remarks(self, plan: Plan) -> list[str]:
        """See `Engine.remarks`. Found by running the plan's queries on no rows."""
        left = self.refusals(plan)
        lines = [f"rows by {self.name}" + ("" if left else ", all of them")]
        return lines + [f"#{space} by the database: no {why}" for space, why in left.items()]

    def refusals(self, plan: Plan) -> dict[int, str]:
        """The spaces left to the database whatever the data, each with what is not computed here.

        A space may be left to it for its data as well: a whole number out of range, a division by
        zero, memory.
        """
        found: dict[int, str] = {}
        held: dict[int, FrameRelation] = {}
        for number, space in enumerate(plan.spaces):
            try:
                held[number] = self._dry(space, held)
            except Refused as error:
                found[number] = str(error)
                held[number] = self._typed(space, held)
        reads = [(plan.output, content) for _, content in plan.contents]
        for step in plan.steps:
            reads += read_contents(step, plan)
            reads += [(plan.rows_of(step), via) for _, via in gathers(step)]
        for number, content in reads:
            try:
                _value(self.library, held[number], content)
            except Refused as error:
                found.setdefault(number, str(error))
        return dict(sorted(found.items()))

    def _dry(self, space: Space, held: Mapping[int, FrameRelation]) -> FrameRelation:
        """A space's columns, of no rows."""
        match space:
            case Rows(node, columns, order):
                return _sorted(self.library, _Empty(self, held).rows(node), columns, order)
            case Groups(source, keys, aggregates):
                return _grouped(self.library, held[source], keys, dict(aggregates))[0]
            case Stack(parts, names, columns_of):
                given = [(held[p], c) for p, c in zip(parts, columns_of, strict=True)]
                return _stacked(self.library, given, names)

    def _typed(self, space: Space, held: Mapping[int, FrameRelation]) -> FrameRelation:
        """The same by its types alone."""
        match space:
            case Rows(node, columns):
                types = {c: node.by_name[c].type or "" for c in columns}
            case Groups(source, keys, aggregates):
                types = {k: held[source].columns[k].type for k in keys}
                types |= {n: c.type for n, c in aggregates}
            case Stack(_, names, columns_of):
                types = {n: c.type for n, c in zip(names, columns_of[0], strict=True)}
        made = {n: _empty(self.library, t) for n, t in types.items()}
        return FrameRelation(self.library, made, 0)

    def rows(
        self, node: Node, columns: Sequence[str], order: Sequence[str], held: Mapping[int, Any]
    ) -> FrameRelation:
        """See `Engine.rows`."""
        leaves = _Leaves(self, held)

        def here() -> FrameRelation:
            return _sorted(self.library, leaves.rows(node), columns, order)

        def there() -> FrameRelation:
            known = {s: relation.arrow for s, relation in held.items()}
            table = self._database.rows(node, columns, order, known).table
            return self._from_arrow(table, [node.by_name[c] for c in columns])

        return self._tried(here, there)

    def groups(
        self, source: FrameRelation, keys: Sequence[str], aggregates: Mapping[str, Content]
    ) -> tuple[FrameRelation, Numbers]:
        """See `Engine.groups`."""

        def here() -> tuple[FrameRelation, Numbers]:
            found, grouping = _grouped(self.library, source, keys, aggregates)
            return found, grouping.ids.astype(np.int32)

        def there() -> tuple[FrameRelation, Numbers]:
            made, ids = self._database.groups(source.arrow, keys, aggregates)
            kinds = [Column(k, type=source.columns[k].type) for k in keys]
            kinds += [Column(n, type=c.type) for n, c in aggregates.items()]
            return self._from_arrow(made.table, kinds), self.library.to_device(ids)

        return self._tried(here, there)

    def stack(
        self, parts: Sequence[tuple[FrameRelation, Sequence[Content]]], names: Sequence[str]
    ) -> FrameRelation:
        """See `Engine.stack`."""

        def here() -> FrameRelation:
            return _stacked(self.library, parts, names)

        def there() -> FrameRelation:
            given = [(relation.arrow, contents) for relation, contents in parts]
            table = self._database.stack(given, names).table
            kinds = [Column(n, type=c.type) for n, c in zip(names, parts[0][1], strict=True)]
            return self._from_arrow(table, kinds)

        return self._tried(here, there)

    def arrays(self, source: FrameRelation, contents: Sequence[Content]) -> list[pa.Array]:
        """See `Engine.arrays`. Windows come in row order."""

        def here() -> list[pa.Array]:
            return [
                to_arrow(self.library, _value(self.library, source, c), source.count)
                for c in contents
            ]

        return self._tried(here, lambda: self._database.arrays(source.arrow, contents))

    def numbers(self, source: FrameRelation, contents: Sequence[Content]) -> list[Numbers]:
        """See `Engine.numbers`. Arrays of the library, which stay where it works."""

        def here() -> list[Numbers]:
            found = [_value(self.library, source, c) for c in contents]
            return [numbers(self.library, v, source.count) for v in found]

        def there() -> list[Numbers]:
            arrays = self._database.arrays(source.arrow, contents)
            return [self.library.to_device(whole_numbers(a)) for a in arrays]

        return self._tried(here, there)

    def data_version(self, tables: Sequence[str]) -> str:
        """See `Engine.data_version`: the database's."""
        return self._database.data_version(tables)

    def leaf(self, node: Node, held: Mapping[int, FrameRelation]) -> FrameRelation:
        """The rows of a table or of a query that is the database's by its nature."""
        known = {}
        if isinstance(node, Query):
            inside = {n.space for n in node.walk() if isinstance(n, Held)}
            known = {s: held[s].arrow for s in inside}
        return self._from_arrow(
            self._database.rows(node, node.names, (), known).table, node.columns
        )

    @property
    def shared(self) -> dict[Node, FrameRelation] | None:
        """What `sharing` keeps; None outside."""
        return self._shared

    def keeps(self, node: Node) -> bool:
        """Whether the rows of a node are kept while `sharing` runs."""
        return isinstance(node, Scan) or node in self._sharing

    def _from_arrow(self, table: pa.Table, columns: Sequence[Column]) -> FrameRelation:
        made = {
            c.name: from_arrow(self.library, table.column(c.name), c.type or "") for c in columns
        }
        return FrameRelation(self.library, made, table.num_rows)

    def _tried(self, here: Callable[[], T], there: Callable[[], T]) -> T:
        """What the library gives, else what the database does."""
        try:
            return here()
        except Refused as error:
            reason = str(error)
        except MemoryError:
            reason = "more than the memory of the device"
        if not self.fall_back:
            raise EngineError(f"the frame engine has no {reason}")
        log.info("left to the database: %s", reason)
        self.fallbacks.append(reason)
        return there()


# -- the meaning of each node --------------------------------------------------------------------


class _Tables:
    """Rows of nodes over a library; where leaves come from is a subclass's."""

    def __init__(self, library: Library) -> None:
        self.library = library

    def leaf(self, node: Node) -> FrameRelation:
        """The rows of a Scan, Query or Held node."""
        raise NotImplementedError

    def kept(self, node: Node) -> FrameRelation | None:
        """Rows worked out before."""
        return None

    def keep(self, node: Node, found: FrameRelation) -> None:
        """Remember rows if they are to be."""

    def rows(self, node: Node) -> FrameRelation:
        """The rows of a content-only node, in an order that is the same for the same data."""
        done: dict[Node, FrameRelation] = {}
        known = {n: r for n in node.walk() if (r := self.kept(n)) is not None}
        for inner in node.walk(known):
            if inner in known:
                done[inner] = known[inner]
            elif isinstance(inner, Scan | Query | Held):
                done[inner] = self.leaf(inner)
            else:
                done[inner] = self._of(inner, [done[s] for s in inner.sources])
            self.keep(inner, done[inner])
        return done[node]

    def _of(self, node: Node, sources: Sequence[FrameRelation]) -> FrameRelation:
        library = self.library
        match node:
            case Alias():
                pairs = zip(node.source.names, node.names, strict=True)
                columns = {new: sources[0].columns[old] for old, new in pairs}
                return replace(sources[0], columns=columns)
            case Select(_, predicate):
                (source,) = sources
                value = by_row(library, source.columns, source.count, predicate.expression)
                of = Expressions(library, {"p": value}, source.count)
                kept = library.arrays.nonzero(of.truth(_P))[0]
                return _picked(library, source.columns, kept)
            case Map(_, outputs):
                made = {n: _value(library, sources[0], _content(n, v)) for n, v in outputs}
                return FrameRelation(library, made, sources[0].count)
            case Join():
                left, right = sources
                sides = [joins.Side(s.columns, s.count) for s in (left, right)]
                l, r = joins.joined(library, node, *sides)  # noqa: E741
                if node.kind in ("semi", "anti"):
                    return _picked(library, left.columns, l)
                columns = {n: taken(library, v, l, node.kind == "full") for n, v in
                           left.columns.items()}  # fmt: skip
                outer = node.kind in ("left", "full", "asof_left")
                columns |= {n: taken(library, v, r, outer) for n, v in right.columns.items()}
                return FrameRelation(library, columns, len(l))
            case Aggregate(_, by, outputs):
                given = {n: _content(n, v) for n, v in outputs}
                return _grouped(library, sources[0], by, given)[0]
            case Union():
                named = [
                    joins.Side(dict(zip(node.names, s.columns.values(), strict=True)), s.count)
                    for s in sources
                ]
                columns = joins.union(library, named)
                return FrameRelation(library, columns, sum(s.count for s in sources))
        raise EngineError(f"the frame engine has no {type(node).__name__}")


_P = Content('"p"', "BOOLEAN").expression


class _Leaves(_Tables):
    """Leaves from the database, and from relations that are held."""

    def __init__(self, engine: FrameEngine, held: Mapping[int, FrameRelation]) -> None:
        super().__init__(engine.library)
        self._engine = engine
        self._held = held

    def leaf(self, node: Node) -> FrameRelation:
        if not isinstance(node, Held):
            return self._engine.leaf(node, self._held)
        relation = self._held[node.space]
        numbers = Vector("whole", rows(self.library, relation.count), None, "INTEGER")
        columns = {row_column(node.space): numbers, **relation.columns}
        return FrameRelation(self.library, {n: columns[n] for n in node.names}, relation.count)

    def kept(self, node: Node) -> FrameRelation | None:
        shared = self._engine.shared
        return None if shared is None else shared.get(node)

    def keep(self, node: Node, found: FrameRelation) -> None:
        if self._engine.shared is not None and self._engine.keeps(node):
            self._engine.shared[node] = found


class _Empty(_Leaves):
    """Leaves without rows: what is refused of them is refused of any rows."""

    def kept(self, node: Node) -> FrameRelation | None:
        return None

    def keep(self, node: Node, found: FrameRelation) -> None:
        pass

    def leaf(self, node: Node) -> FrameRelation:
        columns = {c.name: _empty(self.library, c.type or "") for c in node.columns}
        return FrameRelation(self.library, columns, 0)


def _empty(library: Library, sql_type: str) -> Vector:
    made = Expressions(library, {}, 0)
    return replace(made.converted(nothing(library, "null", "BOOLEAN", 0), sql_type), constant=False)


def _content(name: str, value: object) -> Content:
    if not isinstance(value, Content):
        raise EngineError(f"`{name}` is learned; an engine computes content only")
    return value


def _value(library: Library, source: FrameRelation, content: Content) -> Vector:
    """An expression for each row, as a column of its type."""
    if content.field is not None:
        found = source.columns[content.field]
    else:
        found = by_row(library, source.columns, source.count, content.expression)
    made = Expressions(library, source.columns, source.count).converted(found, content.type)
    return replace(made, constant=False)


def _picked(library: Library, columns: Mapping[str, Vector], index: Array) -> FrameRelation:
    made = {n: taken(library, v, index) for n, v in columns.items()}
    return FrameRelation(library, made, len(index))


def _stacked(
    library: Library,
    parts: Sequence[tuple[FrameRelation, Sequence[Content]]],
    names: Sequence[str],
) -> FrameRelation:
    counts = [relation.count for relation, _ in parts]
    made = [[_value(library, relation, c) for c in contents] for relation, contents in parts]
    columns = {n: stacked(library, [m[i] for m in made], counts) for i, n in enumerate(names)}
    return FrameRelation(library, columns, sum(counts))


def _sorted(
    library: Library, source: FrameRelation, columns: Sequence[str], order: Sequence[str]
) -> FrameRelation:
    kept = {c: source.columns[c] for c in columns}
    if not order:
        return replace(source, columns=kept)
    by = []
    for name in order:
        vector = source.columns[name]
        if vector.kind != "null":
            by.append(SortKey(ranks(library, [vector], [source.count])[0], vector.valid))
    return _picked(library, kept, sorted_rows(library, by, source.count))


def _grouped(
    library: Library,
    source: FrameRelation,
    keys: Sequence[str],
    aggregates: Mapping[str, Content],
) -> tuple[FrameRelation, Grouping]:
    """Keys and aggregates of each group, in the order of first rows; one group without keys."""
    by = []
    for key in keys:
        vector = source.columns[key]
        by.append((ranks(library, [vector], [source.count])[0], vector.valid))
    ids, first = group_numbers(library, by, source.count)
    grouping = Grouping(library, ids, len(first) if keys else 1)
    columns = {k: taken(library, source.columns[k], first) for k in keys}
    if aggregates:
        of = Expressions(library, source.columns, source.count)
        outside = Expressions(library, columns, grouping.count)
        for name, content in aggregates.items():
            found = aggregated(of, grouping, outside, content.expression)
            made = Expressions(library, {}, grouping.count).converted(found, content.type)
            columns[name] = replace(made, constant=False)
    return FrameRelation(library, columns, grouping.count), grouping
