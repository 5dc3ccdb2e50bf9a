"""Texts whose rotations follow their length (dynamic NTK, LongRoPE): one pass for each kind of rotation in a batch.

Transformers turns all texts of a batch by the longest one's frequencies. Here a text's numbers are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from .checkpoint import Float32Array
from .packing import PackedTokens, borders

Texts = npt.NDArray[np.bool_]  # which of a batch's
Kind = TypeVar("Kind")


def texts_by_kind(
    tokens: PackedTokens, kind: Callable[[int], Kind], same: Callable[[Kind], bytes]
) -> list[tuple[Kind, Texts]]:
    """Every kind that texts of their lengths have, and which have it. Kinds are one where `same` finds the same."""
    lengths = _lengths(tokens)
    found: dict[bytes, tuple[Kind, Texts]] = {}
    for length in np.unique(lengths[tokens.lengths > 0]) if len(tokens.input_ids) else [0]:
        its, texts = kind(int(length)), lengths == length
        before = found.get(same(its))
        found[same(its)] = (its, texts | before[1] if before else texts)
    return list(found.values())


def only(tokens: PackedTokens, texts: Texts) -> PackedTokens:
    """The same batch, in which the other texts are empty."""
    kept = np.repeat(texts, tokens.lengths)
    each = (tokens.input_ids[kept], tokens.token_type_ids[kept], tokens.position_ids[kept])
    return PackedTokens(*each, borders(np.where(texts, tokens.lengths, 0)))


def joined_states(tokens: PackedTokens, parts: Sequence[tuple[Texts, Float32Array]]) -> Float32Array:
    """The states (T, C) of all texts, of those of some texts each."""
    joined = np.empty((len(tokens.input_ids), parts[0][1].shape[1]), np.float32)
    for texts, states in parts:
        joined[np.repeat(texts, tokens.lengths)] = states
    return joined


def joined_attentions(parts: Sequence[Float32Array]) -> Float32Array:
    """The weights (B, H, L, S) of all texts, of those of some texts each, which are zero for the others."""
    rows, columns = (max(part.shape[axis] for part in parts) for axis in (2, 3))
    joined = np.zeros((*parts[0].shape[:2], rows, columns), np.float32)
    for part in parts:
        joined[:, :, : part.shape[2], : part.shape[3]] += part
    return joined


def _lengths(tokens: PackedTokens) -> npt.NDArray[np.int64]:
    """Each text's highest position plus one; 0 for a text of nothing."""
    lengths = np.zeros(len(tokens.lengths), np.int64)
    real = tokens.lengths > 0
    if real.any():
        lengths[real] = np.maximum.reduceat(tokens.position_ids, tokens.cu_seqlens[:-1][real]) + 1
    return lengths
