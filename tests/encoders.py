"""Text encoders made on the spot: small, random, and real to the libraries that load them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from model2vec import StaticModel
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import BertConfig, BertModel, BertTokenizer

WORDS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("title", "name", "venue", "year", "open", "true", "false", "the", "bike", "train"),
    *(":", ";", ".", ",", "-", "'"),
    *"abcdefghijklmnopqrstuvwxyz0123456789",
    *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"),
]


def transformer(folder: Path, seed: int = 0, words: list[str] = WORDS, width: int = 16) -> str:
    """The folder of a BERT of two layers with random weights."""
    folder.mkdir(exist_ok=True)
    vocabulary = folder / "words.txt"
    vocabulary.write_text("\n".join(words))
    BertTokenizer(str(vocabulary), model_max_length=32).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
    return str(folder)


def static(folder: Path, shared_rows: bool = False) -> str:
    """The name of a model2vec model with random vectors, of width 6.

    With `shared_rows`, tokens share vectors and have weights, as in a model of few clusters.
    """
    tokenizer = Tokenizer(WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    source, count = np.random.default_rng(0), len(WORDS)
    rows = 20 if shared_rows else count
    StaticModel(
        vectors=source.normal(size=(rows, 6)).astype(np.float32),
        tokenizer=tokenizer,
        normalize=shared_rows,
        weights=source.random(count).astype(np.float32) if shared_rows else None,
        token_mapping=source.integers(0, rows, count) if shared_rows else None,
    ).save_pretrained(folder)
    return f"model2vec:{folder}"
