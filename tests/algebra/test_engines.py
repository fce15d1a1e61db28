"""One suite, every engine: the rows, groups and arrays each must give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.engines.pandas import make as pandas_engine
from relann.algebra.engines.protocol import Engine
from relann.algebra.engines.reference import ReferenceEngine
from relann.algebra.nodes import (
    JOINS,
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
    passed,
)
from relann.algebra.plan import Held, row_column
from relann.algebra.terms import Content, Lift, column, quoted
from relann.errors import DataError, EngineError, PlanError
from relann.schema import Catalog
from tests.expressions import expressions
from tests.strategies import KINDS_OF, TABLES, Database, databases

ENGINES: dict[str, Callable[[duckdb.DuckDBPyConnection], Engine]] = {
    "duckdb": DuckDBEngine,
    "pandas": pandas_engine,
    "reference": ReferenceEngine,
}
"""Every engine that runs on any machine; a test takes `engine` to run on each."""

DATABASE = Database(
    {
        "node": [
            (1, "a", 0.5, 3, True, datetime(2020, 1, 2), (1.0, 2.0, 3.0), 0),
            (2, "b", None, 1, False, datetime(2020, 1, 1), (0.5, 0.0, 0.0), 1),
            (2, "b", 1.5, None, None, None, None, 0),
            (None, None, -1.0, 1, True, datetime(2020, 1, 3), (1.0, 1.0, 1.0), 1),
        ],
        "edge": [
            (1, 2, "x", 1.0, datetime(2020, 1, 1)),
            (1, 2, "x", 1.0, datetime(2020, 1, 1)),
            (2, None, "y", None, datetime(2020, 1, 2)),
            (None, 1, None, 0.5, None),
            (9, 1, "y", 2.0, datetime(2020, 1, 4)),
        ],
        "tag": [],
        "event": [(1, datetime(2020, 1, 1), 1.0, "p"), (2, datetime(2020, 1, 5), 2.0, "q")],
    }
)


@pytest.fixture(params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine on the database above."""
    return ENGINES[request.param](DATABASE.connect())


def scan(table: str, *names: str) -> Scan:
    """Some columns of a table, all without names."""
    columns = [Column(n, type=t) for n, t in TABLES[table] if not names or n in names]
    return Scan(f'"{table}"', tuple(columns))


def contents(engine: Engine, relation: Any, columns: Sequence[Column]) -> list[tuple[Any, ...]]:
    """A relation's rows in row order."""
    arrays = engine.arrays(relation, [column(c.name, c.type or "") for c in columns])
    rows = list(zip(*(a.to_pylist() for a in arrays), strict=True))
    assert len(rows) == relation.count
    return rows


def rows(engine: Engine, node: Node, order: Sequence[str] = ()) -> list[tuple[Any, ...]]:
    """A content node's rows."""
    return contents(engine, engine.rows(node, node.names, order, {}), node.columns)


def bag(of: Sequence[tuple[Any, ...]]) -> list[str]:
    """Rows without their order."""
    return sorted(map(repr, of))


SRC_DST = [(1, 2), (1, 2), (2, None), (None, 1), (9, 1)]


def test_a_scan_keeps_the_order_of_the_table(engine: Engine) -> None:
    """Row numbers are the table's own."""
    assert rows(engine, scan("edge", "src", "dst")) == SRC_DST
    assert rows(engine, scan("tag")) == []


def test_rows_are_sorted_by_order_nulls_last(engine: Engine) -> None:
    """First column first."""
    assert rows(engine, scan("edge", "src", "dst"), ["dst", "src"]) == [
        (9, 1), (None, 1), (1, 2), (1, 2), (2, None)
    ]  # fmt: skip


def test_only_the_wanted_columns_are_kept(engine: Engine) -> None:
    """In the order they are asked for; perhaps none."""
    relation = engine.rows(scan("edge"), ["dst", "src"], [], {})
    columns = [Column("dst", type="INTEGER"), Column("src", type="INTEGER")]
    assert bag(contents(engine, relation, columns)) == bag([(b, a) for a, b in SRC_DST])
    assert engine.rows(scan("edge"), [], [], {}).count == 5


def test_a_predicate_that_is_null_drops_the_row(engine: Engine) -> None:
    """Three-valued logic."""
    edge = scan("edge", "src", "dst")
    assert bag(rows(engine, Select(edge, Content('"src" <> 1', "BOOLEAN")))) == bag(
        [(2, None), (9, 1)]
    )
    both = Content('NOT ("src" = 1 AND "dst" = 1)', "BOOLEAN")
    assert bag(rows(engine, Select(edge, both))) == bag([(1, 2), (1, 2), (9, 1), (2, None)])


def test_null_keys_do_not_meet(engine: Engine) -> None:
    """NULL = NULL is not true; duplicates meet as often as they are there."""
    on = Content('"e.dst" = "n.id"', "BOOLEAN")
    edge, node = Alias(scan("edge", "src", "dst"), "e"), Alias(scan("node", "id", "n"), "n")
    met = [(1, 2, 2, 1), (1, 2, 2, None)] * 2 + [(None, 1, 1, 3), (9, 1, 1, 3)]
    alone = [(2, None, None, None)]
    expected = {
        "inner": met,
        "left": met + alone,
        "full": [*met, *alone, (None, None, None, 1)],
        "semi": [(1, 2), (1, 2), (None, 1), (9, 1)],
        "anti": [(2, None)],
    }
    for kind, wanted in expected.items():
        assert bag(rows(engine, Join(edge, node, kind, on))) == bag(wanted), kind
    assert len(rows(engine, Join(edge, node))) == 20


def test_as_of_takes_the_nearest_row(engine: Engine) -> None:
    """At or before, of the same key; no time, no partner."""
    node, event = Alias(scan("node", "id", "seen"), "n"), Alias(scan("event", "node", "t"), "e")
    on = Content('"n.id" = "e.node" AND "n.seen" >= "e.t"', "BOOLEAN")
    met = [(1, datetime(2020, 1, 2), 1, datetime(2020, 1, 1))]
    alone = [(2, datetime(2020, 1, 1)), (2, None), (None, datetime(2020, 1, 3))]
    assert rows(engine, Join(node, event, "asof", on)) == met
    left = met + [(*row, None, None) for row in alone]
    assert bag(rows(engine, Join(node, event, "asof_left", on))) == bag(left)


def test_null_keys_are_one_group(engine: Engine) -> None:
    """Aggregates leave NULLs out; FILTER and DISTINCT are SQL's."""
    node = Aggregate(
        scan("edge"),
        ("rel",),
        (
            ("count", Content("count(*)", "BIGINT")),
            ("total", Content('sum("w") FILTER (WHERE "src" IS NOT NULL)', "DOUBLE")),
            ("different", Content('count(DISTINCT "src")', "BIGINT")),
        ),
    )
    assert bag(rows(engine, node)) == bag([("x", 2, 2.0, 1), ("y", 2, 2.0, 2), (None, 1, None, 0)])


def test_aggregates_of_nothing(engine: Engine) -> None:
    """One row without keys, none with keys."""
    outputs = (("c", Content("count(*)", "BIGINT")), ("s", Content('sum("score")', "DOUBLE")))
    assert rows(engine, Aggregate(scan("tag"), (), outputs)) == [(0, None)]
    assert rows(engine, Aggregate(scan("tag"), ("label",), outputs)) == []


def test_union_stacks_and_keeps_duplicates(engine: Engine) -> None:
    """Bag semantics."""
    edge = scan("edge", "src", "dst")
    assert bag(rows(engine, Union((edge, edge)))) == bag(SRC_DST * 2)


def test_windows_see_all_rows(engine: Engine) -> None:
    """A Map's window function is computed before a selection above it."""
    rank = Content('rank() OVER (PARTITION BY "dst" ORDER BY "src")', "BIGINT")
    edge = scan("edge", "src", "dst")
    ranked = Map(edge, (*((c.name, passed(c)) for c in edge.columns), ("r", rank)))
    later = Select(ranked, Content('"r" > 1', "BOOLEAN"))
    assert rows(engine, later) == [(None, 1, 2)]


def test_a_query_is_left_to_the_database(engine: Engine) -> None:
    """Whatever SQL it is."""
    sql = "SELECT src, list(dst ORDER BY dst) AS d FROM edge WHERE src = 1 GROUP BY src"
    assert rows(
        engine,
        Query(sql, (Column("src", type="INTEGER"), Column("d", type="INTEGER[]")), ("edge",)),
    ) == [(1, [2, 2])]


def nodes_beside_held_edges(engine: Engine) -> tuple[Any, Join, str]:
    """Nodes, left joined with edges that are held: the rows, their query, their row number."""
    held = engine.rows(scan("edge", "src", "dst"), ["src", "dst"], ["dst"], {})
    number = row_column(4)
    leaf = Held(4, (Column("dst", type="INTEGER"), Column(number, type="INTEGER")))
    node = Alias(scan("node", "id"), "n")
    joined = Join(node, leaf, "left", Content('"n.id" = "dst"', "BOOLEAN"))
    relation = engine.rows(joined, ["n.id", number], ["n.id", number], {4: held})
    return relation, joined, number


def test_held_rows_show_columns_and_row_numbers(engine: Engine) -> None:
    """An outer join leaves the row number of the missing side NULL."""
    relation, joined, _ = nodes_beside_held_edges(engine)
    shown = contents(engine, relation, [c for c in joined.columns if c.name != "dst"])
    assert shown == [(1, 0), (1, 1), (2, 2), (2, 2), (2, 3), (2, 3), (None, None)]


def test_one_nan_is_as_good_as_another(engine: Engine) -> None:
    """Sorted or not, NaNs are one group, and NULLs another."""
    table = "(VALUES (2.0::DOUBLE), ('nan'), (NULL), ('nan'), (2.0), (NULL)) v(k)"
    scan = Scan(f"(SELECT k FROM {table})", (Column("k", "DOUBLE"),))
    for order in ((), ("k",)):
        relation = engine.rows(scan, ["k"], order, {})
        groups, ids = engine.groups(relation, ["k"], {})
        assert groups.count == 3
        assert sorted(np.bincount(ids)) == [2, 2, 2]


def test_row_numbers_are_whole_numbers_without_null(engine: Engine) -> None:
    """Arrays that DLPack reads, −1 where NULL, of the types the database has."""
    relation, _, number = nodes_beside_held_edges(engine)
    picked, ranked, none = engine.numbers(
        relation,
        [
            column(number, "INTEGER"),
            Content(f'row_number() OVER (ORDER BY "{number}")', "BIGINT"),
            Content("CAST(NULL AS INTEGER)", "INTEGER"),
        ],
    )
    assert np.from_dlpack(np.array(picked)).tolist() == [0, 1, 2, 2, 3, 3, -1]
    assert (picked.dtype, ranked.dtype, none.dtype) == (np.int32, np.int64, np.int32)
    assert sorted(ranked.tolist()) == list(range(1, 8)) and none.tolist() == [-1] * 7
    assert engine.numbers(relation, []) == []


def test_groups_are_numbered_by_their_first_rows(engine: Engine) -> None:
    """Of sorted and unsorted relations; the row map names every source row's group."""
    for order in ([], ["rel"]):
        source = engine.rows(scan("edge"), ["rel", "src", "w"], order, {})
        whole = contents(engine, source, [Column("rel", type="VARCHAR")])
        groups, ids = engine.groups(source, ["rel"], {"total": Content('sum("w")', "DOUBLE")})
        keys = contents(
            engine, groups, [Column("rel", type="VARCHAR"), Column("total", type="DOUBLE")]
        )
        assert bag(keys) == bag([("x", 2.0), ("y", 2.0), (None, 0.5)])
        assert [keys[i][0] for i in ids] == [r for (r,) in whole]
        first = [list(ids).index(i) for i in range(groups.count)]
        assert first == sorted(first)


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_row_numbers_of_space_0_are_a_column_like_any_other(name: str) -> None:
    """Windows and groups of a relation that holds `#0` come in row order, not in that of `#0`."""
    engine = ENGINES[name](DATABASE.connect())
    picked = Content('CASE "src" WHEN 1 THEN 5 WHEN 2 THEN 0 WHEN 9 THEN 3 END', "INTEGER")
    node = Map(scan("edge"), (("k", column("src", "INTEGER")), (row_column(0), picked)))
    relation = engine.rows(node, node.names, [], {})
    (counts,) = engine.arrays(relation, [Content('count(*) OVER (PARTITION BY "k")', "BIGINT")])
    keys = [k for k, _ in contents(engine, relation, node.columns)]
    assert counts.to_pylist() == [keys.count(k) for k in keys]
    groups, ids = engine.groups(relation, ["k"], {})
    grouped = [k for (k,) in contents(engine, groups, [Column("k", type="INTEGER")])]
    assert [grouped[i] for i in ids] == keys


def test_groups_without_keys_are_one(engine: Engine) -> None:
    """Even over nothing."""
    for table, count in (("tag", 0), ("edge", 5)):
        source = engine.rows(scan(table), scan(table).names, [], {})
        groups, ids = engine.groups(source, [], {"n": Content("count(*)", "BIGINT")})
        assert contents(engine, groups, [Column("n", type="BIGINT")]) == [(count,)]
        assert list(ids) == [0] * count
    nothing = engine.rows(scan("tag"), ["label"], [], {})
    groups, ids = engine.groups(nothing, ["label"], {})
    assert (groups.count, len(ids)) == (0, 0)


def test_stacked_parts_stand_one_after_the_other(engine: Engine) -> None:
    """Each part gives an expression for each name, or none."""
    edge = engine.rows(scan("edge", "src"), ["src"], [], {})
    node = engine.rows(scan("node", "id"), ["id"], [], {})
    parts = [(edge, [column("src", "INTEGER")]), (node, [Content('"id" + 10', "INTEGER")])]
    stacked = engine.stack(parts, ["k"])
    assert contents(engine, stacked, [Column("k", type="INTEGER")]) == [
        (k,) for k in [1, 1, 2, None, 9, 11, 12, 12, None]
    ]
    assert engine.stack([(edge, []), (node, [])], []).count == 9


def test_arrays_have_the_types_of_the_database(engine: Engine) -> None:
    """Columns as they are, expressions as DuckDB types them, windows in row order."""
    relation = engine.rows(scan("node"), scan("node").names, [], {})
    wanted = {
        '"id"': ("INTEGER", pa.int32()),
        '"y" + 1': ("DOUBLE", pa.float64()),
        '"open"': ("BOOLEAN", pa.bool_()),
        "\"kind\" || '!'": ("VARCHAR", pa.string()),
        'count(*) OVER (PARTITION BY "id")': ("BIGINT", pa.int64()),
        '"seen"': ("TIMESTAMP", pa.timestamp("us")),
    }
    arrays = engine.arrays(relation, [Content(sql, t) for sql, (t, _) in wanted.items()])
    assert [a.type for a in arrays] == [t for _, t in wanted.values()]
    assert arrays[4].to_pylist() == [1, 2, 2, 1]
    assert arrays[1].to_pylist() == [1.5, None, 2.5, 0.0]
    (x,) = engine.arrays(relation, [column("x", "FLOAT[3]")])
    assert pa.types.is_fixed_size_list(x.type)
    assert x.type.value_type == pa.float32()
    assert x.to_pylist() == [[1, 2, 3], [0.5, 0, 0], None, [1, 1, 1]]


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_the_data_version_changes_with_any_row(name: str) -> None:
    """And only then."""
    con = DATABASE.connect()
    engine = ENGINES[name](con)
    before = engine.data_version(['"edge"', '"node"'])
    con.execute("INSERT INTO event VALUES (3, NULL, NULL, NULL)")
    assert engine.data_version(['"node"', '"edge"']) == before
    con.execute("UPDATE edge SET w = 3 WHERE src = 9")
    changed = engine.data_version(['"edge"', '"node"'])
    assert changed != before
    con.execute("INSERT INTO edge SELECT * FROM edge WHERE src = 1")
    assert engine.data_version(['"edge"', '"node"']) not in (before, changed)


def test_what_the_database_refuses_is_a_data_error(engine: Engine) -> None:
    """In the words of the database where it has run the query."""
    with pytest.raises(DataError):
        rows(engine, Map(scan("edge"), (("k", Content('CAST("rel" AS INTEGER)', "INTEGER")),)))
    with pytest.raises(DataError, match="no_such"):
        rows(engine, Query("SELECT no_such FROM edge", (Column("no_such", type="INTEGER"),)))


def test_engines_compute_no_embeddings(engine: Engine) -> None:
    """A term in a content query is a defect, never ignored."""
    node = Map(scan("edge"), (("w", Lift(column("w", "DOUBLE"))),))
    with pytest.raises((EngineError, PlanError), match="learned"):
        engine.rows(node, ["w"], [], {})


# -- drawn queries -------------------------------------------------------------------------------


def _typed(catalog: Catalog, node: Node, sql: str) -> Content:
    types = {c.name: c.type for c in node.columns if c.type is not None}
    (sql_type,) = catalog.types(types, [sql])
    return Content(sql, sql_type)


def _kinds(node: Node) -> dict[str, str]:
    return {quoted(c.name): KINDS_OF[c.type] for c in node.columns if c.type in KINDS_OF}


@st.composite
def content_nodes(draw: st.DrawFn, catalog: Catalog, depth: int = 3) -> Node:
    """A content-only query over the tables of `tests.strategies`."""
    if depth == 0:
        node = scan(draw(st.sampled_from(sorted(TABLES))))
        kept = [c for c in node.columns if "[" not in (c.type or "")]
        return Scan(node.table, tuple(kept))
    source = draw(content_nodes(catalog, depth=depth - 1))
    shape = draw(st.sampled_from(["select", "map", "join", "join", "aggregate", "union"]))

    def drawn(kind: str, over: Node, size: int = 1) -> Content:
        return _typed(catalog, over, draw(expressions(kind, _kinds(over), size)))

    match shape:
        case "select":
            return Select(source, drawn("truth", source, 2))
        case "map":
            kinds = draw(st.lists(st.sampled_from(["whole", "text", "truth"]), max_size=2))
            outputs = [(c.name, passed(c)) for c in source.columns if draw(st.booleans())]
            outputs += [(f"m{depth} {i}", drawn(k, source)) for i, k in enumerate(kinds)]
            fallback = [(c.name, passed(c)) for c in source.columns[:1]]
            return Map(source, tuple(outputs or fallback))
        case "join":
            other = draw(content_nodes(catalog, depth=draw(st.integers(0, 1))))
            left, right = Alias(source, "l"), Alias(other, "r")
            both = Join(left, right)
            keys = [
                f"{a} = {b}"
                for a, ka in _kinds(left).items()
                for b, kb in _kinds(right).items()
                if ka == kb and ka in ("whole", "text")
            ]
            on = draw(st.sampled_from(keys)) if keys else "TRUE"
            if draw(st.integers(0, 3)) == 0:
                on += f" AND {draw(expressions('truth', _kinds(both), 1))}"
            kind = draw(st.sampled_from([k for k in JOINS if not k.startswith("asof")]))
            return Join(left, right, kind, Content(on, "BOOLEAN"))
        case "aggregate":
            by = [c.name for c in source.columns if draw(st.integers(0, 2)) == 0][:2]
            calls = ["count(*)"]
            for name, kind in list(_kinds(source).items())[:3]:
                how = ("min", "max", "count") + (("sum", "avg") if kind == "whole" else ())
                calls.append(f"{draw(st.sampled_from(how))}({name})")
            made = [(f"a{depth} {i}", _typed(catalog, source, c)) for i, c in enumerate(calls)]
            return Aggregate(source, tuple(by), tuple(made))
        case _:
            return Union((source, source))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_drawn_queries_give_the_same_bag_everywhere(data: st.DataObject) -> None:
    """Rows, groups and their aggregates, against the reference."""
    database = data.draw(databases())
    con = database.connect()
    node = data.draw(content_nodes(Catalog(con)))
    keys = data.draw(st.lists(st.sampled_from(node.names), max_size=2, unique=True))
    expected: list[str] | None = None
    for name in sorted(ENGINES):
        engine = ENGINES[name](con)
        relation = engine.rows(node, node.names, keys, {})
        found = contents(engine, relation, node.columns)
        groups, ids = engine.groups(relation, keys, {"n": Content("count(*)", "BIGINT")})
        columns = [*(node.by_name[k] for k in keys), Column("n", type="BIGINT")]
        sizes = contents(engine, groups, columns)
        at = [node.names.index(k) for k in keys]
        assert [repr(sizes[g][:-1]) for g in ids] == [repr(tuple(r[i] for i in at)) for r in found]
        answer = [*bag(found), "groups", *bag(sizes)]
        assert expected is None or answer == expected
        expected = answer
