"""Spark SQL, from version 3.4: its words for DuckDB's.

Its lists begin at 0 and raise behind their end, its divisions by 0 raise or are NULL, ln(0) is
NULL, and isnan(NULL) is false. Times are those of the session's time zone, so that has to be UTC.
"""

from __future__ import annotations

import json
import math
from datetime import date, datetime
from decimal import Decimal

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

TITLE = "Spark SQL"
_ROWS = 20_000
"""How many rows one INSERT has at most."""

SETUP = (
    ("setting", "SET TIME ZONE 'UTC'"),
    ("schema", "CREATE DATABASE IF NOT EXISTS relann"),
)


def _double(value: exp.Expr | str) -> exp.Expr:
    return exp.cast(exp.Literal.string(value) if isinstance(value, str) else value, "double")


def _case(*choices: tuple[exp.Expr, exp.Expr], default: exp.Expr | None = None) -> exp.Case:
    case = exp.Case(ifs=[exp.If(this=when, true=then) for when, then in choices])
    if default is not None:
        case.set("default", default)
    return case


def _compared(kind: type[exp.Binary], node: exp.Expr, value: str) -> exp.Expr:
    return kind(this=exp.paren(node.copy()), expression=exp.Literal.number(value))


def _div(node: exp.Div) -> exp.Expr:
    """Infinite or NaN where what is divided by is 0."""
    first, second = _double(node.this), node.expression
    plain = exp.Div(this=first, expression=second, typed=True, safe=False)
    if is_number(second):
        return plain
    infinite = exp.Mul(this=first.copy(), expression=_double("Infinity"))
    return _case((_compared(exp.EQ, second, "0"), infinite), default=plain)


def _cast(node: exp.Cast) -> exp.Expr:
    """To a whole number as DuckDB does: to the next one, not towards 0."""
    to, value = node.to, node.this
    if to.this in (exp.DataType.Type.TIMESTAMP, exp.DataType.Type.TIMESTAMPNTZ):
        node.set("to", exp.DataType.build("TIMESTAMPTZ"))
        return node
    if to.this not in _WHOLE or is_literal(value) or isinstance(value, exp.Predicate):
        return node
    kind = call("typeof", value.copy())
    rounded = [
        (
            exp.In(this=kind, expressions=[exp.Literal.string(n) for n in ("float", "double")]),
            exp.cast(call("rint", _double(value.copy())), to.copy()),
        ),
        (
            exp.Like(this=kind.copy(), expression=exp.Literal.string("decimal%")),
            exp.cast(call("round", value.copy()), to.copy()),
        ),
    ]
    if not isinstance(value, exp.Column | exp.Paren | exp.Div | exp.Mul | exp.Sub | exp.Add):
        return node
    return _case(*rounded, default=node)


_WHOLE = (
    exp.DataType.Type.TINYINT,
    exp.DataType.Type.SMALLINT,
    exp.DataType.Type.INT,
    exp.DataType.Type.BIGINT,
)


def _isnan(node: exp.IsNan) -> exp.Expr:
    there = exp.Not(this=exp.Is(this=exp.paren(node.this.copy()), expression=exp.null()))
    return exp.paren(_case((there, call("isnan", node.this))))


def _isinf(node: exp.IsInf) -> exp.Expr:
    """Times are never infinite here, which is why nothing but their text is looked at."""
    text = exp.cast(node.this, "string")
    both = [exp.Literal.string("Infinity"), exp.Literal.string("-Infinity")]
    return exp.paren(exp.In(this=text, expressions=both))


def _ln(node: exp.Ln) -> exp.Expr:
    x = node.this
    return _case(
        (_compared(exp.EQ, x, "0"), _double("-Infinity")),
        (_compared(exp.LT, x, "0"), _double("NaN")),
        default=call("ln", x.copy()),
    )


def _bracket(node: exp.Bracket) -> exp.Expr:
    """One element, or NULL behind the end; some."""
    (index,) = node.expressions
    if isinstance(index, exp.Slice):
        first, last = index.this, index.expression
        if first is None or last is None:
            raise refused(node, TITLE)
        width = exp.Add(
            this=exp.Sub(this=exp.paren(last), expression=exp.paren(first.copy())),
            expression=exp.Literal.number(1),
        )
        return call("slice", node.this, first, width)
    return _element(node.this, index)


def _extracted(node: exp.Anonymous) -> exp.Expr:
    return _element(*node.expressions)


def _element(values: exp.Expr, index: exp.Expr) -> exp.Expr:
    if isinstance(index, exp.Literal) and not index.is_string:
        return call("get", values, exp.Literal.number(int(index.name) - 1))
    return call("get", values, exp.Sub(this=exp.paren(index), expression=exp.Literal.number(1)))


def _lambda(text: str, *names: str) -> exp.Lambda:
    body: exp.Expr = exp.maybe_parse(text, dialect="spark")
    return exp.Lambda(this=body, expressions=[exp.to_identifier(n) for n in names])


def _total(values: exp.Expr) -> exp.Expr:
    return call("aggregate", values, _double("0"), _lambda("s + v", "s", "v"))


def _dot(node: exp.Anonymous) -> exp.Expr:
    return _total(call("zip_with", *node.expressions, _lambda("v * w", "v", "w")))


def _sum(node: exp.Anonymous) -> exp.Expr:
    return _total(node.expressions[0])


def _average(node: exp.Anonymous) -> exp.Expr:
    (values,) = node.expressions
    size = call("size", values.copy())
    return exp.paren(exp.Div(this=_total(values), expression=size, typed=True, safe=False))


def _named(name: str) -> Rule:
    def rule(node: exp.Expr) -> exp.Expr:
        arguments = node.expressions if isinstance(node, exp.Anonymous) else [node.this]
        return call(name, *arguments)

    return rule


def _gathered(node: exp.ArrayAgg) -> exp.Expr:
    """A list in an order: pairs sorted by their first."""
    order = node.this
    if not isinstance(order, exp.Order):
        return call("collect_list", order)
    if len(order.expressions) != 1 or order.expressions[0].args.get("desc"):
        raise refused(node, TITLE)
    key = exp.alias_(order.expressions[0].this, "k")
    pairs = call("collect_list", call("struct", key, exp.alias_(order.this, "v")))
    return call("transform", call("array_sort", pairs), _lambda("s.v", "s"))


def _filtered(node: exp.Filter) -> exp.Expr:
    """What is gathered in an order is sorted outside of FILTER."""
    inner = node.this
    if not (isinstance(inner, exp.Anonymous) and inner.name == "transform"):
        return node
    (pairs,) = inner.expressions[0].expressions
    inner.expressions[0].set("expressions", [exp.Filter(this=pairs, expression=node.expression)])
    return inner


def _any_value(node: exp.AnyValue) -> exp.Expr:
    return call("any_value", node.this, exp.true())


def _ignore_nulls(node: exp.IgnoreNulls) -> exp.Expr:
    return node.this if isinstance(node.this, exp.Anonymous) else node


def _mode(node: exp.Mode) -> exp.Expr:
    """The smallest of equally frequent values."""
    order = node.this
    if not isinstance(order, exp.Order) or len(order.expressions) != 1:
        raise refused(node, TITLE)
    return call("mode", order.this, exp.true())


def _seconds(node: exp.TimeToUnix) -> exp.Expr:
    """Of a time, or of the time between two."""
    instant = node.this
    if isinstance(instant, exp.Paren):
        instant = instant.this
    if isinstance(instant, exp.Sub) and not isinstance(instant.expression, exp.Interval):
        sides = [instant.this, instant.expression]
    elif isinstance(instant, exp.Column | exp.Cast):
        sides = [instant, exp.Literal.string("1970-01-01")]
    else:
        raise refused(node, TITLE)
    micros = [call("unix_micros", exp.cast(side, "TIMESTAMPTZ")) for side in sides]
    apart = exp.paren(exp.Sub(this=micros[0], expression=micros[1]))
    return exp.paren(exp.Div(this=apart, expression=_double(exp.Literal.number("1e6")), typed=True))


def _micros(node: exp.Anonymous) -> exp.Expr:
    return call("unix_micros", exp.cast(node.expressions[0], "TIMESTAMPTZ"))


def _timestamp(node: exp.UnixToTime) -> exp.Expr:
    if node.args["scale"].name != "6":
        raise refused(node, TITLE)
    return call("timestamp_micros", node.this)


def _refuse(node: exp.Expr) -> exp.Expr:
    raise refused(node, TITLE)


def _select(node: exp.Select) -> exp.Expr:
    node = asof_as_ranked(grouped_by_all(node), call("monotonically_increasing_id"))
    if any(j.method == "ASOF" for j in node.args.get("joins") or []):
        raise DataError(
            f"{TITLE} has no ASOF JOIN; one is carried where it is the only join of its sub-query"
        )
    return node


def _cte(node: exp.CTE) -> exp.Expr:
    """Without MATERIALIZED, which Spark decides by itself."""
    node.set("materialized", None)
    return node


def _finish(root: exp.Expr) -> exp.Expr:
    """Common tables have names of their own: sqlglot puts all of them before the whole query."""
    used = {t.name.lower() for t in root.find_all(exp.Table)}
    number = 0
    for with_ in reversed(list(root.find_all(exp.With))):
        assert with_.parent is not None
        behind = [with_.parent]
        for cte in reversed(with_.expressions):
            number += 1
            while f"t{number}" in used:
                number += 1
            for scope in behind:
                _rename(scope, with_, cte.alias, f"t{number}")
            cte.args["alias"].set("this", exp.to_identifier(f"t{number}", quoted=True))
            behind.append(cte)
    return root


def _rename(scope: exp.Expr, with_: exp.With, old: str, new: str) -> None:
    """What a part of a query reads under a name; common tables of the query's own stay out."""
    for table in scope.find_all(exp.Table):
        if table.name.lower() != old.lower() or table.db:
            continue
        if scope is with_.parent and table.find_ancestor(exp.With) is with_:
            continue
        if not table.alias:
            table.set("alias", exp.TableAlias(this=exp.to_identifier(old, quoted=True)))
        table.set("this", exp.to_identifier(new, quoted=True))


def _table(name: str, table: pa.Table) -> list[str]:
    kinds = ", ".join(f"`{f.name}`: {_kind(f.type)}" for f in table.schema)
    columns = ", ".join(f"`{f.name}` {_kind(f.type)}" for f in table.schema)
    made = [f"DROP TABLE IF EXISTS {name}", f"CREATE TABLE {name} ({columns}) USING parquet"]
    for start in range(0, table.num_rows, _ROWS):
        rows = [
            {key: _value(value) for key, value in row.items()}
            for row in table.slice(start, _ROWS).to_pylist()
        ]
        # one text, which Spark reads in no time; VALUES of as many rows take it minutes
        text = json.dumps(rows, ensure_ascii=False).replace("\\", "\\\\").replace("'", "\\'")
        made.append(
            f"INSERT INTO {name} SELECT inline(from_json('{text}', 'array<struct<{kinds}>>', "
            "map('timestampFormat', 'yyyy-MM-dd HH:mm:ss.SSSSSS')))"
        )
    return made


def _kind(of: pa.DataType) -> str:
    if pa.types.is_list(of) or pa.types.is_fixed_size_list(of):
        return f"array<{_kind(of.value_type)}>"
    if pa.types.is_decimal(of):
        return f"decimal({of.precision},{of.scale})"
    if pa.types.is_uint64(of):
        return "decimal(20,0)"
    for test, name in (
        (pa.types.is_float32, "float"),
        (pa.types.is_floating, "double"),
        (pa.types.is_boolean, "boolean"),
        (lambda t: pa.types.is_int64(t) or pa.types.is_uint32(t), "bigint"),
        (pa.types.is_integer, "int"),
        (pa.types.is_date, "date"),
        (pa.types.is_timestamp, "timestamp"),
    ):
        if test(of):
            return name
    if pa.types.is_string(of) or pa.types.is_large_string(of) or pa.types.is_dictionary(of):
        return "string"
    raise DataError(f"values of type {of} cannot be carried to {TITLE}")


def _value(value: object) -> object:
    """As JSON has it."""
    match value:
        case list():
            return [_value(v) for v in value]
        case float() if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        case float() if math.isnan(value):
            return "NaN"
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S.%f")
        case date() | Decimal():
            return str(value)
    return value


def _layer(name: str, query: str) -> list[str]:
    return [f"DROP TABLE IF EXISTS {name}", f"CREATE TABLE {name} USING parquet AS {query}"]


SPARK = Dialect(
    name="spark",
    title=TITLE,
    plain=frozenset(
        {
            *(exp.Year, exp.Month, exp.Day, exp.DayOfYear, exp.Hour, exp.Minute, exp.Quarter),
            *(exp.LastDay, exp.ArrayMax, exp.ArrayContains, exp.Transform, exp.Exp, exp.Sqrt),
            *(exp.Length, exp.CurrentTimestamp),
        }
    ),
    rules={
        exp.Div: _div,
        exp.Cast: _cast,
        exp.IsNan: _isnan,
        exp.IsInf: _isinf,
        exp.Ln: _ln,
        exp.Bracket: _bracket,
        exp.ArrayAgg: _gathered,
        exp.Filter: _filtered,
        exp.AnyValue: _any_value,
        exp.IgnoreNulls: _ignore_nulls,
        exp.Mode: _mode,
        exp.TimeToUnix: _seconds,
        exp.UnixToTime: _timestamp,
        exp.AtTimeZone: _refuse,
        exp.Extract: lambda node: part_of(node, TITLE),
        exp.Select: _select,
        exp.CTE: _cte,
    },
    calls={
        "list_dot_product": _dot,
        "list_avg": _average,
        "list_sum": _sum,
        "list_position": _named("array_position"),
        "array_extract": _extracted,
        "error": _named("raise_error"),
        "epoch_us": _micros,
    },
    setup=SETUP,
    finish=_finish,
    table=_table,
    identifier=str,
    layer=_layer,
)
"""Spark SQL's words."""
