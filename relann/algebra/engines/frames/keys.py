"""Keys as whole numbers: ordering, grouping, and where groups begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from relann.algebra.engines.frames.library import Array, Library, Refused, rows
from relann.algebra.engines.frames.vectors import Vector, expanded


def ranks(library: Library, parts: Sequence[Vector], counts: Sequence[int]) -> list[Array]:
    """For each row of several columns an int64 that orders and equals as the value does.

    The columns are of one kind and share their numbers. What a NULL gets means nothing.
    """
    arrays = library.arrays
    if parts[0].kind == "text":
        whole = library.concat(
            [expanded(library, p, n) for p, n in zip(parts, counts, strict=True)]
        )
        codes = _text_codes(library, whole, sum(counts))
        ends = [0, *np.cumsum(counts).tolist()]
        return [codes[a:b] for a, b in pairwise(ends)]
    if parts[0].kind == "real":
        return [_real_order(arrays, p.values.astype(np.float64)) for p in parts]
    if parts[0].kind == "other":
        raise Refused(f"keys of type {parts[0].type}")
    return [p.values.astype(np.int64) for p in parts]


def _text_codes(library: Library, texts: object, count: int) -> Array:
    """The place of each text among the distinct ones in order of their characters."""
    frame = library.frame({"text": texts, "row": rows(library, count)})
    distinct = frame[["text"]].drop_duplicates().sort_values("text").reset_index(drop=True)
    distinct["code"] = library.series(rows(library, len(distinct)))
    found = frame.merge(distinct, on="text", how="inner").sort_values("row")
    return library.array(found["code"])


def _real_order(arrays: object, values: Array) -> Array:
    """Floats as whole numbers of the same order; NaN is the greatest and equals NaN, −0 is 0."""
    xp: Array = arrays
    same = xp.where(values == 0, 0.0, values)
    bits = xp.where(xp.isnan(same), np.nan, same).astype(np.float64).view(np.int64)
    bits = xp.where(xp.isnan(same), np.int64(0x7FF8000000000000), bits)
    return xp.where(bits < 0, bits ^ np.int64(0x7FFFFFFFFFFFFFFF), bits)


@dataclass(frozen=True)
class SortKey:
    """One key of an order: values as `ranks` gives them, NULLs last or first."""

    rank: Array
    valid: Array | None
    descending: bool = False
    nulls_first: bool = False


def sorted_rows(library: Library, by: Sequence[SortKey], count: int) -> Array:
    """Row numbers in order, most significant key first; rows that tie keep theirs."""
    arrays = library.arrays
    columns = [rows(library, count)]
    for key in reversed(by):
        rank = ~key.rank if key.descending else key.rank
        if key.valid is None:
            columns.append(rank)
        else:
            columns.append(arrays.where(key.valid, rank, 0))
            columns.append((key.valid if key.nulls_first else ~key.valid).astype(np.int64))
    return arrays.lexsort(arrays.stack(columns))


def group_numbers(
    library: Library, keys: Sequence[tuple[Array, Array | None]], count: int
) -> tuple[Array, Array]:
    """Group of each row, and each group's first row; groups in the order of first rows.

    Keys are ranks with their validity; NULLs are equal.
    """
    arrays = library.arrays
    if not keys or not count:
        return arrays.zeros(count, dtype=np.int64), rows(library, min(count, 1))
    columns = {}
    for i, (rank, valid) in enumerate(keys):
        columns[f"k{i}"] = rank if valid is None else arrays.where(valid, rank, 0)
        if valid is not None:
            columns[f"v{i}"] = valid.astype(np.int64)
    frame = library.frame(columns)
    ids = library.array(frame.groupby(list(columns), sort=False).ngroup()).astype(np.int64)
    order = arrays.lexsort(arrays.stack([rows(library, count), ids]))
    placed = ids[order]
    starts = arrays.concatenate([arrays.ones(1, dtype=bool), placed[1:] != placed[:-1]])
    first = order[starts]  # of each number
    by_first = arrays.argsort(first)
    number = arrays.empty(len(first), dtype=np.int64)
    number[by_first] = rows(library, len(first))
    return number[ids], first[by_first]


@dataclass(frozen=True)
class Grouping:
    """Rows in groups: the group of each row, and how many groups there are."""

    library: Library
    ids: Array
    count: int

    @cached_property
    def sizes(self) -> Array:
        """Rows of each group."""
        return self.library.arrays.bincount(self.ids, minlength=self.count)

    @cached_property
    def starts(self) -> Array:
        """Where each group begins among rows sorted by group, and after the last where it ends."""
        arrays = self.library.arrays
        return arrays.concatenate([arrays.zeros(1, dtype=np.int64), arrays.cumsum(self.sizes)])

    def ordered(self, by: Sequence[SortKey] = ()) -> Array:
        """Row numbers by group, inside a group by keys, then as they are."""
        return sorted_rows(self.library, [SortKey(self.ids, None), *by], len(self.ids))
