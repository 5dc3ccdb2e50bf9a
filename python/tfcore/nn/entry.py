"""What comes into an encoder or a decoder, or into one of their layers: sequences and PyTorch's masks, checked."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from .arrays import Array, Layout, as_array, expect_rows
from .cache import KVCache, LayerCache, check_cache
from .masks import Scope, Visible

Cache = KVCache | LayerCache | None


class Sizes(Protocol):
    """What of a layer its input must fit."""

    d_model: int
    nhead: int
    batch_first: bool


class TargetMasks(NamedTuple):
    """The mask arguments of PyTorch's decoders, in their order."""

    tgt_mask: Any
    memory_mask: Any
    tgt_key_padding_mask: Any
    memory_key_padding_mask: Any
    tgt_is_causal: bool | None
    memory_is_causal: bool


class Target(NamedTuple):
    """What comes into a decoder, batch first."""

    x: Array  # (B, T, C)
    memory: Any  # (B, S, C); None where a cache has its keys and values
    visible: Visible
    visible_memory: Visible
    first: int  # the position of the first row of x


def enter_source(
    sizes: Sizes, src: Any, mask: Any, padding: Any, is_causal: bool | None, cache: Cache, names: tuple[str, str]
) -> tuple[Array, Visible, Layout]:
    """src as (B, S, C), and what it may see of itself. `names` are those of the two masks."""
    x = as_array("src", src)
    layout = Layout.of(x, sizes.batch_first)
    x = layout.enter("src", x, sizes.d_model)
    scope = Scope(len(x), sizes.nhead, x.shape[1], check_cache(cache, "src", x) + x.shape[1], layout.batched)
    return x, Visible.read(scope, mask, padding, is_causal or cache is not None, names), layout


def enter_target(sizes: Sizes, tgt: Any, memory: Any, masks: TargetMasks, cache: Cache) -> tuple[Target, Layout]:
    """tgt as (B, T, C), memory as (B, S, C), and what tgt may see of itself and of memory."""
    x = as_array("tgt", tgt)
    layout = Layout.of(x, sizes.batch_first)
    x = layout.enter("tgt", x, sizes.d_model)
    past = check_cache(cache, "tgt", x)
    visible = Visible.read(
        Scope(len(x), sizes.nhead, x.shape[1], past + x.shape[1], layout.batched),
        masks.tgt_mask,
        masks.tgt_key_padding_mask,
        masks.tgt_is_causal or cache is not None,
        ("tgt_mask", "tgt_key_padding_mask"),
    )
    kept = None if cache is None else cache.memory_length
    remembered = None if memory is None else layout.enter("memory", as_array("memory", memory), sizes.d_model)
    visible_memory = Visible.read(
        Scope(len(x), sizes.nhead, x.shape[1], _memory_keys(remembered, kept, x), layout.batched),
        masks.memory_mask,
        masks.memory_key_padding_mask,
        masks.memory_is_causal,
        ("memory_mask", "memory_key_padding_mask"),
    )
    return Target(x, remembered, visible, visible_memory, past), layout


def _memory_keys(memory: Array | None, kept: int | None, x: Array) -> int:
    """How many positions the memory has, whether it is given, kept in a cache, or both."""
    if memory is None:
        if kept is None:
            raise TypeError("memory is missing: only a cache that has seen it can stand for it")
        return kept
    expect_rows("memory", memory, len(x), "tgt")
    if kept is not None and memory.shape[1] != kept:
        raise ValueError(f"memory has {memory.shape[1]} positions, but that of the cache has {kept}")
    return int(memory.shape[1])
