"""Joins by hash table and counting sort give what the database gives, row for row."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relann.algebra.engines import duckdb as duckdb_engine
from relann.algebra.engines import matching
from relann.algebra.engines.duckdb import ArrowRelation, DuckDBEngine
from relann.algebra.engines.hashing import Keys, Threads, grouped
from relann.algebra.engines.matching import Match
from relann.algebra.nodes import Alias, Column, Join, Map, Node, Scan, Select
from relann.algebra.plan import Held, row_column
from relann.algebra.terms import Content, column

TYPES = ("TINYINT", "INTEGER", "BIGINT", "UINTEGER")
EXTREMES = {
    "TINYINT": (-128, 127), "INTEGER": (-(2**31), 2**31 - 1), "BIGINT": (-(2**63), 2**63 - 1),
    "UINTEGER": (0, 2**32 - 1),
}  # fmt: skip


def edges(kind: str) -> Scan:
    """edge(src, dst) of one type."""
    return Scan('"edge"', (Column("src", type=kind), Column("dst", type=kind)))


def joined(kind: str, left: Node | None = None, on: str = '"e.src" = "v.id"') -> Node:
    """(e.dst, #0) of edges that start at a node, as lowering writes it."""
    held = Held(0, (Column("id", type=kind), Column(row_column(0), type="INTEGER")))
    names = ("id", row_column(0))
    nodes = Map(held, (("v.id", column("id", kind)), (names[1], column(names[1], "INTEGER"))))
    join = Join(left or Alias(edges(kind), "e"), nodes, "inner", Content(on, "BOOLEAN"))
    return Map(
        join, (("e.dst", column("e.dst", kind)), (row_column(0), column(row_column(0), "INTEGER")))
    )


def both_ways(
    connection: duckdb.DuckDBPyConnection,
    node: Node,
    monkeypatch: pytest.MonkeyPatch,
    columns: tuple[str, ...] = ("e.dst", "#0"),
) -> tuple[ArrowRelation, ArrowRelation]:
    """The rows by hash table and those of the database."""
    engine = DuckDBEngine(connection)
    kind = node.by_name["e.dst"].type or ""
    held = {0: engine.rows(Scan('"node"', (Column("id", type=kind),)), ["id"], [], {})}
    made = []
    for least in (0, 2**40):
        monkeypatch.setattr(matching, "LEAST", least)
        made.append(engine.rows(node, columns, ["e.dst"], held))
    return made[0], made[1]


def database(
    kind: str, ids: list[int | None], pairs: list[tuple[int | None, int | None]]
) -> duckdb.DuckDBPyConnection:
    """Tables node and edge with the given numbers."""
    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE node (id {kind}); CREATE TABLE edge (src {kind}, dst {kind})")
    for table, rows in (("node", [(i,) for i in ids]), ("edge", pairs)):
        if rows:
            places = ", ".join("?" * len(rows[0]))
            connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows)
    return connection


@settings(max_examples=60)
@given(data=st.data(), kind=st.sampled_from(TYPES))
def test_rows_are_those_of_the_database(data: st.DataObject, kind: str) -> None:
    """Whatever numbers, also NULLs and keys that are there twice, of which the database takes care.

    Few distinct numbers make partners, the type's ends make every bit count.
    """
    low, high = EXTREMES[kind]
    number = st.sampled_from([low, low + 1, high, high - 1, *range(0, 6)])
    keys = st.lists(number, unique=data.draw(st.booleans()), max_size=10)
    ids: list[int | None] = list(data.draw(keys))
    maybe = st.none() | number if data.draw(st.booleans()) else number
    pairs = data.draw(st.lists(st.tuples(maybe, maybe), max_size=60))
    with pytest.MonkeyPatch.context() as patch, database(kind, ids, pairs) as connection:
        ours, theirs = both_ways(connection, joined(kind), patch)
    assert ours.table.equals(theirs.table)
    assert ours.sorted_by == theirs.sorted_by


@pytest.mark.parametrize("columns", [("e.dst", "#0"), ("#0", "e.dst")])
def test_large_tables(columns: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables that grow, threads and groups of a thousand rows; edges from no node are left out."""
    random = np.random.default_rng(0)
    ids = random.permutation(np.unique(random.integers(-(2**62), 2**62, 5000)))
    ends = np.append(ids[random.integers(0, 4000, 100_000)], np.full(3000, ids[0]))
    tables = {
        "node": pa.table({"id": ids[:3000]}),
        "edge": pa.table({"src": random.permutation(ends), "dst": ends}),
    }
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register("arrow", table)
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM arrow").fetchall()
        used = calls(monkeypatch)
        ours, theirs = both_ways(connection, joined("BIGINT"), monkeypatch, columns)
        assert used == [True]
    assert ours.table.equals(theirs.table)
    assert ours.table.column_names == list(columns)


def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each call of `matched` found rows, as they come."""
    made: list[bool] = []
    whole = matching.matched

    def noted(*args: Any) -> Any:
        found = whole(*args)
        made.append(found is not None)
        return found

    monkeypatch.setattr(matching, "matched", noted)
    return made


def test_the_connection_is_free_after_rows_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A NULL in the first part leaves the rest unread; the database then gives the rows."""
    with database("BIGINT", [1, 2], [(1, None), (2, 1), (1, 1)]) as connection:
        used = calls(monkeypatch)
        ours, theirs = both_ways(connection, joined("BIGINT"), monkeypatch)
        assert used == [False]
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
    assert ours.table.equals(theirs.table)
    assert ours.table.to_pydict() == {"e.dst": [1, 1, None], "#0": [0, 1, 0]}


def test_a_filter_of_the_table_is_the_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it leaves is joined here."""
    left = Select(Alias(edges("BIGINT"), "e"), Content('"e.dst" > 1', "BOOLEAN"))
    with database("BIGINT", [1, 2], [(1, 1), (2, 3), (1, 2), (5, 9)]) as connection:
        used = calls(monkeypatch)
        ours, theirs = both_ways(connection, joined("BIGINT", left), monkeypatch)
        assert used == [True]
    assert ours.table.equals(theirs.table)
    assert ours.table.to_pydict() == {"e.dst": [2, 3], "#0": [0, 1]}


def test_what_is_not_matched() -> None:
    """Other joins, other conditions, computed columns, types beyond 64 bits: the database's."""
    columns, order = ("e.dst", "#0"), ("e.dst",)
    assert Match.of(joined("BIGINT"), columns, order) == Match(
        Alias(edges("BIGINT"), "e"), "e.src", "e.dst", 0, "id"
    )
    assert Match.of(joined("BIGINT"), columns, ()) is None
    assert Match.of(joined("BIGINT"), ("e.dst",), order) is None
    assert Match.of(joined("BIGINT"), columns, ("#0",)) is None
    for kind in ("HUGEINT", "UBIGINT", "DOUBLE", "VARCHAR", "DECIMAL(9,2)", "BOOLEAN"):
        assert Match.of(joined(kind), columns, order) is None
    for on in ('"e.src" < "v.id"', '"e.src" = "v.id" AND "e.dst" = "v.id"', '"e.src" + 1 = "v.id"'):
        assert Match.of(joined("BIGINT", on=on), columns, order) is None
    node = joined("BIGINT")
    assert isinstance(node, Map) and isinstance(node.source, Join)
    outer = Join(node.source.left, node.source.right, "left", node.source.on)
    assert Match.of(Map(outer, node.outputs), columns, order) is None
    added = (("e.dst", Content('"e.dst" + 1', "BIGINT")), *node.outputs[1:])
    assert Match.of(Map(node.source, added), columns, order) is None


def test_keys_are_numbered_as_they_come() -> None:
    """The same after the table has grown; unknown ones are found nowhere."""
    random = np.random.default_rng(1)
    values = np.unique(random.integers(-(2**63), 2**63 - 1, 20_000))
    random.shuffle(values)
    keys, numbers = Keys(), np.full(len(values), -1, dtype=np.int32)
    keys.enter(values, numbers)
    assert (numbers == np.arange(len(values))).all()
    assert (keys.values == values).all()
    found = np.empty(len(values) + 1, dtype=np.int32)
    with Threads(2) as threads:
        keys.find(np.append(values, values[0] + 1 if values[0] < 0 else 0), found, threads)
    assert (found[:-1] == numbers).all() and found[-1] in (-1, *numbers)


def test_groups_stand_in_the_order_asked_for() -> None:
    """Their values ascending; a group may be empty, and all of them."""
    codes = np.array([2, 0, 2, 2, 0], dtype=np.int32)
    values = np.array([9, 4, 1, 9, 3], dtype=np.int32)
    with Threads(3) as threads:
        offsets, found = grouped(codes, values, np.array([2, 1, 0], dtype=np.int32), threads)
        assert (offsets.tolist(), found.tolist()) == ([0, 3, 3, 5], [1, 9, 9, 3, 4])
        none = np.empty(0, dtype=np.int32)
        offsets, found = grouped(none, none, none, threads)
    assert (offsets.tolist(), found.tolist()) == ([0], [])


@pytest.mark.parametrize("locked", [False, True])
def test_memory_is_given_back_and_settings_stay(
    locked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where settings may not be changed."""
    monkeypatch.setattr(duckdb_engine, "_MUCH", -1)
    with database("BIGINT", [1, 2], [(1, 2)]) as connection:
        connection.execute("SET threads = 3").fetchall()
        if locked:
            connection.execute("SET lock_configuration = true").fetchall()
        engine = DuckDBEngine(connection)
        with engine.sharing([], []):
            engine.rows(Scan('"node"', (Column("id", type="BIGINT"),)), ["id"], [], {})
        found = connection.execute("SELECT current_setting('threads')").fetchall()
    assert found == [(3,)]
