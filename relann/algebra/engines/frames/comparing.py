"""Comparisons: order and equality of two values, IN and BETWEEN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlglot import exp

from relann.algebra.engines.frames.casts import compared
from relann.algebra.engines.frames.library import Array, Refused
from relann.algebra.engines.frames.logic import conjunction, is_true, negation
from relann.algebra.engines.frames.operands import Operands, Operator
from relann.algebra.engines.frames.vectors import Vector, both, nothing

_ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda a, b: a == b, "<>": lambda a, b: a != b, "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
}  # fmt: skip
_TURNED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def comparison(of: Operands, how: str, a: Vector, b: Vector) -> Vector:
    """A comparison; NaN equals itself and is above every number."""
    if "null" in (a.kind, b.kind):
        return nothing(of.library, "truth", "BOOLEAN", of.count)
    a, b = compared(of, a, b)
    valid = both(a.valid, b.valid)
    if a.kind == "text":
        values = _text_order(of, how, a, b)
    elif a.kind == "real":
        values = _real_order(of, how, a.values, b.values)
    elif a.kind == "other":
        raise Refused(f"a comparison of {a.type}")
    else:
        values = _ORDERS[how](a.values, b.values)
    return Vector("truth", values, valid, "BOOLEAN")


def _text_order(of: Operands, how: str, a: Vector, b: Vector) -> Array:
    if isinstance(a.values, str) and isinstance(b.values, str):
        return of.arrays.full(of.count, _ORDERS[how](a.values, b.values), dtype=bool)
    if isinstance(a.values, str):
        return _text_order(of, _TURNED[how], b, a)
    return of.library.array(_ORDERS[how](a.values, b.values)).astype(bool)


def _real_order(of: Operands, how: str, x: Array, y: Array) -> Array:
    nan_x, nan_y = of.arrays.isnan(x), of.arrays.isnan(y)
    if how == "=":
        return (x == y) | (nan_x & nan_y)
    if how == "<":
        return (x < y) | (~nan_x & nan_y)
    if how == "<=":
        return (x <= y) | nan_y
    if how == "<>":
        return ~_real_order(of, "=", x, y)
    return _real_order(of, _TURNED[how], y, x)


def same(of: Operands, a: Vector, b: Vector) -> Array:
    """IS NOT DISTINCT FROM, without NULL."""
    equal = comparison(of, "=", a, b)
    x, y = a.known(of.library, of.count), b.known(of.library, of.count)
    return of.arrays.where(x & y, is_true(equal), ~x & ~y)


def _ordered(how: str) -> Operator:
    return lambda of, node: comparison(of, how, of.value(node.this), of.value(node.expression))


def _null_safe(equal: bool) -> Operator:
    def run(of: Operands, node: exp.Expr) -> Vector:
        found = same(of, of.value(node.this), of.value(node.expression))
        return Vector("truth", found if equal else ~found, None, "BOOLEAN")

    return run


def _in(of: Operands, node: exp.In) -> Vector:
    if node.args.get("query") or node.args.get("unnest") or node.args.get("field"):
        raise Refused("IN over a sub-query or list column")
    found, out = of.value(node.this), None
    for one in node.expressions:
        equal = negation(of, comparison(of, "=", found, of.value(one)))
        out = equal if out is None else conjunction(of, out, equal)
    if out is None:
        raise Refused("IN of nothing")
    return negation(of, out)


def _between(of: Operands, node: exp.Between) -> Vector:
    x = of.value(node.this)
    low = comparison(of, ">=", x, of.value(node.args["low"]))
    return conjunction(of, low, comparison(of, "<=", x, of.value(node.args["high"])))


OPERATORS: dict[type[Any], Operator] = {
    exp.EQ: _ordered("="),
    exp.NEQ: _ordered("<>"),
    exp.LT: _ordered("<"),
    exp.LTE: _ordered("<="),
    exp.GT: _ordered(">"),
    exp.GTE: _ordered(">="),
    exp.NullSafeEQ: _null_safe(True),
    exp.NullSafeNEQ: _null_safe(False),
    exp.In: _in,
    exp.Between: _between,
}
