"""Layers that normalise rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import ops
from ..scalars import integer, number
from .arrays import Array, as_array
from .layer import Layer, Weight


class Norm(Layer):
    """What `LayerNorm` and `RMSNorm` share: a weight and a bias over the last axes of the input."""

    weight = Weight()
    bias = Weight()

    def __init__(self, normalized_shape: int | Sequence[int], *, weight: bool, bias: bool, dtype: DTypeLike) -> None:
        super().__init__(dtype)
        given = tuple(normalized_shape) if np.iterable(normalized_shape) else (normalized_shape,)
        self.normalized_shape = tuple(integer("normalized_shape", n) for n in given)
        if not given:
            raise ValueError("normalized_shape is empty, expected at least one axis")
        self._put_optional("weight", weight, lambda: np.ones(self.normalized_shape, self.dtype))
        self._put_optional("bias", bias, lambda: np.zeros(self.normalized_shape, self.dtype))

    def __call__(self, x: Any) -> Array:
        """x (..., *normalized_shape) → the same shape."""
        x = as_array("x", x)
        axes = len(self.normalized_shape)
        if x.shape[x.ndim - axes :] != self.normalized_shape or x.ndim < axes:
            wanted = ", ".join(map(str, ("...", *self.normalized_shape)))
            raise ValueError(f"{type(self).__name__}: x has shape {x.shape}, expected ({wanted})")
        if axes == 1:
            return self._rows(x, self.weight, self.bias)
        weight, bias = (None if part is None else part.reshape(-1) for part in (self.weight, self.bias))
        flat = x.reshape(*x.shape[: x.ndim - axes], math.prod(self.normalized_shape))
        return np.reshape(self._rows(flat, weight, bias), x.shape)

    def _rows(self, x: Array, weight: Array | None, bias: Array | None) -> Array:
        raise NotImplementedError

    def _sizes(self) -> str:
        return ", ".join(map(str, self.normalized_shape))


class LayerNorm(Norm):
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axes, as `torch.nn.LayerNorm`.

    >>> from tfcore import nn
    >>> nn.LayerNorm(2, eps=0.0)([[1.0, 3.0]]).tolist()
    [[-1.0, 1.0]]

    Parameters
    ----------
    normalized_shape : int or sequence of ints
        The last axes of the input, which are normalised together.
    eps : float
    elementwise_affine : bool
        False leaves weight and bias out.
    bias : bool
        False leaves the bias out.
    dtype : float32 or float64
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(normalized_shape, weight=elementwise_affine, bias=elementwise_affine and bias, dtype=dtype)
        self.eps = number("eps", eps)

    def _rows(self, x: Array, weight: Array | None, bias: Array | None) -> Array:
        return ops.layer_norm(x, weight, bias, eps=self.eps)


class RMSNorm(Norm):
    """x / sqrt(mean(x ** 2) + eps) * weight over the last axes, as `torch.nn.RMSNorm`.

    >>> from tfcore import nn
    >>> nn.RMSNorm(2, eps=0.0)([[1.0, -1.0]]).tolist()
    [[1.0, -1.0]]

    Parameters
    ----------
    normalized_shape, elementwise_affine, dtype
        As in `LayerNorm`.
    eps : float, optional
        If not given, the distance from 1 to the next number of the dtype that is computed in, as in PyTorch.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(normalized_shape, weight=elementwise_affine, bias=False, dtype=dtype)
        self.eps = None if eps is None else number("eps", eps)

    def _rows(self, x: Array, weight: Array | None, bias: Array | None) -> Array:
        eps = np.finfo(np.result_type(x, self.dtype)).eps if self.eps is None else self.eps
        return ops.rms_norm(x, weight, eps=float(eps))
