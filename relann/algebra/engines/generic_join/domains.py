"""Codes of the values that a join compares: whole numbers from 0 in the order of the values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Codes = npt.NDArray[np.int32]

NOWHERE = -1
"""The code of a value that is not in the domain."""

_SPARSE = 4  # codes for each value, up to which gaps between whole numbers are left
_SMALL = 1 << 16


@dataclass(frozen=True, eq=False)
class Domain:
    """The values that columns compared with each other take, ascending, NULL last.

    `values` are of type BIGINT or of texts. With `dense` they are all numbers between two bounds,
    and a code is a value less the first.
    """

    values: pa.Array
    dense: bool

    @property
    def size(self) -> int:
        """How many codes there are."""
        return len(self.values)

    @staticmethod
    def of(columns: Sequence[pa.Array]) -> Domain:
        """The domain of all values of some columns."""
        canonical = [_canonical(c) for c in columns]
        if pa.types.is_integer(canonical[0].type) and not any(c.null_count for c in canonical):
            bounds = [pc.min_max(c) for c in canonical if len(c)]
            if not bounds:
                return Domain(pa.array([], pa.int64()), True)
            low, high = min(b["min"].as_py() for b in bounds), max(b["max"].as_py() for b in bounds)
            if high - low < _SPARSE * sum(map(len, canonical)) + _SMALL:
                return Domain(pa.array(np.arange(low, high + 1, dtype=np.int64)), True)
        distinct = pc.unique(pa.chunked_array(canonical))
        order = pc.array_sort_indices(distinct, null_placement="at_end")
        return Domain(distinct.take(order), False)

    def codes(self, column: pa.Array) -> Codes:
        """The code of each value."""
        canonical = _canonical(column)
        if not self.dense:
            found = pc.index_in(canonical, value_set=self.values)
            codes: Codes = np.asarray(found.fill_null(NOWHERE), dtype=np.int32)
            return codes
        if not self.size:
            return np.full(len(column), NOWHERE, dtype=np.int32)
        low, high = self.values[0].as_py(), self.values[-1].as_py()
        numbers = np.asarray(canonical.fill_null(low))
        inside = (numbers >= low) & (numbers <= high)
        if canonical.null_count:
            inside &= np.asarray(canonical.is_valid())
        if inside.all():
            return np.asarray(numbers - low, dtype=np.int32)
        codes = np.full(len(column), NOWHERE, dtype=np.int32)
        codes[inside] = numbers[inside] - low
        return codes

    def decoded(self, to: pa.DataType) -> pa.Array:
        """The value of every code as values of a type; NULL where the type has none such."""
        values = self.values
        if pa.types.is_date(to):
            values = values.cast(pa.int32())
        # codes of numbers that lie beyond a narrow type belong to another column's values
        if pa.types.is_integer(to) and to != values.type:
            low, high = np.iinfo(to.to_pandas_dtype()).min, np.iinfo(to.to_pandas_dtype()).max
            inside = pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))
            values = pc.if_else(inside, values, pa.scalar(None, values.type))
        return values.cast(to)


def _canonical(column: pa.Array) -> pa.Array:
    """The same values as BIGINT or as texts."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column.cast(pa.large_string())
    if pa.types.is_date(column.type):
        column = column.cast(pa.int32())
    return column.cast(pa.int64())
