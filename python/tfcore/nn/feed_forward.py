"""The feed-forward half of a block: out to a wider layer, an activation, and back; gated or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ..scalars import choose, integer
from . import initial
from .arrays import Array, as_array
from .layer import Layer, Seed
from .linear import Linear


class _Activation(NamedTuple):
    function: str
    gated: bool


ACTIVATIONS = {
    **{name: _Activation(name, gated=False) for name in ("relu", "gelu", "gelu_tanh", "silu", "tanh")},
    "reglu": _Activation("relu", gated=True),
    "geglu": _Activation("gelu", gated=True),
    "geglu_tanh": _Activation("gelu_tanh", gated=True),
    "swiglu": _Activation("silu", gated=True),
}


class FeedForward(Layer):
    """linear2(activation(linear1(x))), or linear2(activation(linear1(x)) * linear3(x)) where the activation is gated.

    >>> from tfcore import nn
    >>> nn.FeedForward(16, 64, "gelu")(np.ones((2, 5, 16), np.float32)).shape
    (2, 5, 16)
    >>> sorted(nn.FeedForward(16, 64, "swiglu", bias=False).state_dict())
    ['linear1.weight', 'linear2.weight', 'linear3.weight']

    Parameters
    ----------
    d_model, dim_feedforward : int
        The width of what comes in and goes out, and of the layer between.
    activation : str
        "relu", "gelu", "gelu_tanh", "silu", "tanh"; gated (Shazeer 2020): "reglu", "geglu", "geglu_tanh", "swiglu".
    bias, dtype, seed
        As in `Linear`.
    """

    def __init__(
        self,
        d_model: int,
        dim_feedforward: int = 2048,
        activation: str = "relu",
        *,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        seed: Seed = 0,
    ) -> None:
        super().__init__(dtype)
        self.activation = activation
        self._function, gated = choose("activation", activation, ACTIVATIONS)
        rng = initial.generator(seed)
        inner = integer("dim_feedforward", dim_feedforward)
        self.linear1 = Linear(integer("d_model", d_model), inner, bias, dtype=dtype, seed=rng)
        self.linear2 = Linear(inner, d_model, bias, dtype=dtype, seed=rng)
        self.linear3 = Linear(d_model, inner, bias, dtype=dtype, seed=rng) if gated else None

    def __call__(self, x: Any, *, residual: Any = None) -> Array:
        """x (..., d_model) → (..., d_model), `residual` of that shape added."""
        x = as_array("x", x)
        hidden = self.linear1(x, activation=self._function)
        if self.linear3 is not None:
            hidden *= self.linear3(x)
        return self.linear2(hidden, residual=residual)

    def _parts(self) -> Mapping[str, Layer]:
        parts: dict[str, Layer] = {"linear1.": self.linear1, "linear2.": self.linear2}
        return parts if self.linear3 is None else {**parts, "linear3.": self.linear3}

    def _sizes(self) -> str:
        return f"{self.linear1.in_features}, {self.linear1.out_features}, {self.activation!r}"
