"""A table of vectors, looked up by token id."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..scalars import integer
from . import initial
from .arrays import Array, as_array
from .layer import Layer, Seed, Weight


class Embedding(Layer):
    """The rows of a table, by id, as `torch.nn.Embedding`.

    >>> from tfcore import nn
    >>> table = nn.Embedding(100, 16)
    >>> table([[5, 3, 99], [0, 0, 1]]).shape
    (2, 3, 16)

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        How many rows, and how wide they are.
    padding_idx : int, optional
        The row that starts as zeros.
    dtype, seed
        As in `Linear`.

    Attributes
    ----------
    weight : (num_embeddings, embedding_dim)
    """

    weight = Weight()

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        dtype: DTypeLike = np.float32,
        seed: Seed = 0,
    ) -> None:
        super().__init__(dtype)
        self.num_embeddings = integer("num_embeddings", num_embeddings)
        self.embedding_dim = integer("embedding_dim", embedding_dim)
        table = initial.normal(initial.generator(seed), (num_embeddings, embedding_dim), 1.0, self.dtype)
        if padding_idx is not None:
            rows = f"one of the {num_embeddings} rows"
            table[integer("padding_idx", padding_idx, -num_embeddings, num_embeddings - 1, rows)] = 0
        self._put("weight", table)

    def __call__(self, ids: Any) -> Array:
        """ids (...) integers → (..., embedding_dim).

        Raises
        ------
        TypeError
            `ids` are no integers.
        ValueError
            An id is outside the table.
        """
        ids = as_array("ids", ids)
        if ids.size and ids.dtype.kind not in "iu":
            raise TypeError(f"ids holds {ids.dtype}, expected integers")
        outside = (ids < 0) | (ids >= self.num_embeddings)
        if outside.any():
            raise ValueError(f"ids holds {ids[outside][0]}, expected 0 to {self.num_embeddings - 1}")
        return np.asarray(self.weight[ids.astype(np.intp)])

    def _sizes(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"
