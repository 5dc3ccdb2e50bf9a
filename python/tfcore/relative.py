"""T5's relative position bias (Raffel et al. 2020): distances in buckets, exact near 0 and logarithmic further out.

Written with NumPy alone, because layers and models both need these few numbers. A distance is the key's position less
the query's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def relative_buckets(
    distances: NDArray[np.int64], buckets: int = 32, max_distance: int = 128, *, bidirectional: bool = True
) -> NDArray[np.int64]:
    """The bucket of each distance.

    Half of the buckets hold one distance each; the others grow in size up to `max_distance`, the last holds all beyond.
    Both directions have buckets of their own, or else keys to the right share bucket 0.

    >>> relative_buckets(np.array([-200, -3, 0, 3, 200])).tolist()
    [15, 3, 0, 19, 31]
    >>> relative_buckets(np.array([-200, -3, 0, 3, 200]), bidirectional=False).tolist()
    [31, 3, 0, 0, 0]
    """
    count = buckets // 2 if bidirectional else buckets
    first = np.where(distances > 0, count, 0) if bidirectional else np.zeros_like(distances)
    far = np.abs(distances) if bidirectional else np.maximum(-distances, 0)
    exact = count // 2
    if exact < 1 or max_distance <= exact:
        least = 4 if bidirectional else 2
        raise ValueError(
            f"{buckets} buckets up to a distance of {max_distance}: expected at least {least}, and a distance above a "
            f"{'quarter' if bidirectional else 'half'} of them"
        )
    with np.errstate(divide="ignore"):  # float32 throughout, as the checkpoints were trained
        steps = np.log(far.astype(np.float32) / np.float32(exact)) / np.float32(np.log(max_distance / exact))
        logarithmic = exact + np.maximum(steps * np.float32(count - exact), 0).astype(np.int64)
    found: NDArray[np.int64] = first + np.where(far < exact, far, np.minimum(logarithmic, count - 1))
    return found


def relative_bias(
    table: NDArray[Any], reach: int, max_distance: int = 128, *, bidirectional: bool = True
) -> NDArray[Any]:
    """What joins the scores at distances -reach … reach: table (buckets, H) → (H, 2 reach + 1).

    >>> relative_bias(np.arange(64.0).reshape(32, 2), 1).tolist()
    [[2.0, 0.0, 34.0], [3.0, 1.0, 35.0]]
    """
    distances = np.arange(-reach, reach + 1)
    return np.ascontiguousarray(
        table[relative_buckets(distances, len(table), max_distance, bidirectional=bidirectional)].T
    )
