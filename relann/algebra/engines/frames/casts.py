"""Columns as columns of another type: casts, and the type that several have together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from sqlglot import exp

from relann.algebra.engines.frames.library import Array, Refused
from relann.algebra.engines.frames.operands import Operands, Operator, filled
from relann.algebra.engines.frames.vectors import DAY, WHOLE, Vector, constant, kind_of, nothing
from relann.algebra.engines.interpreter.casts import base_type, cast
from relann.errors import DataError

_TRUTHS = pa.array(["false", "true"])


def converted(of: Operands, vector: Vector, sql_type: str) -> Vector:
    """A column as another type, as CAST has it."""
    name, _ = base_type(sql_type)
    kind = kind_of(sql_type)
    if vector.kind == "other" or kind == "other":
        if vector.kind == "other" and vector.type == sql_type:
            return vector
        if vector.kind == "null":
            return nothing(of.library, kind, sql_type, of.count)
        raise Refused(f"a cast from {vector.type} to {sql_type}")
    if vector.kind == "null":
        return nothing(of.library, kind, sql_type, of.count)
    if kind != vector.kind or name != base_type(vector.type)[0]:
        made = replace(vector, values=_cast(of, vector, kind, name), kind=kind, type=name)
        return replace(made, constant=False)
    return vector


def _cast(of: Operands, vector: Vector, kind: str, name: str) -> Any:
    arrays, values, was = of.arrays, vector.values, vector.kind
    if kind == "whole" and was in ("whole", "truth", "real"):
        if was == "real":
            if vector.type == "DECIMAL":
                raise Refused("a DECIMAL cast to a whole number")
            values = filled(of, vector, 0).astype(np.float64)
            if not bool((arrays.abs(values) < 2.0**62).all()):
                raise Refused("a number out of the range of whole numbers")
            values = arrays.rint(values)
        values = values.astype(np.int64)
        check_range(of, replace(vector, values=values), name)
        return values
    if kind == "real" and was in ("whole", "truth", "real"):
        made = values.astype(np.float32 if name == "FLOAT" else np.float64)
        if name == "FLOAT" and values.dtype == np.float64:
            lost = arrays.isinf(made) & ~arrays.isinf(values)
            if bool(lost.any()):
                raise Refused("a number out of the range of FLOAT")
        return made
    if kind == "truth" and was in ("whole", "real"):
        return values != 0
    if kind == "day" and was == "moment":
        return values // DAY
    if kind == "moment" and was == "day":
        return values * DAY
    if kind == "text" and was == "whole":
        return of.library.series(values).astype("str")
    if kind == "text" and was == "truth":
        found = of.library.texts(_TRUTHS)
        return found.take(values.astype(np.int64)).reset_index(drop=True)
    raise Refused(f"a cast from {vector.type} to {name}")


def check_range(of: Operands, vector: Vector, name: str) -> None:
    """Refused where a whole number is out of the range of its type."""
    bits = WHOLE[name]
    if bits == 64:
        return
    unsigned = name.startswith("U")
    low, high = (0, 2**bits) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    values = filled(of, vector, 0)
    if not bool(((values >= low) & (values < high)).all()):
        raise Refused(f"a whole number out of the range of {name}")


def micros(vector: Vector) -> Array:
    """A date or time as microseconds since 1970."""
    if vector.kind not in ("day", "moment"):
        raise Refused(f"a time function of {vector.type}")
    return vector.values * DAY if vector.kind == "day" else vector.values


def together(of: Operands, vectors: Sequence[Vector]) -> list[Vector]:
    """Columns as ones of a common type: branches of a CASE, or sides of a comparison."""
    kinds = {v.kind for v in vectors} - {"null"}
    if not kinds:
        return list(vectors)
    moments = [_moment_met(of, v, kinds) for v in vectors]
    kinds = {v.kind for v in moments} - {"null"}
    kind, sql_type = _common(kinds, [v for v in moments if v.kind != "null"])
    out = []
    for vector in moments:
        if vector.kind == "null":
            out.append(nothing(of.library, kind, sql_type, of.count))
        elif kind == "real":
            real = np.float32 if sql_type == "FLOAT" else np.float64
            values = vector.values.astype(real)
            out.append(replace(vector, kind=kind, type=sql_type, values=values))
        elif kind == "moment":
            out.append(replace(vector, kind=kind, type=sql_type, values=micros(vector)))
        else:
            out.append(replace(vector, type=sql_type))
    return out


def _moment_met(of: Operands, vector: Vector, kinds: set[str]) -> Vector:
    """A constant text that meets times is one."""
    times = kinds & {"day", "moment"}
    if not times or not isinstance(vector.values, str):
        return vector
    sql_type = "TIMESTAMP" if "moment" in times else "DATE"
    try:
        return constant(of.library, cast(vector.values, sql_type), of.count)
    except DataError as error:
        raise Refused(str(error)) from None


def _common(kinds: set[str], vectors: Sequence[Vector]) -> tuple[str, str]:
    types = {v.type for v in vectors}
    if kinds <= {"whole", "real"}:
        if kinds == {"whole"}:
            return "whole", widest(vectors)
        if "DOUBLE" in types:
            return "real", "DOUBLE"
        if "FLOAT" in types:
            return "real", "FLOAT"
        if types == {"DECIMAL"}:
            return "real", "DECIMAL"
        raise Refused("whole numbers and DECIMALs together")
    if kinds == {"day", "moment"}:
        return "moment", "TIMESTAMP"
    if len(kinds) == 1 and len(types) == 1 and kinds != {"other"}:
        return next(iter(kinds)), next(iter(types))
    raise Refused(f"{' and '.join(sorted(types))} together")


def compared(of: Operands, a: Vector, b: Vector) -> tuple[Vector, Vector]:
    """Two columns as ones that compare; DECIMAL constants beside whole numbers too."""
    if {a.kind, b.kind} == {"whole", "real"} and "DECIMAL" in (a.type, b.type):
        whole = a if a.kind == "whole" else b
        if not bool((of.arrays.abs(filled(of, whole, 0)) < 2**52).all()):
            raise Refused("whole numbers too large for a comparison with a DECIMAL")
        return (
            replace(a, kind="real", values=a.values.astype(np.float64)),
            replace(b, kind="real", values=b.values.astype(np.float64)),
        )
    one, two = together(of, [a, b])
    return one, two


def widest(vectors: Sequence[Vector]) -> str:
    """The type whole numbers have together; a constant takes the other's."""
    given = [v.type for v in vectors if not v.constant] or [v.type for v in vectors]
    signed = {t.startswith("U") for t in given}
    best = max(given, key=lambda t: WHOLE[base_type(t)[0]])
    return "BIGINT" if len(signed) > 1 else best


def _conversion(of: Operands, node: exp.Cast) -> Vector:
    return converted(of, of.value(node.this), node.args["to"].sql(dialect="duckdb"))


OPERATORS: dict[type[Any], Operator] = {exp.Cast: _conversion, exp.TryCast: _conversion}
