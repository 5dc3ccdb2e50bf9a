"""Attention with its projections: heads, shared keys, positions, masks, a cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import ops
from ..scalars import integer
from . import initial
from .arrays import Array, Layout, as_array, check_dropout, expect_divides, expect_rows
from .cache import KeyValues, check_cache, expect_cache, step_of
from .layer import Layer, Seed, Weight
from .linear import Linear
from .masks import Scope, Visible
from .positions import AttentionPositions


class MultiHeadAttention(Layer):
    """Attention in several heads between projections, as `torch.nn.MultiheadAttention`.

    **In masks of bools, True HIDES a key, as everywhere in `torch.nn`. In `tfcore.scaled_dot_product_attention`, as in
    `torch.nn.functional`, True lets it be seen.**

    >>> from tfcore import nn
    >>> attention = nn.MultiHeadAttention(64, 8)
    >>> x, padding = np.ones((2, 5, 64), np.float32), np.zeros((2, 5), bool)
    >>> output, weights = attention(x, x, x, key_padding_mask=padding)
    >>> output.shape, weights.shape
    ((2, 5, 64), (2, 5, 5))
    >>> shared = nn.MultiHeadAttention(64, 8, num_kv_heads=2, positions=nn.RotaryPositions(), window=(128, 0))
    >>> shared(x, x, x, need_weights=False)[0].shape
    (2, 5, 64)

    Parameters
    ----------
    embed_dim, num_heads : int
        The width of queries and of the result, and the number of heads.
    dropout : float
        Taken for the sake of code written for PyTorch: layers are for inference, where it does nothing.
    bias : bool
        False leaves the biases of the projections out.
    add_bias_kv : bool
        A learned key and value stand beside those of every sequence.
    add_zero_attn : bool
        A key and value of zeros stand beside those of every sequence.
    kdim, vdim : int, optional
        The widths of keys and of values; embed_dim if not given.
    batch_first : bool
        Sequences are (B, L, C); otherwise (L, B, C). Not PyTorch's default.
    num_kv_heads : int, optional
        A divisor of num_heads: so many heads of keys and values, each shared by as many query heads
        (Ainslie et al. 2023). The rows of `in_proj_weight` are those of all queries, then keys, then values.
    head_dim : int, optional
        The size of a head; embed_dim / num_heads if not given.
    positions : RotaryPositions, ALiBiPositions or BucketedPositions, optional
    window : (left, right), optional
        A query at position i sees keys from i - left to i + right; -1 leaves a side open.
    scale : float, optional
        Of the scores; 1 / sqrt(head_dim) if not given.
    dtype, seed
        As in `Linear`.

    Attributes
    ----------
    in_proj_weight : ((num_heads + 2 * num_kv_heads) * head_dim, embed_dim), or None where kdim or vdim differ
    q_proj_weight, k_proj_weight, v_proj_weight : the three of them where kdim or vdim differ, or None
    in_proj_bias : ((num_heads + 2 * num_kv_heads) * head_dim,) or None
    bias_k, bias_v : (1, 1, num_kv_heads * head_dim) or None
    out_proj : Linear
    """

    in_proj_weight = Weight()
    q_proj_weight = Weight()
    k_proj_weight = Weight()
    v_proj_weight = Weight()
    in_proj_bias = Weight()
    bias_k = Weight()
    bias_v = Weight()

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = True,
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
        self.embed_dim, self.num_heads = integer("embed_dim", embed_dim), integer("num_heads", num_heads)
        self.kdim = integer("kdim", embed_dim if kdim is None else kdim)
        self.vdim = integer("vdim", embed_dim if vdim is None else vdim)
        self.num_kv_heads = integer("num_kv_heads", num_heads if num_kv_heads is None else num_kv_heads)
        self.head_dim = integer("head_dim", max(embed_dim // num_heads, 1) if head_dim is None else head_dim)
        self.batch_first, self.add_zero_attn = batch_first, add_zero_attn
        self.positions = AttentionPositions() if positions is None else positions
        self.window, self.scale = window, scale
        expect_divides("num_kv_heads", self.num_kv_heads, "num_heads", num_heads)
        if head_dim is None:
            expect_divides("num_heads", num_heads, "embed_dim", embed_dim)
        self._check_positions(add_bias_kv)

        rng = initial.generator(seed)
        self._draw_projections(rng, bias)
        self._draw_extra_keys(rng, add_bias_kv)
        self.out_proj = Linear(self.num_heads * self.head_dim, embed_dim, bias, dtype=dtype, seed=rng)
        if bias:
            self.out_proj.bias = np.zeros(embed_dim)

    def __call__(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        *,
        cache: KeyValues | None = None,
    ) -> tuple[Array, Array | None]:
        """What each query finds, and with which weights.

        Parameters
        ----------
        query, key, value : (B, L, embed_dim), (B, S, kdim), (B, S, vdim)
            With `batch_first=False` (L, B, embed_dim) and so on. Without a batch (L, embed_dim) and so on.
        key_padding_mask : (B, S), or (S,) without a batch
            bool: **True HIDES the key** from all queries of its sequence. float: added to the scores.
        need_weights : bool
            False spares the array of L x S weights.
        attn_mask : (L, S) or (B * num_heads, L, S)
            bool: **True HIDES the key from the query**. float: added to the scores.
        average_attn_weights : bool
            Whether the weights are the average over the heads.
        is_causal : bool
            Query i sees keys 0 to i alone, with or without an `attn_mask` that says so.
        cache : KeyValues, optional
            `key` and `value` are added to those of the cache, and queries are at the positions of the new keys. Implies
            `is_causal`. S counts all keys, those of the cache first.

        Returns
        -------
        output : as query
        weights : (B, L, S), or (B, num_heads, L, S) if not averaged, or None; without a batch, without B
            A query that sees no key has weights of zero, and finds zeros: its output is the bias of `out_proj`.
        """
        expect_cache(cache, KeyValues)
        same_key, same_value = query is key, key is value  # what is one array is projected by one product
        query, key, value = as_array("query", query), as_array("key", key), as_array("value", value)
        layout = Layout.of(query, self.batch_first)
        queries = layout.enter("query", query, self.embed_dim)
        keys = queries if same_key and self.kdim == self.embed_dim else layout.enter("key", key, self.kdim)
        values = keys if same_value and self.vdim == self.kdim else layout.enter("value", value, self.vdim)
        _check_keys(queries, keys, values)
        past = check_cache(cache, "query", queries)
        scope = Scope(len(queries), self.num_heads, queries.shape[1], past + keys.shape[1], layout.batched)
        visible = Visible.read(
            scope, attn_mask, key_padding_mask, is_causal or cache is not None, ("attn_mask", "key_padding_mask")
        )
        with step_of(cache):
            output, weights = self.attend(queries, keys, values, visible, cache=cache, need_weights=need_weights)
        if weights is not None:
            weights = weights.mean(axis=1) if average_attn_weights else weights
            weights = weights if layout.batched else weights[0]
        return layout.leave(output), weights

    def attend(
        self,
        query: Array,
        key: Array,
        value: Array,
        visible: Visible,
        *,
        cache: KeyValues | None = None,
        residual: Array | None = None,
        need_weights: bool = False,
    ) -> tuple[Array, Array | None]:
        """`__call__` on checked, batch-first arrays: the output plus `residual`, and the weights of all heads."""
        first = 0 if cache is None else cache.length
        q, k, v = self._project(query, key, value)
        q, k = self.positions.turn(q, first), self.positions.turn(k, first)
        if cache is not None:
            k, v = cache.append(k, v)
        return self._look(q, k, v, visible, first, residual, need_weights)

    def attend_memory(
        self,
        query: Array,
        memory: Any,
        visible: Visible,
        *,
        first: int,
        cache: KeyValues | None,
        residual: Array | None,
    ) -> Array:
        """Attention to a memory whose keys and values are computed once: taken from `cache` if it has them.

        The memory may then be None. The first query is at position `first`.
        """
        if cache is None or cache.rows is None:
            q, k, v = self._project(query, memory, memory)
            if cache is not None:
                k, v = cache.append(k, v)
        else:
            q, (k, v) = self._heads(self._product("q")(query)), cache.kept
        return self._look(q, k, v, visible, first, residual, need_weights=False)[0]

    # --- projections -------------------------------------------------------------------------------------------------

    def _project(self, query: Array, key: Array, value: Array) -> tuple[Array, Array, Array]:
        """Heads of queries, keys and values, by one product for all inputs that are one array."""
        if self.in_proj_weight is None or key is not value:
            products = [self._product(part)(x) for part, x in (("q", query), ("k", key), ("v", value))]
        elif query is not key:
            products = [self._product("q")(query), *self._split(self._product("kv")(key), "kv")]
        else:
            products = self._split(self._product("qkv")(query), "qkv")
        q, k, v = (self._heads(product) for product in products)
        return q, k, v

    def _product(self, parts: str) -> ops.PackedLinear:
        """The projection to "q", "k", "v", "kv" or "qkv"."""
        rows = slice(self._rows[parts[0]].start, self._rows[parts[-1]].stop)

        def weight() -> tuple[Array, Array | None]:
            joint = self.in_proj_weight
            bias = None if self.in_proj_bias is None else self.in_proj_bias[rows]
            return getattr(self, f"{parts}_proj_weight") if joint is None else joint[rows], bias

        return self._packed(parts, weight)

    def _split(self, product: Array, parts: str) -> list[Array]:
        start = self._rows[parts[0]].start
        return [product[..., self._rows[part].start - start : self._rows[part].stop - start] for part in parts]

    def _heads(self, product: Array) -> Array:
        """(B, L, heads * D) → (B, heads, L, D), a view."""
        batch, length, width = product.shape
        return np.swapaxes(product.reshape(batch, length, width // self.head_dim, self.head_dim), 1, 2)

    # --- the attention itself ----------------------------------------------------------------------------------------

    def _look(
        self, q: Array, k: Array, v: Array, visible: Visible, first: int, residual: Array | None, need_weights: bool
    ) -> tuple[Array, Array | None]:
        """q (B, H, L, D), the first at position `first`, k and v (B, G, S, D) → (B, L, C), and weights (B, H, L, S)."""
        visible = visible.with_bias(self.positions.bias(self.num_heads, q.shape[2], k.shape[2], first))
        k, v, extra = self._with_extra_keys(k, v)
        visible = visible.after(extra)
        result = ops.scaled_dot_product_attention(
            q,
            k,
            v,
            visible.mask,
            is_causal=visible.is_causal,
            query_offset=first + extra,
            key_lengths=visible.key_lengths,
            window=self.window,
            scale=self.scale,
            alibi_slopes=self.positions.slopes(self.num_heads),
            enable_gqa=self.num_kv_heads != self.num_heads,
            return_weights=need_weights,
        )
        found, weights = result if need_weights else (result, None)
        merged = found.swapaxes(1, 2).reshape(len(q), q.shape[2], self.num_heads * self.head_dim)
        if weights is not None and extra:
            weights = np.roll(weights, -extra, axis=-1)  # PyTorch's place for them is behind the others
        return self.out_proj(merged, residual=residual), weights

    def _with_extra_keys(self, k: Array, v: Array) -> tuple[Array, Array, int]:
        """Keys and values with those of `add_bias_kv` and `add_zero_attn` in front, where causality hides nothing."""
        fronts = [] if self.bias_k is None else [(self._extra(self.bias_k, k), self._extra(self.bias_v, v))]
        if self.add_zero_attn:
            none = np.zeros(1, k.dtype)
            fronts.append((self._extra(none, k), self._extra(none, v)))
        if not fronts:
            return k, v, 0
        keys, values = zip(*fronts, (k, v), strict=True)
        return np.concatenate(keys, axis=2), np.concatenate(values, axis=2), len(fronts)

    def _extra(self, one: Array, like: Array) -> Array:
        """(1, 1, heads * D), or one number for all → (B, heads, 1, D)."""
        batch, heads, _, width = like.shape
        together = np.broadcast_to(one, (batch, 1, heads * width))
        return together.reshape(batch, heads, 1, width)

    # --- construction ------------------------------------------------------------------------------------------------

    def _check_positions(self, add_bias_kv: bool) -> None:
        if not isinstance(self.positions, AttentionPositions):
            raise TypeError(
                f"positions is of type {type(self.positions).__name__}, expected one that acts in attention"
            )
        if (add_bias_kv or self.add_zero_attn) and (self.window is not None or self.positions.slopes(1) is not None):
            raise ValueError(
                "add_bias_kv and add_zero_attn add keys that are at no position: expected no window and no ALiBi"
            )
        none = np.empty((1, self.num_heads, 0, self.head_dim))  # refuses what no call can use
        self.positions.turn(none, 0), self.positions.bias(self.num_heads, 0, 0, 0)
        ops.scaled_dot_product_attention(none, none, none, window=self.window, scale=self.scale)

    def _draw_projections(self, rng: np.random.Generator, bias: bool) -> None:
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        stops = {"q": queries, "k": queries + keys, "v": queries + 2 * keys}
        self._rows = {"q": slice(0, queries), "k": slice(queries, stops["k"]), "v": slice(stops["k"], stops["v"])}
        joint = self.kdim == self.embed_dim == self.vdim
        shapes = {"q": (queries, self.embed_dim), "k": (keys, self.kdim), "v": (keys, self.vdim)}

        def draw(*shape: int) -> Array:
            return initial.xavier(rng, shape, self.dtype)

        self._put_optional("in_proj_weight", joint, lambda: draw(stops["v"], self.embed_dim))
        for part, shape in shapes.items():
            self._put_optional(f"{part}_proj_weight", not joint, partial(draw, *shape))
        self._put_optional("in_proj_bias", bias, lambda: np.zeros(stops["v"], self.dtype))

    def _draw_extra_keys(self, rng: np.random.Generator, wanted: bool) -> None:
        shape = (1, 1, self.num_kv_heads * self.head_dim)
        for name in ("bias_k", "bias_v"):
            self._put_optional(name, wanted, lambda: initial.normal(rng, shape, shape[-1] ** -0.5, self.dtype))

    def _parts(self) -> Mapping[str, Layer]:
        parts: dict[str, Layer] = {"out_proj.": self.out_proj}
        return {**parts, "positions.": self.positions} if isinstance(self.positions, Layer) else parts

    def _sizes(self) -> str:
        shared = "" if self.num_kv_heads == self.num_heads else f", num_kv_heads={self.num_kv_heads}"
        return f"{self.embed_dim}, {self.num_heads}{shared}"


def _check_keys(query: Array, key: Array, value: Array) -> None:
    expect_rows("key", key, len(query), "query")
    if value.shape[:2] != key.shape[:2]:
        raise ValueError(f"value has {value.shape[:2]} sequences and positions, expected {key.shape[:2]} as in key")
