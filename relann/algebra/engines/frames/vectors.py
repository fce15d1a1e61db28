"""Columns as values beside validity: what expressions, joins and groups work on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from relann.algebra.engines.frames.library import Array, Library, Refused
from relann.algebra.engines.interpreter.casts import arrow_type, base_type
from relann.errors import EngineError

DAY = 86_400_000_000
"""Microseconds of a day."""

WHOLE = {
    "TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64, "HUGEINT": 64,
    "UTINYINT": 8, "USMALLINT": 16, "UINTEGER": 32,
}  # fmt: skip
"""Types of whole numbers, with the bits in which they are kept as int64."""

KINDS = {
    **dict.fromkeys(WHOLE, "whole"), "DOUBLE": "real", "FLOAT": "real", "BOOLEAN": "truth",
    "DATE": "day", "TIMESTAMP": "moment", "VARCHAR": "text",
}  # fmt: skip
_STORED = {
    "whole": np.int64, "truth": np.bool_, "day": np.int64, "moment": np.int64, "null": np.bool_
}  # fmt: skip


@dataclass(frozen=True)
class Vector:
    """A column: `values` mean nothing in a row that is not `valid` (None: all are).

    kind    whole (int64), real (float32 or float64), truth (bool), day and moment (int64: days and
            microseconds since 1970), text (texts of the library, or one `str` that stands for
            all rows), null (no row is valid), other (an Arrow array that is only carried)
    type    the SQL type; DECIMAL only of a `constant` that expressions take as exact
    """

    kind: str
    values: Any
    valid: Array | None
    type: str
    constant: bool = False

    def known(self, library: Library, count: int) -> Array:
        """Validity as an array."""
        return library.arrays.ones(count, dtype=bool) if self.valid is None else self.valid


def kind_of(sql_type: str) -> str:
    """The kind of a type's columns."""
    name, _ = base_type(sql_type)
    return KINDS.get(name, "other")


def both(a: Array | None, b: Array | None) -> Array | None:
    """Where both hold; None holds everywhere."""
    return b if a is None else a if b is None else a & b


# -- from and to Arrow ---------------------------------------------------------------------------


def from_arrow(library: Library, array: pa.Array, sql_type: str) -> Vector:
    """An Arrow array as a column of the type."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    kind = kind_of(sql_type)
    if kind == "other":
        return Vector(kind, array, None, sql_type)
    valid = None
    if array.null_count:
        valid = library.to_device(array.is_valid().to_numpy(zero_copy_only=False))
    if kind == "text":
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        return Vector(kind, library.texts(array.cast(pa.string()).fill_null("")), valid, sql_type)
    if kind == "truth":
        values = array.fill_null(False).to_numpy(zero_copy_only=False)
    elif kind == "real":
        values = array.fill_null(0).to_numpy(zero_copy_only=False)
    else:
        steps = {"day": pa.int32(), "moment": pa.int64()}.get(kind)
        if base_type(sql_type)[0] == "HUGEINT":
            array = _narrowed(array)
        whole = array if steps is None else array.view(steps)
        values = whole.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        if kind in ("day", "moment") and len(values) and np.abs(values).max() > _FARTHEST[kind]:
            raise Refused("an infinite or far date")
    return Vector(kind, library.to_device(values), valid, sql_type)


_FARTHEST = {"day": 100_000_000, "moment": 100_000_000 * DAY // 1000}


def _narrowed(array: pa.Array) -> pa.Array:
    try:
        return array.cast(pa.int64())
    except pa.ArrowInvalid:
        raise Refused("whole numbers of more than 64 bits") from None


def to_arrow(library: Library, vector: Vector, count: int) -> pa.Array:
    """A column as DuckDB would hand it over."""
    if vector.kind == "other":
        return vector.values
    if vector.kind == "null":
        return pa.nulls(count, arrow_type(vector.type))
    missing = None if vector.valid is None else ~library.to_host(vector.valid)
    kind = arrow_type(vector.type)
    if vector.kind == "text":
        texts = library.arrow(expanded(library, vector, count))
        if missing is None:
            return texts
        return pc.if_else(pa.array(~missing), texts, pa.scalar(None, pa.string()))
    values = library.to_host(vector.values)
    if pa.types.is_decimal(kind):
        return pa.array(values, pa.int64(), mask=missing).cast(pa.decimal128(38, 0))
    if vector.kind == "day":
        values = values.astype("datetime64[D]")
    elif vector.kind == "moment":
        values = values.view("datetime64[us]")
    return pa.array(values, kind, mask=missing)


def numbers(library: Library, vector: Vector, count: int) -> Array:
    """Whole numbers as an array of the type DuckDB hands them over in, −1 where NULL."""
    arrays = library.arrays
    if vector.kind == "null":
        return arrays.full(count, -1, dtype=np.int32)
    if vector.kind != "whole":
        raise Refused(f"row numbers of {vector.type}")
    kind = arrow_type(vector.type).to_pandas_dtype()
    if vector.valid is None:
        return vector.values.astype(kind)
    return arrays.where(vector.valid, vector.values, -1).astype(kind)


def expanded(library: Library, vector: Vector, count: int) -> Any:
    """Texts, one for each row."""
    if not isinstance(vector.values, str):
        return vector.values
    return library.texts(pa.repeat(vector.values, count).cast(pa.string()))


# -- constants and rows --------------------------------------------------------------------------


def constant(library: Library, value: object, count: int) -> Vector:
    """A Python value in every row."""
    arrays = library.arrays

    def full(kind: str, content: Any, dtype: Any, sql_type: str) -> Vector:
        return Vector(kind, arrays.full(count, content, dtype=dtype), None, sql_type, True)

    match value:
        case None:
            return nothing(library, "null", "BOOLEAN", count)
        case bool():
            return full("truth", value, np.bool_, "BOOLEAN")
        case int():
            if not -(2**63) <= value < 2**63:
                raise Refused("whole numbers of more than 64 bits")
            sql_type = "INTEGER" if -(2**31) <= value < 2**31 else "BIGINT"
            return full("whole", value, np.int64, sql_type)
        case Decimal():
            return full("real", float(value), np.float64, "DECIMAL")
        case np.floating() if value.dtype == np.float32:
            return full("real", value, np.float32, "FLOAT")
        case float():
            return full("real", value, np.float64, "DOUBLE")
        case str():
            return Vector("text", value, None, "VARCHAR", True)
        case datetime():
            since = (value - datetime(1970, 1, 1)) // timedelta(microseconds=1)
            return full("moment", since, np.int64, "TIMESTAMP")
        case date():
            return full("day", (value - date(1970, 1, 1)).days, np.int64, "DATE")
    raise Refused(f"a constant of type {type(value).__name__}")


def nothing(library: Library, kind: str, sql_type: str, count: int) -> Vector:
    """NULL in every row."""
    arrays = library.arrays
    values: Any
    if kind == "other":
        return Vector(kind, pa.nulls(count, _carried_type(sql_type)), None, sql_type)
    if kind == "text":
        values = ""
    else:
        real = np.float32 if sql_type == "FLOAT" else np.float64
        values = arrays.zeros(count, dtype=_STORED.get(kind, real))
    return Vector(kind, values, arrays.zeros(count, dtype=bool), sql_type)


def _carried_type(sql_type: str) -> pa.DataType:
    try:
        return arrow_type(sql_type)
    except EngineError:
        raise Refused(f"columns of type {sql_type}") from None


def taken(library: Library, vector: Vector, index: Array, missing: bool = False) -> Vector:
    """The rows of an index; −1 is NULL, where there may be `missing` ones."""
    count, arrays = len(index), library.arrays
    if vector.kind == "other":
        host = library.to_host(index)
        picks = pa.array(host, mask=host < 0 if missing else None)
        return replace(vector, values=vector.values.take(picks))
    there = index >= 0 if missing else None
    if isinstance(vector.values, str):
        values: Any = vector.values
    elif missing and not len(vector.values):
        return nothing(library, vector.kind, vector.type, count)
    else:
        picks = arrays.maximum(index, 0) if missing else index
        if vector.kind == "text":
            values = vector.values.take(picks).reset_index(drop=True)
        else:
            values = vector.values[picks]
    valid = None
    if vector.valid is not None:
        valid = vector.valid[arrays.maximum(index, 0) if missing else index]
    return replace(vector, values=values, valid=both(valid, there), constant=False)


def stacked(library: Library, parts: Sequence[Vector], counts: Sequence[int]) -> Vector:
    """Columns of one kind, one after the other."""
    first = parts[0]
    kind = next((p.kind for p in parts if p.kind != "null"), "null")
    sql_type = next((p.type for p in parts if p.kind != "null"), first.type)
    if kind == "other":
        made = [
            nothing(library, kind, sql_type, n) if p.kind == "null" else p
            for p, n in zip(parts, counts, strict=True)
        ]
        if len({p.values.type for p in made}) > 1:
            raise Refused(f"columns of type {sql_type} beside others in one column")
        return Vector(kind, pa.concat_arrays([p.values for p in made]), None, sql_type)
    made = [
        nothing(library, kind, sql_type, n) if p.kind == "null" else p
        for p, n in zip(parts, counts, strict=True)
    ]
    if any(p.kind != kind for p in made):
        raise Refused("columns of several kinds in one column")
    join: Callable[[list[Any]], Any] = library.arrays.concatenate
    if kind == "text":
        values = library.concat(
            [expanded(library, p, n) for p, n in zip(made, counts, strict=True)]
        )
    else:
        values = join([p.values for p in made])
    valid = None
    if any(p.valid is not None for p in made):
        valid = join([p.known(library, n) for p, n in zip(made, counts, strict=True)])
    return Vector(kind, values, valid, sql_type)
