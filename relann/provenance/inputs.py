"""What the steps of a plan read from the database, encoded once for each row maps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from relann.algebra.plan import Plan, ProductSum, SegmentReduce, SparseProduct
from relann.algebra.rowmaps import RowMaps, read_contents
from relann.algebra.terms import Content, Encode, Key, Lift, Pretrained, Tokens, array_width
from relann.errors import DataError
from relann.provenance.arrays import shared
from relann.provenance.encoders import Encoders, keys, numbers
from relann.provenance.masks import Mask
from relann.provenance.texts import Texts
from relann.provenance.words import Words

Known = npt.NDArray[np.bool_]
K = TypeVar("K")
V = TypeVar("V")


@dataclass
class Inputs:
    """The encoded content of row maps; every entry has one row for each row of its space.

    keys     (space, key) → number of each row's value in its vocabulary, −1: not in it
    lifts    (space, content) → vectors (0 where NULL), which rows are not NULL (None: all)
    codes    (space, Encode) → vectors
    words    (space, content, buckets) → words of texts
    texts    (space, content, encoder) → texts as a pretrained encoder reads them
    filters  (space, content) → where a condition is true
    """

    dtype: torch.dtype
    keys: dict[tuple[int, Key], Tensor] = field(default_factory=dict)
    lifts: dict[tuple[int, Content], tuple[Tensor, Mask | None]] = field(default_factory=dict)
    codes: dict[tuple[int, Encode], Tensor] = field(default_factory=dict)
    words: dict[tuple[int, Content, int], Words] = field(default_factory=dict)
    texts: dict[tuple[int, Content, str], Texts] = field(default_factory=dict)
    filters: dict[tuple[int, Content], Mask] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        plan: Plan,
        maps: RowMaps,
        encoders: Encoders,
        dtype: torch.dtype,
        spaces: Collection[int] | None = None,
    ) -> Inputs:
        """All that the steps read of some spaces (None: of all).

        DataError naming the column where a number is not finite.
        """
        out = cls(dtype)
        for step in plan.steps:
            space, term = step.space, step.operation
            if isinstance(term, SegmentReduce | SparseProduct | ProductSum):
                for where in read_contents(step, plan):
                    if where not in out.filters and (spaces is None or where[0] in spaces):
                        out.filters[where] = truth(maps.columns[where])
            if spaces is not None and space not in spaces:
                continue
            if (key := keys(step)) is not None and (space, key) not in out.keys:
                parts = [maps.columns[space, p] for p in key.parts]
                out.keys[space, key] = shared(encoders.vocabularies[key.site].rows(parts))
            match term:
                case Lift(content) if (space, content) not in out.lifts:
                    out.lifts[space, content] = lifted(maps.columns[space, content], content, dtype)
                case Encode(_, _, content) if (space, term) not in out.codes:
                    code = encoders.encoded(term, maps.columns[space, content])
                    out.codes[space, term] = shared(code).to(dtype)
                case Tokens(table, content):
                    place = (space, content, table.shape[0])
                    if place not in out.words:
                        out.words[place] = Words.of(maps.columns[space, content], table.shape[0])
                case Pretrained(encoder, site, _, _, content):
                    if (read := (space, content, encoder)) not in out.texts:
                        origin, texts = encoders.pretrained[site], maps.columns[space, content]
                        out.texts[read] = Texts.of(texts, origin.load(), origin.trained, dtype)
        return out

    def beside(self, other: Inputs) -> Inputs:
        """Those of other spaces as well."""
        return Inputs(
            self.dtype,
            {**self.keys, **other.keys},
            {**self.lifts, **other.lifts},
            {**self.codes, **other.codes},
            {**self.words, **other.words},
            {**self.texts, **other.texts},
            {**self.filters, **other.filters},
        )

    def to(self, device: torch.device) -> Inputs:
        """The same on a device; tokens of texts stay where they are."""
        if device.type == "cpu":
            return self
        return replace(
            self,
            keys={k: v.to(device) for k, v in self.keys.items()},
            lifts={
                k: (v.to(device), None if mask is None else mask.to(device))
                for k, (v, mask) in self.lifts.items()
            },
            codes={k: v.to(device) for k, v in self.codes.items()},
            words={k: v.to(device) for k, v in self.words.items()},
            texts={k: v.to(device) for k, v in self.texts.items()},
            filters={k: v.to(device) for k, v in self.filters.items()},
        )

    def take(self, kept: Mapping[int, Tensor]) -> Inputs:
        """The inputs of some rows of each space, as `slices.restricted` keeps them."""

        def rows(entries: dict[K, V], pick: Callable[[V, Tensor], V]) -> dict[K, V]:
            return {k: pick(v, kept[k[0]]) for k, v in entries.items()}  # type: ignore[index]

        return Inputs(
            self.dtype,
            rows(self.keys, _taken),
            rows(self.lifts, lambda a, r: (_taken(a[0], r), _full(a[1], r))),
            rows(self.codes, _taken),
            rows(self.words, lambda w, r: w.take(r)),
            rows(self.texts, lambda t, r: t.take(r)),
            rows(self.filters, _taken),
        )


def encoded_bytes(plan: Plan) -> dict[int, int]:
    """About how many bytes a row of each space takes once it is encoded in float32.

    Words and texts are not counted: theirs depend on what is written.
    """
    found = dict.fromkeys(range(len(plan.spaces)), 0)
    for step in plan.steps:
        if keys(step) is not None:
            found[step.space] += 4
        if isinstance(step.operation, Lift | Encode):
            found[step.space] += 4 * step.operation.width
    return found


def _taken(values: Tensor, rows: Tensor) -> Tensor:
    return values.index_select(0, rows.to(values.device))


def _full(mask: Mask | None, rows: Tensor) -> Mask | None:
    """The mask of some rows; None when it is true in all of them."""
    if mask is None or bool((mask := _taken(mask, rows)).all()):
        return None
    return mask


def truth(array: pa.Array) -> Mask:
    """Where a condition is true: neither false nor NULL."""
    return shared(array.fill_null(False).to_numpy(zero_copy_only=False))


def lifted(array: pa.Array, content: Content, dtype: torch.dtype) -> tuple[Tensor, Mask | None]:
    """A column's vectors, 0 where NULL, and which rows are not NULL (None: all).

    DataError for numbers that are not finite and for vectors with a NULL inside.
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    valid = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else None
    known = None if valid is None else shared(valid)
    width = array_width(content.type)
    if width is None:
        values = numbers(array, content)
        if valid is not None:
            values = np.where(valid, values, 0)
        return shared(values[:, None]).to(dtype), known
    return _vectors(array, content, width, valid).to(dtype), known


def _vectors(array: pa.Array, content: Content, width: int, valid: Known | None) -> Tensor:
    if not pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.list_(array.type.value_type, width))
    begin = array.offset * width
    flat = array.values.slice(begin, len(array) * width)
    if flat.null_count:
        known = flat.is_valid().to_numpy(zero_copy_only=False).reshape(-1, width)
        if not (known.all(axis=1) if valid is None else known.all(axis=1) | ~valid).all():
            raise DataError(f"`{content}` holds a NULL inside a vector; make the whole vector NULL")
        flat = flat.fill_null(0)
    values = flat.to_numpy(zero_copy_only=False).reshape(-1, width)
    if valid is not None:
        values = np.where(valid[:, None], values, values.dtype.type(0))
    if not np.isfinite(values).all():
        bad = ~np.isfinite(values).all(axis=1)
        raise DataError(
            f"`{content}` holds a number that is not finite in {int(bad.sum())} of {len(bad)} rows"
        )
    return shared(values)
