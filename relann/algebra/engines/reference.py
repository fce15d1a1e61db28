"""The reference engine: slow, obvious loops over rows as dicts. It defines the answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field

import duckdb
import numpy as np
import pyarrow as pa
from sqlglot import exp

from relann.algebra.engines.interpreter.casts import cast, to_arrow
from relann.algebra.engines.interpreter.comparing import compare, identity, ordering
from relann.algebra.engines.interpreter.reductions import aggregated, by_row
from relann.algebra.engines.interpreter.scalar import evaluate as evaluate_scalar
from relann.algebra.engines.interpreter.scalar import truth
from relann.algebra.engines.interpreter.values import Value
from relann.algebra.engines.protocol import Ints, whole_numbers
from relann.algebra.nodes import (
    Aggregate,
    Alias,
    Join,
    Map,
    Node,
    Query,
    Scan,
    Select,
    Union,
)
from relann.algebra.plan import Held, Plan, Rows, row_column
from relann.algebra.terms import Content, quoted
from relann.errors import DataError, EngineError, listing
from relann.schema import duckdb_message, unquoted

Row = dict[str, Value]
Leaves = Callable[[Node, Sequence[list[Row]]], list[Row]]
"""Gives the rows of a Scan, Query or Held node, given those of a Query's inputs."""


# -- the meaning of each node --------------------------------------------------------------------


def evaluate(node: Node, leaves: Leaves) -> list[Row]:
    """The rows of a content-only node, in an order that is the same for the same data."""
    done: dict[Node, list[Row]] = {}
    for inner in node.walk():
        done[inner] = rows_of(inner, [done[s] for s in inner.sources], leaves)
    return done[node]


def rows_of(node: Node, sources: Sequence[list[Row]], leaves: Leaves) -> list[Row]:
    """The rows of one node, given those of its sources.

    All but Map, Aggregate and Window carry embeddings like any other value.
    """
    match node:
        case Scan() | Query() | Held():
            return leaves(node, sources)
        case Alias(source):
            pairs = list(zip(source.names, node.names, strict=True))
            return [{new: row[old] for old, new in pairs} for row in sources[0]]
        case Select(_, predicate):
            kept = values(predicate, sources[0])
            return [row for row, keep in zip(sources[0], kept, strict=True) if truth(keep) is True]
        case Map(_, outputs):
            columns = {name: values(_content(name, v), sources[0]) for name, v in outputs}
            return [{n: c[i] for n, c in columns.items()} for i in range(len(sources[0]))]
        case Join():
            return joined(node, *sources)
        case Aggregate(_, by, outputs):
            return [
                keys | {n: reduced(_content(n, v), rows, node.source.names) for n, v in outputs}
                for keys, rows in grouped(sources[0], by)
            ]
        case Union():
            return [row for rows in sources for row in rows]
    raise EngineError(f"the reference engine has no {type(node).__name__}")


def _content(name: str, value: object) -> Content:
    if not isinstance(value, Content):
        raise EngineError(f"`{name}` is learned; an engine computes content only")
    return value


def values(content: Content, rows: Sequence[Row]) -> list[Value]:
    """A content expression on each row, as values of its type."""
    return [cast(v, content.type) for v in by_row(content.expression, rows)]


def reduced(content: Content, rows: Sequence[Row], names: Iterable[str]) -> Value:
    """An SQL aggregate over the rows of one group, perhaps none, as a value of its type."""
    keys = rows[0] if rows else dict.fromkeys(names)
    return cast(aggregated(content.expression, rows, keys), content.type)


def grouped(rows: Sequence[Row], by: Sequence[str]) -> list[tuple[Row, list[Row]]]:
    """Keys and rows of each group, in the order of first rows; NULL keys are equal.

    One group in all without keys, even of no rows.
    """
    return [
        ({k: rows[members[0]][k] for k in by}, [rows[i] for i in members])
        for members in _members(rows, by)
    ]


def _members(rows: Sequence[Row], by: Sequence[str]) -> list[list[int]]:
    if not by:
        return [list(range(len(rows)))]
    groups: dict[object, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(tuple(identity(row[k]) for k in by), []).append(i)
    return list(groups.values())


def joined(node: Join, left: Sequence[Row], right: Sequence[Row]) -> list[Row]:
    """The pairs of rows a join gives: for each left row its partners in their order."""
    if node.kind in ("asof", "asof_left"):
        return _nearest(node, left, right)
    out: list[Row] = []
    met: set[int] = set()
    nothing = dict.fromkeys(node.right.names)
    for a in left:
        partners = [j for j, b in enumerate(right) if _pairs(node.on, a | b)]
        met.update(partners)
        if node.kind in ("semi", "anti"):
            out += [a] if bool(partners) == (node.kind == "semi") else []
        elif partners or node.kind == "inner":
            out += [a | right[j] for j in partners]
        else:
            out.append(a | nothing)
    if node.kind == "full":
        missing = dict.fromkeys(node.left.names)
        out += [missing | b for j, b in enumerate(right) if j not in met]
    return out


def _pairs(on: Content | None, row: Row) -> bool:
    return on is None or truth(evaluate_scalar(on.expression, row)) is True


def _nearest(node: Join, left: Sequence[Row], right: Sequence[Row]) -> list[Row]:
    """As-of: of the right rows for which `on` holds, the one nearest by its inequality.

    `l.t >= r.t` picks the greatest r.t, `l.t <= r.t` the least; the first of equals.
    """
    by, sign = _nearness(node)
    out: list[Row] = []
    for a in left:
        best: Row | None = None
        for b in right:
            if not _pairs(node.on, a | b):
                continue
            key = evaluate_scalar(by, b)
            if best is None or sign * compare(key, evaluate_scalar(by, best)) > 0:
                best = b
        if best is not None:
            out.append(a | best)
        elif node.kind == "asof_left":
            out.append(a | dict.fromkeys(node.right.names))
    return out


def _nearness(node: Join) -> tuple[exp.Expr, int]:
    """The right side's expression of the inequality, and 1 if the greatest is nearest."""
    assert node.on is not None
    whole = node.on.expression.unnest()
    found: list[tuple[exp.Expr, int]] = []
    for part in whole.flatten() if isinstance(whole, exp.And) else [whole]:
        part = part.unnest()
        if isinstance(part, exp.GT | exp.GTE | exp.LT | exp.LTE):
            greatest = isinstance(part, exp.GT | exp.GTE)
            on_right = [
                {c.name for c in side.find_all(exp.Column)} <= set(node.right.names)
                for side in (part.this, part.expression)
            ]
            if on_right == [False, True]:
                found.append((part.expression, 1 if greatest else -1))
            elif on_right == [True, False]:
                found.append((part.this, -1 if greatest else 1))
    if len(found) != 1:
        raise EngineError("an as-of join takes one inequality between its sides")
    return found[0]


# -- leaves --------------------------------------------------------------------------------------


class GivenTables:
    """Tables as rows in memory, by name; there is no database to run a Query node."""

    def __init__(self, tables: Mapping[str, Sequence[Row]]) -> None:
        self._tables = {_bare(name): rows for name, rows in tables.items()}

    def __call__(self, node: Node, inputs: Sequence[list[Row]] = ()) -> list[Row]:
        """The rows of a Scan node, as values of its columns' types."""
        if not isinstance(node, Scan):
            raise EngineError(f"a {type(node).__name__} needs a database; there are only tables")
        return _typed(self.contents(node.table), node)

    def contents(self, table: str) -> Sequence[Row]:
        """All rows of a table."""
        if _bare(table) not in self._tables:
            raise EngineError(f"there is no table {table}; there are {listing(self._tables)}")
        return self._tables[_bare(table)]


class DatabaseTables:
    """Tables and sub-queries of a database, read anew each time."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def __call__(self, node: Node, inputs: Sequence[list[Row]] = ()) -> list[Row]:
        """The rows of a Scan node in the table's order, of a Query node sorted."""
        select = ", ".join(map(quoted, node.names)) or "1 AS one"
        match node:
            case Scan(table):
                return _typed(self._read(f"SELECT {select} FROM {table}"), node)
            case Query(sql, _, _, read):
                with ExitStack() as stack:
                    shown = [
                        stack.enter_context(self._shown(n, rows))
                        for (_, n), rows in zip(read, inputs, strict=True)
                    ]
                    given = [
                        f"{quoted(name)} AS (SELECT * FROM {relation})"
                        for (name, _), relation in zip(read, shown, strict=True)
                    ]
                    before = f"WITH {', '.join(given)} " if given else ""
                    rows = self._read(f"{before}SELECT {select} FROM ({sql})")
                return _sorted(_typed(rows, node), node.names)
        raise EngineError(f"a database holds no {type(node).__name__}")

    @contextmanager
    def _shown(self, node: Node, rows: Sequence[Row]) -> Iterator[str]:
        """The name under which SQL sees the content of rows as long as the block runs."""
        columns = {
            c.name: to_arrow([row[c.name] for row in rows], c.type)
            for c in node.columns
            if c.type is not None
        }
        name = f"relann input {id(rows)}"
        self._connection.register(name, pa.table(columns or {"one": pa.array([1] * len(rows))}))
        try:
            yield quoted(name)
        finally:
            self._connection.unregister(name)

    def contents(self, table: str) -> Sequence[Row]:
        """All rows of a table."""
        return self._read(f"SELECT * FROM {table}")

    def _read(self, sql: str) -> list[Row]:
        try:
            rows: list[Row] = self._connection.sql(sql).to_arrow_table().to_pylist()
        except duckdb.Error as error:
            message = duckdb_message(error)
            raise DataError(f"the database could not run the query: {message}") from error
        return rows


def _typed(rows: Sequence[Row], node: Node) -> list[Row]:
    return [{c.name: cast(row[c.name], c.type or "") for c in node.columns} for row in rows]


def _bare(name: str) -> str:
    return unquoted(name.split(".")[-1]).casefold()


def _sorted(rows: list[Row], by: Sequence[str]) -> list[Row]:
    """The rows in ascending order, NULLs last; rows that tie keep their order."""
    for name in reversed(by):
        key = ordering()
        rows = sorted(rows, key=lambda row, name=name: key(row[name]))  # type: ignore[misc]
    return rows


# -- the engine ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class DictRelation:
    """Rows as dicts, in row order, with the columns' types."""

    rows: list[Row]
    types: dict[str, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.rows)


class ReferenceEngine:
    """Runs content queries in Python, on tables given as rows or on those of a database."""

    def __init__(self, tables: Mapping[str, Sequence[Row]] | duckdb.DuckDBPyConnection) -> None:
        self._tables = (
            DatabaseTables(tables)
            if isinstance(tables, duckdb.DuckDBPyConnection)
            else GivenTables(tables)
        )

    def sharing(
        self, nodes: Sequence[Node], spaces: Sequence[Rows]
    ) -> AbstractContextManager[None]:
        """See `Engine.sharing`: works everything out each time."""
        return nullcontext()

    def rows(
        self,
        node: Node,
        columns: Sequence[str],
        order: Sequence[str],
        held: Mapping[int, DictRelation],
    ) -> DictRelation:
        """See `Engine.rows`."""

        def leaves(leaf: Node, inputs: Sequence[list[Row]]) -> list[Row]:
            if not isinstance(leaf, Held):
                return self._tables(leaf, inputs)
            number = row_column(leaf.space)
            rows = [row | {number: i} for i, row in enumerate(held[leaf.space].rows)]
            return [{name: row[name] for name in leaf.names} for row in rows]

        rows = _sorted(evaluate(node, leaves), order)
        kept = [{c: row[c] for c in columns} for row in rows]
        return DictRelation(kept, {c: node.by_name[c].type or "" for c in columns})

    def groups(
        self, source: DictRelation, keys: Sequence[str], aggregates: Mapping[str, Content]
    ) -> tuple[DictRelation, Ints]:
        """See `Engine.groups`."""
        ids = np.zeros(source.count, dtype=np.int32)
        for group, members in enumerate(_members(source.rows, keys)):
            ids[members] = group
        rows = [
            row | {n: reduced(c, members, source.types) for n, c in aggregates.items()}
            for row, members in grouped(source.rows, keys)
        ]
        types = {k: source.types[k] for k in keys} | {n: c.type for n, c in aggregates.items()}
        return DictRelation(rows, types), ids

    def stack(
        self, parts: Sequence[tuple[DictRelation, Sequence[Content]]], names: Sequence[str]
    ) -> DictRelation:
        """See `Engine.stack`."""
        rows: list[Row] = []
        for relation, contents in parts:
            columns = [values(c, relation.rows) for c in contents]
            rows += [
                {n: c[i] for n, c in zip(names, columns, strict=True)}
                for i in range(relation.count)
            ]
        return DictRelation(rows, {n: c.type for n, c in zip(names, parts[0][1], strict=True)})

    def arrays(self, source: DictRelation, contents: Sequence[Content]) -> list[pa.Array]:
        """See `Engine.arrays`."""
        return [to_arrow(values(c, source.rows), c.type) for c in contents]

    def numbers(self, source: DictRelation, contents: Sequence[Content]) -> list[Ints]:
        """See `Engine.numbers`."""
        return [whole_numbers(a) for a in self.arrays(source, contents)]

    def remarks(self, plan: Plan) -> list[str]:
        """See `Engine.remarks`: none."""
        return []

    def data_version(self, tables: Sequence[str]) -> str:
        """See `Engine.data_version`: a digest of the tables' rows, whatever their order."""
        digest = hashlib.sha256()
        for table in sorted(set(tables)):
            rows = sorted(repr(tuple(row.items())) for row in self._tables.contents(table))
            digest.update(repr((table, rows)).encode())
        return digest.hexdigest()
