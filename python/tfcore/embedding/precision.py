"""Vectors in one byte or one bit a dimension."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..scalars import check_choice

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
_STORED = {"float32": np.float32, "int8": np.int8, "uint8": np.uint8, "binary": np.int8, "ubinary": np.uint8}


def quantize_embeddings(
    embeddings: npt.ArrayLike,
    precision: str,
    ranges: npt.ArrayLike | None = None,
    calibration_embeddings: npt.ArrayLike | None = None,
) -> npt.NDArray[Any]:
    """Vectors in fewer bits, by sentence-transformers' formulas.

    >>> vectors = np.array([[0.5, -0.5], [-1.0, 1.0], [0.0, 0.25]], np.float32)
    >>> quantize_embeddings(vectors, "uint8").tolist()
    [[255, 0], [0, 255], [170, 127]]
    >>> quantize_embeddings(vectors, "ubinary").tolist()
    [[128], [64], [64]]

    Parameters
    ----------
    embeddings : (n, dim) floats
    precision : str
        "float32"; "int8" or "uint8": each dimension's range cut into 255 steps; "binary" or "ubinary": a bit for each
        dimension, 1 where it is above 0, eight to an int8 (less 128) or uint8.
    ranges : (2, dim) floats, optional
        Each dimension's least and greatest value.
    calibration_embeddings : (k, dim) floats, optional
        Vectors to take the ranges from, if not from `embeddings` themselves.

    Returns
    -------
    (n, dim) of float32, int8 or uint8, or (n, ceil(dim / 8)) for bits

    Raises
    ------
    TypeError
        `embeddings` holds integers: they are quantized already.
    ValueError
        `precision` is unknown, `ranges` has another shape, or a single vector is to give the ranges.
    """
    check_choice("precision", precision, PRECISIONS)
    vectors = np.asarray(embeddings)
    if vectors.dtype.kind != "f":
        raise TypeError(f"embeddings holds {vectors.dtype}, expected floats")
    if vectors.ndim != 2:
        raise ValueError(f"embeddings has shape {vectors.shape}, expected (n, dim)")
    if precision == "float32":
        wide: npt.NDArray[Any] = vectors.astype(np.float32)
        return wide
    if precision in ("binary", "ubinary"):
        bits = np.packbits(vectors > 0, axis=1)
        return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
    if ranges is None and not len(vectors) and calibration_embeddings is None:
        return np.zeros(vectors.shape, _STORED[precision])
    starts, ends = _ranges(vectors, precision, ranges, calibration_embeddings)
    steps = (ends - starts) / np.float32(255)
    steps = np.where(steps == 0, np.float32(1), steps)
    levels = np.clip(np.floor((vectors - starts) / steps), 0, 255)
    signed: npt.NDArray[Any] = levels - 128 if precision == "int8" else levels
    return signed.astype(_STORED[precision])


def row_by_row(precision: str, ranges: Any, calibration_embeddings: Any) -> bool:
    """Whether each vector can be quantized as it comes: nothing is to be learned from all of them."""
    return precision in ("binary", "ubinary") or ranges is not None or calibration_embeddings is not None


def stored_width(precision: str, dim: int) -> int:
    """How many numbers hold a vector of `dim` dimensions."""
    return (dim + 7) // 8 if precision in ("binary", "ubinary") else dim


def stored_type(precision: str) -> Any:
    """Their dtype."""
    return _STORED[precision]


def _ranges(vectors: npt.NDArray[Any], precision: str, ranges: Any, calibration: Any) -> npt.NDArray[np.float32]:
    if ranges is not None:
        given = np.asarray(ranges, np.float32)
        if given.shape != (2, vectors.shape[1]):
            raise ValueError(f"ranges has shape {given.shape}, expected {(2, vectors.shape[1])}: minima and maxima")
        if not np.all(given[0] <= given[1]):
            raise ValueError("ranges has a minimum above its maximum or a NaN, expected minima, then maxima")
        return given
    if calibration is None and len(vectors) == 1:
        raise ValueError(
            f"one embedding alone has no ranges for {precision}: pass ranges or calibration_embeddings, from many texts"
        )
    known = vectors if calibration is None else np.asarray(calibration, np.float32)
    if known.ndim != 2 or not len(known) or known.shape[1] != vectors.shape[1]:
        raise ValueError(f"calibration_embeddings has shape {known.shape}, expected (k, {vectors.shape[1]})")
    return np.stack([known.min(axis=0), known.max(axis=0)]).astype(np.float32)
