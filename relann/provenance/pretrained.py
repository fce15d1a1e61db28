"""Pretrained text encoders: what is asked of one, and the libraries that have them.

Nothing of these libraries is imported before a query names an encoder: they take seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import safetensors
import torch
from torch import Tensor, nn
from torch.nn import functional

from relann.errors import EngineError

Tokens = Mapping[str, npt.NDArray[np.int64]]
"""What a network reads of one text: arrays of equal length, one entry for each token."""

MODEL2VEC = "model2vec:"
"""What the names of model2vec's encoders begin with; all others are sentence-transformers'."""

TOGETHER = 64
"""Texts that go through a network at once, those of like length together."""

_MISSING = "text encoders come with an extra: pip install relann[text]"
_REFUSALS = (
    *(OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError),
    safetensors.SafetensorError,
)


class TextEncoder(Protocol):
    """A pretrained network that makes a vector of a text.

    name     as the query has it
    width    of the vectors
    reading  fingerprint of how texts become tokens and tokens a vector, the weights aside
    version  fingerprint of that and of the weights
    network  the weights as they were pretrained
    """

    name: str
    width: int
    reading: str
    version: str
    network: nn.Module

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text, cut where the encoder stops reading."""

    def vectors(self, network: nn.Module, tokens: Sequence[Tokens]) -> Tensor:
        """The vectors of some texts by `network`, or a copy of it. float32 [texts, width]"""


def _device(network: nn.Module) -> torch.device:
    """Where a network's weights are."""
    found: torch.device = next(iter(network.state_dict().values())).device
    return found


def run(encoder: TextEncoder, network: nn.Module, tokens: Sequence[Tokens]) -> Tensor:
    """The vectors of texts by an encoder's network or a copy of it, a few texts at a time.

    float32 [texts, width]; differentiable where gradients are on.
    """
    sizes = np.array([max(map(len, t.values()), default=0) for t in tokens], dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    parts = [
        encoder.vectors(network, [tokens[i] for i in order[begin : begin + TOGETHER]])
        for begin in range(0, len(order), TOGETHER)
    ]
    if not parts:
        return torch.zeros(0, encoder.width)
    found = torch.cat(parts)
    return found.index_select(0, torch.from_numpy(np.argsort(order)).to(found.device))


# -- by name -------------------------------------------------------------------------------------

_KEPT = 4  # encoders held in memory
_held: OrderedDict[str, tuple[object, TextEncoder]] = OrderedDict()


def load(name: str) -> TextEncoder:
    """The encoder of a name, held in memory from then on; a folder that changed is read again.

    A name is a folder's or one of the Hugging Face hub, of a sentence-transformers or transformers
    model, or with `model2vec:` before it of a model2vec model. EngineError where the extra is not
    installed and where there is no such encoder.
    """
    prefixed = name.startswith(MODEL2VEC)
    place = name.removeprefix(MODEL2VEC)
    stamp = _stamp(place)
    kept = _held.get(name)
    if kept is None or kept[0] != stamp:
        make: Callable[[str, str], TextEncoder] = _StaticEncoder if prefixed else _Transformer
        kept = _held[name] = (stamp, make(name, place))
        while len(_held) > _KEPT:
            _held.popitem(last=False)
    _held.move_to_end(name)
    return kept[1]


def width(name: str) -> int:
    """How wide an encoder's vectors are; errors as `load` has them."""
    return load(name).width


def _stamp(place: str) -> object:
    """What changes when the files of a folder do; None for what is no folder."""
    folder = Path(place).expanduser()
    if not folder.is_dir():
        return None
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files)


def _library(name: str) -> ModuleType:
    try:
        match name:
            case "model2vec":
                return import_module("model2vec")
            case _:
                return import_module("sentence_transformers")
    except ImportError as error:
        raise EngineError(f"{_MISSING} ({error})") from error


@contextmanager
def _refused(name: str) -> Iterator[None]:
    """What a library says when it cannot load an encoder, in our words and its own."""
    progress = import_module("transformers.utils.logging")
    shown = progress.is_progress_bar_enabled()
    progress.disable_progress_bar()
    try:
        yield
    except (*_REFUSALS, import_module("huggingface_hub.errors").HTTPError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise EngineError(f"the text encoder `{name}` cannot be loaded: {reason}") from error
    finally:
        if shown:
            progress.enable_progress_bar()


def _found(name: str, place: str) -> tuple[str, bool]:
    """Where an encoder is, and whether its files must be here already.

    Asks the hub once, since without a network its libraries try again for a minute.
    """
    folder = Path(place).expanduser()
    if folder.is_dir():
        return str(folder), True
    if folder.is_absolute() or place.startswith((".", "~")):
        raise EngineError(f"there is no text encoder `{name}`: {place} is no folder")
    hub, errors = import_module("huggingface_hub"), import_module("huggingface_hub.errors")
    names = [place] if "/" in place else [f"sentence-transformers/{place}", place]
    for full in names:
        try:
            hub.model_info(full, timeout=10)
        except (errors.RepositoryNotFoundError, errors.HFValidationError):
            continue
        except (OSError, errors.HTTPError):
            return place, True
        return place, False
    raise EngineError(
        f"there is no text encoder `{name}`: it is neither a folder nor a model of the hub that "
        "is open to you"
    )


def _fingerprint(parts: Sequence[object], weights: Sequence[Tensor] = ()) -> str:
    digest = hashlib.blake2b(json.dumps(parts, sort_keys=True, default=str).encode(), digest_size=8)
    for value in weights:
        array = value.detach().cpu().contiguous().numpy()
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _rules(tokenizer: Mapping[str, object]) -> dict[str, object]:
    """A tokenizer's definition without what calling it changes."""
    return {k: v for k, v in tokenizer.items() if k not in ("truncation", "padding")}


_BY_THE_WAY = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")
"""What a transformer's configuration says that its vectors do not depend on."""


# -- sentence-transformers -----------------------------------------------------------------------


class _Transformer:
    """A sentence-transformers model; a plain transformer's is the mean of its last layer."""

    def __init__(self, name: str, place: str) -> None:
        library = _library("sentence_transformers")
        where, here = _found(name, place)
        with _refused(name):
            network = library.SentenceTransformer(where, device="cpu", local_files_only=here)
        self.name = name
        self.network: nn.Module = network.float().eval().requires_grad_(False)
        self._tokenizer: Any = network.tokenizer
        self._prompt = network.prompts.get(network.default_prompt_name)
        with _refused(name), torch.no_grad():
            probe = network.preprocess(["a"], prompt=self._prompt)
            if "attention_mask" not in probe:
                raise ValueError(
                    f"it is not a transformer over tokens; if it is model2vec's, say `{MODEL2VEC}…`"
                )
            self._beside = {k: v for k, v in probe.items() if not isinstance(v, Tensor)}
            self.width = int(self.vectors(network, self.tokens(["a"])).shape[1])
            weights = list(network.state_dict().values())
            self.reading = _fingerprint([*self._built(), [tuple(w.shape) for w in weights]])
            self.version = _fingerprint([self.reading], weights)

    def _built(self) -> list[object]:
        """What vectors depend on beside the weights."""
        network: Any = self.network
        rules = _rules(json.loads(self._tokenizer.backend_tokenizer.to_str()))
        config = network.transformers_model.config.to_diff_dict()
        config = {k: v for k, v in config.items() if k not in _BY_THE_WAY}
        after = [(type(m).__name__, m.get_config_dict()) for m in list(network)[1:]]
        return [rules, network.max_seq_length, self._prompt, config, after]

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text, cut at the length the model was made for."""
        network: Any = self.network
        found: list[Tokens] = []
        for begin in range(0, len(texts), TOGETHER):
            some = list(texts[begin : begin + TOGETHER])
            read = network.preprocess(some, prompt=self._prompt)
            shape = read["attention_mask"].shape
            arrays = {
                k: v.numpy() for k, v in read.items() if isinstance(v, Tensor) and v.shape == shape
            }
            kept = arrays.pop("attention_mask").astype(bool)
            found += [{k: a[i][kept[i]] for k, a in arrays.items()} for i in range(len(some))]
        return found

    def vectors(self, network: nn.Module, tokens: Sequence[Tokens]) -> Tensor:
        """The vectors of some texts, padded to the longest. float32 [texts, width]"""
        sizes = [len(t["input_ids"]) for t in tokens]
        left = self._tokenizer.padding_side == "left"
        spans = [slice(max(sizes) - n, None) if left else slice(n) for n in sizes]
        blank = {
            "input_ids": self._tokenizer.pad_token_id or 0,
            "token_type_ids": getattr(self._tokenizer, "pad_token_type_id", 0),
        }
        features: dict[str, object] = dict(self._beside)
        for key in tokens[0]:
            padded = np.full((len(tokens), max(sizes)), blank.get(key, 0), dtype=np.int64)
            for row, (span, of) in enumerate(zip(spans, tokens, strict=True)):
                padded[row, span] = of[key]
            features[key] = torch.from_numpy(padded).to(_device(network))
        mask = torch.zeros(len(tokens), max(sizes), dtype=torch.int64)
        for row, span in enumerate(spans):
            mask[row, span] = 1
        vectors: Tensor = network({**features, "attention_mask": mask.to(_device(network))})[
            "sentence_embedding"
        ]
        return vectors.float()


# -- model2vec -----------------------------------------------------------------------------------


class _StaticEncoder:
    """A model2vec model: the mean of its tokens' vectors."""

    def __init__(self, name: str, place: str) -> None:
        library = _library("model2vec")
        _library("sentence_transformers")  # the extra as a whole
        where, here = _found(name, place)
        with _refused(name):
            if here and not Path(where).is_dir():
                where = import_module("huggingface_hub").snapshot_download(
                    where, local_files_only=True
                )
            model = library.StaticModel.from_pretrained(where)
        self.name = name
        self.width = int(model.dim)
        self._model = model
        network = _Static(model.embedding, model.weights, model.token_mapping, model.normalize)
        self.network: nn.Module = network.eval().requires_grad_(False)
        rules = _rules(json.loads(model.tokenizer.to_str()))
        weights = list(network.state_dict().values())
        shapes = [tuple(w.shape) for w in weights]
        self.reading = _fingerprint([rules, model.max_length, model.normalize, shapes])
        self.version = _fingerprint([self.reading], weights)

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text that the model has vectors of."""
        limit = self._model.max_length  # model2vec cuts text before it cuts tokens
        end = None if limit is None else limit * self._model.median_token_length
        found = self._model.tokenize([t[:end] for t in texts]) if texts else []
        return [{"ids": np.asarray(ids, dtype=np.int64)} for ids in found]

    def vectors(self, network: nn.Module, tokens: Sequence[Tokens]) -> Tensor:
        """The vectors of some texts; zero without known tokens. float32 [texts, width]"""
        sizes = np.array([len(t["ids"]) for t in tokens], dtype=np.int64)
        ids = np.concatenate([t["ids"] for t in tokens])
        vectors: Tensor = network(*(torch.from_numpy(a).to(_device(network)) for a in (ids, sizes)))
        return vectors


class _Static(nn.Module):
    """Vectors of tokens, each with its weight, averaged."""

    def __init__(
        self,
        vectors: npt.NDArray[np.generic],
        weights: npt.NDArray[np.generic] | None,
        rows: npt.NDArray[np.generic] | None,
        normalize: bool,
    ) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.from_numpy(vectors.astype(np.float32)))
        self.normalize = normalize
        self.weights: Tensor | None
        self.rows: Tensor | None
        self.register_buffer(
            "weights", None if weights is None else torch.from_numpy(weights.astype(np.float32))
        )
        self.register_buffer(
            "rows", None if rows is None else torch.from_numpy(rows.astype(np.int64))
        )

    def forward(self, ids: Tensor, sizes: Tensor) -> Tensor:
        """The mean over each text's tokens, scaled to length 1 if so made. [texts, width]"""
        each = None if self.weights is None else self.weights[ids]
        starts = sizes.cumsum(0) - sizes
        rows = ids if self.rows is None else self.rows[ids]
        total = functional.embedding_bag(
            rows, self.embedding, starts, mode="sum", per_sample_weights=each
        )
        mean = total / sizes.clamp(min=1)[:, None]
        return functional.normalize(mean) if self.normalize else mean
