"""T5's relative position bias (Raffel et al. 2020): distances in buckets, exact near 0 and logarithmic further out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .architecture import RelativeBuckets
from .checkpoint import Float32Array


def buckets_of(distances: npt.NDArray[np.int64], relative: RelativeBuckets) -> npt.NDArray[np.int64]:
    """The bucket of each distance (position of the key - position of the query).

    Half of the buckets hold one distance each; the others grow in size up to `max_distance`, the last holds all beyond.
    Both directions have buckets of their own, or else keys to the right share bucket 0.

    >>> buckets_of(np.array([-200, -3, 0, 3, 200]), RelativeBuckets(32, 128, bidirectional=True)).tolist()
    [15, 3, 0, 19, 31]
    >>> buckets_of(np.array([-200, -3, 0, 3, 200]), RelativeBuckets(32, 128, bidirectional=False)).tolist()
    [31, 3, 0, 0, 0]
    """
    count = relative.buckets // 2 if relative.bidirectional else relative.buckets
    first = np.where(distances > 0, count, 0) if relative.bidirectional else np.zeros_like(distances)
    far = np.abs(distances) if relative.bidirectional else np.maximum(-distances, 0)
    exact = count // 2
    with np.errstate(divide="ignore"):  # float32 throughout, as the checkpoints were trained
        steps = np.log(far.astype(np.float32) / np.float32(exact)) / np.float32(np.log(relative.max_distance / exact))
        logarithmic = exact + np.maximum(steps * np.float32(count - exact), 0).astype(np.int64)
    return first + np.where(far < exact, far, np.minimum(logarithmic, count - 1))


def relative_bias(table: Float32Array, relative: RelativeBuckets, reach: int) -> Float32Array:
    """What joins the scores at distances -reach … reach: table (buckets, H) → (H, 2 reach + 1)."""
    distances = np.arange(-reach, reach + 1)
    return np.ascontiguousarray(table[buckets_of(distances, relative)].T)
