"""Choices among values: CASE, IF, COALESCE, NULLIF, GREATEST and LEAST."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlglot import exp

from relann.algebra.engines.frames.casts import together
from relann.algebra.engines.frames.comparing import comparison
from relann.algebra.engines.frames.library import Array
from relann.algebra.engines.frames.logic import as_truth, is_true
from relann.algebra.engines.frames.operands import Operands, Operator
from relann.algebra.engines.frames.texts import texts_of
from relann.algebra.engines.frames.vectors import Vector, both, constant


def _chosen(of: Operands, conditions: Sequence[Array], choices: Sequence[Vector]) -> Vector:
    """The choice of the first condition that holds; there is one choice more, for the rest."""
    made = together(of, choices)
    arrays, value = of.arrays, made[-1]
    valid = value.valid
    for condition, choice in reversed(list(zip(conditions, made[:-1], strict=True))):
        if valid is not None or choice.valid is not None:
            rest = Vector("truth", None, valid, "")
            valid = arrays.where(
                condition, choice.known(of.library, of.count),
                rest.known(of.library, of.count),
            )  # fmt: skip
        if value.kind == "text":
            texts, mask = texts_of(of, choice), of.library.series(condition)
            value = replace(value, values=texts.where(mask, texts_of(of, value)))
        else:
            value = replace(value, values=arrays.where(condition, choice.values, value.values))
    return replace(value, valid=valid, constant=False)


def _best(of: Operands, how: str, vectors: Sequence[Vector]) -> Vector:
    """greatest or least of those that are not NULL; the first of equals."""
    best, *others = together(of, list(vectors))
    for other in others:
        better = is_true(comparison(of, how, other, best))
        known_best = best.known(of.library, of.count)
        known_other = other.known(of.library, of.count)
        best = _chosen(of, [(better | ~known_best) & known_other], [other, best])
    return best


def _case(of: Operands, node: exp.Case) -> Vector:
    tested = of.value(node.this) if node.this is not None else None
    conditions, choices = [], []
    for branch in node.args["ifs"]:
        found = of.value(branch.this)
        if tested is not None:
            found = comparison(of, "=", tested, found)
        conditions.append(is_true(as_truth(of, found)))
        choices.append(of.value(branch.args["true"]))
    default = node.args.get("default")
    rest = constant(of.library, None, of.count) if default is None else of.value(default)
    return _chosen(of, conditions, [*choices, rest])


def _if(of: Operands, node: exp.If) -> Vector:
    otherwise = node.args.get("false")
    rest = constant(of.library, None, of.count) if otherwise is None else of.value(otherwise)
    return _chosen(
        of, [is_true(as_truth(of, of.value(node.this)))], [of.value(node.args["true"]), rest]
    )


def _coalesce(of: Operands, node: exp.Coalesce) -> Vector:
    vectors = [of.value(part) for part in [node.this, *node.expressions]]
    known = [v.known(of.library, of.count) for v in vectors[:-1]]
    return _chosen(of, known, vectors)


def _nullif(of: Operands, node: exp.Nullif) -> Vector:
    a, b = of.value(node.this), of.value(node.expression)
    equal = is_true(comparison(of, "=", a, b))
    if a.kind == "null":
        return a
    return replace(a, valid=both(a.valid, ~equal), constant=False)


def _extreme(how: str) -> Operator:
    return lambda of, node: _best(of, how, [of.value(p) for p in [node.this, *node.expressions]])


OPERATORS: dict[type[Any], Operator] = {
    exp.Case: _case,
    exp.If: _if,
    exp.Coalesce: _coalesce,
    exp.Nullif: _nullif,
    exp.Greatest: _extreme(">"),
    exp.Least: _extreme("<"),
}
