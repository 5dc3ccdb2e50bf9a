"""A linear layer: one product, its weight packed once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..scalars import integer
from . import initial
from .arrays import Array, as_array
from .layer import Layer, Seed, Weight


class Linear(Layer):
    """activation(x @ weight.T + bias) + residual, as `torch.nn.Linear` where neither is given.

    >>> from tfcore import nn
    >>> layer = nn.Linear(8, 3)
    >>> layer(np.ones((2, 5, 8), np.float32)).shape
    (2, 5, 3)
    >>> layer(np.ones(8), activation="relu").shape
    (3,)

    Parameters
    ----------
    in_features, out_features : int
        The width of what comes in and of what goes out.
    bias : bool
        False leaves the bias out.
    dtype : float32 or float64
        Of the weights. Wider input is computed and returned in its own dtype.
    seed : int, numpy.random.Generator or None
        What the fresh weights are drawn from: the same int, the same weights. None draws others every time.

    Attributes
    ----------
    weight : (out_features, in_features)
    bias : (out_features,) or None
        Read-only arrays; assign a new one to change a weight.
    """

    weight = Weight()
    bias = Weight()

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
        seed: Seed = 0,
    ) -> None:
        super().__init__(dtype)
        self.in_features = integer("in_features", in_features)
        self.out_features = integer("out_features", out_features)
        rng = initial.generator(seed)
        self._put("weight", initial.fan_in(rng, (out_features, in_features), in_features, self.dtype))
        self._put_optional("bias", bias, lambda: initial.fan_in(rng, (out_features,), in_features, self.dtype))

    def __call__(self, x: Any, *, activation: str | None = None, residual: Any = None) -> Array:
        """x (..., in_features) → (..., out_features).

        `activation` is None, "relu", "gelu", "gelu_tanh", "silu" or "tanh"; `residual` has the shape of the result.
        """
        product = self._packed("linear", lambda: (self.weight, self.bias))
        residual = None if residual is None else as_array("residual", residual)
        return product(as_array("x", x), activation=activation, residual=residual)

    def _sizes(self) -> str:
        return f"{self.in_features}, {self.out_features}"
