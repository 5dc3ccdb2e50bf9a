"""One layer of an encoder or of a decoder: attention and feed-forward, each with its norm and its residual."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from ..scalars import choose, integer, number
from . import initial
from .arrays import Array, check_dropout, expect_divides
from .attention import MultiHeadAttention
from .cache import LayerCache, expect_cache, step_of
from .entry import Target, TargetMasks, enter_source, enter_target
from .feed_forward import FeedForward
from .layer import Layer, Seed
from .masks import Visible
from .norm import LayerNorm, Norm, RMSNorm
from .positions import AttentionPositions


class Block(Layer):
    """What `EncoderLayer` and `DecoderLayer` share: self-attention, feed-forward, and a norm before or after each."""

    _has_memory: ClassVar[bool]

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        *,
        dropout: float = 0.0,
        activation: str = "relu",
        norm_first: bool = False,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = True,
        bias: bool = True,
        norm: str = "layer",
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        positions: AttentionPositions | None = None,
        window: Sequence[int] | None = None,
        scale: float | None = None,
        dtype: DTypeLike = np.float32,
        seed: Seed = 0,
    ) -> None:
        super().__init__(dtype)
        check_dropout(dropout)
        self.d_model, self.nhead = integer("d_model", d_model), integer("nhead", nhead)
        self.norm_first, self.batch_first = norm_first, batch_first
        if head_dim is None:
            expect_divides("nhead", nhead, "d_model", d_model)
        rng = initial.generator(seed)
        attention = partial(
            MultiHeadAttention, d_model, nhead, bias=bias, batch_first=batch_first, num_kv_heads=num_kv_heads,
            head_dim=head_dim, scale=scale, dtype=dtype, seed=rng,
        )  # fmt: skip
        self.self_attn = attention(positions=positions, window=window)
        if self._has_memory:
            self.multihead_attn = attention()
        self.feed_forward = FeedForward(d_model, dim_feedforward, activation, bias=bias, dtype=dtype, seed=rng)
        norms = [make_norm(norm, d_model, layer_norm_eps, bias, dtype) for _ in range(3)]
        self.norm1, self.norm2, norm3 = norms
        if self._has_memory:
            self.norm3 = norm3

    def run(self, x: Array, beside: Any, cache: LayerCache | None) -> Array:
        """`__call__` on checked, batch-first arrays: x (B, L, C) and what came in `beside` it."""
        raise NotImplementedError

    def _attend_to_itself(self, x: Array, visible: Visible, cache: LayerCache | None) -> Array:
        return self._within(
            self.norm1,
            x,
            lambda x, residual: self.self_attn.attend(
                x, x, x, visible, cache=None if cache is None else cache.self_attn, residual=residual
            )[0],
        )

    def _feed_forward(self, norm: Norm, x: Array) -> Array:
        return self._within(norm, x, lambda x, residual: self.feed_forward(x, residual=residual))

    def _within(self, norm: Norm, x: Array, half: Callable[[Array, Array], Array]) -> Array:
        """`half` of a block, called with its input and the residual it adds, and its norm before or after it."""
        return half(norm(x), x) if self.norm_first else norm(half(x, x))

    def _sizes(self) -> str:
        return f"{self.d_model}, {self.nhead}, {self.feed_forward.linear1.out_features}"


def make_norm(kind: str, width: int, eps: float, bias: bool, dtype: DTypeLike) -> Norm:
    """The norm of a block: "layer" or "rms"."""
    eps = number("layer_norm_eps", eps)
    if choose("norm", kind, {"layer": LayerNorm, "rms": RMSNorm}) is RMSNorm:
        return RMSNorm(width, eps, dtype=dtype)
    return LayerNorm(width, eps, bias=bias, dtype=dtype)


class EncoderLayer(Block):
    """Self-attention and feed-forward, as `torch.nn.TransformerEncoderLayer`.

    **In masks of bools, True HIDES a key, as everywhere in `torch.nn`.**

    >>> from tfcore import nn
    >>> layer = nn.EncoderLayer(64, 8, 256, activation="gelu", norm_first=True)
    >>> padding = np.array([[False] * 5, [False] * 3 + [True] * 2])
    >>> layer(np.ones((2, 5, 64), np.float32), src_key_padding_mask=padding).shape
    (2, 5, 64)

    Parameters
    ----------
    d_model, nhead : int
        The width of the sequences, and the number of heads.
    dim_feedforward : int
        The width of the layer within the feed-forward half.
    dropout : float
        Taken for the sake of code written for PyTorch: layers are for inference, where it does nothing.
    activation : str
        One of `FeedForward`'s; with a gated one, such as "swiglu", `linear3` joins `linear1` and `linear2`.
    norm_first : bool
        Norms come before attention and feed-forward, inside the residuals; otherwise after them.
    layer_norm_eps : float
    batch_first : bool
        Sequences are (B, L, C); otherwise (L, B, C). Not PyTorch's default.
    bias : bool
        False leaves all biases out.
    norm : "layer" or "rms"
        `LayerNorm` or `RMSNorm`.
    num_kv_heads, head_dim, scale, positions, window
        Of the self-attention, as in `MultiHeadAttention`.
    dtype, seed
        As in `Linear`.

    Attributes
    ----------
    self_attn : MultiHeadAttention
    feed_forward : FeedForward
    norm1, norm2 : LayerNorm or RMSNorm
    """

    _has_memory = False

    def __call__(
        self,
        src: Any,
        src_mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool = False,
        *,
        cache: LayerCache | None = None,
    ) -> Array:
        """src (B, S, d_model) → the same shape; arguments as in `Encoder`, `src_mask` being its `mask`."""
        expect_cache(cache, LayerCache)
        names = ("src_mask", "src_key_padding_mask")
        x, visible, layout = enter_source(self, src, src_mask, src_key_padding_mask, is_causal, cache, names)
        with step_of(cache):
            return layout.leave(self.run(x, visible, cache))

    def run(self, x: Array, beside: Visible, cache: LayerCache | None) -> Array:
        return self._feed_forward(self.norm2, self._attend_to_itself(x, beside, cache))

    def _parts(self) -> Mapping[str, Layer]:
        return {"self_attn.": self.self_attn, "": self.feed_forward, "norm1.": self.norm1, "norm2.": self.norm2}


class DecoderLayer(Block):
    """Self-attention, attention to a memory and feed-forward, as `torch.nn.TransformerDecoderLayer`.

    **In masks of bools, True HIDES a key, as everywhere in `torch.nn`.**

    >>> from tfcore import nn
    >>> layer = nn.DecoderLayer(64, 8, 256, activation="swiglu", norm="rms", bias=False)
    >>> layer(np.ones((2, 5, 64), np.float32), np.ones((2, 7, 64), np.float32), tgt_is_causal=True).shape
    (2, 5, 64)

    Parameters as in `EncoderLayer`; the attention to the memory has the same `num_kv_heads`, `head_dim` and `scale`,
    but no positions and no window.

    Attributes
    ----------
    self_attn, multihead_attn : MultiHeadAttention
    feed_forward : FeedForward
    norm1, norm2, norm3 : LayerNorm or RMSNorm
    """

    _has_memory = True

    def __call__(
        self,
        tgt: Any,
        memory: Any = None,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
        *,
        cache: LayerCache | None = None,
    ) -> Array:
        """tgt (B, T, d_model), memory (B, S, d_model) → as tgt; arguments as in `Decoder`."""
        expect_cache(cache, LayerCache)
        masks = TargetMasks(
            tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask, tgt_is_causal, memory_is_causal
        )
        target, layout = enter_target(self, tgt, memory, masks, cache)
        with step_of(cache):
            return layout.leave(self.run(target.x, target, cache))

    def run(self, x: Array, beside: Target, cache: LayerCache | None) -> Array:
        x = self._attend_to_itself(x, beside.visible, cache)
        x = self._within(self.norm2, x, lambda x, residual: self._attend_to_memory(x, residual, beside, cache))
        return self._feed_forward(self.norm3, x)

    def _attend_to_memory(self, x: Array, residual: Array, target: Target, cache: LayerCache | None) -> Array:
        return self.multihead_attn.attend_memory(
            x,
            target.memory,
            target.visible_memory,
            first=target.first,
            cache=None if cache is None else cache.cross_attn,
            residual=residual,
        )

    def _parts(self) -> Mapping[str, Layer]:
        norms: dict[str, Layer] = {"norm1.": self.norm1, "norm2.": self.norm2, "norm3.": self.norm3}
        return {"self_attn.": self.self_attn, "multihead_attn.": self.multihead_attn, "": self.feed_forward, **norms}
