"""Encoder and decoder: layers one after another, and a norm behind the last."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Generic, TypeVar

from ..scalars import integer
from .arrays import Array
from .blocks import Block, DecoderLayer, EncoderLayer
from .cache import KVCache, expect_cache
from .entry import TargetMasks, enter_source, enter_target
from .layer import Layer
from .norm import Norm

B = TypeVar("B", bound=Block)


class Stack(Layer, Generic[B]):
    """What `Encoder` and `Decoder` share: layers and a norm."""

    def __init__(self, kind: type[B], name: str, layer: B | Sequence[B], num_layers: int | None, norm: Any) -> None:
        if isinstance(layer, kind):
            self.layers = [copy.deepcopy(layer) for _ in range(integer("num_layers", num_layers))]
        else:
            self.layers = _as_they_are(kind, name, layer, num_layers)
        if norm is not None and not isinstance(norm, Norm):
            raise TypeError(f"norm is of type {type(norm).__name__}, expected a LayerNorm or RMSNorm")
        super().__init__(self.layers[0].dtype)
        self.norm = norm

    def run(self, x: Array, beside: Any, cache: KVCache | None) -> Array:
        """`__call__` on checked, batch-first arrays: x (B, L, C) and what came in `beside` it."""
        with nullcontext() if cache is None else cache.step(len(self.layers)):
            for i, layer in enumerate(self.layers):
                x = layer.run(x, beside, None if cache is None else cache.layer(i))
            return x if self.norm is None else self.norm(x)

    def _parts(self) -> Mapping[str, Layer]:
        layers: dict[str, Layer] = {f"layers.{i}.": layer for i, layer in enumerate(self.layers)}
        return layers if self.norm is None else {**layers, "norm.": self.norm}

    def _sizes(self) -> str:
        return f"{len(self.layers)} x {self.layers[0]!r}"


def _as_they_are(kind: type[B], name: str, layers: Any, num_layers: int | None) -> list[B]:
    """A sequence of layers, checked."""
    found = list(layers) if isinstance(layers, Sequence) else [layers]
    for layer in found:
        if not isinstance(layer, kind):
            raise TypeError(
                f"{name} is or holds {type(layer).__name__}, expected {kind.__name__} or a sequence of them"
            )
    if not found:
        raise ValueError(f"{name} is an empty sequence, expected at least one layer")
    if num_layers not in (None, len(found)):
        raise ValueError(f"num_layers is {num_layers}, but {name} is a sequence of {len(found)}")
    return found


class Encoder(Stack[EncoderLayer]):
    """Encoder layers one after another, as `torch.nn.TransformerEncoder`; with causality also a decoder-only model.

    **In masks of bools, True HIDES a key, as everywhere in `torch.nn`.**

    >>> import numpy as np
    >>> from tfcore import nn
    >>> encoder = nn.Encoder(nn.EncoderLayer(64, 8, 256), 2, norm=nn.LayerNorm(64))
    >>> encoder(np.ones((2, 5, 64), np.float32), is_causal=True).shape
    (2, 5, 64)

    Parameters
    ----------
    encoder_layer : one layer, or a sequence of them
        One is copied num_layers times, weights included, as PyTorch does. A sequence is taken as it is: its layers may
        differ, or share what they hold.
    num_layers : int
        How many copies of one layer; not given with a sequence.
    norm : LayerNorm or RMSNorm, optional
        Applied to what the last layer returns.

    Attributes
    ----------
    layers : list of EncoderLayer
    norm : LayerNorm, RMSNorm or None
    """

    def __init__(
        self,
        encoder_layer: EncoderLayer | Sequence[EncoderLayer],
        num_layers: int | None = None,
        norm: Norm | None = None,
    ) -> None:
        super().__init__(EncoderLayer, "encoder_layer", encoder_layer, num_layers, norm)

    def __call__(
        self,
        src: Any,
        mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool | None = None,
        *,
        cache: KVCache | None = None,
    ) -> Array:
        """src (B, S, C) → (B, S, C).

        Parameters
        ----------
        src : (B, S, C), or (S, B, C) where the layers were made with `batch_first=False`, or (S, C)
        mask : (S, S) or (B * H, S, S)
            bool: **True HIDES the key from the query**. float: added to the scores.
        src_key_padding_mask : (B, S), or (S,) without a batch
            bool: **True HIDES the key** from all queries of its sequence. float: added to the scores.
        is_causal : bool
            Position i sees positions 0 to i alone, with or without a `mask` that says so.
        cache : KVCache, optional
            Of the positions before `src`. Implies `is_causal`; masks then have columns for the cache's positions too,
            which come first.
        """
        expect_cache(cache, KVCache)
        names = ("mask", "src_key_padding_mask")
        x, visible, layout = enter_source(self.layers[0], src, mask, src_key_padding_mask, is_causal, cache, names)
        return layout.leave(self.run(x, visible, cache))


class Decoder(Stack[DecoderLayer]):
    """Decoder layers one after another, as `torch.nn.TransformerDecoder`.

    **In masks of bools, True HIDES a key, as everywhere in `torch.nn`.**

    >>> import numpy as np
    >>> from tfcore import nn
    >>> decoder = nn.Decoder(nn.DecoderLayer(64, 8, 256), 2)
    >>> decoder(np.ones((2, 5, 64), np.float32), np.ones((2, 7, 64), np.float32), tgt_is_causal=True).shape
    (2, 5, 64)

    Parameters, `decoder_layer` among them, and attributes as in `Encoder`.
    """

    def __init__(
        self,
        decoder_layer: DecoderLayer | Sequence[DecoderLayer],
        num_layers: int | None = None,
        norm: Norm | None = None,
    ) -> None:
        super().__init__(DecoderLayer, "decoder_layer", decoder_layer, num_layers, norm)

    def __call__(
        self,
        tgt: Any,
        memory: Any = None,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
        *,
        cache: KVCache | None = None,
    ) -> Array:
        """tgt (B, T, C), memory (B, S, C) → (B, T, C).

        Parameters
        ----------
        tgt, memory : (B, T, C) and (B, S, C)
            (T, B, C) and (S, B, C) where the layers were made with `batch_first=False`; (T, C) and (S, C) without a
            batch. The memory may be left out where the cache has seen it.
        tgt_mask, memory_mask : (T, T) or (B * H, T, T); (T, S) or (B * H, T, S)
            bool: **True HIDES the key from the query**. float: added to the scores.
        tgt_key_padding_mask, memory_key_padding_mask : (B, T) and (B, S), or (T,) and (S,) without a batch
            bool: **True HIDES the key** from all queries of its sequence. float: added to the scores.
        tgt_is_causal, memory_is_causal : bool
            Position i sees positions 0 to i alone, with or without a mask that says so.
        cache : KVCache, optional
            Of the positions before `tgt`. Implies `tgt_is_causal`; the masks of tgt then have columns for the cache's
            positions too, which come first.
        """
        expect_cache(cache, KVCache)
        masks = TargetMasks(
            tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask, tgt_is_causal, memory_is_causal
        )
        target, layout = enter_target(self.layers[0], tgt, memory, masks, cache)
        return layout.leave(self.run(target.x, target, cache))
