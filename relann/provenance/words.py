"""The words of texts, each in one of some buckets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from relann.provenance.arrays import places, renumbering, shared
from relann.provenance.encoders import GAPS, plain


@dataclass(frozen=True)
class Words:
    """The words of texts: `text` and `bucket` of each word, and the distinct text of each row.

    Texts are the distinct ones, so a text met twice is read once.
    """

    row_text: Tensor
    texts: int
    text: Tensor
    bucket: Tensor

    @classmethod
    def of(cls, array: pa.Array, buckets: int) -> Words:
        """Runs of letters and digits in lower case, each hashed to one of `buckets`; NULL: none."""
        coded = plain(array).dictionary_encode(null_encoding="encode")
        split = pc.split_pattern_regex(pc.utf8_lower(coded.dictionary.fill_null("")), GAPS)
        words = pc.list_flatten(split).dictionary_encode()
        text = pc.list_parent_indices(split).to_numpy(zero_copy_only=False)
        code = words.indices.to_numpy(zero_copy_only=False)
        distinct = words.dictionary
        bucket = (_word_hashes(distinct) % np.uint64(buckets)).astype(np.int32)
        kept = pc.not_equal(distinct, "").to_numpy(zero_copy_only=False)
        said = kept[code] if len(code) else np.zeros(0, dtype=bool)
        return cls(
            shared(coded.indices.to_numpy(zero_copy_only=False).astype(np.int32, copy=False)),
            len(coded.dictionary),
            shared(text[said].astype(np.int32)),
            shared(bucket[code[said]] if len(code) else np.zeros(0, dtype=np.int32)),
        )

    def to(self, device: torch.device) -> Words:
        """The same on a device."""
        arrays = (a.to(device) for a in (self.row_text, self.text, self.bucket))
        row_text, text, bucket = arrays
        return Words(row_text, self.texts, text, bucket)

    def take(self, rows: Tensor) -> Words:
        """The words of some rows, and of no other texts."""
        picked = self.row_text.index_select(0, rows.to(self.row_text.device))
        used, row_text = picked.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        text = renumbering(self.texts, used)[1:].index_select(0, self.text)
        said = places(text >= 0)
        return Words(
            row_text.int(), len(used), text.index_select(0, said), self.bucket.index_select(0, said)
        )


def _word_hashes(words: pa.Array) -> npt.NDArray[np.uint64]:
    """The last 64 bits of MD5 of each text, DuckDB's `md5_number_lower`: the same everywhere."""
    digests = [hashlib.md5(w.encode(), usedforsecurity=False).digest() for w in words.to_pylist()]
    return np.frombuffer(b"".join(digests), dtype="<u8")[1::2]
