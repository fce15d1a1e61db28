"""Dates and times: parts, truncation, differences, intervals."""

from __future__ import annotations

from typing import Any

from sqlglot import exp

from relann.algebra.engines.frames import calendar
from relann.algebra.engines.frames.casts import micros
from relann.algebra.engines.frames.library import Refused
from relann.algebra.engines.frames.operands import Operands, Operator, folded
from relann.algebra.engines.frames.vectors import Vector, both
from relann.algebra.engines.interpreter.values import Interval


def moved(of: Operands, a: Vector, b: exp.Expr, sign: int) -> Vector:
    """A date or time, an interval that is constant later."""
    by = folded(b)
    if not isinstance(by, Interval):
        raise Refused("an interval that is not constant")
    values = calendar.moved(of.arrays, micros(a), by.scaled(sign))
    return Vector("moment", values, a.valid, "TIMESTAMP")


def time_part(of: Operands, name: str, node: exp.Expr) -> Vector:
    """extract(name FROM …) of a date or time, or `epoch` of a difference of times."""
    if isinstance(bare := node.unnest(), exp.Sub) and name == "epoch":
        a, b = of.value(bare.this), of.value(bare.expression)
        if {a.kind, b.kind} <= {"day", "moment"} and "moment" in (a.kind, b.kind):
            seconds = (micros(a) - micros(b)) / 1e6
            return Vector("real", seconds, both(a.valid, b.valid), "DOUBLE")
    time = of.value(node)
    if time.kind == "null":
        return time
    found = calendar.part(name, micros(time))
    kind = ("real", "DOUBLE") if name == "epoch" else ("whole", "BIGINT")
    return Vector(kind[0], found, time.valid, kind[1])


def is_interval(node: exp.Expr) -> bool:
    """Whether an expression is an interval as it stands."""
    inner = node.unnest()
    if isinstance(inner, exp.Cast):
        return bool(inner.args["to"].sql(dialect="duckdb").upper() == "INTERVAL")
    return isinstance(inner, exp.Interval)


def _difference(of: Operands, node: exp.DateDiff) -> Vector:
    start, stop = of.value(node.expression), of.value(node.this)
    unit = node.args["unit"].name
    found = calendar.boundaries(unit, micros(start), micros(stop))
    return Vector("whole", found, both(start.valid, stop.valid), "BIGINT")


def _truncated(of: Operands, node: exp.Expr) -> Vector:
    a = of.value(node.this)
    found = calendar.truncated(node.args["unit"].name, micros(a))
    return Vector("moment", found, a.valid, "TIMESTAMP")


def _part_of(name: str) -> Operator:
    return lambda of, node: time_part(of, name, node.this)


_PARTS: dict[type[exp.Expr], str] = {
    exp.Year: "year", exp.Quarter: "quarter", exp.Month: "month", exp.Week: "week",
    exp.Day: "day", exp.DayOfMonth: "day", exp.DayOfWeek: "dow", exp.DayOfYear: "doy",
    exp.Hour: "hour", exp.Minute: "minute", exp.Second: "second", exp.TimeToUnix: "epoch",
}  # fmt: skip

OPERATORS: dict[type[Any], Operator] = {
    exp.DateDiff: _difference,
    exp.TimestampTrunc: _truncated,
    exp.DateTrunc: _truncated,
    exp.Extract: lambda of, n: time_part(of, n.this.name, n.expression),
    **{kind: _part_of(name) for kind, name in _PARTS.items()},
}
