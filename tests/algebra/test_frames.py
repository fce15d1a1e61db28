"""What the frame engine computes itself, and what it leaves to the database and says so.

It runs over pandas here. The suite of all engines is `test_engines`, where it may leave a relation
to the database; here it may not.
"""

from __future__ import annotations

import importlib.util
import re
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import numpy as np
import pytest

from relann import connect
from relann.algebra.engines import choice, pandas
from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.engines.frames import calendar, joins
from relann.algebra.engines.frames.engine import FrameEngine
from relann.algebra.nodes import Aggregate, Alias, Join, Map, Node, Scan, Select
from relann.algebra.terms import Content, column
from relann.errors import DataError, EngineError
from relann.schema import Catalog
from tests.algebra.test_engines import DATABASE, bag, contents, scan
from tests.strategies import Database

NODE = scan("node", "id", "kind", "y", "n", "open", "seen")


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    """More rows than `DATABASE` has, with NaN, infinities, −0 and times of odd days."""
    con = DATABASE.connect()
    con.execute(
        "INSERT INTO node SELECT i % 5, ['a', 'b', 'ab', '', NULL][i % 5 + 1], "
        "['nan', 'inf', '-inf', '-0.0', '2.5', '-2.5', NULL][i % 7 + 1]::DOUBLE, "
        "i - 9, i % 3 = 0, TIMESTAMP '1969-12-28 13:14:15.5' + INTERVAL (i * 97) DAY, NULL, i "
        "FROM range(40) t(i)"
    )
    con.execute("INSERT INTO event SELECT i % 5, TIMESTAMP '1970-01-01' + INTERVAL (i * 50) DAY, "
                "i, 'e' || i FROM range(70) t(i)")  # fmt: skip
    return con


def both(con: duckdb.DuckDBPyConnection, node: Node) -> tuple[list[str], list[str]]:
    """The rows of a node here, without the database's help, and there."""
    found = []
    for engine in (pandas.make(con, fall_back=False), DuckDBEngine(con)):
        relation = engine.rows(node, node.names, [], {})
        found.append(bag(contents(engine, relation, node.columns)))
    return found[0], found[1]


def typed(con: duckdb.DuckDBPyConnection, sql: str, over: Node = NODE) -> Content:
    (kind,) = Catalog(con).types({c.name: c.type or "" for c in over.columns}, [sql])
    return Content(sql, kind)


EXPRESSIONS = [
    "n + 1", "n - id", "n * n", "-n", "n / id", "n // 3", "n % 4", "y + n", "y * 0.5", "y / n",
    "y % 2", "abs(n)", "abs(y)", "sign(y)", "floor(y)", "ceil(y)", "trunc(y)", "round(y)",
    "sqrt(abs(y))", "power(y, 2)", "isnan(y)", "y::FLOAT + 1", "n::BIGINT", "n::DOUBLE", "y > 0",
    "y = y", "y <> 2.5", "y >= 'nan'::DOUBLE", "n > 0.5", "n = y", "kind = 'a'", "kind < 'b'",
    "kind >= kind", "'a' < kind", "kind || 'x' || kind", "kind || n", "upper(kind)", "lower('AB')",
    "length(kind)", "substr(kind, 1, 1)", "replace(kind, 'a', 'bb')", "trim(kind)",
    "kind LIKE 'a%'", "kind LIKE '%b'", "kind NOT LIKE '%b%'", "starts_with(kind, 'a')",
    "contains(kind, 'b')", "n::VARCHAR", "open::VARCHAR", "open::INTEGER", "n::BOOLEAN",
    "open AND n > 0", "open OR n > 0", "NOT open", "open IS NULL", "open IS NOT TRUE",
    "kind IS NOT NULL", "y IS DISTINCT FROM n", "kind IS NOT DISTINCT FROM 'a'",
    "n IN (1, 2, NULL)", "kind NOT IN ('a', 'b')", "n BETWEEN 0 AND id", "coalesce(n, id, 0)",
    "coalesce(kind, 'none')", "nullif(n, 1)", "CASE WHEN n > 0 THEN kind WHEN open THEN 'o' END",
    "CASE n WHEN 1 THEN 2.5::DOUBLE ELSE y END", "if(open, seen, NULL)", "greatest(n, id)",
    "least(y, n, 0)", "greatest(kind, 'aa')", "seen > TIMESTAMP '1975-01-01'",
    "seen >= '1975-01-01'", "seen::DATE", "seen::DATE::TIMESTAMP", "seen::DATE + 3",
    "seen::DATE - DATE '1970-01-01'", "seen + INTERVAL 1 MONTH", "seen - INTERVAL '36' HOUR",
    "seen::DATE + INTERVAL 1 YEAR", "date_trunc('week', seen)", "date_trunc('quarter', seen)",
    "date_trunc('hour', seen)", "date_diff('month', seen, TIMESTAMP '2020-02-29')",
    "date_diff('week', seen, TIMESTAMP '2020-02-29')", "date_diff('hour', seen, seen::DATE)",
    "epoch(seen)", "epoch(seen - TIMESTAMP '1970-01-01')", "year(seen)", "quarter(seen)",
    "extract(week FROM seen)", "extract(doy FROM seen)", "dayofweek(seen)",
    "date_part('isodow', seen)", "hour(seen)", "minute(seen)", "second(seen)",
]  # fmt: skip
WINDOWS = [
    "row_number() OVER (PARTITION BY kind ORDER BY n DESC, seen)",
    "rank() OVER (PARTITION BY id ORDER BY kind NULLS FIRST)",
    "dense_rank() OVER (ORDER BY id)",
    "count(*) OVER (PARTITION BY id ORDER BY kind)",
    "count(n) OVER (PARTITION BY id ORDER BY seen)",
    "sum(n) OVER (PARTITION BY id ORDER BY kind)",
    "avg(n) OVER (ORDER BY id)",
    "max(y) OVER (PARTITION BY kind)",
    "sum(n) OVER ()",
    "lag(kind) OVER (PARTITION BY id ORDER BY n)",
    "lead(n, 2) OVER (PARTITION BY id ORDER BY n)",
    "first_value(seen) OVER (PARTITION BY open ORDER BY n)",
    "n - avg(n) OVER (PARTITION BY id)",
]
AGGREGATES = [
    "count(*)", "count(n)", "count(DISTINCT kind)", "sum(n)", "sum(DISTINCT n)", "avg(n)",
    "min(y)", "max(y)", "min(kind)", "max(seen)", "min(open)", "bool_and(open)", "bool_or(open)",
    "arg_max(kind, n)", "arg_min(seen, n)", "sum(n) FILTER (WHERE open)", "sum(n) + count(*)",
    "max(n) - min(n)", "coalesce(sum(n), 0) / count(*)", "max(id) + 1",
    "sum(y) FILTER (WHERE NOT isnan(y) AND abs(y) < 100)",
]  # fmt: skip


@pytest.mark.parametrize("sql", EXPRESSIONS + WINDOWS)
def test_expressions_are_the_databases(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    """On NULLs, NaN, infinities and days before 1970."""
    node = Map(NODE, (("k", column("n", "INTEGER")), ("v", typed(con, sql))))
    here, there = both(con, node)
    assert here == there


@pytest.mark.parametrize("by", [(), ("id",), ("kind", "open"), ("y",)])
def test_aggregates_are_the_databases(con: duckdb.DuckDBPyConnection, by: tuple[str, ...]) -> None:
    """NULL and NaN are groups of their own."""
    outputs = tuple((f"a{i}", typed(con, sql)) for i, sql in enumerate(AGGREGATES))
    here, there = both(con, Aggregate(NODE, by, outputs))
    assert here == there


def test_spreads_are_the_databases_nearly(con: duckdb.DuckDBPyConnection) -> None:
    """Two passes here, one there."""
    calls = ["stddev(n)", "stddev_pop(n)", "var_samp(n)", "var_pop(n)"]
    outputs = tuple((f"a{i}", typed(con, sql)) for i, sql in enumerate(calls))
    node = Aggregate(NODE, ("open",), outputs)
    found = []
    for engine in (pandas.make(con, fall_back=False), DuckDBEngine(con)):
        relation = engine.rows(node, node.names, ["open"], {})
        rows = contents(engine, relation, node.columns)
        found.append(np.array([r[1:] for r in rows], dtype=float))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)


JOINS_ON = [
    '"n.id" = "e.node"', '"e.node" = "n.id" AND "n.seen" >= "e.t"', '"n.id" + 1 = "e.node"',
    '"n.id" = "e.node" AND "n.n" > 0', '"n.seen" < "e.t"', '"n.kind" = "e.code" OR "n.n" = 3',
    '"n.y" = "e.amount"', '"n.n" = "e.amount"', '"n.kind" = "e.code"', "TRUE",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["inner", "left", "full", "semi", "anti"])
@pytest.mark.parametrize("on", JOINS_ON)
def test_joins_are_the_databases(con: duckdb.DuckDBPyConnection, kind: str, on: str) -> None:
    """Equalities, inequalities, both, neither."""
    left, right = Alias(NODE, "n"), Alias(scan("event"), "e")
    here, there = both(con, Join(left, right, kind, Content(on, "BOOLEAN")))
    assert here == there


@pytest.mark.parametrize("kind", ["asof", "asof_left"])
@pytest.mark.parametrize("how", [">=", ">", "<=", "<"])
def test_as_of_joins_are_the_databases(con: duckdb.DuckDBPyConnection, kind: str, how: str) -> None:
    """With and without a key."""
    left, right = Alias(NODE, "n"), Alias(scan("event", "node", "t"), "e")
    for key in ('"n.id" = "e.node" AND ', ""):
        on = Content(f'{key}"n.seen" {how} "e.t"', "BOOLEAN")
        here, there = both(con, Join(left, right, kind, on))
        assert here == there


def test_of_equally_near_rows_the_first() -> None:
    """As the reference engine has it, whichever way the inequality goes."""
    time = datetime(2020, 1, 1)
    events = [(1, time, float(i), None) for i in range(3)]
    nodes = [(1, None, None, None, None, time, None, None)]
    con = Database({"node": nodes, "edge": [], "tag": [], "event": events}).connect()
    left, right = Alias(scan("node", "id", "seen"), "n"), Alias(scan("event"), "e")
    for how in (">=", "<="):
        on = Content(f'"n.id" = "e.node" AND "n.seen" {how} "e.t"', "BOOLEAN")
        node = Join(left, right, "asof", on)
        engine = pandas.make(con, fall_back=False)
        found = contents(engine, engine.rows(node, node.names, [], {}), node.columns)
        assert [row[4] for row in found] == [0.0]


def test_the_first_rows_of_each_group(con: duckdb.DuckDBPyConnection) -> None:
    """Sampling: a window below a selection."""
    rank = typed(con, "row_number() OVER (PARTITION BY kind ORDER BY n DESC)")
    ranked = Map(NODE, (("kind", column("kind", "VARCHAR")), ("n", column("n", "INTEGER")),
                        ("r", rank)))  # fmt: skip
    here, there = both(con, Select(ranked, Content("r <= 2", "BOOLEAN")))
    assert here == there


def test_days_and_dates_are_inverse() -> None:
    """Over 800 years of days, with the standard library's calendar."""
    days = np.arange(-146_097, 146_097)
    year, month, day = calendar.civil(days)
    assert (calendar.days_from_civil(year, month, day) == days).all()
    dates = days.astype("datetime64[D]")
    assert (year == dates.astype("datetime64[Y]").astype(int) + 1970).all()
    assert (month == dates.astype("datetime64[M]").astype(int) % 12 + 1).all()


# -- what is left to the database ----------------------------------------------------------------

LEFT = {
    "n + 2147483640": "a whole number out of the range of INTEGER",
    "n // (n - n)": "a division by zero",
    "kind ILIKE 'A%'": "ILike",
    "round(y, 1)": "round to digits",
    "n * 0.5": "whole numbers and DECIMALs together",
    "regexp_matches(kind, 'a.*')": "regexp",
    "upper(kind || 'é')": "characters beyond ASCII",
    "y::INTEGER": "a number out of the range",
    "'x' || y": "a cast from DOUBLE to VARCHAR",
    "median(n) OVER (PARTITION BY id)": "the aggregate median()",
    "sum(n) OVER (ORDER BY n ROWS 1 PRECEDING)": "a window with a name or a frame",
}


@pytest.mark.parametrize("sql", LEFT)
def test_what_is_not_computed_is_left_to_the_database(
    con: duckdb.DuckDBPyConnection, sql: str
) -> None:
    """With its answer, or its error; never another answer."""
    node = Map(NODE, (("n", column("n", "INTEGER")), ("v", typed(con, sql))))
    with pytest.raises(EngineError, match=f"the frame engine has no .*{re.escape(LEFT[sql])}"):
        both(con, node)
    engine = pandas.make(con)
    try:
        expected = bag(
            contents(
                DuckDBEngine(con), DuckDBEngine(con).rows(node, node.names, [], {}), node.columns
            )
        )
    except DataError:
        with pytest.raises(DataError):
            engine.rows(node, node.names, [], {})
    else:
        relation = engine.rows(node, node.names, [], {})
        assert bag(contents(engine, relation, node.columns)) == expected
    assert any(LEFT[sql] in reason for reason in engine.fallbacks)


def test_more_than_the_memory_is_left_to_the_database(con: duckdb.DuckDBPyConnection) -> None:
    """Of the relation for which it did not suffice."""
    engine = pandas.make(con)
    with mock.patch.object(joins, "joined", side_effect=MemoryError):
        node = Join(Alias(NODE, "a"), Alias(scan("event"), "e"))
        assert engine.rows(node, node.names, [], {}).count == 44 * 72
    assert engine.fallbacks == ["more than the memory of the device"]


class Afar(pandas.Pandas):
    """A library whose arrays cannot be had in the processor's memory once `closed`."""

    closed = False

    def to_host(self, array: Any) -> np.ndarray:
        assert not self.closed, "an array leaves the library"
        return super().to_host(array)


def test_row_maps_stay_where_the_library_works(con: duckdb.DuckDBPyConnection) -> None:
    """Groups and row numbers, with NULLs, are its own arrays."""
    library = Afar()
    engine = FrameEngine(con, library, "afar", fall_back=False)
    relation = engine.rows(NODE, NODE.names, ["kind"], {})
    library.closed = True
    groups, ids = engine.groups(relation, ["kind"], {"n": typed(con, "count(*)")})
    (numbers,) = engine.numbers(relation, [column("id", "INTEGER")])
    library.closed = False
    database = DuckDBEngine(con)
    there = database.rows(NODE, NODE.names, ["kind"], {})
    assert groups.count == database.groups(there, ["kind"], {})[0].count
    (expected,) = database.numbers(there, [column("id", "INTEGER")])
    assert (ids.dtype, numbers.dtype) == (np.int32, expected.dtype)
    assert sorted(numbers.tolist()) == sorted(expected.tolist())


def test_a_join_of_all_with_all_is_left_to_the_database(con: duckdb.DuckDBPyConnection) -> None:
    """Where it is large."""
    node = Join(Alias(NODE, "a"), Alias(scan("event"), "e"))
    with mock.patch.object(joins, "MOST_PAIRS", 100):
        engine = pandas.make(con)
        assert engine.rows(node, node.names, [], {}).count == 44 * 72
    assert engine.fallbacks == ["a join of 44 × 72 rows without an equality"]


SQL = """
CREATE TABLE p AS SELECT i AS id, (i % 7)::DOUBLE AS x, (i % 2)::INTEGER AS y FROM range(60) t(i);
CREATE TABLE c AS SELECT i AS src, (i * 7 + 3) % 60 AS dst, 'k' || (i % 3) AS k FROM range(60) t(i);
"""
MODEL = """
CREATE MODEL m OPTIONS (label = 'y', epochs = 3, seed = 1) AS
WITH h AS (SELECT c.dst AS id, relu(sum(linear(p.x, 8))) AS z
           FROM c JOIN p ON p.id = c.src WHERE {where} GROUP BY c.dst)
SELECT p.id, p.y, linear(h.z, 1) AS logit FROM p JOIN h ON h.id = p.id
"""


def test_sessions_on_either_engine_learn_the_same() -> None:
    """Bit by bit: row maps are equal, so is all else. EXPLAIN says who makes them."""
    losses = []
    for engine in ("duckdb", "pandas"):
        with connect(engine=engine) as con:
            con.sql(SQL)
            con.sql(MODEL.format(where="c.k <> 'k0'"))
            losses.append(con.sql("SELECT loss FROM ml_training_info('m')").df()["loss"].to_list())
            told = con.explain("m")
            assert ("rows by pandas, all of them" in told) == (engine == "pandas")
            assert ("Engine" in told) == (engine == "pandas")
    assert losses[0] == losses[1]


def test_explain_says_what_is_left_to_the_database() -> None:
    """The space and the reason."""
    with connect(engine="pandas") as con:
        con.sql(SQL)
        con.sql(MODEL.format(where="c.k ILIKE 'K1'"))
        told = con.explain("m")
        assert "  rows by pandas\n" in told
        assert re.search(r"  #\d by the database: no ILike \(`", told)


# -- choosing ------------------------------------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("cudf") is not None, reason="cuDF is installed")
def test_an_engine_that_is_not_there_says_what_to_install() -> None:
    """And `auto` takes one that is."""
    with pytest.raises(EngineError, match=r"cudf is not installed; pip install 'relann\[gpu\]'"):
        connect(engine="cudf")
    assert choice.chosen("auto") == "duckdb"
    with pytest.raises(EngineError, match=r"no engine is called 'cuda'.*Did you mean"):
        connect(engine="cuda")


def test_engines_are_named_in_their_files_only() -> None:
    """What runs does not ask which engine it is."""
    root = Path(choice.__file__).parents[2]
    allowed = {"cudf.py", "pandas.py", "choice.py", "doctor.py"}
    named = re.compile(r"cudf|cupy", re.IGNORECASE)
    found = {
        file.name: line
        for file in root.rglob("*.py")
        for line in file.read_text("utf-8").splitlines()
        if named.search(line) and file.name not in allowed and "`engine`" not in line
    }
    assert set(found) <= {"session.py", "cli.py"}  # help


# -- the interface that data frame libraries share ------------------------------------------------


class _Watched:
    """A module or object that notes which of its names are used, and those of what they give."""

    def __init__(self, of: Any, seen: set[str]) -> None:
        self._of, self._seen = of, seen

    def __getattr__(self, name: str) -> Any:
        self._seen.add(name)
        return getattr(self._of, name)


def test_the_arrays_interface_is_documented(con: duckdb.DuckDBPyConnection) -> None:
    """Every function of numpy that the frame engine calls through `arrays` is in docs/gpu.md."""
    seen: set[str] = set()
    library = pandas.Pandas()
    library.arrays = _Watched(np, seen)
    engine = FrameEngine(con, library, "watched", fall_back=False)
    for sql in EXPRESSIONS + WINDOWS:
        node: Node = Map(NODE, (("v", typed(con, sql)),))
        engine.rows(node, ["v"], ["v"], {})
    outputs = tuple((f"a{i}", typed(con, s)) for i, s in enumerate([*AGGREGATES, "stddev(n)"]))
    engine.rows(Aggregate(NODE, ("kind",), outputs), ["kind"], [], {})
    left, right = Alias(NODE, "n"), Alias(Scan('"event"', scan("event").columns), "e")
    on = Content('"n.id" = "e.node" AND "n.seen" >= "e.t"', "BOOLEAN")
    for kind in ("full", "anti", "asof"):
        engine.rows(Join(left, right, kind, on), ["n.id"], [], {})
    text = (Path(__file__).parents[2] / "docs" / "gpu.md").read_text("utf-8")
    listed = set(re.findall(r"`(\w+)`", text.partition("## The interface")[2]))
    assert seen <= listed, sorted(seen - listed)
