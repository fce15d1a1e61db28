"""Scalar expressions over columns, with SQL's NULLs and the database's types.

Where a value could be another one than the database gives (a whole number out of range, a division
by zero, a character that is not ASCII in upper()), `Refused` is raised, and the database computes.
"""

from __future__ import annotations

from typing import Any

from sqlglot import exp

from relann.algebra.engines.frames import (
    arithmetic,
    calendar,
    casts,
    comparing,
    conditionals,
    dates,
    logic,
    texts,
)
from relann.algebra.engines.frames.library import Array, Refused
from relann.algebra.engines.frames.operands import Operands, Operator, folded
from relann.algebra.engines.frames.vectors import Vector, constant
from relann.algebra.engines.interpreter import scalar

_OPERATORS: dict[type[Any], Operator] = {
    **logic.OPERATORS,
    **comparing.OPERATORS,
    **conditionals.OPERATORS,
    **casts.OPERATORS,
    **arithmetic.OPERATORS,
    **texts.OPERATORS,
    **dates.OPERATORS,
}
_VARYING = (exp.Column, exp.Window, exp.AggFunc)


class Expressions(Operands):
    """Expressions over the rows of some columns."""

    def converted(self, vector: Vector, sql_type: str) -> Vector:
        """A column as another type, as CAST has it."""
        return casts.converted(self, vector, sql_type)

    def truth(self, node: exp.Expr) -> Array:
        """Where a condition is true: neither false nor NULL."""
        return logic.is_true(logic.as_truth(self, self.value(node)))

    def value(self, node: exp.Expr) -> Vector:
        """An expression's value for each row; Refused for what is not understood."""
        if id(node) in self.known:
            return self.known[id(node)]
        if isinstance(node, exp.Column):
            return self.columns[node.name]
        if isinstance(node, exp.Paren):
            return self.value(node.this)
        if not any(isinstance(n, _VARYING) or id(n) in self.known for n in node.walk()):
            return constant(self.library, folded(node), self.count)
        if type(node) in _OPERATORS:
            _check(node)
            return _OPERATORS[type(node)](self, node)
        name = node.name.lower() if isinstance(node, exp.Anonymous) else ""
        if name in texts.NAMED:
            return texts.NAMED[name](self, *(self.value(a) for a in node.expressions))
        if name in ("date_part", "datepart") and len(node.expressions) == 2:
            return dates.time_part(self, str(folded(node.expressions[0])), node.expressions[1])
        if name in calendar.PARTS and len(node.expressions) == 1:
            return dates.time_part(self, name, node.expressions[0])
        raise Refused(scalar.described(node))


_HARMLESS = frozenset(
    [
        "safe",
        "typed",
        "big_int",
        "binary",
        "value_constructor",
        "negate",
        "ignore_nulls",
        "date_part_boundary",
    ]
)


def _check(node: exp.Expr) -> None:
    for key, flag in node.args.items():
        plain = isinstance(flag, exp.Expr | list | str) or not flag
        if not plain and key not in _HARMLESS:
            raise Refused(f"{scalar.described(node)} with {key}")
