"""Arithmetic and functions of numbers. What is out of range, or divided by zero, is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from sqlglot import exp

from relann.algebra.engines.frames.casts import check_range, converted, together
from relann.algebra.engines.frames.dates import is_interval, moved
from relann.algebra.engines.frames.library import Array, Refused
from relann.algebra.engines.frames.operands import Operands, Operator, filled
from relann.algebra.engines.frames.vectors import Vector, both, constant, nothing
from relann.algebra.engines.interpreter import scalar
from relann.algebra.engines.interpreter.casts import base_type

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b
}  # fmt: skip


def _computed(of: Operands, how: str, a: Vector, b: Vector) -> Vector:
    """`+`, `-` or `*` of numbers."""
    if "null" in (a.kind, b.kind):
        return nothing(of.library, "null", "BOOLEAN", of.count)
    if not {a.kind, b.kind} <= {"whole", "real"}:
        raise Refused(f"{a.type} {how} {b.type}")
    a, b = together(of, [a, b])
    if a.type == "DECIMAL":
        raise Refused("DECIMAL arithmetic")
    valid = both(a.valid, b.valid)
    with np.errstate(all="ignore"):
        values = _ARITHMETIC[how](a.values, b.values)
        made = Vector(a.kind, values, valid, a.type)
        if a.kind == "whole":
            near = _ARITHMETIC[how](a.values.astype(np.float64), b.values.astype(np.float64))
            made = _in_range(of, made, near)
    return made


def _in_range(of: Operands, made: Vector, near: Array) -> Vector:
    if made.valid is not None:
        near = of.arrays.where(made.valid, near, 0.0)
    if not bool((of.arrays.abs(near) < 2.0**62).all()):
        raise Refused("a whole number out of range")
    check_range(of, made, base_type(made.type)[0])
    return made


def _divided(of: Operands, how: str, a: Vector, b: Vector) -> Vector:
    """`/`, `//` or `%`; whole numbers by zero are refused."""
    if "null" in (a.kind, b.kind):
        return nothing(of.library, "null", "BOOLEAN", of.count)
    if not {a.kind, b.kind} <= {"whole", "real"}:
        raise Refused(f"{a.type} {how} {b.type}")
    arrays, valid = of.arrays, both(a.valid, b.valid)
    if how == "/" or {a.kind, b.kind} != {"whole"}:
        single = "FLOAT" in (a.type, b.type) and "DOUBLE" not in (a.type, b.type)
        if how != "/" and "DECIMAL" in (a.type, b.type) and not {a.type, b.type} & {
            "DOUBLE", "FLOAT"
        }:  # fmt: skip
            raise Refused(f"DECIMAL {how}")
        real = np.float32 if single else np.float64
        x, y = a.values.astype(real), b.values.astype(real)
        with np.errstate(all="ignore"):
            if how == "//":
                zero = (y == 0) if valid is None else (y == 0) & valid
                if bool(zero.any()):
                    raise Refused("a division by zero")
            values = arrays.fmod(x, y) if how == "%" else x / y
        return Vector("real", values, valid, "FLOAT" if single else "DOUBLE")
    a, b = together(of, [a, b])
    divisor = filled(of, b, 1)
    if bool((divisor == 0).any()):
        raise Refused("a division by zero")
    quotient = arrays.abs(a.values) // arrays.abs(divisor)
    quotient = arrays.where((a.values < 0) == (divisor < 0), quotient, -quotient)
    values = quotient if how == "//" else a.values - divisor * quotient
    made = Vector("whole", values, valid, a.type)
    return _in_range(of, made, values.astype(np.float64))


def _sum(sign: int) -> Operator:
    def add(of: Operands, node: exp.Expr) -> Vector:
        left, right = node.this, node.expression
        if sign > 0 and is_interval(left):
            left, right = right, left
        if is_interval(right):
            a = of.value(left)
            return a if a.kind == "null" else moved(of, a, right, sign)
        a, b = of.value(left), of.value(right)
        if a.kind == "day" and b.kind == "whole":
            days = a.values + sign * b.values
            return Vector("day", days, both(a.valid, b.valid), "DATE")
        if a.kind == b.kind == "day" and sign < 0:
            return Vector("whole", a.values - b.values, both(a.valid, b.valid), "BIGINT")
        return _computed(of, "+" if sign > 0 else "-", a, b)

    return add


def _numbers(how: str) -> Operator:
    if how == "*":
        return lambda of, n: _computed(of, "*", of.value(n.this), of.value(n.expression))
    return lambda of, n: _divided(of, how, of.value(n.this), of.value(n.expression))


def _negated(of: Operands, node: exp.Neg) -> Vector:
    x = of.value(node.this)
    if x.kind == "real":
        return replace(x, values=-x.values)
    return _computed(of, "-", constant(of.library, 0, of.count), x)


def _absolute(of: Operands, node: exp.Abs) -> Vector:
    a = of.value(node.this)
    if a.kind not in ("whole", "real"):
        raise Refused(f"abs of {a.type}")
    return replace(a, values=of.arrays.abs(a.values), constant=False)


def _sign(of: Operands, node: exp.Sign) -> Vector:
    a = of.value(node.this)
    if a.kind not in ("whole", "real"):
        raise Refused(f"sign of {a.type}")
    values = (a.values > 0).astype(np.int64) - (a.values < 0).astype(np.int64)
    return Vector("whole", values, a.valid, "TINYINT")


def _is_nan(of: Operands, node: exp.IsNan) -> Vector:
    a = converted(of, of.value(node.this), "DOUBLE")
    return Vector("truth", of.arrays.isnan(a.values), a.valid, "BOOLEAN")


def _power(of: Operands, node: exp.Pow) -> Vector:
    a, b = (converted(of, of.value(n), "DOUBLE") for n in (node.this, node.expression))
    with np.errstate(all="ignore"):
        values = of.arrays.power(a.values, b.values)
    return Vector("real", values, both(a.valid, b.valid), "DOUBLE")


def _real(function: Callable[[Any, Any], Any]) -> Operator:
    """A function of DOUBLEs."""

    def run(of: Operands, node: exp.Expr) -> Vector:
        a = converted(of, of.value(node.this), "DOUBLE")
        with np.errstate(all="ignore"):
            return Vector("real", function(of.arrays, a.values), a.valid, "DOUBLE")

    return run


def _cut(function: Callable[[Any, Any], Any]) -> Operator:
    """floor, ceil, trunc and round: FLOAT stays, whole numbers become DOUBLE."""

    def run(of: Operands, node: exp.Expr) -> Vector:
        a = of.value(node.this)
        if a.type == "DECIMAL" or a.kind not in ("whole", "real"):
            raise Refused(f"{scalar.described(node)} of {a.type}")
        if a.kind == "whole" and isinstance(node, exp.Round):
            return a
        if a.kind == "whole":
            a = converted(of, a, "DOUBLE")
        return replace(a, values=function(of.arrays, a.values).astype(a.values.dtype))

    return run


def _rounded(arrays: Any, x: Array) -> Array:
    """Halves away from zero."""
    with np.errstate(all="ignore"):
        size = arrays.abs(x)
        down = arrays.floor(size)
        return arrays.copysign(down + (size - down >= 0.5), x)


def _round(of: Operands, node: exp.Round) -> Vector:
    if node.args.get("decimals") is not None:
        raise Refused("round to digits")
    return _cut(_rounded)(of, node)


OPERATORS: dict[type[Any], Operator] = {
    exp.Add: _sum(1),
    exp.Sub: _sum(-1),
    exp.Mul: _numbers("*"),
    exp.Div: _numbers("/"),
    exp.IntDiv: _numbers("//"),
    exp.Mod: _numbers("%"),
    exp.Neg: _negated,
    exp.Abs: _absolute,
    exp.Sign: _sign,
    exp.Floor: _cut(lambda xp, x: xp.floor(x)),
    exp.Ceil: _cut(lambda xp, x: xp.ceil(x)),
    exp.Trunc: _cut(lambda xp, x: xp.trunc(x)),
    exp.Round: _round,
    exp.Sqrt: _real(lambda xp, x: xp.sqrt(x)),
    exp.Exp: _real(lambda xp, x: xp.exp(x)),
    exp.Ln: _real(lambda xp, x: xp.log(x)),
    exp.Sin: _real(lambda xp, x: xp.sin(x)),
    exp.Cos: _real(lambda xp, x: xp.cos(x)),
    exp.Pow: _power,
    exp.IsNan: _is_nan,
}
