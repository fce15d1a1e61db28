"""PostgreSQL, from version 13: its words for DuckDB's, as rules and as functions of schema relann.

Its numbers raise where DuckDB's are infinite (1 / 0, exp(1000)) or 0 (exp(-1000)), its booleans
are no numbers, and it writes sub-queries into each other, so that what was computed once would be
computed wherever it is read: OFFSET 0 keeps it from that.
"""

from __future__ import annotations

import math
from hashlib import sha256

import pyarrow as pa
from sqlglot import exp

from relann.dialects.translate import (
    Dialect,
    Rule,
    asof_as_ranked,
    call,
    grouped_by_all,
    is_literal,
    is_number,
    part_of,
    refused,
)
from relann.errors import DataError

TITLE = "PostgreSQL"
_NUMBER = "double precision"
_LONGEST = 63
"""Bytes of a name; PostgreSQL cuts off what is longer."""
_ROWS = 500
"""How many rows one INSERT has at most."""


def _function(signature: str, result: str, body: str, language: str = "sql") -> tuple[str, str]:
    strict = " STRICT" if language == "plpgsql" else ""
    fixed = "VOLATILE" if signature.startswith("error") else "IMMUTABLE"
    return (
        "function",
        f"CREATE OR REPLACE FUNCTION relann.{signature} RETURNS {result} "
        f"LANGUAGE {language} {fixed}{strict} PARALLEL SAFE AS $$ {body} $$",
    )


SETUP = (
    ("schema", "CREATE SCHEMA IF NOT EXISTS relann"),
    _function(
        f"divided(x {_NUMBER}, y {_NUMBER})",
        _NUMBER,
        "SELECT CASE WHEN y = 0 THEN x * 'Infinity' ELSE x / y END",
    ),
    _function(
        f"exp(x {_NUMBER})",
        _NUMBER,
        "SELECT CASE WHEN x < -700 THEN 0 WHEN x > 709.78 AND x <> 'NaN' THEN 'Infinity' "
        "ELSE exp(x) END",
    ),
    _function(
        f"ln(x {_NUMBER})",
        _NUMBER,
        "SELECT CASE WHEN x > 0 THEN ln(x) WHEN x = 0 THEN '-Infinity' WHEN x < 0 THEN 'NaN' END",
    ),
    _function(f"sqrt(x {_NUMBER})", _NUMBER, "SELECT CASE WHEN x < 0 THEN 'NaN' ELSE sqrt(x) END"),
    _function(f"number(x {_NUMBER})", _NUMBER, "SELECT x"),
    _function("number(x boolean)", _NUMBER, f"SELECT CAST(CAST(x AS integer) AS {_NUMBER})"),
    _function("number(x text)", _NUMBER, f"SELECT CAST(x AS {_NUMBER})"),
    _function("same(x anycompatible, y anycompatible)", "boolean", "SELECT ARRAY[x] = ARRAY[y]"),
    _function(
        f"dot(x {_NUMBER}[], y {_NUMBER}[])",
        _NUMBER,
        "DECLARE total double precision := 0; at integer := array_lower(y, 1); "
        "wide boolean := array_ndims(y) = 2; i integer; BEGIN "
        "FOR i IN 1 .. array_length(x, 1) LOOP "
        "total := total + x[i] * CASE WHEN wide THEN y[at][i] ELSE y[i] END; "
        "END LOOP; RETURN total; END",
        "plpgsql",
    ),
    _function(f"largest(x {_NUMBER}[])", _NUMBER, "SELECT max(v) FROM unnest(x) AS v"),
    _function(f"average(x {_NUMBER}[])", _NUMBER, "SELECT avg(v) FROM unnest(x) AS v"),
    _function(f"total(x {_NUMBER}[])", _NUMBER, "SELECT sum(v) FROM unnest(x) AS v"),
    _function(
        "error(message text)",
        _NUMBER,
        "BEGIN RAISE EXCEPTION '%', message; END",
        "plpgsql",
    ),
    _function("first_of(x anyelement, y anyelement)", "anyelement", "SELECT coalesce(x, y)"),
    (
        "function",
        "CREATE OR REPLACE AGGREGATE relann.any_value(anyelement) "
        "(sfunc = relann.first_of, stype = anyelement, parallel = safe)",
    ),
)
"""The schema and its functions; to run them again changes nothing."""


def _identifier(name: str) -> str:
    """A name in lower case, as names without quotes are, with a digest where it is too long."""
    lower = name.lower()
    if len(lower.encode()) <= _LONGEST:
        return lower
    digest = sha256(lower.encode()).hexdigest()[:10]
    return lower.encode()[: _LONGEST - 11].decode(errors="ignore") + "~" + digest


def _div(node: exp.Div) -> exp.Expr:
    if is_number(node.expression):
        first = exp.cast(node.this, "double")
        return exp.Div(this=first, expression=node.expression, typed=True, safe=False)
    return call("relann.divided", node.this, node.expression)


def _int_div(node: exp.IntDiv) -> exp.Expr:
    return exp.Paren(
        this=exp.Div(this=node.this, expression=node.expression, typed=True, safe=False)
    )


_FLOATS = (exp.DataType.Type.FLOAT, exp.DataType.Type.DOUBLE)


def _cast(node: exp.Cast) -> exp.Expr:
    """To a number also from a boolean."""
    to = node.to
    if to.this in _FLOATS and not to.expressions and not is_literal(node.this):
        inner = call("relann.number", node.this)
        if to.this == exp.DataType.Type.DOUBLE:
            return inner
        node.set("this", inner)
    return node


def _isnan(node: exp.IsNan) -> exp.Expr:
    return exp.Paren(
        this=exp.EQ(this=node.this, expression=exp.cast(exp.Literal.string("NaN"), "double"))
    )


def _isinf(node: exp.IsInf) -> exp.Expr:
    """Of numbers and of times: both have 'infinity'."""
    return exp.Paren(
        this=exp.In(
            this=node.this,
            expressions=[exp.Literal.string("infinity"), exp.Literal.string("-infinity")],
        )
    )


def _part(unit: str) -> Rule:
    def rule(node: exp.Func) -> exp.Expr:
        return exp.cast(exp.Extract(this=exp.var(unit), expression=node.this), "int")

    return rule


def _mode(node: exp.Mode) -> exp.Expr:
    order = node.this
    if not isinstance(order, exp.Order) or len(order.expressions) != 1:
        raise refused(node, TITLE)
    return exp.WithinGroup(this=call("mode"), expression=exp.Order(expressions=order.expressions))


def _ignore_nulls(node: exp.IgnoreNulls) -> exp.Expr:
    return node.this if isinstance(node.this, exp.Anonymous) else node


def _interval(node: exp.Interval) -> exp.Expr:
    if isinstance(node.this, exp.Literal):
        return node
    one = exp.Interval(this=exp.Literal.string("1"), unit=node.unit)
    return exp.Paren(this=exp.Mul(this=exp.paren(node.this), expression=one))


def _seconds(node: exp.TimeToUnix) -> exp.Expr:
    return exp.cast(exp.Extract(this=exp.var("EPOCH"), expression=node.this), "double")


def _micros(node: exp.Anonymous) -> exp.Expr:
    (instant,) = node.expressions
    seconds = exp.Extract(this=exp.var("EPOCH"), expression=instant)
    return exp.cast(exp.Mul(this=seconds, expression=exp.Literal.number(1000000)), "bigint")


def _timestamp(node: exp.UnixToTime) -> exp.Expr:
    if node.args["scale"].name != "6":
        raise refused(node, TITLE)
    start = exp.cast(exp.Literal.string("1970-01-01"), exp.DataType.build("TIMESTAMP"))
    one = exp.Interval(this=exp.Literal.string("1"), unit=exp.var("microsecond"))
    return exp.Paren(
        this=exp.Add(this=start, expression=exp.Mul(this=exp.paren(node.this), expression=one))
    )


def _element(node: exp.Anonymous) -> exp.Expr:
    """One list of a list of lists is a slice of it: arrays of arrays have two dimensions."""
    values, index = node.expressions
    if isinstance(index, exp.Literal):
        return _bracket(exp.Bracket(this=values, expressions=[index]))
    both = exp.Slice(this=index, expression=index.copy())
    return exp.Bracket(this=values, expressions=[both], offset=1)


def _bracket(node: exp.Bracket) -> exp.Expr:
    """Both count from 1."""
    if not isinstance(node.this, exp.Column | exp.Paren | exp.Bracket):
        node.set("this", exp.paren(node.this))
    node.set("offset", 1)
    return node


def _array_position(node: exp.Anonymous) -> exp.Expr:
    return call("array_position", *node.expressions)


def _renamed(name: str) -> Rule:
    def rule(node: exp.Expr) -> exp.Expr:
        arguments = node.expressions if isinstance(node, exp.Anonymous) else [node.this]
        return call(name, *arguments)

    return rule


def _safe(name: str) -> Rule:
    return _renamed(f"relann.{name}")


def _select(node: exp.Select) -> exp.Expr:
    node = asof_as_ranked(grouped_by_all(node), exp.Window(this=exp.RowNumber()))
    if any(j.method == "ASOF" for j in node.args.get("joins") or []):
        raise DataError(
            f"{TITLE} has no ASOF JOIN; one is carried where it is the only join of its sub-query"
        )
    return node


def _finish(root: exp.Expr) -> exp.Expr:
    """Sub-queries have names, and those that compute something stay where they are."""
    number = 0
    for query in list(root.find_all(exp.Subquery)):
        if not isinstance(query.parent, exp.From | exp.Join | exp.Lateral):
            continue
        if not query.alias:
            number += 1
            query.set("alias", exp.TableAlias(this=exp.to_identifier(f"_{number}", quoted=True)))
        if isinstance(query.this, exp.Select) and _computes(query.this):
            query.this.set("offset", exp.Offset(expression=exp.Literal.number(0)))
    return root


def _computes(select: exp.Select) -> bool:
    if any(select.args.get(k) for k in ("group", "limit", "offset", "distinct", "qualify")):
        return False
    values = [e.unalias() for e in select.expressions]
    return any(not isinstance(v, exp.Column | exp.Star | exp.Literal) for v in values)


def _table(name: str, table: pa.Table) -> list[str]:
    kinds = ", ".join(f'"{f.name}" {_kind(f.type)}' for f in table.schema)
    made = [f"DROP TABLE IF EXISTS {name} CASCADE", f"CREATE TABLE {name} ({kinds})"]
    for start in range(0, table.num_rows, _ROWS):
        some = table.slice(start, _ROWS)
        columns = [[_value(v.as_py(), f.type) for v in some.column(f.name)] for f in table.schema]
        rows = ",\n".join(f"({', '.join(row)})" for row in zip(*columns, strict=True))
        made.append(f"INSERT INTO {name} VALUES\n{rows}")
    return [*made, f"ANALYZE {name}"]


def _kind(of: pa.DataType) -> str:
    if pa.types.is_list(of) or pa.types.is_fixed_size_list(of):
        return f"{_kind(of.value_type)}[]"
    for test, name in (
        (pa.types.is_floating, _NUMBER),
        (pa.types.is_boolean, "boolean"),
        (pa.types.is_uint64, "numeric"),
        (lambda t: pa.types.is_int64(t) or pa.types.is_uint32(t), "bigint"),
        (pa.types.is_integer, "integer"),
        (pa.types.is_date, "date"),
        (pa.types.is_decimal, "numeric"),
    ):
        if test(of):
            return name
    if pa.types.is_timestamp(of):
        return "timestamptz" if of.tz else "timestamp"
    if pa.types.is_string(of) or pa.types.is_large_string(of) or pa.types.is_dictionary(of):
        return "text"
    raise DataError(f"keys of type {of} cannot be carried to {TITLE}")


def _value(value: object, of: pa.DataType) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list):
        inner = ", ".join(_bare(v) for v in value)
        return f"'{{{inner}}}'"
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int):
        return str(value)
    text = _bare(value).replace("'", "''")
    return f"'{text}'"


def _bare(value: object) -> str:
    if isinstance(value, float):
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return repr(value)
    return "NULL" if value is None else str(value)


def _forest(name: str, body: str) -> str:
    return (
        f"CREATE OR REPLACE FUNCTION {name}(seen {_NUMBER}[]) RETURNS {_NUMBER} "
        f"LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT {body} $$"
    )


POSTGRES = Dialect(
    name="postgres",
    title=TITLE,
    plain=frozenset({exp.LastDay, exp.ArrayAgg, exp.Length, exp.CurrentTimestamp}),
    rules={
        exp.Div: _div,
        exp.IntDiv: _int_div,
        exp.Cast: _cast,
        exp.Bracket: _bracket,
        exp.IsNan: _isnan,
        exp.IsInf: _isinf,
        exp.NullSafeEQ: lambda node: call("relann.same", node.this, node.expression),
        exp.Exp: _safe("exp"),
        exp.Ln: _safe("ln"),
        exp.Sqrt: _safe("sqrt"),
        exp.Year: _part("YEAR"),
        exp.Month: _part("MONTH"),
        exp.Day: _part("DAY"),
        exp.DayOfYear: _part("DOY"),
        exp.Hour: _part("HOUR"),
        exp.Minute: _part("MINUTE"),
        exp.Quarter: _part("QUARTER"),
        exp.Mode: _mode,
        exp.AnyValue: _safe("any_value"),
        exp.IgnoreNulls: _ignore_nulls,
        exp.Interval: _interval,
        exp.TimeToUnix: _seconds,
        exp.UnixToTime: _timestamp,
        exp.ArrayMax: _safe("largest"),
        exp.Extract: lambda node: part_of(node, TITLE),
        exp.Select: _select,
    },
    calls={
        "list_dot_product": _safe("dot"),
        "list_avg": _safe("average"),
        "list_sum": _safe("total"),
        "list_position": _array_position,
        "array_extract": _element,
        "error": _safe("error"),
        "epoch_us": _micros,
    },
    setup=SETUP,
    finish=_finish,
    table=_table,
    identifier=_identifier,
    forest=_forest,
)
"""PostgreSQL's words."""
