"""Texts as pretrained encoders read them: each distinct text once."""

from __future__ import annotations

import copy
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor, nn

from relann.errors import DataError
from relann.provenance.arrays import places, present, renumbering, shared
from relann.provenance.devices import CPU
from relann.provenance.pretrained import TextEncoder, Tokens, load, run

Floats32 = npt.NDArray[np.float32]

CACHED = 1 << 28
"""Bytes of vectors of frozen encoders that a process keeps."""


@dataclass(frozen=True)
class Origin:
    """The encoder of one call of `text`: its name, its fingerprints, whether it is trained."""

    encoder: str
    reading: str
    version: str
    trained: bool

    @classmethod
    def of(cls, name: str, trained: bool) -> Origin:
        """The encoder a name stands for now; EngineError where there is none."""
        found = load(name)
        return cls(name, found.reading, found.version, trained)

    def load(self) -> TextEncoder:
        """The encoder; DataError if it is not the one there was.

        Of an encoder that is trained the model has its own weights, so only how it reads counts.
        """
        found = load(self.encoder)
        was, now = (self.reading, found.reading)
        if was == now and not self.trained:
            was, now = (self.version, found.version)
        if was != now:
            raise DataError(
                f"the text encoder `{self.encoder}` is not the one that the model was trained "
                f"with: its fingerprint was {was} and is {now} now. Put back the encoder it was, "
                "or train the model again"
            )
        return found


@dataclass(frozen=True)
class Texts:
    """The distinct texts of a column: their vectors, or their tokens where encoders are trained.

    `row_text` is the number of each row's text, −1 where it is NULL or blank.
    """

    row_text: Tensor
    vectors: Tensor | None
    tokens: tuple[Tokens, ...] | None

    @classmethod
    def of(cls, array: pa.Array, encoder: TextEncoder, trained: bool, dtype: torch.dtype) -> Texts:
        """Each distinct text of a column encoded once, or cut into tokens once."""
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        if isinstance(array, pa.DictionaryArray):
            array = array.dictionary_decode()
        coded = array.dictionary_encode(null_encoding="encode")
        number: list[int] = []
        texts: list[str] = []
        for text in coded.dictionary.to_pylist():
            said = text is not None and bool(text.strip())
            number.append(len(texts) if said else -1)
            texts += [text] if said else []
        codes = coded.indices.to_numpy(zero_copy_only=False)
        rows = shared(np.array(number, dtype=np.int32)[codes])
        if trained:
            return cls(rows, None, tuple(encoder.tokens(texts)))
        return cls(rows, torch.from_numpy(VECTORS.of(encoder, texts)).to(dtype), None)

    def __len__(self) -> int:
        held = self.tokens if self.vectors is None else self.vectors
        assert held is not None
        return len(held)

    def to(self, device: torch.device) -> Texts:
        """The same on a device; tokens stay where they are."""
        vectors = None if self.vectors is None else self.vectors.to(device)
        return replace(self, row_text=self.row_text.to(device), vectors=vectors)

    def take(self, rows: Tensor) -> Texts:
        """The texts of some rows, and no others."""
        picked = self.row_text.index_select(0, rows.to(self.row_text.device)) + 1
        used = places(present(picked, len(self) + 1)[1:])  # the first place stands for −1
        return Texts(
            renumbering(len(self), used).index_select(0, picked),
            None if self.vectors is None else self.vectors.index_select(0, used),
            None if self.tokens is None else tuple(self.tokens[i] for i in used.tolist()),
        )


class VectorCache:
    """Vectors of texts by encoder, at most so many bytes; those not asked for longest go first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._held: OrderedDict[bytes, Floats32] = OrderedDict()
        self._bytes = 0

    def of(self, encoder: TextEncoder, texts: Sequence[str]) -> Floats32:
        """The vectors of distinct texts, encoding those not held. float32 [texts, width]"""
        keys = [_key(encoder, text) for text in texts]
        new = [i for i, key in enumerate(keys) if key not in self._held]
        out = np.empty((len(texts), encoder.width), dtype=np.float32)
        for i, key in enumerate(keys):
            if key in self._held:
                out[i] = self._held[key]
                self._held.move_to_end(key)
        with torch.no_grad():
            tokens = encoder.tokens([texts[i] for i in new])
            out[new] = run(encoder, encoder.network, tokens).numpy()
        for i in new:
            self._hold(keys[i], out[i].copy())
        return out

    def _hold(self, key: bytes, vector: Floats32) -> None:
        self._held[key] = vector
        self._bytes += vector.nbytes
        while self._bytes > self.most:
            self._bytes -= self._held.popitem(last=False)[1].nbytes


def _key(encoder: TextEncoder, text: str) -> bytes:
    return hashlib.blake2b(f"{encoder.version}\0{text}".encode(), digest_size=16).digest()


VECTORS = VectorCache(CACHED)
"""The vectors of this process."""


class Learner:
    """A model's own copy of an encoder, to be trained with it.

    `state` are its weights by name. Dropout, where the encoder has it, is drawn from `generator`.
    """

    def __init__(
        self, encoder: TextEncoder, generator: torch.Generator, device: torch.device = CPU
    ) -> None:
        self._encoder = encoder
        self.generator = generator
        self._network: nn.Module = copy.deepcopy(encoder.network).to(device)
        for value in self._network.parameters():
            value.requires_grad_(value.is_floating_point())
        self.state: dict[str, Tensor] = self._network.state_dict(keep_vars=True)

    def vectors(self, tokens: Sequence[Tokens], training: bool) -> Tensor:
        """The vectors of texts by the weights as they are now. float32 [texts, width]"""
        self._network.train(training)
        if not training:
            return run(self._encoder, self._network, tokens)
        seed = int(torch.randint(2**62, (), generator=self.generator))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return run(self._encoder, self._network, tokens)
