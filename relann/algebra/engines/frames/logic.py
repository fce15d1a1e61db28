"""Truth values of three kinds: AND, OR, NOT, and what a value IS."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlglot import exp

from relann.algebra.engines.frames.casts import converted
from relann.algebra.engines.frames.library import Array, Refused
from relann.algebra.engines.frames.operands import Operands, Operator
from relann.algebra.engines.frames.vectors import Vector, both, nothing
from relann.algebra.engines.interpreter import scalar


def as_truth(of: Operands, vector: Vector) -> Vector:
    """A value as a condition."""
    if vector.kind == "truth":
        return vector
    if vector.kind == "null":
        return nothing(of.library, "truth", "BOOLEAN", of.count)
    return converted(of, vector, "BOOLEAN")


def is_true(vector: Vector) -> Array:
    """Where a truth value is true."""
    return vector.values if vector.valid is None else vector.values & vector.valid


def is_false(vector: Vector) -> Array:
    """Where a truth value is false, not NULL."""
    return ~vector.values if vector.valid is None else ~vector.values & vector.valid


def conjunction(of: Operands, a: Vector, b: Vector) -> Vector:
    """AND: false if either is, NULL if not known."""
    a, b = as_truth(of, a), as_truth(of, b)
    false = is_false(a) | is_false(b)
    true = is_true(a) & is_true(b)
    return Vector("truth", true, None if both(a.valid, b.valid) is None else true | false,
                  "BOOLEAN")  # fmt: skip


def negation(of: Operands, a: Vector) -> Vector:
    """NOT."""
    a = as_truth(of, a)
    return replace(a, values=~a.values, constant=False)


def _or(of: Operands, node: exp.Or) -> Vector:
    sides = [negation(of, of.value(n)) for n in (node.this, node.expression)]
    return negation(of, conjunction(of, *sides))


def _is(of: Operands, node: exp.Is) -> Vector:
    found = of.value(node.this)
    if isinstance(node.expression, exp.Null):
        known = ~found.known(of.library, of.count)
        if found.kind == "other":
            missing = found.values.is_null().to_numpy(zero_copy_only=False)
            known = of.library.to_device(missing)
        return Vector("truth", known, None, "BOOLEAN")
    if isinstance(node.expression, exp.Boolean):
        wanted = as_truth(of, found)
        values = is_true(wanted) if node.expression.this else is_false(wanted)
        return Vector("truth", values, None, "BOOLEAN")
    raise Refused(scalar.described(node))


OPERATORS: dict[type[Any], Operator] = {
    exp.And: lambda of, n: conjunction(of, of.value(n.this), of.value(n.expression)),
    exp.Or: _or,
    exp.Not: lambda of, n: negation(of, of.value(n.this)),
    exp.Is: _is,
}
