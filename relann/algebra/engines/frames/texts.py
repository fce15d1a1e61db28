"""Functions of texts; those that count or change characters take ASCII only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sqlglot import exp

from relann.algebra.engines.frames.casts import converted
from relann.algebra.engines.frames.library import Refused
from relann.algebra.engines.frames.logic import negation
from relann.algebra.engines.frames.operands import Operands, Operator, folded
from relann.algebra.engines.frames.vectors import Vector, both, expanded, nothing


def texts_of(of: Operands, vector: Vector) -> Any:
    """Texts, one for each row."""
    if vector.kind != "text":
        raise Refused(f"a text function of {vector.type}")
    return expanded(of.library, vector, of.count)


def ascii_of(of: Operands, vector: Vector) -> Any:
    """Texts of ASCII only."""
    found = texts_of(of, vector)
    if not of.library.ascii(found):
        raise Refused("characters beyond ASCII")
    return found


def _joined(of: Operands, node: exp.DPipe) -> Vector:
    a, b = of.value(node.this), of.value(node.expression)
    if "null" in (a.kind, b.kind):
        return nothing(of.library, "text", "VARCHAR", of.count)
    a, b = converted(of, a, "VARCHAR"), converted(of, b, "VARCHAR")
    return Vector("text", texts_of(of, a) + texts_of(of, b), both(a.valid, b.valid), "VARCHAR")


def _text(function: Callable[[Any], Any]) -> Operator:
    """A function of ASCII texts that gives texts."""

    def run(of: Operands, node: exp.Expr) -> Vector:
        a = of.value(node.this)
        return Vector("text", function(ascii_of(of, a)), a.valid, "VARCHAR")

    return run


def _length(of: Operands, node: exp.Length) -> Vector:
    a = of.value(node.this)
    counted = of.library.array(ascii_of(of, a).str.len()).astype(np.int64)
    return Vector("whole", counted, a.valid, "BIGINT")


def _substring(of: Operands, node: exp.Substring) -> Vector:
    a, start = of.value(node.this), folded(node.args["start"])
    length = node.args.get("length")
    size = None if length is None else folded(length)
    if start < 1 or (size is not None and size < 0):
        raise Refused("substring from the end")
    stop = None if size is None else start - 1 + size
    return Vector("text", ascii_of(of, a).str.slice(start - 1, stop), a.valid, "VARCHAR")


def _replaced(of: Operands, node: exp.Replace) -> Vector:
    a = of.value(node.this)
    old, new = (folded(node.args[k]) for k in ("expression", "replacement"))
    if not old or not isinstance(old, str) or not isinstance(new, str):
        raise Refused("replace of such texts")
    return Vector("text", texts_of(of, a).str.replace(old, new, regex=False), a.valid, "VARCHAR")


def _trimmed(of: Operands, node: exp.Trim) -> Vector:
    if any(node.args.get(k) for k in ("expression", "collation", "position")):
        raise Refused("trim of given characters")
    return _text(lambda s: s.str.strip(" "))(of, node)


def _like(of: Operands, node: exp.Like) -> Vector:
    found, pattern = of.value(node.this), folded(node.expression)
    texts = texts_of(of, found)
    if not isinstance(pattern, str) or "_" in pattern or "\\" in pattern:
        raise Refused("LIKE with such a pattern")
    inner = pattern.strip("%")
    if "%" in inner:
        raise Refused("LIKE with such a pattern")
    before, after = pattern.startswith("%"), pattern.endswith("%")
    if not inner:
        values = (texts.str.len() >= 0) if pattern else (texts == "")
    elif before and after:
        values = texts.str.contains(inner, regex=False)
    elif before:
        values = texts.str.endswith(inner)
    else:
        values = texts.str.startswith(inner) if after else texts == inner
    held = of.library.array(values).astype(bool)
    made = Vector("truth", held, found.valid, "BOOLEAN")
    return negation(of, made) if node.args.get("negate") else made


def _found(how: str) -> Callable[..., Vector]:
    """Whether a text starts with, ends with or holds a constant one."""

    def run(of: Operands, text: Vector, part: Vector) -> Vector:
        if not isinstance(part.values, str):
            raise Refused("a search for a text that is not constant")
        texts = texts_of(of, text)
        if how == "contains":
            held = texts.str.contains(part.values, regex=False)
        elif how == "starts":
            held = texts.str.startswith(part.values)
        else:
            held = texts.str.endswith(part.values)
        return Vector("truth", of.library.array(held).astype(bool), text.valid, "BOOLEAN")

    return run


def _of_two(function: Callable[..., Vector]) -> Operator:
    return lambda of, node: function(of, of.value(node.this), of.value(node.expression))


OPERATORS: dict[type[Any], Operator] = {
    exp.DPipe: _joined,
    exp.Lower: _text(lambda s: s.str.lower()),
    exp.Upper: _text(lambda s: s.str.upper()),
    exp.Length: _length,
    exp.Substring: _substring,
    exp.Replace: _replaced,
    exp.Trim: _trimmed,
    exp.Like: _like,
    exp.StartsWith: _of_two(_found("starts")),
    exp.Contains: _of_two(_found("contains")),
}

NAMED: dict[str, Callable[..., Vector]] = {
    "prefix": _found("starts"), "suffix": _found("ends"), "ends_with": _found("ends")
}  # fmt: skip
"""Functions that the parser knows by name only."""
