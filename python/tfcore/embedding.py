"""`SentenceEncoder`: one vector a text, as sentence-transformers computes it, from the checkpoint's own files.

Texts are sorted by length within a window and run as packed tokens: no padding, and a text's vector does not depend on
the texts beside it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import ops
from .models.checkpoint import Float32Array
from .models.config import Config, read_json
from .models.hub import SENTENCE_FILES, resolve
from .models.model import Model
from .models.packing import IntArray, PackedTokens
from .models.tokenizer import AutoTokenizer

_WINDOW = 64  # batches that are sorted together: long enough to fill batches with equals, short enough to bound memory
_LONG = 16  # batches from which a progress bar is worth its lines


class SentenceEncoder:
    """Texts to vectors, with the pooling, length limit and normalisation that the checkpoint's files ask for.

    >>> encoder = SentenceEncoder("sentence-transformers/all-MiniLM-L6-v2")  # doctest: +SKIP
    >>> vectors = encoder.encode(["A cat sits.", "A kitten rests.", "Rust never sleeps."])  # doctest: +SKIP
    >>> vectors.shape, encoder.similarity(vectors, vectors).shape  # doctest: +SKIP
    ((3, 384), (3, 3))

    Parameters
    ----------
    name : str or path
        A checkpoint folder or hub name. `modules.json` and the files it names say how to pool; without it, the mean.
    revision : str, optional
        A branch, tag or commit of the hub's.

    Attributes
    ----------
    max_seq_length : int
        Longer texts are cut to this many tokens, as the checkpoint wants it.

    Raises
    ------
    FileNotFoundError
        There is no such folder or name, or it lacks a file.
    ValueError
        A file is broken, or names a module that is not implemented.
    """

    def __init__(self, name: str | os.PathLike[str], *, revision: str | None = None) -> None:
        self.folder = resolve(name, SENTENCE_FILES, revision=revision).resolve()
        modules = _read_modules(self.folder)
        self._tokenizer = AutoTokenizer.from_pretrained(modules.transformer)
        self._model = Model(modules.transformer)
        self._pooling = modules.pooling
        self._normalize = modules.normalize
        settings = _read_optional(modules.transformer / "sentence_bert_config.json")
        limit = settings.positive_int("max_seq_length", default=self._tokenizer.model_max_length)
        most = self._model.max_length
        self.max_seq_length = limit if most is None else min(limit, most)
        self._lower_case = settings.flag("do_lower_case", default=False)
        self._options = _read_optional(self.folder / "config_sentence_transformers.json")

    def encode(
        self,
        sentences: str | Iterable[str],
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        normalize_embeddings: bool = False,
        prompt: str | None = None,
        truncate_dim: int | None = None,
        output_value: str = "sentence_embedding",
    ) -> Any:
        """The vectors of texts.

        Parameters
        ----------
        sentences : str or iterable of str
            One text, or n texts. Texts longer than `max_seq_length` tokens are cut.
        batch_size : int
            How many texts run at a time.
        show_progress_bar : bool, optional
            None: on long work on a terminal, where `rich` is installed.
        normalize_embeddings : bool
            Whether to scale vectors to length 1, where the checkpoint does not anyway.
        prompt : str, optional
            Put before each text. Default: the checkpoint's default prompt; "" for none.
        truncate_dim : int, optional
            Keep this many leading dimensions, of length 1 again where vectors were of length 1.
        output_value : str
            "sentence_embedding", or "token_embeddings" for a list of (tokens, C) arrays, before pooling.

        Returns
        -------
        (n, dim) float32, or (dim,) for a single string.

        Raises
        ------
        TypeError
            `sentences` holds something else than strings.
        ValueError
            `batch_size`, `truncate_dim` or `output_value` is out of range.
        """
        if output_value not in ("sentence_embedding", "token_embeddings"):
            raise ValueError(f"output_value is {output_value!r}, expected 'sentence_embedding' or 'token_embeddings'")
        _check_positive("batch_size", batch_size)
        if truncate_dim is not None:
            _check_positive("truncate_dim", truncate_dim, most=self.dimension)
        prompt = self._default_prompt() if prompt is None else prompt
        skip = self._prompt_tokens(prompt)
        texts = self._prepare([sentences] if isinstance(sentences, str) else sentences, prompt)

        tokens: list[Float32Array] = [np.empty((0, 0), np.float32)] * len(texts)
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        with _progress(len(texts), batch_size, show_progress_bar) as advance:
            for rows, hidden, cu_seqlens in self._run(texts, batch_size):
                if output_value == "token_embeddings":
                    for row, states in zip(rows, np.split(hidden, cu_seqlens[1:-1]), strict=True):
                        tokens[row] = states.copy()
                else:
                    vectors[rows] = self._pooling.pool(hidden, cu_seqlens, skip)
                advance(len(rows))
        results = (
            tokens if output_value == "token_embeddings" else self._finish(vectors, normalize_embeddings, truncate_dim)
        )
        return results[0] if isinstance(sentences, str) else results

    def similarity(self, a: npt.ArrayLike, b: npt.ArrayLike) -> Float32Array:
        """How alike each of n vectors is to each of m: (n, dim), (m, dim) → (n, m).

        The cosine, or what the checkpoint names as `similarity_fn_name`: "dot", or the negative of the "euclidean" or
        "manhattan" distance.
        """
        name = self._options.text("similarity_fn_name", default="cosine")
        if name not in _SIMILARITIES:
            raise ValueError(
                f"{self._options.path}: similarity_fn_name is {name!r}, expected {', '.join(_SIMILARITIES)}"
            )
        return _SIMILARITIES[name](np.atleast_2d(np.asarray(a, np.float32)), np.atleast_2d(np.asarray(b, np.float32)))

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return self._model.stack.data.width * len(self._pooling.modes)

    def _prepare(self, sentences: Iterable[str], prompt: str) -> list[str]:
        texts = list(sentences)
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"sentences[{row}] is {type(text).__name__}, expected a string")
        texts = [prompt + text for text in texts]
        return [text.lower() for text in texts] if self._lower_case else texts

    def _run(self, texts: list[str], batch_size: int) -> Iterator[tuple[list[int], Float32Array, IntArray]]:
        """Batches of rows of `texts` with their hidden states (T, C) and borders (B + 1,)."""
        window = batch_size * _WINDOW
        for first in range(0, len(texts), window):
            ids = self._tokenize(texts[first : first + window])
            order = sorted(range(len(ids)), key=lambda row: len(ids[row]), reverse=True)
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                packed = PackedTokens.from_texts([ids[row] for row in rows])
                hidden = self._model.forward_packed(packed)
                yield [first + row for row in rows], hidden, packed.cu_seqlens

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self._tokenizer(texts, truncation=True, max_length=self.max_seq_length)["input_ids"]
        return ids

    def _finish(self, vectors: Float32Array, normalize: bool, truncate_dim: int | None) -> Float32Array:
        vectors = vectors[:, :truncate_dim]
        return _normalized(vectors) if normalize or self._normalize else np.ascontiguousarray(vectors)

    def _default_prompt(self) -> str:
        name = self._options.get("default_prompt_name")
        prompts = self._options.get("prompts") or {}
        if name is None:
            return ""
        if not isinstance(prompts, dict) or not isinstance(prompts.get(name), str):
            raise ValueError(f"{self._options.path}: default_prompt_name is {name!r}, which prompts does not hold")
        return str(prompts[name])

    def _prompt_tokens(self, prompt: str) -> int:
        """How many leading tokens the pooling leaves out: those of the prompt, where the checkpoint wants that."""
        if self._pooling.include_prompt or not prompt:
            return 0
        ids = self._tokenize([prompt])[0]
        return len(ids) - (ids[-1] in self._tokenizer.all_special_ids)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder,)

    def __repr__(self) -> str:
        return (
            f"SentenceEncoder({self._model!r}, {'+'.join(self._pooling.modes)}, max_seq_length={self.max_seq_length})"
        )


# ---- pooling


class _Texts(NamedTuple):
    """Hidden states (T, C) of B texts, each `lengths` ≥ 1 rows from `starts`, without the `skip` tokens before them."""

    hidden: npt.NDArray[Any]
    starts: IntArray
    lengths: IntArray
    skip: int

    def sums(self) -> npt.NDArray[np.float64]:
        return np.add.reduceat(self.hidden, self.starts, axis=0, dtype=np.float64)

    def means(self) -> npt.NDArray[np.float64]:
        return self.sums() / self.lengths[:, None]

    def weighted_means(self) -> npt.NDArray[np.float64]:
        """Means weighted by the tokens' places in their texts: 1, 2, 3, …"""
        places = np.arange(1, len(self.hidden) + 1) - np.repeat(self.starts, self.lengths) + self.skip
        totals = np.add.reduceat(places, self.starts)
        return self._replace(hidden=self.hidden * places[:, None]).sums() / totals[:, None]


_POOLERS: dict[str, Callable[[_Texts], npt.NDArray[Any]]] = {  # B texts → (B, C)
    "cls": lambda texts: texts.hidden[texts.starts],
    "max": lambda texts: np.maximum.reduceat(texts.hidden, texts.starts, axis=0),
    "mean": _Texts.means,
    "mean_sqrt_len_tokens": lambda texts: texts.sums() / np.sqrt(texts.lengths)[:, None],
    "weightedmean": _Texts.weighted_means,
    "lasttoken": lambda texts: texts.hidden[texts.starts + texts.lengths - 1],
}
_OLD_FLAGS = {  # one flag a mode, in the order of their vectors; today's files have one field, pooling_mode
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


class _Pooling(NamedTuple):
    """Which poolings are set side by side in a vector, and whether a prompt's tokens count."""

    modes: tuple[str, ...] = ("mean",)
    include_prompt: bool = True

    @classmethod
    def read(cls, config: Config) -> _Pooling:
        flagged = [mode for flag, mode in _OLD_FLAGS.items() if config.flag(flag, default=False)]
        modes = config.get("pooling_mode") or flagged or ["mean"]
        modes = modes if isinstance(modes, list) else [modes]
        for mode in modes:
            if not isinstance(mode, str) or mode not in _POOLERS:
                raise ValueError(f"{config.path}: pooling_mode holds {mode!r}, expected {', '.join(_POOLERS)}")
        return cls(tuple(modes), config.flag("include_prompt", default=True))

    def pool(self, hidden: Float32Array, cu_seqlens: IntArray, skip: int) -> Float32Array:
        """(T, C) and (B + 1,) → (B, modes · C), leaving out the first `skip` tokens of each text; zeros for none."""
        if skip:
            hidden, cu_seqlens = _without_first(hidden, cu_seqlens, skip)
        lengths = np.diff(cu_seqlens)
        some = lengths > 0
        vectors = np.zeros((len(lengths), len(self.modes) * hidden.shape[1]), np.float32)
        if some.any():
            texts = _Texts(hidden, cu_seqlens[:-1][some], lengths[some], skip)
            vectors[some] = np.concatenate([_POOLERS[mode](texts) for mode in self.modes], axis=1)
        return vectors


def _without_first(hidden: Float32Array, cu_seqlens: IntArray, skip: int) -> tuple[Float32Array, IntArray]:
    lengths = np.diff(cu_seqlens)
    position = np.arange(len(hidden)) - np.repeat(cu_seqlens[:-1], lengths)
    return hidden[position >= skip], np.concatenate([[0], np.cumsum(np.maximum(lengths - skip, 0))])


# ---- similarities: (n, dim), (m, dim) → (n, m)


def _normalized(vectors: Float32Array) -> Float32Array:
    norms = np.sqrt(np.sum(vectors * vectors, axis=1, keepdims=True, dtype=np.float64))
    return (vectors / np.maximum(norms, 1e-12)).astype(np.float32)


def _dot(a: Float32Array, b: Float32Array) -> Float32Array:
    return ops.matmul(a, b.T)


_SIMILARITIES: dict[str, Callable[[Float32Array, Float32Array], Float32Array]] = {
    "cosine": lambda a, b: _dot(_normalized(a), _normalized(b)),
    "dot": _dot,
    "euclidean": lambda a, b: -np.stack([np.linalg.norm(a - row, axis=1) for row in b], axis=1),
    "manhattan": lambda a, b: -np.stack([np.abs(a - row).sum(axis=1) for row in b], axis=1),
}


# ---- a checkpoint's files


class _Modules(NamedTuple):
    """What `modules.json` strings together: a transformer's folder, a pooling, and whether vectors get length 1."""

    transformer: Path
    pooling: _Pooling = _Pooling()
    normalize: bool = False


def _read_modules(folder: Path) -> _Modules:
    path = folder / "modules.json"
    if not path.is_file():
        return _Modules(folder)
    entries = [Config(entry if isinstance(entry, dict) else {}, path) for entry in read_json(path, list)]
    kinds = [entry.text("type").rsplit(".", 1)[-1] for entry in entries]  # they have moved between packages
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ValueError(f"{path}: modules are {', '.join(kinds)}, expected Transformer, Pooling and maybe Normalize")
    pooling = _Pooling.read(Config.read(folder / entries[1].text("path") / "config.json"))
    return _Modules(folder / entries[0].text("path"), pooling, "Normalize" in kinds)


def _read_optional(path: Path) -> Config:
    return Config.read(path) if path.is_file() else Config({}, path)


# ---- arguments and progress


def _check_positive(name: str, value: int, most: int | None = None) -> None:
    if type(value) is not int or value < 1 or (most is not None and value > most):
        raise ValueError(f"{name} is {value!r}, expected a positive integer" + (f" up to {most}" if most else ""))


@contextmanager
def _progress(total: int, batch_size: int, show: bool | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, as a function that is told how many texts are done."""
    if show is None:
        show = total > _LONG * batch_size and sys.stderr.isatty() and find_spec("rich") is not None
    if not show:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("texts"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("texts", total=total)
        yield lambda done: bar.advance(task, done)
