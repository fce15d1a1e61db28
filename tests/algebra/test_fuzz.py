"""Well-formed SQL of any meaning yields a query or an underlined error, nothing else."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from sqlglot.dialects import DuckDB
from sqlglot.errors import SqlglotError

from relann.algebra.bind import bind
from relann.algebra.lower import lower
from relann.algebra.optimize import optimise
from relann.algebra.statistics import Statistics
from relann.errors import DataError, QueryError
from relann.schema import Catalog
from tests.fixtures import papers

COLUMNS = "p.id p.x x p.year title seen p.venue open c.src c.dst c.w c.kind w z h.z p c nothing *"
NAMES = (
    "linear mlp embedding param softmax sum avg count max stddev relu tanh log exp dot concat "
    "coalesce features dropout text numeric category time_since normalize layer_norm batch_norm "
    "lower median abs mode unknown"
)
OPERATORS = ["+", "-", "*", "/", "||", "=", "<", "AND", "IS DISTINCT FROM", "IN"]
LITERALS = ["1", "3", "0", "0.5", "-2", "'a'", "NULL", "true", "TIMESTAMP '2020-01-01'", "[1, 2]"]
KEYWORDS = ["per => p.venue", "per => [p.id, c.kind]", "share => 's'", "bias => false"]
KEYWORDS += ["at => seen", "exclude => [title]", "per => linear(x, 2)", "nothing => 1"]


def _call(parts: tuple[str, list[str], list[str]]) -> str:
    name, arguments, keywords = parts
    return f"{name}({', '.join(arguments + keywords)})"


def _window(parts: tuple[str, str, str | None]) -> str:
    call, partition, order = parts
    ordered = f" ORDER BY {order}" if order else ""
    return f"{call} OVER (PARTITION BY {partition}{ordered})"


ATOMS = st.sampled_from(COLUMNS.split() + LITERALS)
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(
            st.sampled_from(NAMES.split()),
            st.lists(inner, min_size=1, max_size=3),
            st.lists(st.sampled_from(KEYWORDS), max_size=1),
        ).map(_call),
        st.tuples(inner, st.sampled_from(OPERATORS), inner).map(lambda t: f"({' '.join(t)})"),
        st.tuples(inner, inner, st.none() | inner).map(_window),
        st.tuples(inner, inner).map(lambda t: f"{t[0]} FILTER (WHERE {t[1]})"),
        st.tuples(inner, inner, inner).map(lambda t: "CASE WHEN {} THEN {} ELSE {} END".format(*t)),
        inner.map(lambda e: f"CAST({e} AS DOUBLE)"),
        inner.map(lambda e: f"linear({e}, 3)"),
        inner.map(lambda e: f"sum({e})"),
    ),
    max_leaves=6,
)
SOURCES = st.sampled_from(
    [
        "paper p",
        "paper p JOIN cites c ON c.src = p.id",
        "cites c LEFT JOIN paper p ON p.id = c.dst",
        "paper p JOIN h ON h.id = p.id",
        "paper p, range(3) r(i)",
        "paper p SEMI JOIN cites c ON c.src = p.id",
        "(SELECT * FROM paper) p",
        "h p",
    ]
)


@st.composite
def selects(draw: st.DrawFn) -> str:
    """One SELECT, each clause there or not."""
    items = draw(st.lists(EXPRESSIONS, min_size=1, max_size=3))
    text = f"SELECT {', '.join(f'{e} AS a{i}' for i, e in enumerate(items))} FROM {draw(SOURCES)}"
    for clause in ("WHERE", "GROUP BY", "HAVING", "QUALIFY"):
        if draw(st.integers(0, 3)) == 0:
            text += f" {clause} {draw(EXPRESSIONS)}"
    return text


@st.composite
def queries(draw: st.DrawFn) -> str:
    """SELECTs under a WITH, perhaps stacked."""
    text = draw(selects())
    if draw(st.integers(0, 4)) == 0:
        text += f" UNION ALL {draw(selects())}"
    return f"WITH h AS (SELECT id, linear(x, 3) AS z FROM paper) {text}"


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    """The citation graph."""
    return papers()


@settings(max_examples=300, deadline=None)
@given(text=queries())
def test_any_query(con: duckdb.DuckDBPyConnection, text: str) -> None:
    """What binds also optimises and lowers; what does not is underlined."""
    dialect = DuckDB()
    try:
        (body,) = dialect.parser().parse(dialect.tokenize(text), text)
    except SqlglotError:
        return
    assert body is not None
    catalog = Catalog(con)
    try:
        node = bind(body, text, catalog)
    except QueryError as error:
        event("refused")
        assert error.span is not None
        return
    event("bound")
    lower(node)
    try:
        lower(optimise(node, Statistics(catalog.estimate, catalog.sketch)).node)
    except DataError:  # constants folded by the database, CAST('a' AS BOOLEAN)
        event("refused by the database")
