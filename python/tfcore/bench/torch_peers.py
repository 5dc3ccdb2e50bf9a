"""PyTorch's side of each contest, on the arrays' own memory and as many threads as tfcore uses.

Where an operator can also write into a given tensor, the faster of the two ways is taken.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

from .. import runtime
from .plain import Array
from .timing import Run, fastest


def load() -> Any:
    """The module, with its threads set. ImportError where it is not installed."""
    torch = import_module("torch")
    if torch.get_num_threads() != runtime.get_num_threads():
        torch.set_num_threads(runtime.get_num_threads())
    return torch


def load_transformers() -> Any:
    """The module, told to keep quiet. ImportError where it or torch is not installed."""
    load()
    transformers = import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    return transformers


def _load(*arrays: Array) -> tuple[Any, list[Any]]:
    """The module and these arrays as its tensors."""
    torch = load()
    return torch, [torch.from_numpy(array) for array in arrays]


# --- attention -------------------------------------------------------------------------------------------------------


def attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    visible: Array | None = None,
    is_causal: bool = False,
    enable_gqa: bool = False,
) -> Run:
    """(B, H, L, D), (B, G, S, D), (B, G, S, D); `visible` is boolean."""
    torch, tensors = _load(query, key, value)
    mask = None if visible is None else torch.from_numpy(visible)
    attend = torch.nn.functional.scaled_dot_product_attention
    return partial(attend, *tensors, attn_mask=mask, is_causal=is_causal, enable_gqa=enable_gqa)


def heads_of_slices(query: Array, key: Array, value: Array, num_heads: int) -> Run:
    """(n, C) each, heads being equal slices of the columns."""
    torch, tensors = _load(query, key, value)

    def run() -> Any:
        heads = [x.view(1, len(x), num_heads, -1).transpose(1, 2) for x in tensors]
        return torch.nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(len(query), -1)

    return run


# --- products --------------------------------------------------------------------------------------------------------


def linear(x: Array, weight: Array, bias: Array) -> Run:
    torch, tensors = _load(x, weight, bias)
    return partial(torch.nn.functional.linear, *tensors)


def linear_gelu(x: Array, weight: Array, bias: Array) -> Run:
    torch, tensors = _load(x, weight, bias)
    functional = torch.nn.functional
    return lambda: functional.gelu(functional.linear(*tensors))


# --- rows and elements -----------------------------------------------------------------------------------------------


def softmax(x: Array) -> Run:
    torch, (tensor,) = _load(x)
    run = partial(torch.softmax, tensor, -1)
    return fastest(run, partial(run, out=torch.empty_like(tensor)))


def log_softmax(x: Array) -> Run:
    torch, (tensor,) = _load(x)
    run = partial(torch.log_softmax, tensor, -1)
    return fastest(run, partial(run, out=torch.empty_like(tensor)))


def gelu(x: Array) -> Run:
    torch, (tensor,) = _load(x)
    run = partial(torch.nn.functional.gelu, tensor)
    return fastest(run, partial(run, out=torch.empty_like(tensor)))


def layer_norm(x: Array, weight: Array, bias: Array) -> Run:
    torch, (tensor, *scales) = _load(x, weight, bias)
    return partial(torch.nn.functional.layer_norm, tensor, weight.shape, *scales)


def rms_norm(x: Array, weight: Array, eps: float) -> Run:
    torch, (tensor, scale) = _load(x, weight)
    return partial(torch.nn.functional.rms_norm, tensor, weight.shape, scale, eps)


def rotary_embedding(x: Array, cos: Array, sin: Array) -> Run:
    """As Transformers writes it; and into given tensors."""
    torch, (tensor, cosines, sines) = _load(x, cos, sin)
    half = x.shape[-1] // 2
    turned, out = torch.empty_like(tensor), torch.empty_like(tensor)

    def run() -> Any:
        return tensor * cosines + torch.cat((-tensor[..., half:], tensor[..., :half]), dim=-1) * sines

    def into() -> Any:
        torch.neg(tensor[..., half:], out=turned[..., :half])
        turned[..., half:] = tensor[..., :half]
        return torch.mul(tensor, cosines, out=out).addcmul_(turned, sines)

    return fastest(run, into)
