"""Real text, and MiniLM's real weights to embed it: the paragraphs of Python's own reference manual.

Every machine has that text, in the standard library, and the lengths of its paragraphs are skewed as real ones are.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..carried import minilm_folder
from . import encoder, onnx_graphs, onnxruntime_peers, torch_peers
from .timing import Run, fastest

__all__ = [
    "Corpus",
    "corpus",
    "open_onnxruntime",
    "open_sentence_transformers",
    "open_tfcore",
    "paragraphs",
]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_WORDS = "embeddings.word_embeddings.weight"
_LONGEST = 256  # tokens: what MiniLM cuts a text to
_BATCHES = (8, 16, 32, 64)  # sizes of batches from which ONNX Runtime gets its best


def paragraphs(count: int) -> tuple[str, ...]:
    """Different paragraphs of at least five words, evenly spread over the manual's topics in alphabetical order.

    >>> len(paragraphs(9)), min(len(text.split()) for text in paragraphs(9)) >= 5
    (9, True)
    """
    from pydoc_data.topics import topics

    every = (" ".join(text.split()) for name in sorted(topics) for text in topics[name].split("\n\n"))
    found = list(dict.fromkeys(text for text in every if text.count(" ") >= 4))
    return tuple(found[i * len(found) // count] for i in range(count))


@dataclass(frozen=True)
class Corpus:
    """Texts, the vectors that they have in float64 (n, 384), and how much arithmetic their real tokens take."""

    texts: tuple[str, ...]
    want: Float64
    flops: float

    def tfcore(self) -> Run:
        """With a word on the texts that are cut, so that there is no warning of them."""
        encode = partial(open_tfcore().encode, list(self.texts), show_progress_bar=False, return_info=True)
        return lambda: encode()[0]

    def sentence_transformers(self) -> Run:
        """At its defaults: batches of 32, sorted by length."""
        return partial(open_sentence_transformers().encode, list(self.texts), show_progress_bar=False)

    def onnxruntime(self) -> Run:
        """Batches sorted by length, each padded to its longest text; the best of a few sizes."""
        embed = open_onnxruntime()
        return fastest(*(partial(embed, self.texts, size) for size in _BATCHES if size <= max(8, len(self.texts))))


@functools.lru_cache(maxsize=4)
def corpus(texts: tuple[str, ...]) -> Corpus:
    """Tokens and vectors of texts; cases of the same texts share them."""
    from ..models import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    ids = tokenizer(list(texts), truncation=True, max_length=_LONGEST)["input_ids"]
    flops = sum(encoder.flops(encoder.MINILM_L6, 1, len(row)) for row in ids)
    return Corpus(texts, _exact_vectors(ids), flops)


def _exact_vectors(ids: Sequence[Sequence[int]]) -> Float64:
    """(n, 384): the mean of a text's last hidden states, of length 1; texts of equal length go together, unpadded."""
    weights = _weights()
    used = np.unique(np.concatenate(ids))  # `forward` widens all weights at each call: the table shrinks to these rows
    weights[_WORDS] = weights[_WORDS][used]
    rows_of = defaultdict(list)
    for row, tokens in enumerate(ids):
        rows_of[len(tokens)].append(row)
    vectors = np.empty((len(ids), encoder.MINILM_L6.width))
    for rows in rows_of.values():
        batch = np.searchsorted(used, [ids[row] for row in rows])
        vectors[rows] = encoder.forward(encoder.MINILM_L6, weights, batch).mean(axis=1)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _weights() -> dict[str, Float32]:
    from ..models.checkpoint import Checkpoint

    checkpoint = Checkpoint.open(minilm_folder())
    return {name: checkpoint[name] for name in checkpoint if name != "embeddings.position_ids"}  # counts from 0 on


# --- the rivals, each opened once ------------------------------------------------------------------------------------


@functools.cache
def open_tfcore() -> Any:
    from ..embedding import SentenceEncoder

    return SentenceEncoder(minilm_folder())


@functools.cache
def open_sentence_transformers() -> Any:
    torch_peers.load_transformers()
    return import_module("sentence_transformers").SentenceTransformer(str(minilm_folder()), device="cpu")


@functools.cache
def open_onnxruntime() -> Callable[[Sequence[str], int], Float32]:
    """Texts and the size of a batch → their vectors."""
    model = onnx_graphs.PaddedEncoder(_weights(), encoder.MINILM_L6.layers, encoder.MINILM_L6.heads).padded_model()
    session = onnxruntime_peers.open_session(model)
    tokenizer = import_module("tokenizers").Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_LONGEST)

    def embed(texts: Sequence[str], size: int) -> Float32:
        tokens = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        vectors = np.empty((len(texts), encoder.MINILM_L6.width), np.float32)
        for rows in _batches(tokens, size):
            ids, lengths = _pad([tokens[row] for row in rows])
            (hidden,) = session.run(None, {"ids": ids, "lengths": lengths})
            vectors[rows] = _mean(hidden, lengths)
        return vectors

    return embed


def _batches(tokens: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]), reverse=True)
    return (order[start : start + size] for start in range(0, len(order), size))


def _pad(tokens: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Token ids (B, L), padded with zeros, and the lengths (B,)."""
    lengths = np.array([len(row) for row in tokens], np.int32)
    ids = np.zeros((len(tokens), lengths.max()), np.int64)
    for row, of_text in zip(ids, tokens, strict=True):
        row[: len(of_text)] = of_text
    return ids, lengths


def _mean(hidden: Float32, lengths: NDArray[np.int32]) -> Float32:
    """(B, L, C) and (B,) → (B, C), of length 1, by one small product a text."""
    seen = (np.arange(hidden.shape[1]) < lengths[:, None]).astype(np.float32)
    sums = (seen[:, None] @ hidden)[:, 0]
    return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True))
