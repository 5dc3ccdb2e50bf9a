"""How alike vectors are: of texts, or of texts' tokens by MaxSim."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import ops
from ..models.checkpoint import Float32Array
from .modules import normalized

_DOCUMENT_TOKENS = 8192  # that a query is compared with at a time: what bounds memory

Pairwise = Callable[[Float32Array, Float32Array], Float32Array]


def _dot(a: Float32Array, b: Float32Array) -> Float32Array:
    product: Float32Array = ops.matmul(a, b.T)
    return product


def _each(b: Float32Array, distances: Callable[[Float32Array], Any], n: int) -> Float32Array:
    """(n, m): a column of distances for each of m rows."""
    found = np.empty((n, len(b)), np.float32)
    for column, row in enumerate(b):
        found[:, column] = distances(row)
    return found


SIMILARITIES: dict[str, Pairwise] = {  # (n, dim), (m, dim) → (n, m)
    "cosine": lambda a, b: _dot(normalized(a), normalized(b)),
    "dot": _dot,
    "euclidean": lambda a, b: -_each(b, lambda row: np.linalg.norm(a - row, axis=1), len(a)),
    "manhattan": lambda a, b: -_each(b, lambda row: np.abs(a - row).sum(axis=1), len(a)),
}
PAIRWISE: dict[str, Pairwise] = {  # (n, dim), (n, dim) → (n,)
    "cosine": lambda a, b: np.sum(normalized(a) * normalized(b), axis=1),
    "dot": lambda a, b: np.sum(a * b, axis=1),
    "euclidean": lambda a, b: -np.linalg.norm(a - b, axis=1),
    "manhattan": lambda a, b: -np.abs(a - b).sum(axis=1),
}


def comparable(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Float32Array, Float32Array]:
    """Vectors, or one, and others as (n, dim) and (m, dim)."""
    first, second = _rows("a", a), _rows("b", b)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"b has shape {second.shape}, expected vectors as long as those of a, {first.shape}")
    return first, second


def _rows(name: str, vectors: npt.ArrayLike) -> Float32Array:
    if vectors is None or isinstance(vectors, str | bytes):
        raise TypeError(f"{name} is {type(vectors).__name__}, expected vectors")
    found = np.atleast_2d(np.asarray(vectors, np.float32))
    if found.ndim > 2:
        raise ValueError(f"{name} has shape {found.shape}, expected (n, dim)")
    return found


def maxsim(queries: Any, documents: Any) -> Float32Array:
    """How well each of m documents answers each of n queries, by their tokens' vectors.

    ColBERT's score (Khattab and Zaharia 2020): each token of a query looks for the most similar token of the document,
    by the dot product, and the greatest products are summed.

    >>> query, document = np.eye(4)[:2], np.eye(4)[1:]
    >>> maxsim([query], [document, query]).tolist()
    [[1.0, 2.0]]

    Parameters
    ----------
    queries, documents : list of (tokens, dim) arrays
        Or a single such array, as one query or document.

    Returns
    -------
    (n, m) float32
        A document of no tokens scores 0.

    Raises
    ------
    ValueError
        An array is not two-dimensional, or they differ in dim.
    """
    asked, answers = matrices("queries", queries), matrices("documents", documents)
    widths = {matrix.shape[1] for matrix in (*asked, *answers)}
    if len(widths) > 1:
        raise ValueError(f"queries and documents are {min(widths)} to {max(widths)} wide, expected one width")
    scores = np.zeros((len(asked), len(answers)), np.float32)
    for begin, end in _chunks([len(matrix) for matrix in answers]):
        lengths = np.array([len(matrix) for matrix in answers[begin:end]])
        real = lengths > 0
        if not real.any():
            continue
        starts = np.concatenate([[0], np.cumsum(lengths[real])[:-1]])
        tokens = np.concatenate(answers[begin:end])
        for row, query in enumerate(asked):
            best = np.maximum.reduceat(_dot(query, tokens), starts, axis=1)
            scores[row, begin:end][real] = np.add.reduce(best, axis=0, dtype=np.float64)
    return scores


def matrices(name: str, value: Any) -> list[Float32Array]:
    """A list of matrices of float32, of a list of arrays or of one."""
    alone = hasattr(value, "ndim") and value.ndim == 2
    found = [np.asarray(matrix, np.float32) for matrix in ([value] if alone else value)]
    for place, matrix in enumerate(found):
        if matrix.ndim != 2:
            raise ValueError(f"{name}[{place}] has shape {matrix.shape}, expected (tokens, dim)")
    return found


def _chunks(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Ranges of documents of a bounded number of tokens, at least one document each."""
    chunks, begin, total = [], 0, 0
    for place, length in enumerate(lengths):
        if place > begin and total + length > _DOCUMENT_TOKENS:
            chunks.append((begin, place))
            begin, total = place, 0
        total += length
    return [*chunks, (begin, len(lengths))] if lengths else []
