"""A transformer in plain NumPy: embeddings, blocks and a last norm, as the core runs them, written to be read.

It takes the declarative descriptions of `models.architecture` (by their fields) and tensors under the same names.
Everything is float64, and one text at a time: texts of a batch do not see each other.
Letters: L tokens, S tokens of the encoder, C width, H heads, G key heads, D head size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import reference

Float64 = NDArray[np.float64]
Weights = Mapping[str, NDArray[Any]]


class BlockOutput(NamedTuple):
    """States (L, C) after a block, its attention weights (H, L, L), and (H, L, S) over the encoder's tokens or None."""

    state: Float64
    attention: Float64
    cross_attention: Float64 | None


class StackOutput(NamedTuple):
    """States (L, C): the embeddings, then each block's, the last one normed; and the weights of each block."""

    states: list[Float64]
    attentions: list[Float64]
    cross_attentions: list[Float64]


# --- a stack ---------------------------------------------------------------------------------------------------------


def stack(
    input_ids: ArrayLike,
    weights: Weights,
    data: Any,
    *,
    token_type_ids: ArrayLike | None = None,
    position_ids: ArrayLike | None = None,
    encoded: ArrayLike | None = None,
) -> StackOutput:
    """One text, (L,) token ids, through a `models.architecture.StackSpec`.

    Token types are 0 and positions 0, 1, …, L - 1 unless given. `encoded` (S, C) is what cross-attention looks at.
    """
    ids = np.asarray(input_ids)
    types = None if token_type_ids is None else np.asarray(token_type_ids)
    positions = np.arange(len(ids)) if position_ids is None else np.asarray(position_ids)
    bias = None if data.relative is None else relative_bias(weights["relative.weight"], data.relative, len(ids))
    first = data.blocks[0]

    result = StackOutput([_embed(ids, types, positions, weights, data)], [], [])
    for i, block in enumerate(data.blocks):
        out = transformer_block(
            result.states[-1],
            _part(weights, f"blocks.{i}"),
            block,
            positions=positions,
            relative_bias=bias if block.relative else None,
            encoded=encoded,
        )
        result.states.append(out.state)
        result.attentions.append(out.attention)
        if out.cross_attention is not None:
            result.cross_attentions.append(out.cross_attention)
    if data.final_norm:
        result.states[-1] = _norm(result.states[-1], weights, "final_norm", first)
    return result


def _embed(
    ids: NDArray[Any], types: NDArray[Any] | None, positions: NDArray[Any], weights: Weights, data: Any
) -> Float64:
    """norm(word[id] · scale + token_type[t] + position[p]) W, each part but the first where the stack has it."""
    e, own = data.embeddings, _part(weights, "embeddings")
    x: Float64 = own["word.weight"].astype(np.float64)[ids] * e.scale
    if e.token_types:
        x = x + own["token_type.weight"][np.zeros_like(ids) if types is None else types]
    elif e.typed_by_words and types is not None:
        x = x + own["word.weight"].astype(np.float64)[types]
    if e.positions:
        sinusoids = reference.positional_encoding(e.positions, e.width, layout="split")
        x = x + (sinusoids if e.sinusoidal else own["position.weight"])[positions + e.position_offset]
    if e.norm:
        x = _norm(x, own, "norm", data.blocks[0])
    return x if e.width == data.width else _linear(x, own, "projection")


def relative_bias(table: NDArray[Any], relative: Any, length: int) -> Float64:
    """T5's: one number a head and bucket of distances, (buckets, H) → (H, L, L).

    Distances below half of the buckets have one each. From there to `max_distance`, buckets grow in proportion to the
    distance, and the last takes all beyond. Keys to the right have buckets of their own, or else share that of 0.
    """
    distance = np.arange(length) - np.arange(length)[:, None]
    buckets = relative.buckets // 2 if relative.bidirectional else relative.buckets
    far = np.abs(distance) if relative.bidirectional else np.maximum(-distance, 0)
    near = buckets // 2
    ratio = (np.maximum(far, near) / near).astype(np.float32)  # float32, because it decides which bucket: as trained
    steps = np.log(ratio) / np.float32(np.log(relative.max_distance / near)) * np.float32(buckets - near)
    bucket = np.where(far < near, far, np.minimum(near + steps.astype(int), buckets - 1))
    if relative.bidirectional:
        bucket = bucket + buckets * (distance > 0)
    return np.moveaxis(table.astype(np.float64)[bucket], -1, 0)


# --- a block ---------------------------------------------------------------------------------------------------------


def transformer_block(
    x: ArrayLike,
    weights: Weights,
    block: Any,
    *,
    positions: ArrayLike | None = None,
    relative_bias: Float64 | None = None,
    encoded: ArrayLike | None = None,
) -> BlockOutput:
    """x (L, C) through attention, where `block.cross` attention to `encoded` (S, C), and a feed-forward layer.

    `block` is a `models.architecture.Block`; `relative_bias` (H, L, L) joins the scores; rotary embeddings turn by
    `positions` (0, 1, …, L - 1 when None).
    """
    start = np.asarray(x, np.float64)
    at = np.arange(len(start)) if positions is None else np.asarray(positions)
    own, cross, ff = (_part(weights, name) for name in ("attention", "cross", "feed_forward"))
    attention: list[Float64] = []  # the weights of the one, and where there is an encoder, of the other

    def attend_to_itself(x: Float64) -> Float64:
        q, k, v = _queries(x, own, block), *_keys_and_values(x, own, block)
        if block.head_norm:
            q, k = (_rms(heads, own, f"{name}_norm", block) for name, heads in (("query", q), ("key", k)))
        if block.rotary is not None:
            q, k = (_turn(heads, at, block.rotary) for heads in (q, k))
        return attend(q, k, v, own, attn_mask=relative_bias, is_causal=block.causal, window=block.window)

    def attend_to_the_encoder(x: Float64) -> Float64:
        q, (k, v) = _queries(x, cross, block), _keys_and_values(np.asarray(encoded, np.float64), cross, block)
        return attend(q, k, v, cross)

    def attend(q: Float64, k: Float64, v: Float64, part: Weights, **visible: Any) -> Float64:
        softcap = block.softcap if part is own else 0.0
        out, seen = reference.scaled_dot_product_attention(
            q, k, v, scale=block.scale, softcap=softcap, enable_gqa=True, return_weights=True, **visible
        )
        attention.append(seen)
        heads, length, size = q.shape
        return _linear(np.swapaxes(out, 0, 1).reshape(length, heads * size), part, "output")

    def feed_forward(x: Float64) -> Float64:
        if block.gated:
            hidden = _linear(x, ff, "gate", block.activation) * _linear(x, ff, "up")
        else:
            hidden = _linear(x, ff, "up", block.activation)
        return _linear(hidden, ff, "down")

    state = _branch(start, start, attend_to_itself, own, block, normed=block.first_norm)
    if block.cross:
        state = _branch(state, state, attend_to_the_encoder, cross, block)
    state = _branch(state, start if block.placement == "parallel" else state, feed_forward, ff, block)
    return BlockOutput(state, attention[0], attention[1] if block.cross else None)


def _branch(
    x: Float64,
    into: Float64,
    layer: Callable[[Float64], Float64],
    weights: Weights,
    block: Any,
    *,
    normed: bool = True,
) -> Float64:
    """x + layer(into), with the norms where the block places them; `normed`: the one before is there."""
    if block.placement == "post":
        return _norm(x + layer(into), weights, "after_norm", block)
    y = layer(_norm(into, weights, "norm", block) if normed else into)
    return x + (_norm(y, weights, "branch_norm", block) if block.placement == "sandwich" else y)


def _queries(x: Float64, weights: Weights, block: Any) -> Float64:
    return _heads(_linear(x, weights, "query"), block.heads)


def _keys_and_values(x: Float64, weights: Weights, block: Any) -> tuple[Float64, Float64]:
    return _heads(_linear(x, weights, "key"), block.key_heads), _heads(_linear(x, weights, "value"), block.key_heads)


def _heads(x: Float64, count: int) -> Float64:
    """(L, H D) → (H, L, D)"""
    return np.swapaxes(x.reshape(len(x), count, x.shape[1] // count), 0, 1)


def _turn(heads: Float64, positions: NDArray[Any], rotary: Any) -> Float64:
    return reference.rotary_embedding(
        heads,
        positions,
        base=rotary.base,
        rotary_dim=rotary.dim,
        interleaved=rotary.interleaved,
        scaling=rotary.scaling,
    )


# --- layers by name --------------------------------------------------------------------------------------------------


def _part(weights: Weights, name: str) -> dict[str, NDArray[Any]]:
    """The tensors below a name, without it."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _linear(x: Float64, weights: Weights, name: str, activation: str | None = None) -> Float64:
    return reference.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"), activation=activation)


def _norm(x: Float64, weights: Weights, name: str, block: Any) -> Float64:
    if block.norm == "rms":
        return _rms(x, weights, name, block)
    return reference.layer_norm(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"), eps=block.eps)


def _rms(x: Float64, weights: Weights, name: str, block: Any) -> Float64:
    return reference.rms_norm(x, weights[f"{name}.weight"], eps=block.eps)
