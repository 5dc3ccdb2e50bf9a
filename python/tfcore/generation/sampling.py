"""One draw from scores (V,): temperature, top-k, top-p and min-p, at the cost of a few passes over V.

Vocabularies have 150 000 tokens and a draw wants some dozens of them: nothing here sorts V numbers.
"""

from __future__ import annotations

import math

import numpy as np

from .options import GenerationOptions
from .protocol import Float32Array, Float64Array, IntArray

_GROUPS = 64
_FIRST_NUCLEUS = 128


def candidates(scores: Float32Array, options: GenerationOptions, at_least: int = 1) -> tuple[IntArray, Float32Array]:
    """The tokens that may be drawn, ascending, and their scores over the temperature, the highest being 0.

    Parameters
    ----------
    scores
        (V,), the highest of them finite.
    at_least
        Tokens to keep whatever the options say.
    """
    tokens = of_at_least_kth(scores, max(options.top_k, at_least)) if options.top_k else np.arange(len(scores))
    kept = scores[tokens]
    with np.errstate(over="ignore"):
        kept = cooled(kept - kept.max(), options.temperature)
    if options.top_p < 1:
        chosen = _nucleus(kept, options.top_p, at_least)
        tokens, kept = tokens[chosen], kept[chosen]
    if options.min_p:
        probable = kept >= np.float32(math.log(options.min_p))
        probable[largest(kept, at_least)] = True
        tokens, kept = tokens[probable], kept[probable]
    return tokens, kept


def cooled(scores: Float32Array, temperature: float) -> Float32Array:
    """Scores over a temperature that float32 can hold; what that puts out of reach is minus infinity."""
    with np.errstate(over="ignore"):
        quotient: Float32Array = scores / np.float32(min(max(temperature, 1e-30), 1e30))
    return quotient


def draw(scores: Float32Array, options: GenerationOptions, rng: np.random.Generator) -> tuple[int, float]:
    """A token by its probability among the candidates, and the logarithm of that."""
    tokens, kept = candidates(scores, options)
    cumulative = np.cumsum(np.exp(kept), dtype=np.float64)
    total = cumulative[-1]
    last = int(np.searchsorted(cumulative, total))  # that has a probability; a rounded product may reach the total
    place = min(int(np.searchsorted(cumulative, rng.random() * total, side="right")), last)
    return int(tokens[place]), float(kept[place] - np.log(total))


def draw_several(scores: Float32Array, count: int, rng: np.random.Generator) -> IntArray:
    """`count` places of `scores` (n,), without repetition, each drawn by its probability among those left.

    The largest of the scores with Gumbel noise added are such a draw.
    """
    noisy = scores.astype(np.float64) + rng.gumbel(size=len(scores))
    return largest(noisy, count)


def largest(scores: Float32Array | Float64Array, count: int) -> IntArray:
    """The places of the `count` largest, best first; of equals the first."""
    places = of_at_least_kth(scores, count)
    order = np.argsort(-scores[places], kind="stable")[:count]
    return places[order]


def of_at_least_kth(scores: Float32Array | Float64Array, k: int) -> IntArray:
    """The places, ascending, of all that are no smaller than the k-th largest.

    The k-th largest of the maxima of disjoint groups is a bound from below, so that all but few are out after one
    pass: 0.1 ms of 150 000 scores, where partitioning them all takes ten times as long.
    """
    if k >= len(scores):
        return np.arange(len(scores))
    places = None
    size = len(scores) // _GROUPS
    if k <= size:
        peaks = scores[: size * _GROUPS].reshape(_GROUPS, size).max(axis=0)
        places = np.flatnonzero(scores >= _kth_largest(peaks, k))
    kept = scores if places is None else scores[places]
    enough = np.flatnonzero(kept >= _kth_largest(kept, k))
    return enough if places is None else places[enough]


def _kth_largest(scores: Float32Array | Float64Array, k: int) -> float:
    return float(np.partition(scores, len(scores) - k)[len(scores) - k])


def _nucleus(scores: Float32Array, share: float, at_least: int) -> IntArray:
    """The places, ascending, of the fewest largest that hold `share` of the probability."""
    probabilities = np.exp(scores)
    wanted = share * probabilities.sum(dtype=np.float64)
    count = max(_FIRST_NUCLEUS, at_least)
    while True:
        places = largest(scores, min(count, len(scores)))
        cumulative = np.cumsum(probabilities[places], dtype=np.float64)
        if count >= len(scores) or cumulative[-1] >= wanted:
            break
        count *= 8
    above = np.concatenate(([0.0], cumulative[:-1]))
    kept = max(int(np.count_nonzero(above < wanted)), at_least)
    return np.sort(places[:kept])
