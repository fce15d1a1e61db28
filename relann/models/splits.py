"""Which rows of a model's output are for training, validation and test."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from relann.algebra.plan import Plan
from relann.algebra.rowmaps import RowMaps
from relann.algebra.terms import Content, array_width
from relann.errors import QueryError, Span, did_you_mean, listing
from relann.provenance.encoders import hashes, mixed

NAMES = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""What a split column may say, and which split it means."""

Numbers = npt.NDArray[np.int64]


def output_column(plan: Plan, name: str, what: str, span: Span | None) -> Content:
    """The output's content column of a name; QueryError, with suggestion, where there is none."""
    contents = dict(plan.contents)
    if name in contents:
        return contents[name]
    if name in dict(plan.values):
        raise QueryError(f"{what} `{name}` is learned; it must be a content column", span)
    raise QueryError(
        f"the output has no column `{name}` for the {what}; its content columns are "
        f"{listing(contents) or 'none'}." + did_you_mean(name, contents),
        span,
    )


def prediction_step(plan: Plan) -> int:
    """Which of the plan's values is the prediction: the only one, else QueryError."""
    if len(plan.values) == 1:
        return plan.values[0][1]
    if not plan.values:
        raise QueryError(
            "the model's output has no learned column; one of its columns must be the prediction, "
            f"and {listing(n for n, _ in plan.contents)} are content. (OPTIONS (head = 'gbdt') "
            "learns from content.)"
        )
    raise QueryError(
        f"the model's output has {len(plan.values)} learned columns "
        f"({listing(n for n, _ in plan.values)}); exactly one must be the prediction, "
        "so select one or concat() them"
    )


def split_rows(
    maps: RowMaps,
    split: str | None,
    label: str,
    seed: int,
    span: Span | None = None,
) -> dict[str, Numbers]:
    """Row numbers of the output by split (`train`, `val`, `test`), ascending.

    By the column `split`, whose other values and NULLs belong to no split; or, where it is None,
    80, 10 and 10 of 100 rows by a hash of the row's content beside the label: the same row is in
    the same split whatever other rows there are, and equal rows are in the same one.
    """
    if split is None:
        named = _by_hash(maps, label, seed)
    else:
        content = output_column(maps.plan, split, "split", span)
        if not re.match(r"VARCHAR|ENUM", content.type):
            raise QueryError(
                f"the split column `{split}` is {content.type}; "
                "it must be text that says 'train', 'val' or 'test'",
                span,
            )
        named = _by_column(maps.columns[maps.plan.output, content])
    return {name: np.flatnonzero(rows) for name, rows in named.items()}


def decoded(array: pa.Array) -> pa.Array:
    """A column in one chunk, an ENUM as the text that it says."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    return array.dictionary_decode() if isinstance(array, pa.DictionaryArray) else array


def _by_column(values: pa.Array) -> dict[str, npt.NDArray[np.bool_]]:
    values = decoded(values)
    out = {name: np.zeros(len(values), dtype=bool) for name in ("train", "val", "test")}
    for written, name in NAMES.items():
        found = pc.equal(values, written).fill_null(False)
        out[name] |= found.to_numpy(zero_copy_only=False)
    return out


def _by_hash(maps: RowMaps, label: str, seed: int) -> dict[str, npt.NDArray[np.bool_]]:
    read = {
        content: None
        for name, content in maps.plan.contents
        if name != label and array_width(content.type) is None and "[" not in content.type
    }
    if not read:
        raise QueryError(
            "without a split column rows are split by their content, and the output has none "
            "beside the label; select a key as well, or say OPTIONS (split = …)"
        )
    total = mixed(np.full(maps.counts[maps.plan.output], seed, dtype=np.uint64))
    for content in read:
        total = mixed(total ^ hashes(maps.columns[maps.plan.output, content]))
    place = total >> np.uint64(11)  # 53 bits, which a float holds
    share = place.astype(np.float64) / 2**53
    return {"train": share < 0.8, "val": (share >= 0.8) & (share < 0.9), "test": share >= 0.9}


def labelled(labels: pa.Array, rows: Numbers) -> Numbers:
    """The rows whose label is not NULL."""
    known: npt.NDArray[np.bool_] = labels.is_valid().to_numpy(zero_copy_only=False)
    return rows[known[rows]]
