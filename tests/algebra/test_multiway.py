"""Cyclic joins: which are recognised, and that their rows are those the database gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.multiway import Pattern, cyclic_pattern, is_cyclic
from relann.algebra.nodes import Aggregate, Alias, Column, Join, Map, Node, Scan, Select
from relann.algebra.plan import Held, Plan, Rows
from relann.algebra.sql import node_to_sql
from relann.algebra.terms import Content, column

TABLES = {
    "edge": (("src", "INTEGER"), ("dst", "INTEGER"), ("w", "DOUBLE"), ("at", "TIMESTAMP")),
    "wide": (("src", "BIGINT"), ("dst", "BIGINT"), ("w", "DOUBLE"), ("at", "TIMESTAMP")),
    "name": (("src", "VARCHAR"), ("dst", "VARCHAR"), ("w", "DOUBLE"), ("at", "TIMESTAMP")),
    "node": (("id", "INTEGER"), ("label", "VARCHAR"), ("x", "FLOAT")),
    "person": (("id", "VARCHAR"), ("label", "VARCHAR"), ("x", "FLOAT")),
}


def scan(table: str, alias: str, *names: str) -> Alias:
    """A table's rows under an alias, perhaps some columns only."""
    columns = [Column(n, type=t) for n, t in TABLES[table] if not names or n in names]
    return Alias(Scan(f'"{table}"', tuple(columns)), alias)


def condition(text: str) -> Content:
    """A condition, its columns written as `alias.column`."""
    words = [f'"{w}"' if "." in w and w[0].isalpha() else w for w in text.split()]
    return Content(" ".join(words), "BOOLEAN")


def joined(first: Node, *others: tuple[Node, str]) -> Node:
    """Inner joins, one after the other."""
    for node, on in others:
        first = Join(first, node, on=condition(on))
    return first


def triangle(table: str = "edge", *names: str) -> Node:
    """Edges a → b → c → a."""
    names = names or ("src", "dst")
    return joined(
        scan(table, "a", *names),
        (scan(table, "b", *names), "b.src = a.dst"),
        (scan(table, "c", *names), "c.src = b.dst AND c.dst = a.src"),
    )


def with_nodes(node: Node, *places: str, table: str = "node") -> Node:
    """The same with the node at each of some places looked up."""
    for number, place in enumerate(places):
        node = Join(node, scan(table, f"v{number}"), on=condition(f"v{number}.id = {place}"))
    return node


def database(**rows: Sequence[tuple[Any, ...]]) -> duckdb.DuckDBPyConnection:
    """The tables above with some rows, made up to their width by NULLs."""
    connection = duckdb.connect()
    for table, columns in TABLES.items():
        made = ", ".join(f'"{n}" {t}' for n, t in columns)
        connection.execute(f'CREATE TABLE "{table}" ({made})').fetchall()
        given = [(*row, *[None] * (len(columns) - len(row))) for row in rows.get(table, ())]
        if given:
            marks = ", ".join([f"({', '.join('?' * len(columns))})"] * len(given))
            values = [value for row in given for value in row]
            connection.execute(f'INSERT INTO "{table}" VALUES {marks}', values).fetchall()
    return connection


def recognised(node: Node, order: Sequence[str] = ()) -> Pattern | None:
    """The node as a cyclic join whose columns are all kept."""
    return cyclic_pattern(node, node.names, order)


def values(engine: DuckDBEngine, node: Node, order: Sequence[str] = ()) -> list[tuple[Any, ...]]:
    """The engine's rows, in its order."""
    table = engine.rows(node, node.names, order, {}).table
    return list(zip(*(c.to_pylist() for c in table.columns), strict=True))


def check(connection: duckdb.DuckDBPyConnection, node: Node, order: Sequence[str] = ()) -> int:
    """The engine enumerates the node and gives what the database gives, sorted; how many rows."""
    assert recognised(node, order) is not None
    expected = connection.sql(node_to_sql(node)).fetchall()
    connection.execute("SET threads = 1").fetchall()
    found = values(DuckDBEngine(connection), node, order)
    assert Counter(map(repr, found)) == Counter(map(repr, expected))
    keys = [tuple(row[node.names.index(c)] for c in order) for row in found]
    assert keys == sorted(keys, key=lambda key: [(v is None, v) for v in key])
    table = DuckDBEngine(connection).rows(node, node.names, order, {}).table
    types = connection.sql(node_to_sql(node)).to_arrow_table().schema.types
    assert table.schema.types == types
    connection.execute("SET threads = 3").fetchall()
    assert repr(values(DuckDBEngine(connection), node, order)) == repr(found)
    return len(found)


# -- what is recognised --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edges", "cyclic"),
    [
        ([], False),
        ([{0}], False),
        ([{0, 1}, {1, 2}, {2, 3}], False),
        ([{0, 1}, {1, 2}, {2, 0}], True),
        ([{0, 1}, {1, 2}, {2, 0}, {0, 1, 2}], False),
        ([{0, 1}, {1, 0}, {0}, {1}], False),
        ([{0, 1}, {1, 2}, {2, 3}, {3, 0}, {3, 4}, {4, 5}], True),
        ([{0, 1}, set(), {2, 3}], False),
    ],
)
def test_cyclic_means_not_alpha_acyclic(edges: list[set[int]], cyclic: bool) -> None:
    """By GYO reduction."""
    assert is_cyclic(edges) == cyclic


def test_variables_come_in_an_order_that_stays_connected() -> None:
    """Those of `order` first, then what closes most atoms."""
    pattern = recognised(triangle())
    assert pattern is not None
    assert [v.name for v in pattern.variables] == ["a.dst", "a.src", "b.dst"]
    pattern = recognised(triangle(), ["b.dst"])
    assert pattern is not None
    assert [v.name for v in pattern.variables] == ["b.dst", "a.dst", "a.src"]


def test_predicates_go_to_leaves_variables_and_nowhere_else() -> None:
    """One of a leaf is the leaf's, a comparison of variables is tested in the enumeration."""
    node = Select(triangle(), condition("a.src < b.src AND ( a.dst <> 3 ) AND c.src <> a.src"))
    pattern = recognised(node, ["a.src"])
    assert pattern is not None
    assert [len(leaf.predicates) for leaf in pattern.leaves] == [1, 0, 0]
    assert [(c.left, c.sign, c.right) for c in pattern.comparisons] == [(0, "<", 1), (0, "<>", 2)]
    for spanning in ("a.src + b.src > c.src", "a.src < 3 OR b.dst < 3", "a.src < a.src"):
        assert recognised(Select(triangle(), condition(spanning))) is None


def test_what_is_acyclic_is_left_to_the_database() -> None:
    """Paths, edges there and back, a triangle through functional lookups."""
    path = joined(scan("edge", "a"), (scan("edge", "b"), "b.src = a.dst"))
    assert recognised(path) is None
    back = joined(scan("edge", "a"), (scan("edge", "b"), "b.src = a.dst AND b.dst = a.src"))
    assert recognised(with_nodes(back, "a.src", "a.dst")) is None
    assert cyclic_pattern(triangle(), (), (), lambda leaf, name: name == "src") is None
    assert cyclic_pattern(triangle(), (), (), lambda leaf, name: name == "w") is not None


def test_what_compares_otherwise_is_left_to_the_database() -> None:
    """Floating point keys, left joins, windows, values that differ each time."""
    edges = [scan("edge", a, "src", "dst", "w") for a in "abc"]
    floats = joined(
        edges[0], (edges[1], "b.w = a.w"), (edges[2], "c.dst = b.dst AND c.src = a.src")
    )
    assert recognised(floats) is None
    assert recognised(triangle("edge", "src", "dst", "w"), ["a.w"]) is None
    mixed = joined(
        scan("edge", "a"), (scan("name", "b"), "b.src = a.dst"),
        (scan("edge", "c"), "c.src = b.dst AND c.dst = a.src"),
    )  # fmt: skip
    assert recognised(mixed) is None
    left = Join(triangle(), scan("node", "v"), "left", condition("v.id = a.src"))
    assert recognised(left) is None
    random = Select(triangle(), Content('random() < "a.src"', "BOOLEAN"))
    assert recognised(random) is None
    window = Map(triangle(), (("n", Content('row_number() OVER (ORDER BY "a.src")', "BIGINT")),))
    assert recognised(window) is None


def test_a_group_is_a_leaf() -> None:
    """What is no join is run by the database on its own."""
    once = Aggregate(
        Scan('"edge"', (Column("src", "INTEGER"), Column("dst", "INTEGER"))), ("src", "dst")
    )
    node = joined(
        Alias(once, "a"), (scan("edge", "b"), "b.src = a.dst"),
        (scan("edge", "c"), "c.src = b.dst AND c.dst = a.src"),
    )  # fmt: skip
    assert check(database(edge=[(1, 2), (1, 2), (2, 3), (3, 1)]), node, ["c.dst"]) == 5


# -- rows ----------------------------------------------------------------------------------------


def cycle(
    length: int, distinct: bool = True, tables: Sequence[str] = ("edge",), *names: str
) -> Node:
    """A directed cycle of some length over tables in turn."""
    names = names or ("src", "dst")
    alias = [f"e{i}" for i in range(length)]
    scans = [scan(tables[i % len(tables)], a, *names) for i, a in enumerate(alias)]
    joins = [f"{alias[i]}.src = {alias[i - 1]}.dst" for i in range(1, length)]
    joins[-1] += f" AND {alias[-1]}.dst = {alias[0]}.src"
    node = joined(scans[0], *zip(scans[1:], joins, strict=True))
    if not distinct:
        return node
    apart = [f"{alias[i]}.src <> {alias[j]}.src" for i in range(length) for j in range(i)]
    return Select(node, condition(" AND ".join(apart)))


CLIQUE = joined(
    scan("edge", "a", "src", "dst"),
    (scan("edge", "b", "src", "dst"), "b.src = a.src"),
    (scan("edge", "c", "src", "dst"), "c.src = a.src"),
    (scan("edge", "d", "src", "dst"), "d.src = a.dst AND d.dst = b.dst"),
    (scan("edge", "e", "src", "dst"), "e.src = a.dst AND e.dst = c.dst"),
    (scan("edge", "f", "src", "dst"), "f.src = b.dst AND f.dst = c.dst"),
)
BOW_TIE = joined(
    triangle(),
    (scan("wide", "d", "src", "dst"), "d.src = a.src"),
    (scan("edge", "e", "src", "dst"), "e.src = d.dst"),
    (scan("edge", "f", "src", "dst"), "f.src = e.dst AND f.dst = a.src"),
)
PATTERNS: list[tuple[Node, tuple[str, ...]]] = [
    (triangle(), ("a.src",)),
    (triangle("name"), ("b.src", "a.src")),
    (triangle("edge", "src", "dst", "w"), ("a.src",)),
    (triangle("edge", "src", "dst", "at"), ("a.at", "a.src")),
    (Select(triangle("edge", "src", "dst", "at"), condition("a.at < b.at AND b.at <= c.at")), ()),
    (Select(triangle(), condition("a.src < b.src AND b.src < c.src")), ("c.src",)),
    (Select(triangle(), condition("a.src >= b.src AND a.src > c.src")), ("b.src",)),
    (Select(cycle(4, False), condition("e0.src = e0.dst")), ()),
    (Select(triangle("name"), condition("a.src < b.src AND b.src <> c.src")), ("a.src",)),
    (with_nodes(triangle(), "a.src", "b.src", "c.src"), ("a.src",)),
    (with_nodes(triangle(), "a.src"), ("v0.label", "v0.id")),
    (with_nodes(triangle("name"), "a.src", "b.dst", table="person"), ("v1.label",)),
    (Select(with_nodes(triangle(), "a.src"), condition("v0.x > 1 AND v0.label = 'a'")), ()),
    (Select(with_nodes(triangle(), "a.src", "b.src"), condition("v0.label <> v1.label")), ()),
    (with_nodes(triangle("wide"), "b.dst"), ("v0.id",)),
    (cycle(4, False, ("edge", "wide")), ("e0.src", "e1.src")),
    (cycle(4), ("e2.src",)),
    (cycle(5), ()),
    (cycle(6), ("e0.src",)),
    (cycle(7), ("e0.src",)),
    (cycle(7, False), ("e1.src",)),
    (cycle(6, True, ("edge",), "src", "dst", "w"), ("e0.src",)),
    (Select(cycle(7), condition("e0.src < e6.src AND e2.src < e5.src")), ("e0.src",)),
    (with_nodes(cycle(6), "e0.src", "e3.src"), ("e0.src",)),
    (CLIQUE, ("a.src",)),
    (BOW_TIE, ("a.src",)),
    (joined(triangle(), (scan("edge", "p"), "p.src = b.dst")), ("a.src",)),
    (joined(triangle(), (scan("node", "n"), "1 = 1")), ("n.id",)),
    (Map(triangle(), (("n", Content('"a.src" + 1', "INTEGER")), ("m", column("c.src", "INTEGER")))),
     ("n",)),
    (Map(triangle(), (("m", column("c.src", "INTEGER")),)), ()),
]  # fmt: skip

identifiers = st.one_of(st.none(), st.integers(0, 4), st.integers(-1, 2))
numbers = st.sampled_from([0.5, 1.0, 2.0, None, float("nan")])
times = st.sampled_from([None, "2020-01-01", "2020-01-02", "2021-01-01 03:04:05"])
names = st.sampled_from([None, "", "a", "b", "B", "é", "zz"])
labels = st.sampled_from([None, "a", "b"])


def edges(ends: st.SearchStrategy[Any]) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    return st.lists(st.tuples(ends, ends, numbers, times), max_size=14)


@settings(max_examples=80)
@given(
    case=st.sampled_from(PATTERNS),
    edge=edges(identifiers),
    wide=edges(identifiers),
    name=edges(names),
    node=st.lists(st.tuples(identifiers, labels, numbers), max_size=6),
    person=st.lists(st.tuples(names, labels, numbers), max_size=6),
    whole=st.booleans(),
)
def test_rows_are_those_of_the_database(
    case: tuple[Node, tuple[str, ...]], whole: bool, **rows: list[tuple[Any, ...]]
) -> None:
    """With duplicates, loops, NULLs and lookups that lose rows; sorted, on any threads."""
    if whole:  # lookups that lose none, and find one each
        rows["node"] = [(k, "ab"[k % 2], float(k)) for k in range(-1, 5)]
    check(database(**rows), *case)


@pytest.mark.parametrize("case", range(len(PATTERNS)))
def test_every_pattern_on_a_dense_graph(case: int) -> None:
    """Enough rows that endings are kept and lists are marked; and on no rows at all."""
    edge = [(i, (i + k) % 8, float(i), f"2020-01-0{k}") for i in range(8) for k in (3, 1, 2)]
    name = [(f"n{i}", f"n{j}", w, at) for i, j, w, at in edge]
    node = [(i, "ab"[i % 2], float(i)) for i in range(8)]
    person = [(f"n{i}", label, x) for i, label, x in node]
    node_of, order = PATTERNS[case]
    full = database(edge=edge, wide=edge, name=name, node=node, person=person)
    assert check(full, node_of, order) > 0 or case in (4, 7)
    assert check(database(), node_of, order) == 0
    assert check(database(edge=edge, name=name), node_of, order) >= 0


def test_no_column_is_a_row_all_the_same() -> None:
    """The count is kept."""
    engine = DuckDBEngine(database(edge=[(1, 2), (2, 3), (3, 1)]))
    assert engine.rows(triangle(), [], [], {}).count == 3


def test_keys_far_apart_are_numbered() -> None:
    """Whole numbers of 62 bits, negative ones, and some that no edge has."""
    big = 2**62
    ring = [(-big, big), (big, 5), (5, -big), (7, 2**63 - 1)]
    node = with_nodes(triangle("wide"), "a.src")
    assert check(database(wide=ring, node=[(5, "x", 1.0), (6, "y", 2.0)]), node, ["a.src"]) == 1


def test_rows_come_in_blocks_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """More tuples than a block holds, and more than are enumerated by one thread."""
    for name, value in (("_BLOCK", 1 << 8), ("_SERIAL", 1)):
        monkeypatch.setattr(f"relann.algebra.engines.generic_join.enumeration.{name}", value)
    edge = [(a, b) for a in range(12) for b in range(12) if a != b]
    assert check(database(edge=edge), triangle(), ["a.src"]) == 12 * 11 * 10
    assert check(database(edge=edge[:50]), cycle(6, False), ["e0.src"]) > 0


def test_endings_beyond_their_room_are_enumerated_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rows are the same."""
    edge = [(i, (i + k) % 8) for i in range(8) for k in (3, 1, 2)]
    for room in (0, 7, 60):
        monkeypatch.setattr("relann.algebra.engines.generic_join.enumeration._ENDINGS", room)
        assert check(database(edge=edge), cycle(6), ["e0.src"]) > 0


def test_texts_that_are_collated_are_left_to_the_database() -> None:
    """`A` = `a` there."""
    connection = database()
    connection.execute("DROP TABLE name").fetchall()
    connection.execute(
        "CREATE TABLE name (src VARCHAR COLLATE NOCASE, dst VARCHAR COLLATE NOCASE, w DOUBLE)"
    ).fetchall()
    connection.execute("INSERT INTO name VALUES ('A', 'b', 1), ('B', 'c', 1), ('C', 'a', 1)")
    engine = DuckDBEngine(connection)
    assert len(values(engine, triangle("name"))) == 3
    assert engine.remarks(_plan(triangle("name"))) == []


# -- a plan's spaces -----------------------------------------------------------------------------


def _plan(*nodes: Node) -> Plan:
    return Plan(tuple(Rows(n, n.names) for n in nodes), (), 0, (), ())


def test_equal_cores_are_enumerated_once() -> None:
    """Two layers look other rows up by the same triangles; afterwards nothing is kept."""
    connection = database(edge=[(1, 2), (2, 3), (3, 1)], node=[(k, "a", 1.0) for k in range(1, 4)])
    engine = DuckDBEngine(connection)
    spaces = [Rows(scan("node", "v"), ("v.id",))]
    held = {0: engine.rows(spaces[0].node, ["v.id"], [], {})}
    row = Held(0, (Column("v.id", type="INTEGER"), Column("#0", type="INTEGER")))
    first = Join(triangle(), row, on=condition("v.id = a.src"))
    second = Join(triangle(), Alias(row, "w"), on=condition("w.v.id = b.src"))
    both = [Rows(n, n.names, ("a.src",)) for n in (first, second)]
    with engine.sharing([triangle()], both):
        joins = engine._joins
        assert joins is not None
        for space in both:
            assert engine.rows(space.node, space.columns, space.order, held).count == 3
            tables = "SELECT table_name FROM duckdb_tables() WHERE temporary"
            assert connection.sql(tables).fetchall() == []
        assert joins.enumerations == 1
        assert not joins._cores
    alone = engine.rows(first, first.names, ["a.src"], held)
    assert alone.table.column("#0").to_pylist() == [0, 1, 2]


def test_what_sql_reads_twice_is_a_temporary_table() -> None:
    """Made when it is first read, gone afterwards."""
    connection = database(edge=[(1, 2), (2, 3)])
    engine = DuckDBEngine(connection)
    path = joined(scan("edge", "a"), (scan("edge", "b"), "b.src = a.dst"))
    spaces = [Rows(n, n.names) for n in (path, with_nodes(path, "a.src"))]
    tables = "SELECT table_name FROM duckdb_tables() WHERE temporary"
    with engine.sharing([path], spaces):
        assert connection.sql(tables).fetchall() == []
        for space in spaces:
            engine.rows(space.node, space.columns, (), {})
        assert len(connection.sql(tables).fetchall()) == 1
    assert connection.sql(tables).fetchall() == []


def test_remarks_name_the_variables() -> None:
    """One line for each cyclic join, none for the others."""
    engine = DuckDBEngine(database())
    assert engine.remarks(_plan(scan("node", "v"), triangle())) == [
        "#1 as a multiway join over a.dst, a.src, b.dst"
    ]


def test_a_unique_column_closes_no_cycle() -> None:
    """By a constraint of the database, as by the form of a group."""
    connection = database()
    connection.execute("DROP TABLE edge").fetchall()
    connection.execute(
        "CREATE TABLE edge (src INTEGER PRIMARY KEY, dst INTEGER, w DOUBLE)"
    ).fetchall()
    assert DuckDBEngine(connection).remarks(_plan(triangle())) == []
