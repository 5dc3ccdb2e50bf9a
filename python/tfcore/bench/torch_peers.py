"""PyTorch's side of each contest, on the arrays' own memory and as many threads as tfcore uses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from .. import runtime
from .plain import Array

Run = Callable[[], Any]


def load() -> Any:
    """The module, with its threads set. ImportError where it is not installed."""
    torch = import_module("torch")
    if torch.get_num_threads() != runtime.get_num_threads():
        torch.set_num_threads(runtime.get_num_threads())
    return torch


def attention(query: Array, key: Array, value: Array, is_causal: bool = False) -> Run:
    """(B, H, L, D) each."""
    torch = load()
    tensors = [torch.from_numpy(x) for x in (query, key, value)]
    return partial(torch.nn.functional.scaled_dot_product_attention, *tensors, is_causal=is_causal)


def heads_of_slices(query: Array, key: Array, value: Array, num_heads: int) -> Run:
    """(n, C) each, heads being equal slices of the columns."""
    torch = load()
    tensors = [torch.from_numpy(x) for x in (query, key, value)]

    def run() -> Any:
        heads = [x.view(1, len(x), num_heads, -1).transpose(1, 2) for x in tensors]
        return torch.nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(len(query), -1)

    return run


def linear(x: Array, weight: Array, bias: Array) -> Run:
    torch = load()
    return partial(torch.nn.functional.linear, *(torch.from_numpy(array) for array in (x, weight, bias)))
