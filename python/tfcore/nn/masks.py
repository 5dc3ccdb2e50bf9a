"""From PyTorch's mask arguments, where True hides, to the operators', where True is visible.

A padding mask whose hidden keys all come last becomes a length per sequence, so that padding costs nothing and no array
of L x S is made. Letters: B batch, H heads, L queries, S keys.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from .arrays import Array, as_array


class Scope(NamedTuple):
    """What masks must fit: B, H, L, S, and whether the caller's sequences have a batch axis."""

    batch: int
    heads: int
    queries: int
    keys: int
    batched: bool = True


@dataclass(frozen=True)
class Visible:
    """Which keys each query sees, in the words of `scaled_dot_product_attention`."""

    mask: Array | None = None  # broadcasts to (B, H, L, S): bool, True is visible; or floats that are added
    key_lengths: Array | None = None  # (B,)
    is_causal: bool = False

    @classmethod
    def read(
        cls, scope: Scope, attn_mask: Any, key_padding_mask: Any, is_causal: bool | None, names: tuple[str, str]
    ) -> Visible:
        """What PyTorch's three arguments leave visible together; `names` are those of the first two.

        Raises
        ------
        TypeError
            A mask holds neither bools nor floats.
        ValueError
            A mask's shape does not fit `scope`.
        """
        mask = None if attn_mask is None else _open(_read_attention_mask(names[0], attn_mask, scope))
        causal = bool(is_causal)
        if key_padding_mask is None:
            return cls(mask, None, causal)
        padding = _open(_read_padding_mask(names[1], key_padding_mask, scope))
        lengths = _lengths(padding)
        if lengths is None:
            return cls(_both(mask, padding[:, None, None]), None, causal)
        return cls(mask, None if (lengths == scope.keys).all() else lengths, causal)

    def with_bias(self, bias: Array | None) -> Visible:
        """With `bias`, floats that broadcast to (B, H, L, S), added to the scores."""
        return self if bias is None else replace(self, mask=_both(self.mask, bias))

    def after(self, extra: int) -> Visible:
        """With `extra` keys in front of the others that all queries see."""
        if not extra:
            return self
        mask = self.mask
        if mask is not None:
            seen = mask.dtype.type(mask.dtype == bool)
            mask = np.concatenate([np.full((*mask.shape[:-1], extra), seen), mask], axis=-1)
        return replace(self, mask=mask, key_lengths=None if self.key_lengths is None else self.key_lengths + extra)


def _read_attention_mask(name: str, value: Any, scope: Scope) -> Array:
    """(L, S) or (B * H, L, S) → what broadcasts to (B, H, L, S), still in PyTorch's sense."""
    mask = _read(name, value)
    _, _, queries, keys, _ = scope
    together, each = (queries, keys), (scope.batch * scope.heads, queries, keys)
    if mask.shape == together:
        return mask[None, None]
    if mask.shape != each:
        raise ValueError(f"{name} has shape {mask.shape}, expected {together} or {each}, (batch * heads, L, S)")
    return mask.reshape(scope.batch, scope.heads, queries, keys)


def _read_padding_mask(name: str, value: Any, scope: Scope) -> Array:
    """(B, S), or (S,) without a batch → (B, S), still in PyTorch's sense."""
    mask = _read(name, value)
    wanted = (scope.batch, scope.keys) if scope.batched else (scope.keys,)
    if mask.shape != wanted:
        raise ValueError(f"{name} has shape {mask.shape}, expected {wanted}")
    return mask.reshape(scope.batch, scope.keys)


def _read(name: str, value: Any) -> Array:
    mask = as_array(name, value)
    if mask.dtype.kind not in "bf":
        raise TypeError(f"{name} holds {mask.dtype}, expected bool (True hides) or floats (added to the scores)")
    return mask


def _open(mask: Array) -> Array:
    """Bools turned from "True hides" to "True is visible"; floats as they are."""
    return ~mask if mask.dtype == bool else mask


def _lengths(visible: Array) -> Array | None:
    """How many keys each sequence has, where what is hidden is hidden by bools and comes last."""
    if visible.dtype != bool:
        return None
    lengths: Array = visible.sum(axis=1)
    return lengths if np.array_equal(visible, np.arange(visible.shape[1]) < lengths[:, None]) else None


def _both(first: Array | None, second: Array) -> Array:
    """One mask that does what both do."""
    if first is None:
        return second
    if first.dtype == bool and second.dtype == bool:
        return first & second
    if first.dtype == bool:
        return np.where(first, second, second.dtype.type(-np.inf))
    if second.dtype == bool:
        return np.where(second, first, first.dtype.type(-np.inf))
    with np.errstate(over="ignore"):  # of lowest numbers, which stand for -inf
        summed: Array = first + second
    return summed
