"""Heads at work: from hidden states of packed tokens to what a task asks for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from .. import ops
from .architecture import HeadSpec
from .checkpoint import Float32Array
from .config import Config
from .packing import IntArray, PackedTokens


class Head:
    """A task's layers, packed. `words` is the table that a tied head shares; the config names end and padding tokens.

    Called with hidden states (T, C) and their tokens, it returns (T, size) for a head of "all" rows, else (B, size).
    """

    def __init__(self, data: HeadSpec, tensors: Mapping[str, Float32Array], words: str, config: Config) -> None:
        def packed(name: str, weight: str) -> ops.PackedLinear:
            return ops.PackedLinear(tensors[weight], tensors.get(f"{name}.bias"))

        self.data = data
        self._config = config
        self._pooler = packed("pooler", "pooler.weight") if data.rows == "pooler" else None
        self._dense = packed("head.dense", "head.dense.weight") if data.dense else None
        self._norm = (tensors["head.norm.weight"], tensors.get("head.norm.bias")) if data.norm else None
        self._out = packed("head.out", words if data.tied else "head.out.weight")

    def __call__(self, states: Float32Array, tokens: PackedTokens) -> Float32Array:
        rows = self._rows(states, tokens)
        if self._dense is not None:
            rows = self._dense(rows, activation=self.data.activation)
        if self._norm is not None:
            rows = ops.layer_norm(rows, *self._norm, eps=self.data.norm)
        return self._out(rows if self.data.scale == 1 else rows * np.float32(self.data.scale))

    def _rows(self, states: Float32Array, tokens: PackedTokens) -> Float32Array:
        kind = self.data.rows
        if kind == "all":
            return states
        if kind == "mean":
            return mean_of_texts(states, tokens)
        if kind == "pooler" and self._pooler is not None:
            return pool(self._pooler, states, tokens)
        if kind == "first":
            return rows_of_texts(states, tokens, first=True)
        return rows_of_texts(states, tokens, self._last_eos(tokens) if kind == "eos" else self._last_word(tokens))

    def _last_eos(self, tokens: PackedTokens) -> IntArray:
        """Where each text's last end token stands."""
        ends = self._config.token_ids("eos_token_id")
        found = _last(tokens, np.isin(tokens.input_ids, ends))
        if np.any(found < 0):
            raise ValueError(f"input_ids: a text lacks the end token, {ends}, which this head reads")
        return found

    def _last_word(self, tokens: PackedTokens) -> IntArray:
        """Where each text's last token stands that is no pad token: the first, where all are."""
        found = _last(tokens, ~np.isin(tokens.input_ids, self._config.token_ids("pad_token_id")))
        return np.where(found < 0, tokens.cu_seqlens[:-1], found)


def _last(tokens: PackedTokens, wanted: npt.NDArray[np.bool_]) -> IntArray:
    """The last of each text's tokens that is wanted: its index, or -1."""
    at = np.concatenate([[-1], np.flatnonzero(wanted)])
    found = at[np.searchsorted(at, tokens.cu_seqlens[1:]) - 1]
    return np.where(found < tokens.cu_seqlens[:-1], -1, found)


def rows_of_texts(
    states: Float32Array, tokens: PackedTokens, at: IntArray | None = None, *, first: bool = False
) -> Float32Array:
    """(T, C) → (B, C): each text's last row, its first, or the one at `at`; zeros for a text of nothing."""
    empty = tokens.lengths == 0
    at = at if at is not None else tokens.cu_seqlens[:-1] if first else tokens.cu_seqlens[1:] - 1
    if not empty.any():
        return states[at]
    rows = np.zeros((len(empty), states.shape[1]), states.dtype)
    rows[~empty] = states[at[~empty]]
    return rows


def mean_of_texts(states: Float32Array, tokens: PackedTokens) -> Float32Array:
    """(T, C) → (B, C), summed in float64; zeros for a text of nothing."""
    means: npt.NDArray[np.float64] = np.zeros((len(tokens.lengths), states.shape[1]))
    real = tokens.lengths > 0
    if real.any():
        sums = np.add.reduceat(states, tokens.cu_seqlens[:-1][real], axis=0, dtype=np.float64)
        means[real] = sums / tokens.lengths[real, None]
    return means.astype(np.float32)


def pool(pooler: ops.PackedLinear, states: Float32Array, tokens: PackedTokens) -> Float32Array:
    """BERT's pooler: (T, C) → (B, C), from each text's first token; zeros for a text of nothing."""
    pooled: Float32Array = pooler(rows_of_texts(states, tokens, first=True), activation="tanh")
    pooled[tokens.lengths == 0] = 0
    return pooled
