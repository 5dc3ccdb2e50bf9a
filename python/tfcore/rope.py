"""The frequencies of rotary position embeddings, as a checkpoint's `rope_scaling` asks for them.

Written with NumPy alone, because the operators and the plain NumPy reference both need these few numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scaling = Mapping[str, Any]
Frequencies = NDArray[np.float64]


def rotary_frequencies(
    rotary_dim: int, *, base: float = 10000.0, scaling: Scaling | None = None, length: int = 0
) -> tuple[Frequencies, float]:
    """The angle each pair of columns turns by per position, and the factor on its cosine and sine.

    `scaling` is None or a checkpoint's dictionary: `rope_type` (or `type`) "default", "linear", "dynamic", "yarn",
    "longrope" or "llama3" with that type's fields. `length` is the highest position plus one; only "dynamic" and
    "longrope" look at it.

    >>> frequencies, factor = rotary_frequencies(4, base=100.0)
    >>> frequencies.tolist(), factor
    ([1.0, 0.1], 1.0)
    >>> rotary_frequencies(4, base=100.0, scaling={"rope_type": "linear", "factor": 2.0})[0].tolist()
    [0.5, 0.05]
    """
    if rotary_dim < 0 or rotary_dim % 2:
        raise ValueError(f"rotary_dim is {rotary_dim}, expected an even number: columns turn in pairs")
    if not _is_number(base):
        raise TypeError(f"base is of type {type(base).__name__}, expected a number")
    if not 0 < base < math.inf:
        raise ValueError(f"base is {base}, expected a positive number")
    kind = rope_type(scaling)
    if scaling is None or kind == "default":
        return _plain(rotary_dim, base), 1.0
    try:
        return _SCALED[kind](rotary_dim, base, scaling, length)
    except KeyError as missing:
        raise ValueError(f"scaling: rope_type {kind!r} needs {missing.args[0]!r}, got {dict(scaling)}") from None


def rope_type(scaling: Scaling | None) -> str:
    """The kind of a checkpoint's dictionary: "default", or one that `rotary_frequencies` knows."""
    if scaling is None:
        return "default"
    if not isinstance(scaling, Mapping):
        raise TypeError(f"scaling is a {type(scaling).__name__}, expected None or a dictionary")
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if not isinstance(kind, str) or (kind != "default" and kind not in _SCALED):
        raise ValueError(f"scaling: rope_type is {kind!r}, expected 'default' or one of {sorted(_SCALED)}")
    return kind


def _plain(dim: int, base: float) -> Frequencies:
    """base^(-2i/dim), i < dim/2: the first pair turns by one radian a step, the last by about 1/base."""
    return base ** -(np.arange(0, dim, 2, dtype=np.float64) / max(dim, 1))


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _number(scaling: Scaling, name: str) -> float:
    value = scaling[name]
    if not _is_number(value):
        raise TypeError(f"scaling: {name!r} is of type {type(value).__name__}, expected a number")
    return float(value)


def _positive(scaling: Scaling, name: str, above: float = 0) -> float:
    value = _number(scaling, name)
    if not above < value < math.inf:
        wanted = f"a number above {above:g}" if 0 < value <= above else "a positive number"
        raise ValueError(f"scaling: {name!r} is {scaling[name]}, expected {wanted}")
    return value


def _linear(dim: int, base: float, scaling: Scaling, length: int) -> tuple[Frequencies, float]:
    """Position interpolation: every position is divided by the factor."""
    return _plain(dim, base) / _positive(scaling, "factor"), 1.0


def _dynamic(dim: int, base: float, scaling: Scaling, length: int) -> tuple[Frequencies, float]:
    """NTK-aware: beyond the trained length the base grows, which stretches slow pairs and leaves fast ones alone."""
    factor, trained = _positive(scaling, "factor"), _positive(scaling, "original_max_position_embeddings")
    stretch = factor * max(length, trained) / trained - (factor - 1)
    exponent = dim / (dim - 2) if dim > 2 else 1.0  # a single pair always turns by one radian: no base can stretch it
    return _plain(dim, base * stretch**exponent), 1.0


def _yarn(dim: int, base: float, scaling: Scaling, length: int) -> tuple[Frequencies, float]:
    """YaRN: fast pairs keep their frequency, slow ones are interpolated, those between are blended by a ramp."""
    if base == 1:
        raise ValueError("base is 1, expected another for rope_type 'yarn': pairs must differ")
    factor, trained = _positive(scaling, "factor"), _positive(scaling, "original_max_position_embeddings")

    def pair_with(turns: float) -> float:  # the (fractional) pair that makes so many turns over the trained length
        return dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(base))

    fast, slow = (
        _positive(scaling, name) if scaling.get(name) else default
        for name, default in (("beta_fast", 32.0), ("beta_slow", 1.0))
    )
    first, last = pair_with(fast), pair_with(slow)
    if scaling.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, dim - 1)
    width = last - first or 0.001
    interpolated = np.clip((np.arange(dim // 2) - first) / width, 0.0, 1.0)
    plain = _plain(dim, base)
    return plain / factor * interpolated + plain * (1 - interpolated), _yarn_attention_factor(factor, scaling)


def _yarn_attention_factor(factor: float, scaling: Scaling) -> float:
    names = ("attention_factor", "mscale", "mscale_all_dim")
    given, mscale, all_dim = (_positive(scaling, name) if scaling.get(name) else None for name in names)
    if given is not None:
        return given

    def magnitude(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    return magnitude(mscale) / magnitude(all_dim) if mscale and all_dim else magnitude(1.0)


def _longrope(dim: int, base: float, scaling: Scaling, length: int) -> tuple[Frequencies, float]:
    """LongRoPE: each pair has a divisor of its own, from one list within the trained length, from another beyond."""
    factor = _positive(scaling, "factor")
    trained = _positive(scaling, "original_max_position_embeddings", above=1 if factor > 1 else 0)
    name = "long_factor" if length > trained else "short_factor"
    given = scaling[name]
    numbers = isinstance(given, Sequence | np.ndarray) and all(_is_number(divisor) for divisor in given)
    if not numbers or len(given) != dim // 2 or not all(divisor > 0 for divisor in given):
        raise ValueError(f"scaling: {name!r} is {given}, expected {dim // 2} positive numbers")
    divisors = np.asarray(given, np.float64)
    if scaling.get("attention_factor") is not None:
        return _plain(dim, base) / divisors, _positive(scaling, "attention_factor")
    magnitude = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(trained))
    return _plain(dim, base) / divisors, magnitude


def _llama3(dim: int, base: float, scaling: Scaling, length: int) -> tuple[Frequencies, float]:
    """Llama 3.1: long waves are divided by the factor, short ones kept, those between blended by their turns."""
    factor, trained = _positive(scaling, "factor"), _positive(scaling, "original_max_position_embeddings")
    low, high = _positive(scaling, "low_freq_factor"), _positive(scaling, "high_freq_factor")
    plain = _plain(dim, base)
    turns = trained * plain / (2 * math.pi)  # over the trained length
    kept = np.clip((turns - low) / (high - low or 1e-9), 0.0, 1.0)  # equal factors: a step, not a blend
    return (1 - kept) * plain / factor + kept * plain, 1.0


_SCALED: dict[str, Callable[[int, float, Scaling, int], tuple[Frequencies, float]]] = {
    "dynamic": _dynamic,
    "linear": _linear,
    "llama3": _llama3,
    "longrope": _longrope,
    "yarn": _yarn,
}
