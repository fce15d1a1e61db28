"""Semirings are semirings, and a query's annotations are what its derivations say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import ne
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

import relann
from relann.algebra.bind import bind
from relann.algebra.engines.duckdb import DuckDBEngine
from relann.algebra.rowmaps import RowMaps
from relann.algebra.terms import parsed
from relann.errors import DataError, QueryError
from relann.provenance.answers import Traced
from relann.provenance.semirings.boolean import Boolean
from relann.provenance.semirings.counting import Counting
from relann.provenance.semirings.how import How, Polynomial, Variable
from relann.provenance.semirings.learned import Learned
from relann.provenance.semirings.semiring import BaseTuples, Semiring
from relann.provenance.semirings.tropical import Tropical
from relann.schema import Catalog
from tests import golden
from tests.fixtures import papers
from tests.strategies import Database, databases

HOW = How()
VARIABLES = [Variable("t", (i,)) for i in range(3)]
_MONOMIALS = st.dictionaries(st.sampled_from(VARIABLES), st.integers(1, 2), max_size=2).map(
    lambda m: tuple(sorted(m.items(), key=lambda item: item[0].order))
)
_ELEMENTS: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "counting": st.integers(0, 5),
    "tropical": st.sampled_from([math.inf, 0.0, 1.0, 2.5, -1.0]),
    "how": st.dictionaries(_MONOMIALS, st.integers(1, 3), max_size=2).map(Polynomial),
    "learned": st.tuples(*[st.integers(-3, 3)] * 2).map(lambda v: torch.tensor(v).double()),
}


def unused(tuples: BaseTuples) -> Tensor:
    """Where no base tuple is asked for."""
    raise AssertionError


INSTANCES: dict[str, Semiring[Any, Any]] = {
    s.name: s for s in (Boolean(), Counting(), Tropical(), HOW, Learned(2, unused, torch.float64))
}


def same(a: object, b: object) -> bool:
    """Whether two elements are equal."""
    return torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a == b


@pytest.mark.parametrize("name", INSTANCES)
@given(data=st.data())
@settings(max_examples=50)
def test_laws(name: str, data: st.DataObject) -> None:
    """Those of a commutative semiring."""
    ring = INSTANCES[name]
    a, b, c = (data.draw(_ELEMENTS[name]) for _ in range(3))
    plus, times, zero, one = ring.plus, ring.times, ring.zero, ring.one
    assert same(plus(plus(a, b), c), plus(a, plus(b, c)))
    assert same(times(times(a, b), c), times(a, times(b, c)))
    assert same(plus(a, b), plus(b, a))
    assert same(times(a, b), times(b, a))
    assert same(plus(a, zero), a)
    assert same(times(a, one), a)
    assert same(times(a, zero), zero)
    assert same(times(a, plus(b, c)), plus(times(a, b), times(a, c)))
    assert same(ring.multiple(3, a), plus(a, plus(a, a)))
    assert same(ring.multiple(0, a), zero)
    assert same(ring.power(a, 3), times(a, times(a, a)))
    assert same(ring.power(a, 0), one)


@pytest.mark.parametrize("name", INSTANCES)
@given(data=st.data())
@settings(max_examples=30)
def test_columns_agree_with_elements(name: str, data: st.DataObject) -> None:
    """Products, sums over groups (some empty) and the rest, row by row."""
    ring = INSTANCES[name]
    pairs = data.draw(st.lists(st.tuples(_ELEMENTS[name], _ELEMENTS[name], st.integers(0, 3))))
    left, right = (_column(name, [p[i] for p in pairs]) for i in (0, 1))
    groups = np.array([p[2] for p in pairs], dtype=np.int64)
    products = list(ring.products(left, right))
    assert all(same(p, ring.times(a, b)) for p, (a, b, _) in zip(products, pairs, strict=True))
    sums = list(ring.sums(left, groups, 5))
    for group, found in enumerate(sums):
        total = ring.zero
        for value, _, mine in pairs:
            total = ring.plus(total, value) if mine == group else total
        assert same(found, total)
    assert all(same(v, ring.one) for v in ring.ones(2))
    assert len(ring.stacked([left, ring.ones(2)])) == len(pairs) + 2


def _column(name: str, values: list[Any]) -> Any:
    if name == "learned":
        return torch.stack(values) if values else torch.zeros(0, 2, dtype=torch.float64)
    dtype = {"boolean": bool, "counting": np.int64, "tropical": np.float64, "how": object}[name]
    column = np.empty(len(values), dtype=dtype)
    column[:] = values
    return column


def test_polynomials_are_written_in_one_way() -> None:
    """Highest degree first, then by variables; numbers by size."""
    a, b, c = (HOW.variable(Variable("t", (k,))) for k in (2, 10, "x y"))
    assert str(HOW.plus(HOW.times(b, a), HOW.plus(HOW.times(a, a), HOW.times(a, b)))) == (
        "t#2² + 2·t#2·t#10"
    )
    assert str(HOW.plus(HOW.one, HOW.plus(HOW.one, c))) == "t#'x y' + 2"
    assert str(HOW.zero) == "0"
    assert str(Variable("t", (1, "a"))) == "t#(1,a)"
    assert str(HOW.power(a, 12)) == "t#2¹²"


# -- queries -------------------------------------------------------------------------------------

_BASE = {
    "node": ("id", "kind"),
    "edge": ("src", "rel"),
    "event": ("node", "code"),
    "tag": ("node", "label"),
}


@dataclass(frozen=True)
class Plain:
    """A query with columns a and b; `bag` if it removes no duplicates."""

    sql: str
    bag: bool


@st.composite
def plain_queries(draw: st.DrawFn, depth: int = 2) -> Plain:
    """Selections, projections, joins, unions, IN, DISTINCT, GROUP BY keys, sub-queries, VALUES."""
    kind = draw(st.sampled_from(["base", "join", "join", "union", "in", "once"]))
    if depth == 0 or kind == "base":
        if draw(st.integers(1, 8)) == 8:
            return Plain("SELECT * FROM (VALUES (1, 'a'), (1, 'a'), (2, NULL)) v(a, b)", True)
        table = draw(st.sampled_from(sorted(_BASE)))
        a, b = _BASE[table]
        where = draw(st.sampled_from(["", f" WHERE {a} > 0", f" WHERE {b} = 'a' OR {a} = 1"]))
        return Plain(f"SELECT {a} AS a, {b} AS b FROM {table}{where}", True)
    one = draw(plain_queries(depth - 1))
    if kind == "once":
        once = draw(
            st.sampled_from(["DISTINCT a, b FROM ({}) x", "a, b FROM ({}) x GROUP BY a, b"])
        )
        return Plain(f"SELECT {once.format(one.sql)}", False)
    two = draw(plain_queries(depth - 1))
    if kind == "union":
        word = draw(st.sampled_from(["UNION ALL", "UNION ALL", "UNION"]))
        return Plain(f"{one.sql} {word} {two.sql}", one.bag and two.bag and word != "UNION")
    if kind == "in":
        form = draw(st.sampled_from([
            "SELECT a, b FROM ({}) x WHERE a IN (SELECT a FROM ({}) y)",
            "SELECT x.a, x.b FROM ({}) x SEMI JOIN ({}) y ON x.b = y.b",
        ]))  # fmt: skip
        return Plain(form.format(one.sql, two.sql), False)
    on = draw(st.sampled_from(["x.a = y.a", "x.b = y.b", "x.a < y.a", "true"]))
    out = draw(st.sampled_from(["x.a, y.b", "x.a + y.a AS a, x.b", "y.a, x.b"]))
    if draw(st.booleans()):
        sql = f"SELECT {out} FROM ({one.sql}) x JOIN ({two.sql}) y ON {on}"
        return Plain(sql, one.bag and two.bag)
    sql = f"WITH x AS ({one.sql}) SELECT {out} FROM x JOIN x AS y ON {on}"  # the same tuples twice
    return Plain(f"SELECT * FROM ({sql}) z", one.bag)


def traced(con: duckdb.DuckDBPyConnection, sql: str) -> tuple[Traced, RowMaps]:
    """A query's rows, to be annotated."""
    of = Traced(Catalog(con))
    return of, of.maps(bind(parsed(sql).copy(), sql, Catalog(con), plain=True), DuckDBEngine(con))


def answer(maps: RowMaps) -> list[tuple[object, ...]]:
    """The tuples of a traced query."""
    columns = [maps.columns[maps.plan.output, c].to_pylist() for _, c in maps.plan.contents]
    return list(zip(*columns, strict=True))


def valued(ring: Semiring[Any, Any], value: Callable[[Variable], Any]) -> Semiring[Any, Any]:
    """The instance with an annotation of our choice for each base tuple."""

    def base(self: object, tuples: BaseTuples) -> Any:
        keys = zip(*(k.to_pylist() for k in tuples.keys), strict=True)
        return _column(ring.name, [value(Variable(tuples.table, key)) for key in keys])

    made: Semiring[Any, Any] = object.__new__(type("Valued", (type(ring),), {"base": base}))
    made.__dict__.update(ring.__dict__)
    return made


def seed_of(variable: Variable) -> int:
    """A number that depends on the variable only."""
    return sum(map(ord, str(variable))) * 7919


_VALUES: dict[str, Callable[[Variable], Any]] = {
    "boolean": lambda v: seed_of(v) % 3 > 0,
    "counting": lambda v: seed_of(v) % 4,
    "tropical": lambda v: [math.inf, 0.0, 1.5, -2.0, 4.0][seed_of(v) % 5],
    "how": lambda v: HOW.plus(HOW.variable(v), HOW.one),
    "learned": lambda v: torch.tensor([seed_of(v) % 3 - 1.0, seed_of(v) % 5 / 2.0]).double(),
}


@given(plain_queries(), databases(most=4))
@settings(max_examples=50)
def test_polynomials_determine_all_annotations(query: Plain, database: Database) -> None:
    """Evaluating the polynomials in any instance is running the query under that instance."""
    with database.connect() as con:
        of, maps = traced(con, query.sql)
        polynomials = of.annotations(maps, HOW)
        for name, ring in INSTANCES.items():
            found = of.annotations(maps, valued(ring, _VALUES[name]))
            assert len(found) == len(polynomials)
            for polynomial, value in zip(polynomials, found, strict=True):
                assert same(polynomial.evaluated(ring, _VALUES[name]), value), name


@given(plain_queries(), databases(most=4))
@settings(max_examples=50)
def test_counts_are_multiplicities(query: Plain, database: Database) -> None:
    """The tuples are those of the query; without duplicates removed, counts are SQL's."""
    with database.connect() as con:
        of, maps = traced(con, query.sql)
        counts = of.annotations(maps, Counting()).tolist()
        rows = Counter(con.execute(query.sql).fetchall())
        assert sorted(map(repr, answer(maps))) == sorted(map(repr, rows))
        assert all(of.annotations(maps, Boolean()))
        if query.bag:
            assert dict(zip(answer(maps), counts, strict=True)) == rows


MET = Database(
    {
        "node": [(i, "a", *[None] * 6) for i in range(3)],
        "edge": [(0, 1, "a", None, None), (1, 1, "b", None, None), (1, 2, "a", None, None)],
        "tag": [(1, "a", None, None)],
        "event": [(1, None, None, "a"), (2, None, None, "a")],
    }
)
"""Rows with one partner, with two and with none."""


@example(
    Plain("SELECT id AS a, kind AS b FROM node WHERE id IN (SELECT src FROM edge)", False), MET
)
@example(Plain("SELECT node AS a FROM event SEMI JOIN edge ON src = node", False), MET)
@example(Plain("SELECT dst AS a FROM edge UNION SELECT node FROM tag", False), MET)
@given(plain_queries(), databases(most=4))
@settings(max_examples=50)
def test_without_a_tuple(query: Plain, database: Database) -> None:
    """Deleting any one row leaves the tuples whose polynomial is true without its variable."""
    with database.connect() as con:
        of, maps = traced(con, query.sql)
        annotated = list(zip(answer(maps), of.annotations(maps, HOW), strict=True))
        for gone in (Variable(t, (i,)) for t in _BASE for i in range(len(database.rows[t]))):
            con.execute("BEGIN")
            con.execute(f"DELETE FROM {gone.table} WHERE rowid = {gone.key[0]}")
            rows = set(con.execute(query.sql).fetchall())
            con.execute("ROLLBACK")
            left = [t for t, p in annotated if p.evaluated(Boolean(), partial(ne, gone))]
            assert sorted(map(repr, left)) == sorted(map(repr, rows)), gone


# -- the table function --------------------------------------------------------------------------


@pytest.fixture
def con() -> relann.Session:
    """Papers with a key, citations without, a view with names of its own."""
    session = relann.connect()
    session.sql(
        "CREATE TABLE papers (id INTEGER PRIMARY KEY, title VARCHAR, x FLOAT[2], tags VARCHAR[]);"
        "INSERT INTO papers VALUES (1, 'a', [1, 2], ['u']), (2, 'b', [3, 4], NULL), "
        "(3, 'b', NULL, []);"
        "CREATE TABLE cites (src INTEGER, dst INTEGER, cost DOUBLE, n INTEGER);"
        "INSERT INTO cites VALUES (1, 2, 1, 2), (1, 3, 5, 1), (2, 3, 0.5, 3), (1, 2, 2, 0);"
        "CREATE VIEW old (pid, name) AS SELECT id, title FROM papers WHERE id < 3"
    )
    return session


def rows(con: relann.Session, arguments: str) -> list[tuple[object, ...]]:
    """What ml_provenance gives, sorted."""
    return sorted(con.sql(f"SELECT * FROM ml_provenance({arguments})"), key=repr)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            "'how', (SELECT p.title FROM papers p JOIN cites c ON c.dst = p.id)",
            [("b", "cites#0·papers#2 + cites#1·papers#3 + cites#2·papers#3 + cites#3·papers#2")],
        ),
        (
            "'how', (SELECT p.id FROM papers p, MAIN.Papers q WHERE p.title = q.title)",
            [(1, "papers#1²"), (2, "papers#2² + papers#2·papers#3"),
             (3, "papers#2·papers#3 + papers#3²")],
        ),
        ("'how', (SELECT name FROM old WHERE pid = 1)", [("a", "papers#1")]),
        ("'how', (SELECT x, tags FROM papers WHERE id = 1)", [([1.0, 2.0], ["u"], "papers#1")]),
        ("'how', (SELECT DISTINCT tags FROM papers WHERE id > 1)",
         [([], "papers#3"), (None, "papers#2")]),
        ("'counting', (SELECT src FROM cites)", [(1, 3), (2, 1)]),
        ("'counting', (SELECT src FROM cites), weight => 'n'", [(1, 3), (2, 3)]),
        ("'tropical', (SELECT a.src, b.dst FROM cites a JOIN cites b ON b.src = a.dst)",
         [(1, 3, 2.0)]),
        ("'tropical', (SELECT a.src, b.dst FROM cites a JOIN cites b ON b.src = a.dst), "
         "weight => 'Cost'", [(1, 3, 1.5)]),
        ("'tropical', (SELECT p.id FROM papers p JOIN cites c ON c.src = p.id), weight => 'cost'",
         [(1, 1.0), (2, 0.5)]),
        ("'boolean', (SELECT i FROM range(2) r(i))", [(0, True), (1, True)]),
        ("'boolean', (SELECT id FROM papers WHERE false)", []),
        ("'how', (SELECT i FROM (VALUES (1), (1)) v(i))", [(1, "2")]),
        ("'counting', papers", [(1, "a", [1.0, 2.0], ["u"], 1), (2, "b", [3.0, 4.0], None, 1),
                                (3, "b", None, [], 1)]),
        ("'counting', (SELECT 1 AS one UNION ALL SELECT 2.5)", [(1.0, 1), (2.5, 1)]),
    ],
)  # fmt: skip
def test_answers(con: relann.Session, arguments: str, expected: list[tuple[object, ...]]) -> None:
    """One row for each tuple."""
    assert rows(con, arguments) == sorted(expected, key=repr)


def test_rows_of_a_common_table_expression_are_seen_through(con: relann.Session) -> None:
    """One of the statement around the call."""
    found = con.sql(
        "WITH mine AS (SELECT src, dst FROM cites WHERE src = 2) "
        "SELECT provenance FROM ml_provenance('how', (SELECT src FROM mine))"
    )
    assert list(found) == [("cites#2",)]


def _annotated(sql: str) -> str:
    """The answer in 'how', or why there is none."""
    try:
        found = relann.connect(papers()).sql(f"SELECT * FROM ml_provenance('how', (\n{sql}\n))")
    except QueryError as error:
        return str(error)
    return "\n".join(" | ".join(map(str, row)) for row in sorted(found, key=repr))


@pytest.mark.parametrize("name", [c.name for c in golden.read("provenance.sql")])
def test_golden(name: str) -> None:
    """Annotated answers and errors, as text."""
    golden.check("provenance.sql", name, _annotated)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("'hwo', papers", "no semiring is called 'hwo'.*Did you mean `how`"),
        ("how, papers", "in quotes"),
        ("'learned', papers", "CREATE MODEL"),
        ("'how', 'papers'", r"\(SELECT …\)"),
        ("'how', papers, weight => 'x'", "a weight is for counting and tropical"),
        ("'counting', cites, weight => 'm'", "no table of the query has a column `m`"),
        ("'counting', papers, weight => 'title'", "`title` is VARCHAR, not a number"),
        ("'how', (SELECT id FROM papers LIMIT 1)", "column 65: LIMIT keeps rows by their place"),
        ("'how', (SELECT DISTINCT ON (title) id FROM papers)", "DISTINCT ON keeps"),
        ("'how', (SELECT max(id) FROM papers)", "column 48: an aggregate computes"),
        ("'how', (SELECT id FROM papers ORDER BY id)", "put ORDER BY outside"),
        ("'how', (SELECT id FROM papers EXCEPT SELECT src FROM cites)", "no difference"),
        ("'how', (SELECT id FROM papers INTERSECT SELECT src FROM cites)", "write it as a join"),
        ("'how', (SELECT id FROM papers LEFT JOIN cites ON src = id)", "a LEFT JOIN keeps rows"),
        ("'how', (SELECT id FROM papers ANTI JOIN cites ON src = id)", "an ANTI JOIN asks"),
        ("'how', (SELECT id FROM papers WHERE id NOT IN (SELECT src FROM cites))", "NOT IN asks"),
        ("'how', (SELECT id FROM papers WHERE EXISTS (FROM cites))", "as IN or SEMI JOIN"),
        ("'how', (SELECT id, row_number() OVER () AS r FROM papers)", "a window looks at"),
        ("'how', (SELECT unnest(tags) AS t FROM papers)", "UNNEST in FROM"),
        ("'how', (SELECT id AS provenance FROM papers)", "has a column `provenance` already"),
        ("'how', (SELECT id FROM papers USING SAMPLE 1)", "a sample keeps rows by chance"),
        ("'how', (WITH RECURSIVE r AS (SELECT 1 AS i UNION SELECT i + 1 FROM r WHERE i < 3) "
         "SELECT i FROM r)", "infinitely many ways"),
    ],
)  # fmt: skip
def test_messages(con: relann.Session, arguments: str, message: str) -> None:
    """What has no meaning is told, where it stands."""
    with pytest.raises(QueryError, match=message):
        rows(con, arguments)


def test_tables_elsewhere(con: relann.Session, tmp_path: Path) -> None:
    """Are named as far as they must be; rows of files by their number."""
    file = tmp_path / "t.parquet"
    con.sql(
        "ATTACH ':memory:' AS o; CREATE TABLE o.t (a INTEGER, b VARCHAR, PRIMARY KEY (a, b));"
        "INSERT INTO o.t VALUES (1, 'x y'); CREATE SCHEMA s; CREATE TABLE s.t (a INTEGER);"
        "INSERT INTO s.t VALUES (7); CREATE TABLE r (rowid INTEGER); INSERT INTO r VALUES (5);"
        f"COPY s.t TO '{file}'"
    )
    assert rows(con, "'how', (SELECT a FROM o.t)") == [(1, "o.main.t#(1,'x y')")]
    assert rows(con, "'how', (SELECT a FROM s.t)") == [(7, "s.t#0")]
    assert rows(con, "'how', (FROM r)") == [(5, "r#0")]
    assert rows(con, f"'how', (FROM '{file}')") == [(7, f"{file}#0")]


def test_what_a_view_hides_is_refused_too(con: relann.Session) -> None:
    """Its text is not the user's, so the call is underlined."""
    con.sql("CREATE VIEW busy AS SELECT src, count(*) AS n FROM cites GROUP BY src")
    with pytest.raises(QueryError, match="an aggregate computes"):
        rows(con, "'how', busy")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("'counting', cites, weight => 'cost'", "whole numbers"),
        ("'tropical', (FROM holes), weight => 'w'", "NULL"),
        ("'counting', (SELECT a.w AS i FROM many a, many b, many c), weight => 'w'", "64 bits"),
    ],
)
def test_weights_that_are_none(con: relann.Session, arguments: str, message: str) -> None:
    """Are errors of the data."""
    con.sql("CREATE TABLE holes AS SELECT NULL::INTEGER AS w; CREATE TABLE many AS SELECT 1e9 AS w")
    with pytest.raises(DataError, match=message):
        rows(con, arguments)
