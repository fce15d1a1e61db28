"""The reference engine's expressions, aggregates and windows give what DuckDB gives."""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from relann.algebra.engines.interpreter.casts import cast
from relann.algebra.engines.reference import Row, reduced, values
from relann.algebra.terms import Content
from relann.errors import DataError, EngineError
from relann.schema import Catalog, TypeFailure
from tests.expressions import KINDS, expressions

COLUMNS = {
    "i": ("INTEGER", "whole"),
    "j": ("BIGINT", "whole"),
    "d": ("DOUBLE", "double"),
    "f": ("FLOAT", "float"),
    "e": ("DECIMAL(6,2)", "decimal"),
    "s": ("VARCHAR", "text"),
    "b": ("BOOLEAN", "truth"),
    "t": ("TIMESTAMP", "moment"),
    "dt": ("DATE", "day"),
}
NAMES = {name: kind for name, (_, kind) in COLUMNS.items()}

VALUES: dict[str, list[Any]] = {
    "i": [0, 1, 2, -3, 40],
    "j": [0, 1, -2, 3, 10**6],
    "d": [0.0, -0.0, 1.5, -2.5, 0.1, 1e6, math.inf, math.nan],
    "f": [0.0, 0.5, -1.25, 0.1, 3.0],
    "e": [Decimal("0.00"), Decimal("1.25"), Decimal("-2.50"), Decimal("99.99")],
    "s": ["", "a", "b", "ab", "Aé", "12", "a%"],
    "b": [True, False],
    "t": [datetime(2020, 1, 31, 23, 59, 59, 250000), datetime(2020, 3, 1), datetime(1969, 7, 20)],
    "dt": [date(2020, 2, 29), date(2019, 12, 31), date(2021, 1, 3)],
}

ROWS = st.lists(
    st.fixed_dictionaries({n: st.none() | st.sampled_from(v) for n, v in VALUES.items()}),
    max_size=6,
)

CON = duckdb.connect()
CATALOG = Catalog(CON)


def table_of(rows: list[Row]) -> list[Row]:
    """The rows as values of the columns' types; also as DuckDB's table `t`, numbered `n`."""
    CON.execute(
        "CREATE OR REPLACE TABLE t (n INTEGER, "
        + ", ".join(f"{c} {sql_type}" for c, (sql_type, _) in COLUMNS.items())
        + ")"
    )
    if rows:
        marks = ", ".join("?" * (len(COLUMNS) + 1))
        CON.executemany(
            f"INSERT INTO t VALUES ({marks})",
            [[n, *(r[c] for c in COLUMNS)] for n, r in enumerate(rows)],
        )
    typed = [{c: cast(row[c], t) for c, (t, _) in COLUMNS.items()} for row in rows]
    return [{"n": n, **row} for n, row in enumerate(typed)]


def content(sql: str) -> Content:
    """The expression with its type."""
    types = {"n": "INTEGER"} | {n: t for n, (t, _) in COLUMNS.items()}
    try:
        (sql_type,) = CATALOG.types(types, [sql])
    except TypeFailure as failure:
        pytest.fail(f"DuckDB does not take {sql}: {failure.message}")
    return Content(sql, sql_type)


def asked(sql: str, tail: str = "FROM t ORDER BY n") -> list[Any]:
    """DuckDB's answer; a drawn example it refuses (overflow, division by zero) is skipped."""
    try:
        return [v for (v,) in CON.execute(f"SELECT {sql} {tail}").fetchall()]
    except (duckdb.OutOfRangeException, duckdb.ConversionException, duckdb.InvalidInputException):
        assume(False)
        raise


def alike(mine: Any, theirs: Any) -> bool:
    """Equal up to the last digits of floating point."""
    if isinstance(mine, tuple):
        return all(alike(a, b) for a, b in zip(mine, theirs, strict=True))
    if isinstance(mine, np.float32):
        mine, tolerance = float(mine), 1e-5
    else:
        tolerance = 1e-9
    if isinstance(mine, float) and isinstance(theirs, float):
        if math.isnan(mine) or math.isnan(theirs):
            return math.isnan(mine) and math.isnan(theirs)
        return math.isclose(mine, theirs, rel_tol=tolerance, abs_tol=1e-9)
    return bool(mine == theirs and type(mine) is type(theirs))


def check(sql: str, mine: list[Any], theirs: list[Any]) -> None:
    """All values alike."""
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        assert alike(a, b), f"{sql} is {a!r}, DuckDB says {b!r}"


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_expressions_are_those_of_duckdb(data: st.DataObject) -> None:
    """Drawn expressions of every kind, on drawn rows with NULL, NaN and infinity."""
    kind = data.draw(st.sampled_from(KINDS))
    sql = data.draw(expressions(kind, NAMES, depth=3))
    rows = table_of(data.draw(ROWS))
    check(sql, values(content(sql), rows), asked(sql))


EDGES = (
    *("(-7) // 2", "7 // (-2)", "(-7) // (-2)", "(-7) % 2", "7 % (-2)", "7::DOUBLE // 2", "1 / 0"),
    *("0 / 0", "(-7.5)::DOUBLE % 2", "7.5::DOUBLE % 0", "0.1::FLOAT + 0.2", "0.1::FLOAT * 3"),
    *("0.1::FLOAT = 0.1", "0.1::FLOAT = 0.1::DOUBLE", "1.10 * 2.20", "0.5 % 3", "2 ** 3", "1e3"),
    *("'nan'::DOUBLE > 'inf'::DOUBLE", "'nan'::DOUBLE = 'nan'::DOUBLE", "'nan'::FLOAT > 1e30"),
    *("greatest('nan'::DOUBLE, 1)", "least('nan'::DOUBLE, 1)", "0.0::DOUBLE = -0.0::DOUBLE"),
    *("2.5::INTEGER", "3.5::INTEGER", "(-2.5)::INTEGER", "2.5::DOUBLE::INTEGER", "'2.5'::INTEGER"),
    *(
        "3.5::DOUBLE::INTEGER",
        "1.25::DECIMAL(3,1)",
        "1.35::DOUBLE::DECIMAL(3,1)",
        "' 12 '::INTEGER",
    ),
    *(
        "round(2.5::DOUBLE)",
        "round(-2.5::DOUBLE)",
        "round(2.345, 2)",
        "round(25, -1)",
        "round(-2.5)",
    ),
    *("floor(-2.5::DOUBLE)", "trunc(-2.5::DOUBLE)", "ceil(2.1)", "floor(2)", "sign('nan'::DOUBLE)"),
    *("sqrt(-1)", "ln(0)", "ln(-1)", "log(100)", "log(2, 8)", "exp(1000)", "power(0, -1)"),
    *("1e15::DOUBLE::VARCHAR", "1e16::DOUBLE::VARCHAR", "0.1::FLOAT::VARCHAR", "1.50::VARCHAR"),
    *("TIMESTAMP '2020-01-02 03:04:05.25'::VARCHAR", "'yes'::BOOLEAN", "'nan'::DOUBLE::BOOLEAN"),
    *("NULL AND FALSE", "NULL OR TRUE", "NULL AND TRUE", "2 IN (1, NULL)", "2 NOT IN (1, NULL)"),
    *("1 IN (1, NULL)", "0 BETWEEN 1 AND NULL", "2 BETWEEN 1 AND NULL", "NULL IS DISTINCT FROM 1"),
    *("[1, NULL] = [1, NULL]", "[1, 2] < [1, NULL]", "[1, 2] < [1, 2, 3]", "TRUE = 1", "2 = TRUE"),
    *("TRY_CAST('abc' AS INTEGER)", "'1.0' = 1", "'a' < 'B'", "'é' > 'z'", "concat('a', NULL, 1)"),
    *("'a' || NULL", "'a%c' LIKE 'a$%c' ESCAPE '$'", "'abc' LIKE '%b_'", "substr('hello', 0, 2)"),
    *(
        "substr('hello', -3, 2)",
        "ltrim('  a ')",
        "length('añb')",
        "nullif(1, 1)",
        "nullif(1, NULL)",
    ),
    *("DATE '2020-01-31' + INTERVAL 1 MONTH", "TIMESTAMP '2020-03-31' - INTERVAL 1 MONTH"),
    *("DATE '2020-12-31' + INTERVAL 2 MONTH", "DATE '2020-01-02' - DATE '2020-01-01'"),
    *("INTERVAL 1 MONTH = INTERVAL 30 DAY", "INTERVAL 36 HOUR > INTERVAL 1 DAY"),
    *("epoch(INTERVAL 1 YEAR)", "epoch(INTERVAL 13 MONTH)", "extract(hour FROM INTERVAL 36 HOUR)"),
    "extract(day FROM TIMESTAMP '2020-01-01' - TIMESTAMP '2020-02-01 01:00:00')",
    *("dayofweek(DATE '2020-02-02')", "extract(isodow FROM DATE '2020-02-02')"),
    *("date_part('week', DATE '2021-01-03')", "date_part('yearweek', DATE '2021-01-03')"),
    *(
        "date_part('epoch', TIMESTAMP '1969-12-31 23:59:59.5')",
        "date_part('doy', DATE '2020-12-31')",
    ),
    "date_part('century', DATE '2000-01-01')",
    *("date_trunc('week', DATE '2020-02-02')", "date_trunc('quarter', DATE '2020-05-02')"),
    "date_trunc('hour', TIMESTAMP '1969-12-31 23:59:59')",
    "date_diff('week', DATE '2020-02-02', DATE '2020-02-03')",
    "date_diff('second', TIMESTAMP '2020-01-01 00:00:00.9', TIMESTAMP '2020-01-01 00:00:01.1')",
    "date_diff('month', DATE '2020-02-01', DATE '2020-01-31')",
    "date_diff('quarter', DATE '2020-03-31', DATE '2020-04-01')",
)


@pytest.mark.parametrize("sql", EDGES)
def test_edges_are_those_of_duckdb(sql: str) -> None:
    """Where definitions differ between systems: signs, halves, NaN, NULL, ends of months."""
    check(sql, values(content(sql), [{"n": 0}]), asked(sql, ""))


AGGREGATES = (
    *("count(*)", "count({any})", "count(DISTINCT {any})", "min({any})", "max({any})"),
    *("sum({whole})", "sum({double})", "sum({float})", "sum({decimal})", "sum(DISTINCT {whole})"),
    *("avg({whole})", "avg({double})", "avg({decimal})", "sum({truth})", "avg({float})"),
    *("stddev({double})", "stddev_pop({whole})", "var_samp({float})", "var_pop({decimal})"),
    *("bool_and({truth})", "bool_or({truth})", "count_if({truth})", "median({whole})"),
    *("arg_max({whole}, n)", "arg_min({text}, n)", "median({double})", "any_value(n)"),
    *("sum({whole}) + count(*)", "coalesce(max({double}), 0) / (count(*) + 1)", "mean({double})"),
)


@st.composite
def aggregates(draw: st.DrawFn) -> str:
    """An aggregate expression, sometimes with FILTER."""
    form = draw(st.sampled_from(AGGREGATES))
    before, slot, after = form.partition("{")
    if slot:
        kind, _, after = after.partition("}")
        wanted = draw(st.sampled_from(KINDS)) if kind == "any" else kind
        form = before + draw(expressions(wanted, NAMES, depth=1)) + after.replace("{any}", '"i"')
    if " + " in form or " / " in form or draw(st.booleans()):
        return form
    return f"{form} FILTER (WHERE {draw(expressions('truth', NAMES, depth=1))})"


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_aggregates_are_those_of_duckdb(data: st.DataObject) -> None:
    """Drawn aggregates over all rows, often none."""
    sql = data.draw(aggregates())
    rows = table_of(data.draw(ROWS))
    mine = reduced(content(sql), rows, ["n", *COLUMNS])
    check(sql, [mine], asked(sql, "FROM (FROM t ORDER BY n)"))


ANY_ORDER = (
    *("rank()", "dense_rank()", "count(*)", "count({text})", "sum({whole})", "avg({double})"),
    *("min({double})", "max({text})", "sum({decimal})", "stddev({whole})", "bool_and({truth})"),
    "sum({whole}) FILTER (WHERE {truth})",
)
TOTAL_ORDER = (
    *("row_number()", "lag({text})", "lead({whole}, 2)", "lag({whole}, 1, -1)"),
    *("first_value({text})", "last_value({double})", "any_value({text})"),
)
FRAMES = (
    "ROWS BETWEEN 1 PRECEDING AND CURRENT ROW",
    "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING",
    "ROWS BETWEEN 2 PRECEDING AND 1 PRECEDING",
    "RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
    "ROWS UNBOUNDED PRECEDING",
    "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
)


@st.composite
def windows(draw: st.DrawFn) -> str:
    """A window function whose value does not depend on the order of rows that tie."""
    total = draw(st.booleans())
    form = draw(st.sampled_from(ANY_ORDER + TOTAL_ORDER if total else ANY_ORDER))
    while "{" in form:
        before, _, rest = form.partition("{")
        kind, _, after = rest.partition("}")
        form = before + draw(expressions(kind, NAMES, depth=1, literals=False)) + after
    parts = []
    if draw(st.booleans()):
        by = [
            draw(expressions(draw(st.sampled_from(KINDS)), NAMES, 1, False))
            for _ in range(draw(st.integers(1, 2)))
        ]
        parts.append(f"PARTITION BY {', '.join(by)}")
    keys = []
    if total or draw(st.booleans()):
        for _ in range(draw(st.integers(0 if total else 1, 2))):
            key = draw(expressions(draw(st.sampled_from(KINDS)), NAMES, 1, False))
            direction = draw(st.sampled_from(["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]))
            keys.append(key + direction)
        keys += ["n"] if total else []
        parts.append(f"ORDER BY {', '.join(keys)}")
        if total and "(" in form and form[:3] in ("sum", "cou", "avg", "min", "max"):
            parts += [draw(st.sampled_from(FRAMES))] if draw(st.booleans()) else []
    return f"{form} OVER ({' '.join(parts)})"


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_windows_are_those_of_duckdb(data: st.DataObject) -> None:
    """Drawn window functions, alone and inside an expression."""
    window = data.draw(windows())
    sql = data.draw(st.sampled_from(["{}", "coalesce({}, NULL)", "{} IS NULL"])).format(window)
    rows = table_of(data.draw(ROWS))
    check(sql, values(content(sql), rows), asked(sql))


REFUSED = {
    "hash(i)": r"hash\(\)",
    "regexp_matches(s, 'a')": "regexp_",
    "i IN (SELECT 1)": "sub-query",
    "sum(i) OVER (ORDER BY i RANGE BETWEEN 1 PRECEDING AND CURRENT ROW)": "RANGE",
    "CAST(s AS UUID)": "UUID",
    "trim(s, 'a')": "trim",
    "ntile(2) OVER (ORDER BY i)": "ntile",
    "date_trunc('decade', t)": "DECADE",
    "date_part('julian', t)": "julian",
}


@pytest.mark.parametrize("sql", REFUSED)
def test_what_is_not_understood_is_named(sql: str) -> None:
    """Never a silent wrong answer: EngineError with the function's name."""
    rows = table_of([{c: v[0] for c, v in VALUES.items()}])
    with pytest.raises(EngineError, match=REFUSED[sql]):
        values(Content(sql, "INTEGER"), rows)


def test_unknown_aggregates_are_named() -> None:
    """EngineError with the aggregate's name."""
    for sql, name in (
        ("corr(i, d)", "corr"),
        ("string_agg(s, ',')", "concat"),
        ("mode(i)", "mode"),
    ):
        with pytest.raises(EngineError, match=name):
            reduced(Content(sql, "DOUBLE"), [], list(COLUMNS))


@pytest.mark.parametrize(
    ("sql", "sql_type"),
    [("i // 0", "INTEGER"), ("i % 0", "INTEGER"), ("'x'::INTEGER", "INTEGER"), ("j", "TINYINT")],
)
def test_refused_data_is_a_data_error(sql: str, sql_type: str) -> None:
    """Division by zero, text that is no number, a number out of range."""
    rows = table_of([{c: v[-1] for c, v in VALUES.items()}])
    with pytest.raises(DataError):
        values(Content(sql, sql_type), rows)
