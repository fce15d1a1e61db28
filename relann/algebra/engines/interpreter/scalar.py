"""Content expressions row by row in Python: what each operator and function of DuckDB gives.

Types are those of the values at hand: overflow of an intermediate whole number is not noticed, and
`CASE` or `coalesce` over columns of different number types gives the chosen value in its own type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import Decimal

import numpy as np
from sqlglot import exp

from relann.algebra.engines.interpreter.arithmetic import (
    add,
    cut_by,
    divide,
    divide_whole,
    joined,
    like,
    logarithm,
    multiply,
    negate,
    real,
    remainder,
    round_to,
    sign,
    substring,
    subtract,
)
from relann.algebra.engines.interpreter.casts import base_type, cast, convertible, text_of
from relann.algebra.engines.interpreter.comparing import compare, same
from relann.algebra.engines.interpreter.dates import PART_NAMES, boundaries, part_of, truncated
from relann.algebra.engines.interpreter.values import Value, interval_of
from relann.errors import DataError, EngineError

Row = Mapping[str, Value]
Known = Mapping[int, Value]
"""Values of parts of an expression found beforehand (windows, aggregates), by `id` of the part."""


def evaluate(node: exp.Expr, row: Row, known: Known | None = None) -> Value:
    """The value of an expression on one row; EngineError naming what is not understood."""
    known = known or {}
    if id(node) in known:
        return known[id(node)]

    def value(part: exp.Expr) -> Value:
        return evaluate(part, row, known)

    if isinstance(node, exp.Column):
        if node.name not in row:
            raise EngineError(f"the row has no column `{node.name}`; it has {', '.join(row)}")
        return row[node.name]
    if type(node) in _LAZY:
        return _LAZY[type(node)](node, value)
    if type(node) in _PARTS:
        return _strictly(lambda v: part_of(_PARTS[type(node)], v), [value(node.this)])
    if type(node) in _STRICT:
        _check_flags(node)
        return _strictly(_STRICT[type(node)], [value(a) for a in _arguments(node)])
    name = node.name.lower() if isinstance(node, exp.Anonymous) else ""
    if name in ("date_part", "datepart") and len(node.expressions) == 2:
        return _strictly(part_of, [value(a) for a in node.expressions])
    if name in PART_NAMES and len(node.expressions) == 1:
        return _strictly(lambda v: part_of(name, v), [value(node.expressions[0])])
    if name in _NAMED:
        return _strictly(_NAMED[name], [value(a) for a in node.expressions])
    raise EngineError(f"the reference engine has no {described(node)}")


def described(node: exp.Expr) -> str:
    """How an error names an expression: a function by its name, anything else as it is written."""
    if isinstance(node, exp.Anonymous):
        return f"{node.name.lower()}()"
    if isinstance(node, exp.Func) and not isinstance(node, exp.Connector):
        return f"{node.sql_name().lower()}()"
    return f"{type(node).__name__} (`{node.sql(dialect='duckdb')}`)"


def truth(value: Value) -> bool | None:
    """A value as a condition: true, false or NULL."""
    found: bool | None = cast(value, "BOOLEAN")
    return found


def _strictly(function: Callable[..., Value], arguments: list[Value]) -> Value:
    """NULL if any argument is, else the function of all."""
    return None if any(a is None for a in arguments) else function(*arguments)


_HARMLESS = frozenset(["safe", "typed", "big_int", "binary", "value_constructor"])


def _check_flags(node: exp.Expr) -> None:
    for key, flag in node.args.items():
        if flag and not isinstance(flag, exp.Expr | list) and key not in _HARMLESS:
            raise EngineError(f"the reference engine has no {described(node)} with {key}")


def _arguments(node: exp.Expr) -> list[exp.Expr]:
    found: list[exp.Expr] = []
    for value in node.args.values():
        found += value if isinstance(value, list) else [value]
    return [f for f in found if isinstance(f, exp.Expr)]


_PARTS: dict[type[exp.Expr], str] = {
    exp.Year: "year", exp.Quarter: "quarter", exp.Month: "month", exp.Week: "week",
    exp.Day: "day", exp.DayOfMonth: "day", exp.DayOfWeek: "dow", exp.DayOfYear: "doy",
    exp.Hour: "hour", exp.Minute: "minute", exp.Second: "second", exp.TimeToUnix: "epoch",
}  # fmt: skip


# -- operators that look at their arguments one by one -------------------------------------------

Evaluate = Callable[[exp.Expr], Value]


def _and(node: exp.Expr, value: Evaluate) -> bool | None:
    sides = [truth(value(node.this)), truth(value(node.expression))]
    return False if False in sides else None if None in sides else True


def _or(node: exp.Expr, value: Evaluate) -> bool | None:
    sides = [truth(value(node.this)), truth(value(node.expression))]
    return True if True in sides else None if None in sides else False


def _not(node: exp.Expr, value: Evaluate) -> bool | None:
    found = truth(value(node.this))
    return None if found is None else not found


def _is(node: exp.Expr, value: Evaluate) -> bool:
    found = value(node.this)
    if isinstance(node.expression, exp.Null):
        return found is None
    if isinstance(node.expression, exp.Boolean):
        return truth(found) is bool(node.expression.this)
    raise EngineError(f"the reference engine has no {described(node)}")


def _in(node: exp.Expr, value: Evaluate) -> bool | None:
    if node.args.get("query") or node.args.get("unnest") or node.args.get("field"):
        raise EngineError("the reference engine has no IN over a sub-query or list column")
    found = value(node.this)
    tests = [_strictly(_equal, [found, value(e)]) for e in node.expressions]
    return True if True in tests else None if None in tests else False


def _between(node: exp.Expr, value: Evaluate) -> bool | None:
    _check_flags(node)
    x = value(node.this)
    low = _strictly(lambda a, b: compare(a, b) >= 0, [x, value(node.args["low"])])
    high = _strictly(lambda a, b: compare(a, b) <= 0, [x, value(node.args["high"])])
    return False if False in (low, high) else None if None in (low, high) else True


def _case(node: exp.Expr, value: Evaluate) -> Value:
    tested = value(node.this) if node.this is not None else None
    for branch in node.args["ifs"]:
        found = value(branch.this)
        if node.this is not None:
            found = _strictly(_equal, [tested, found])
        if truth(found):
            return value(branch.args["true"])
    default = node.args.get("default")
    return None if default is None else value(default)


def _if(node: exp.Expr, value: Evaluate) -> Value:
    if truth(value(node.this)):
        return value(node.args["true"])
    otherwise = node.args.get("false")
    return None if otherwise is None else value(otherwise)


def _coalesce(node: exp.Expr, value: Evaluate) -> Value:
    for part in [node.this, *node.expressions]:
        found = value(part)
        if found is not None:
            return found
    return None


def _nullif(node: exp.Expr, value: Evaluate) -> Value:
    a, b = value(node.this), value(node.expression)
    return None if _strictly(_equal, [a, b]) else a


def _extreme(direction: int) -> Callable[[exp.Expr, Evaluate], Value]:
    def extreme(node: exp.Expr, value: Evaluate) -> Value:
        best = None
        for part in [node.this, *node.expressions]:
            found = value(part)
            if found is not None and (best is None or direction * compare(found, best) > 0):
                best = found
        return best

    return extreme


def _cast(node: exp.Expr, value: Evaluate) -> Value:
    sql_type = node.args["to"].sql(dialect="duckdb")
    if not convertible(sql_type):
        raise EngineError(f"the reference engine has no CAST to {base_type(sql_type)[0]}")
    try:
        return cast(value(node.this), sql_type)
    except DataError:
        if isinstance(node, exp.TryCast):
            return None
        raise


def _literal(node: exp.Expr, value: Evaluate) -> Value:
    text = str(node.this)
    if node.args.get("is_string"):
        return text
    if "e" in text.lower():
        return float(text)
    return Decimal(text) if "." in text else int(text)


def _interval(node: exp.Expr, value: Evaluate) -> Value:
    amount, unit = value(node.this), node.args.get("unit")
    if amount is None:
        return None
    if unit is None:
        return cast(amount, "INTERVAL")
    if not isinstance(amount, int) and not str(amount).lstrip("-").isdigit():
        raise EngineError(f"the reference engine has no interval of {amount} {unit.name}")
    return interval_of(int(amount), unit.name)


def _extract(node: exp.Expr, value: Evaluate) -> Value:
    return _strictly(lambda v: part_of(node.this.name, v), [value(node.expression)])


def _date_diff(node: exp.Expr, value: Evaluate) -> Value:
    unit = node.args["unit"].name
    ends = [value(node.expression), value(node.this)]
    return _strictly(lambda a, b: boundaries(unit, a, b), ends)


def _date_trunc(node: exp.Expr, value: Evaluate) -> Value:
    return _strictly(lambda v: truncated(node.args["unit"].name, v), [value(node.this)])


def _like(node: exp.Expr, value: Evaluate) -> bool | None:
    escape = ""
    if isinstance(node, exp.Escape):
        escape, node = str(value(node.expression)), node.this
    fold = isinstance(node, exp.ILike)
    found = _strictly(
        lambda a, b: like(a, b, fold, escape), [value(node.this), value(node.expression)]
    )
    return None if found is None else bool(found) != bool(node.args.get("negate"))


def _concat(node: exp.Expr, value: Evaluate) -> str:
    return "".join(text_of(v) for v in map(value, node.expressions) if v is not None)


def _concat_ws(node: exp.Expr, value: Evaluate) -> str | None:
    between, *texts = map(value, node.expressions)
    if between is None:
        return None
    return text_of(between).join(text_of(v) for v in texts if v is not None)


def _trim(node: exp.Expr, value: Evaluate) -> str | None:
    if node.args.get("expression") or node.args.get("collation"):
        raise EngineError("the reference engine has no trim() of given characters")
    text, where = value(node.this), node.args.get("position")
    if text is None:
        return None
    cut = {"LEADING": str.lstrip, "TRAILING": str.rstrip}.get(where or "", str.strip)
    return cut(text, " ")


def _equal(a: Value, b: Value) -> bool:
    return compare(a, b) == 0


_LAZY: dict[type[exp.Expr], Callable[[exp.Expr, Evaluate], Value]] = {
    exp.Paren: lambda n, value: value(n.this),
    exp.Literal: _literal,
    exp.Boolean: lambda n, value: bool(n.this),
    exp.Null: lambda n, value: None,
    exp.And: _and,
    exp.Or: _or,
    exp.Not: _not,
    exp.Is: _is,
    exp.NullSafeEQ: lambda n, value: same(value(n.this), value(n.expression)),
    exp.NullSafeNEQ: lambda n, value: not same(value(n.this), value(n.expression)),
    exp.In: _in,
    exp.Between: _between,
    exp.Case: _case,
    exp.If: _if,
    exp.Coalesce: _coalesce,
    exp.Nullif: _nullif,
    exp.Greatest: _extreme(1),
    exp.Least: _extreme(-1),
    exp.Cast: _cast,
    exp.TryCast: _cast,
    exp.Interval: _interval,
    exp.Extract: _extract,
    exp.DateDiff: _date_diff,
    exp.TimestampTrunc: _date_trunc,
    exp.DateTrunc: _date_trunc,
    exp.Like: _like,
    exp.ILike: _like,
    exp.Escape: _like,
    exp.Concat: _concat,
    exp.ConcatWs: _concat_ws,
    exp.Trim: _trim,
    exp.Array: lambda n, value: tuple(value(e) for e in n.expressions),
    exp.Tuple: lambda n, value: tuple(value(e) for e in n.expressions),
}

_STRICT: dict[type[exp.Expr], Callable[..., Value]] = {
    exp.Add: add,
    exp.Sub: subtract,
    exp.Mul: multiply,
    exp.Div: divide,
    exp.IntDiv: divide_whole,
    exp.Mod: remainder,
    exp.Neg: negate,
    exp.EQ: _equal,
    exp.NEQ: lambda a, b: compare(a, b) != 0,
    exp.LT: lambda a, b: compare(a, b) < 0,
    exp.LTE: lambda a, b: compare(a, b) <= 0,
    exp.GT: lambda a, b: compare(a, b) > 0,
    exp.GTE: lambda a, b: compare(a, b) >= 0,
    exp.DPipe: joined,
    exp.Abs: abs,
    exp.Round: round_to,
    exp.Floor: cut_by(math.floor),
    exp.Ceil: cut_by(math.ceil),
    exp.Trunc: cut_by(math.trunc),
    exp.Sign: sign,
    exp.Sqrt: real(np.sqrt),
    exp.Exp: real(np.exp),
    exp.Ln: real(np.log),
    exp.Log: logarithm,
    exp.Pow: real(np.power),
    exp.Sin: real(np.sin),
    exp.Cos: real(np.cos),
    exp.Tanh: real(np.tanh),
    exp.Pi: lambda: math.pi,
    exp.IsNan: lambda x: x != x,
    exp.Lower: str.lower,
    exp.Upper: str.upper,
    exp.Length: len,
    exp.Substring: substring,
    exp.Replace: str.replace,
    exp.StartsWith: str.startswith,
    exp.Contains: lambda text, part: part in text,
}

_NAMED: dict[str, Callable[..., Value]] = {
    "date_add": add,
    "ends_with": str.endswith,
    "suffix": str.endswith,
    "prefix": str.startswith,
}
