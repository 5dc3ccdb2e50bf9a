"""What the encoders return, gathered from passes that come in another order than their texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..models.checkpoint import Float32Array
from ..models.packing import IntArray, PackedTokens
from .modules import SENTENCE, TOKENS, Features, normalized
from .precision import quantize_embeddings, row_by_row, stored_type, stored_width


class Finish:
    """From the modules' vectors to those a call asked for: fewer dimensions, length 1, fewer bits."""

    def __init__(self, dim: int, normalize: bool, precision: str, ranges: Any, calibration: Any) -> None:
        self._dim, self._normalize = dim, normalize
        self._precision, self._ranges, self._calibration = precision, ranges, calibration
        self._at_once = row_by_row(precision, ranges, calibration)

    def rows(self, total: int | None) -> Rows:
        """Room for `total` vectors, or for a number not known."""
        if self._at_once:
            return Rows(total, stored_width(self._precision, self._dim), stored_type(self._precision))
        return Rows(total, self._dim, np.float32)

    def __call__(self, vectors: Float32Array) -> npt.NDArray[Any]:
        vectors = vectors[:, : self._dim]
        vectors = normalized(vectors) if self._normalize else np.ascontiguousarray(vectors)
        return self._quantized(vectors) if self._at_once else vectors

    def all(self, vectors: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What is left to do when all vectors are known."""
        return vectors if self._at_once or self._precision == "float32" else self._quantized(vectors)

    def in_items(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The same for vectors that are entries of dicts."""
        if items and not self._at_once:
            for item, vector in zip(items, self.all(np.stack([item[SENTENCE] for item in items])), strict=True):
                item[SENTENCE] = vector
        return items

    def _quantized(self, vectors: Float32Array) -> npt.NDArray[Any]:
        return quantize_embeddings(vectors, self._precision, self._ranges, self._calibration)


class Rows:
    """An array (n, width) that is filled by rows; grown where n is not known."""

    def __init__(self, total: int | None, width: int, dtype: Any) -> None:
        self._array = np.zeros((256 if total is None else total, width), dtype)
        self._used = 0

    def put(self, places: IntArray, vectors: npt.NDArray[Any]) -> None:
        last = int(places.max()) + 1
        if last > len(self._array):
            self._array.resize((max(last, 2 * len(self._array)), self._array.shape[1]), refcheck=False)
        self._array[places] = vectors
        self._used = max(self._used, last)

    def array(self) -> npt.NDArray[Any]:
        if self._used < len(self._array):
            self._array.resize((self._used, self._array.shape[1]), refcheck=False)
        return self._array


class Listed:
    """A list that is filled by rows."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def put(self, places: IntArray, values: list[Any]) -> None:
        self.values += [None] * (int(places.max()) + 1 - len(self.values))
        for place, value in zip(places.tolist(), values, strict=True):
            self.values[place] = value


def _split_by_text(states: npt.NDArray[Any], tokens: PackedTokens) -> list[npt.NDArray[Any]]:
    """(T, C) → each text's (L, C), on memory of its own."""
    return [part.copy() for part in np.split(states, tokens.cu_seqlens[1:-1])]


def by_text(features: Features, output_value: str | None, finish: Finish) -> list[Any]:
    """A pass's texts one by one: their tokens' vectors, or dicts of all there is."""
    states = _split_by_text(features.arrays[TOKENS], features.tokens)
    if output_value == TOKENS:
        return states
    ids, vectors = _split_by_text(features.tokens.input_ids, features.tokens), finish(features.arrays[SENTENCE])
    return [{"input_ids": i, TOKENS: s, SENTENCE: vector} for i, s, vector in zip(ids, states, vectors, strict=True)]
