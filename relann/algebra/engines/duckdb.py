"""The default engine: content queries as SQL, relations as Arrow tables, nothing copied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from relann.algebra.engines import matching
from relann.algebra.engines.generic_join.joins import GenericJoins, Read, core
from relann.algebra.engines.generic_join.patterns import Patterns
from relann.algebra.engines.hashing import Threads
from relann.algebra.engines.matching import Match
from relann.algebra.engines.protocol import Ints, one_array, whole_numbers
from relann.algebra.multiway import Leaf
from relann.algebra.nodes import Alias, Column, Map, Node, Scan, Select
from relann.algebra.plan import Held, Plan, Rows, row_column
from relann.algebra.sql import node_to_sql
from relann.algebra.terms import Content, quoted
from relann.errors import DataError
from relann.schema import duckdb_message

_ONE = "one"  # stands in for a row without columns
_PART = 1 << 20  # rows of a part of a result
_MUCH = 1 << 25  # bytes of results from which on memory is given back
_NUMBER = '"#row"'  # no column of a plan: those are #0, #1, … for its spaces


@dataclass(frozen=True)
class ArrowRelation:
    """Rows as an Arrow table of one chunk per column, in row order.

    `sorted_by` names the columns the rows are sorted by, most significant first.
    """

    table: pa.Table
    sorted_by: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many rows there are."""
        return int(self.table.num_rows)


class DuckDBEngine:
    """Runs content queries on the user's own connection, so it sees what the user sees."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._shared: dict[Node, str] = {}
        self._wanted: dict[Node, str] = {}
        self._joins: GenericJoins | None = None
        self._patterns: Patterns | None = None
        self._fetched = 0  # bytes since `sharing` began
        self._kept = 0  # of these since memory was given back

    @contextmanager
    def sharing(self, nodes: Sequence[Node], spaces: Sequence[Rows]) -> Iterator[None]:
        """See `Engine.sharing`: each node that SQL reads twice is a temporary table.

        Of cyclic joins that read the same, the enumeration is kept until the last has read it.
        """
        assert not self._shared and self._joins is None
        self._joins, self._patterns = self._generic_joins({}), Patterns(self._connection)
        try:
            self._plan_sharing(nodes, spaces, self._joins, self._patterns)
            yield
        finally:
            with suppress(duckdb.Error):  # an error that ended a transaction has undone them
                for name in self._shared.values():
                    self._connection.execute(f"DROP TABLE {name}").fetchall()
            self._shared.clear()
            self._wanted.clear()
            self._joins = self._patterns = None
            if self._fetched > _MUCH:
                self._give_back()
            self._fetched = self._kept = 0

    def _plan_sharing(
        self,
        nodes: Sequence[Node],
        spaces: Sequence[Rows],
        joins: GenericJoins,
        patterns: Patterns,
    ) -> None:
        """See how often each enumeration and each node will be read."""
        readers: Counter[Node] = Counter()
        for space in spaces:
            pattern = patterns.of(space)
            roots = [space.node] if pattern is None else [leaf.node for leaf in pattern.leaves]
            readers.update({n for root in roots for n in root.walk()})
            if pattern is not None:
                joins.readers[core(pattern)] += 1
        self._wanted = {
            node: f'temp."relann shared {number}"'
            for number, node in enumerate(nodes)
            if readers[node] > 1
        }

    def _give_back(self) -> None:
        """Have the memory returned that queries are done with.

        DuckDB's allocator keeps a part for each of its threads until the thread ends: of joins and
        sorts of a million rows 150 to 200 MB. That its threads start anew takes 10 to 20 ms (two
        cores of an AMD EPYC, November 2026).
        """
        self._kept = 0
        pa.default_memory_pool().release_unused()
        with suppress(duckdb.Error):  # settings may be locked
            asked = self._threads()
            try:
                self._connection.execute("SET threads = 1").fetchall()
            finally:
                self._connection.execute(f"SET threads = {asked}").fetchall()

    def _threads(self) -> int:
        """How many threads the database may use."""
        ((asked,),) = self._connection.execute("SELECT current_setting('threads')").fetchall()
        return int(asked)

    def _sql(self, node: Node) -> str:
        for inner in node.walk(self._wanted):
            if inner in self._wanted:
                self._keep(inner)
        return node_to_sql(node, _held_name, self._shared)

    def _keep(self, node: Node) -> None:
        """Make the temporary table of a node."""
        if node in self._shared:
            return
        for source in node.sources:
            for inner in source.walk(self._wanted):
                if inner in self._wanted:
                    self._keep(inner)
        sql = node_to_sql(node, _held_name, self._shared)
        self._run(f"CREATE OR REPLACE TEMP TABLE {self._wanted[node]} AS {sql}")
        self._shared[node] = self._wanted[node]

    def rows(
        self,
        node: Node,
        columns: Sequence[str],
        order: Sequence[str],
        held: Mapping[int, ArrowRelation],
    ) -> ArrowRelation:
        """See `Engine.rows`. Rows that come straight from one table keep the table's order.

        A cyclic join is enumerated here (`generic_join`), and the database runs its leaves.
        """
        patterns = self._patterns or Patterns(self._connection)
        pattern = patterns.of(Rows(node, tuple(columns), tuple(order)))
        if pattern is not None:
            joins = self._joins or self._generic_joins(held)
            joins.read = self._leaves(held)
            return ArrowRelation(_one_chunk(joins.rows(pattern, columns)), tuple(order))
        if (found := self._matched(node, columns, order, held)) is not None:
            return found
        select = ", ".join(quoted(c) for c in columns) or f"1 AS {_ONE}"
        rest = [node.by_name[c] for c in columns if c not in order]
        by = [f"{quoted(c)} NULLS LAST" for c in order]
        if not _keeps_order(node):
            by += _sorting({quoted(c.name): c for c in rest})
        with self._shown(_held_leaves(node, held)):
            sql = f"SELECT {select} FROM ({self._sql(node)})"
            table = self._arrow(sql + (f" ORDER BY {', '.join(by)}" if by else ""))
        if self._kept > _MUCH:
            self._give_back()
        return ArrowRelation(table, tuple(order))

    def _matched(
        self,
        node: Node,
        columns: Sequence[str],
        order: Sequence[str],
        held: Mapping[int, ArrowRelation],
    ) -> ArrowRelation | None:
        """The rows of a large join that `matching` can do; None: the database does it."""
        match = Match.of(node, columns, order)
        if match is None or not _keeps_order(match.side) or _held_leaves(match.side, held):
            return None
        side = f"({self._sql(match.side)})"
        with _understood():
            counted = self._connection.execute(f"SELECT count(*) FROM {side}")
            ((most,),) = counted.fetchall()
        if most < matching.LEAST or most >= 2**31:
            return None
        sql = f"SELECT {quoted(match.via)}, {quoted(match.value)} FROM {side}"
        keys = one_array(held[match.space].table.column(match.key))
        with Threads(self._threads()) as shared, _understood(), self._streamed(sql) as batches:
            parts = ((b.column(0), b.column(1)) for b in batches)
            found = matching.matched(parts, most, keys, shared)
        if found is None:
            return None
        values, offsets, numbers = found
        kind = matching.WHOLE[match.side.by_name[match.value].type or ""]
        repeated = pa.array(np.repeat(values, np.diff(offsets))).cast(kind)
        both = {order[0]: repeated, row_column(match.space): pa.array(numbers)}
        table = pa.table({c: both.get(c, both[row_column(match.space)]) for c in columns})
        return ArrowRelation(table, tuple(order))

    def _generic_joins(self, held: Mapping[int, ArrowRelation]) -> GenericJoins:
        return GenericJoins(self._leaves(held), self._threads())

    def _leaves(self, held: Mapping[int, ArrowRelation]) -> Read:
        """What reads the leaves of a cyclic join."""

        def read(leaf: Leaf, contents: Sequence[Content], present: Sequence[Content]) -> pa.Table:
            columns = ", ".join(f"{c.sql} AS c{i}" for i, c in enumerate(contents))
            tests = [f"({p.sql})" for p in leaf.predicates]
            tests += [f"({c.sql}) IS NOT NULL" for c in present]
            by = []
            if not _keeps_order(leaf.node):
                by = _sorting({f"c{i}": Column("c", type=c.type) for i, c in enumerate(contents)})
            with self._shown(_held_leaves(leaf.node, held)):
                sql = f"SELECT {columns or f'1 AS {_ONE}'} FROM ({self._sql(leaf.node)})"
                sql += f" WHERE {' AND '.join(tests)}" if tests else ""
                return self._arrow(sql + (f" ORDER BY {', '.join(by)}" if by else ""))

        return read

    def groups(
        self, source: ArrowRelation, keys: Sequence[str], aggregates: Mapping[str, Content]
    ) -> tuple[ArrowRelation, Ints]:
        """See `Engine.groups`. One pass over the keys when the rows are sorted by them."""
        if not keys:
            ids: Ints = np.zeros(source.count, dtype=np.int32)
            first: Ints = np.zeros(1, dtype=np.int64)
        elif source.sorted_by[: len(keys)] == tuple(keys) and not _any_nested(source, keys):
            ids, first = _runs([source.table.column(k) for k in keys])
        else:
            ids, first = self._group_ids(source, keys)
        if keys:
            table = source.table.select(list(keys)).take(pa.array(first))
        else:
            table = pa.table({_ONE: pa.array([1])})
        if aggregates:
            computed = self._aggregated(source, ids, len(first), aggregates)
            for name, column in zip(aggregates, computed.columns, strict=True):
                table = table.append_column(name, column)
        return ArrowRelation(_one_chunk(table), tuple(keys) if source.sorted_by else ()), ids

    def stack(
        self, parts: Sequence[tuple[ArrowRelation, Sequence[Content]]], names: Sequence[str]
    ) -> ArrowRelation:
        """See `Engine.stack`."""
        if not names:
            count = sum(relation.count for relation, _ in parts)
            return ArrowRelation(pa.table({_ONE: pa.array(np.ones(count, dtype=np.int8))}))
        tables = [
            pa.table(dict(zip(names, self.arrays(relation, contents), strict=True)))
            for relation, contents in parts
        ]
        return ArrowRelation(_one_chunk(pa.concat_tables(tables, promote_options="permissive")))

    def arrays(self, source: ArrowRelation, contents: Sequence[Content]) -> list[pa.Array]:
        """See `Engine.arrays`. A plain column is handed over as it is."""
        computed = {c: None for c in contents if c.field is None}
        fresh: dict[Content, pa.Array] = {}
        if computed:
            select = ", ".join(f"{c.sql} AS c{i}" for i, c in enumerate(computed))
            windowed = any(c.windowed for c in computed)
            order = f" ORDER BY {_NUMBER}" if windowed else ""
            with self._numbered(source) as name:
                table = self._arrow(f"SELECT {select} FROM {name}{order}")
            fresh = dict(zip(computed, (one_array(c) for c in table.columns), strict=True))
        return [
            fresh[c] if c.field is None else one_array(source.table.column(c.field))
            for c in contents
        ]

    def numbers(self, source: ArrowRelation, contents: Sequence[Content]) -> list[Ints]:
        """See `Engine.numbers`."""
        return [whole_numbers(a) for a in self.arrays(source, contents)]

    def remarks(self, plan: Plan) -> list[str]:
        """See `Engine.remarks`: the cyclic joins, each with the order of its variables."""
        patterns = Patterns(self._connection)
        found = {
            number: patterns.of(space)
            for number, space in enumerate(plan.spaces)
            if isinstance(space, Rows)
        }
        return [
            f"#{number} as a multiway join over {', '.join(v.name for v in pattern.variables)}"
            for number, pattern in found.items()
            if pattern is not None
        ]

    def data_version(self, tables: Sequence[str]) -> str:
        """See `Engine.data_version`: row count, sum and xor of 64-bit row hashes of each table."""
        parts = []
        for table in sorted(set(tables)):
            found = self._connection.execute(
                f"SELECT count(*), bit_xor(hash(t)), sum(hash(t)) FROM {table} AS t"
            ).fetchall()
            parts.append(f"{table}:{found}")
        return "|".join(parts)

    def _arrow(self, sql: str) -> pa.Table:
        with _understood():
            table = _one_chunk(self._connection.sql(sql).to_arrow_table())
        self._fetched += table.nbytes
        self._kept += table.nbytes
        return table

    @contextmanager
    def _streamed(self, sql: str) -> Iterator[pa.RecordBatchReader]:
        """A query's rows in parts, never held as a whole."""
        reader = self._connection.sql(sql).to_arrow_reader(_PART)
        try:
            yield reader
        finally:
            reader.close()

    def _run(self, sql: str) -> None:
        with _understood():
            self._connection.execute(sql).fetchall()

    @contextmanager
    def _shown(self, held: Mapping[int, ArrowRelation]) -> Iterator[None]:
        """Show relations to SQL, with their row numbers, as long as the block runs."""
        with ExitStack() as stack:
            for space, relation in held.items():
                name = _held_name(Held(space, ()))
                stack.enter_context(self._registered(name, relation, row_column(space)))
            yield

    @contextmanager
    def _numbered(self, relation: ArrowRelation) -> Iterator[str]:
        """The name under which SQL sees one relation, its row numbers in `_NUMBER`."""
        name = '"relann relation"'
        with self._registered(name, relation, _NUMBER.strip('"')):
            yield name

    @contextmanager
    def _registered(self, name: str, relation: ArrowRelation, number: str) -> Iterator[None]:
        numbers = pa.array(np.arange(relation.count, dtype=np.int32))
        bare = name.strip('"')
        self._connection.register(bare, relation.table.append_column(number, numbers))
        try:
            yield
        finally:
            with suppress(duckdb.Error):  # the same
                self._connection.unregister(bare)

    def _group_ids(self, source: ArrowRelation, keys: Sequence[str]) -> tuple[Ints, Ints]:
        """Group of each row, and each group's first row; groups in the order of first rows."""
        by = ", ".join(quoted(k) for k in keys)
        match = " AND ".join(f"s.{quoted(k)} IS NOT DISTINCT FROM g.{quoted(k)}" for k in keys)
        with self._numbered(source) as name:
            table = self._arrow(
                f"WITH g AS (SELECT {by}, min({_NUMBER}) AS first FROM {name} GROUP BY {by}) "
                f"SELECT s.{_NUMBER} AS row, g.first FROM {name} AS s JOIN g ON {match}"
            )
        firsts = np.empty(source.count, dtype=np.int64)
        firsts[table.column("row").to_numpy()] = table.column("first").to_numpy()
        starts = np.flatnonzero(firsts == np.arange(source.count))
        rank: Ints = np.empty(source.count, dtype=np.int32)
        rank[starts] = np.arange(len(starts), dtype=np.int32)
        return rank[firsts], starts

    def _aggregated(
        self, source: ArrowRelation, ids: Ints, count: int, aggregates: Mapping[str, Content]
    ) -> pa.Table:
        grouped = source.table.append_column("#group", pa.array(ids))
        select = ", ".join(f"{c.sql} AS {quoted(n)}" for n, c in aggregates.items())
        with self._numbered(ArrowRelation(grouped)) as name:
            if count == 1 and len(ids) == 0:
                return self._arrow(f"SELECT {select} FROM {name}")
            table = self._arrow(
                f'SELECT "#group", {select} FROM {name} GROUP BY "#group" ORDER BY "#group"'
            )
        return table.drop_columns(["#group"])


@contextmanager
def _understood() -> Iterator[None]:
    """What the database refuses is an error of the data."""
    try:
        yield
    except duckdb.Error as error:
        message = f"the database could not run the query: {duckdb_message(error)}"
        raise DataError(message) from error


def _sorting(columns: Mapping[str, Column]) -> list[str]:
    """An order of rows by columns; what is long to compare comes last, and as a hash."""
    return [
        f"hash({name})" if _is_nested(columns[name]) else f"{name} NULLS LAST"
        for name in sorted(columns, key=lambda name: _is_nested(columns[name]))
    ]


def _held_leaves(node: Node, held: Mapping[int, ArrowRelation]) -> dict[int, ArrowRelation]:
    """The relations that a node reads."""
    return {n.space: held[n.space] for n in node.walk() if isinstance(n, Held)}


def _is_nested(column: Column) -> bool:
    return column.type is not None and column.type.endswith(("]", ")"))


def _keeps_order(node: Node) -> bool:
    """Whether the database gives the rows in an order that is the same for the same data."""
    inside = list(node.walk())
    single = sum(1 for n in inside if not n.sources) == 1
    plain = all(isinstance(n, Scan | Held | Alias | Select | Map) for n in inside)
    windowed = any(
        isinstance(value, Content) and value.windowed
        for n in inside
        if isinstance(n, Map)
        for _, value in n.outputs
    )
    return single and plain and not windowed


def _held_name(held: Held) -> str:
    return f'"relann space {held.space}"'


def _any_nested(source: ArrowRelation, keys: Sequence[str]) -> bool:
    """Whether a key is a list or the like, which Arrow does not compare."""
    return any(pa.types.is_nested(source.table.schema.field(k).type) for k in keys)


def _one_chunk(table: pa.Table) -> pa.Table:
    return table if all(c.num_chunks == 1 for c in table.columns) else table.combine_chunks()


def _runs(columns: Sequence[pa.ChunkedArray]) -> tuple[Ints, Ints]:
    """Group of each row and first row of each group, of rows sorted by the columns."""
    count = len(columns[0])
    if count == 0:
        return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64)
    changed = np.zeros(count, dtype=bool)
    for chunked in columns:
        changed[1:] |= _differs(one_array(chunked))
    ids: Ints = np.cumsum(changed, dtype=np.int32 if count < 2**31 else np.int64)
    changed[0] = True
    return ids, np.flatnonzero(changed)


def _differs(array: pa.Array) -> npt.NDArray[np.bool_]:
    """Which values after the first are not as the one before; NULLs are alike, and so are NaNs."""
    differs: npt.NDArray[np.bool_]
    if pa.types.is_primitive(array.type) and not array.null_count:
        values = array.to_numpy(zero_copy_only=False)
        differs = values[1:] != values[:-1]
    else:
        unequal = pc.not_equal(array.slice(1), array.slice(0, len(array) - 1))
        differs = unequal.fill_null(False).to_numpy(zero_copy_only=False)
    if pa.types.is_floating(array.type):
        nan = pc.is_nan(array).fill_null(False).to_numpy(zero_copy_only=False)
        differs &= ~(nan[1:] & nan[:-1])
    if array.null_count:
        missing = array.is_null().to_numpy(zero_copy_only=False)
        differs |= missing[1:] != missing[:-1]
    return differs


def make(connection: duckdb.DuckDBPyConnection) -> DuckDBEngine:
    """The engine on a connection."""
    return DuckDBEngine(connection)


def missing() -> str | None:
    """What to install before the engine runs: nothing."""
    return None
