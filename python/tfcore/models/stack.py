"""One stack of blocks at work: packed tokens in, hidden states out, in one call of the core."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import _core
from ..ops import positional_encoding
from ..relative import relative_bias
from ..rope import rope_type, rotary_frequencies
from .architecture import Block, Embeddings, Rotary, StackSpec
from .checkpoint import Float32Array, StoredRows
from .packing import IntArray, PackedTokens, PaddedBatch

_Rotation = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], bool]


class Hidden(NamedTuple):
    """What a forward pass left: states (T, C), the last or all of them, and weights (B, H, L, S) a block."""

    states: list[Float32Array]
    attentions: list[Float32Array]
    cross_attentions: list[Float32Array]


class Stack:
    """A stack of the core with its weights packed, and what changes from call to call computed here.

    `as_stored` gives a matrix as its file has it, or None where it is to be read as float32.
    """

    def __init__(
        self,
        data: StackSpec,
        tensors: Mapping[str, Float32Array],
        as_stored: Callable[[str], StoredRows | None] | None = None,
    ) -> None:
        self.data = data
        self._rotaries = list(dict.fromkeys(block.rotary for block in data.blocks if block.rotary))
        if data.embeddings.sinusoidal:
            tensors = ChainMap({"embeddings.position.weight": _sinusoids(data)}, tensors)  # type: ignore[arg-type]
        self._relative_table = tensors["relative.weight"] if data.relative else None
        self._relative: Float32Array | None = None
        self._fixed_rotations = [_rotation(rotary, [0]) for rotary in self._rotaries]
        self.core = _core.Stack(_spec(data, self._rotaries), tensors, as_stored)

    def run(
        self,
        tokens: PackedTokens,
        *,
        cache: _core.Cache | None = None,
        encoded: _core.CrossKeys | None = None,
        sources: IntArray | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> Hidden:
        """A forward pass. With a cache, the tokens follow those in it and join it.

        Raises
        ------
        ValueError
            A token id, token type or position is outside its table.
        """
        embeddings = self.data.embeddings
        try:
            found = self.core.forward(
                tokens.input_ids,
                tokens.token_type_ids if _takes_types(embeddings, tokens) else None,
                tokens.position_ids + embeddings.position_offset,
                tokens.position_ids.astype(np.float64),
                tokens.cu_seqlens,
                self._rotations(tokens),
                self._bias(tokens),
                cache,
                encoded,
                sources,
                tokens.seen,
                output_hidden_states,
                output_attentions,
            )
        except ValueError:
            self._explain(tokens)
            raise
        return Hidden(*found)

    @property
    def max_length(self) -> int | None:
        """How many positions its table has for a text; None where positions are no matter of a table."""
        e = self.data.embeddings
        return e.positions - e.position_offset if e.positions else None

    @property
    def turns_anew_beyond(self) -> int | None:
        """The length beyond which LongRoPE turns all of a text's keys by other angles; None without it."""
        scalings = [r.scaling for r in self._rotaries if r.scaling and rope_type(r.scaling) == "longrope"]
        return int(scalings[0]["original_max_position_embeddings"]) if scalings else None

    @property
    def reach(self) -> int | None:
        """The longest distance between two tokens that blocks don't ask for; None where they never do."""
        windows = [side for block in self.data.blocks for side in block.window if side >= 0]
        return 0 if self.data.relative else min(windows, default=None)

    def check_holes(self, batch: PaddedBatch, mask: str = "attention_mask") -> None:
        """Refuses holes where distances matter: texts are packed without them, and a window would reach too far."""
        if batch.full or self.reach is None:
            return
        for row in np.flatnonzero(batch.spans > np.maximum(batch.real.sum(axis=1), self.reach + 1)):
            raise ValueError(
                f"{mask}[{row}] has zeros between the tokens of a text, but distances between them matter to this "
                "model: expected zeros before the first token and after the last one alone"
            )

    def check_length(self, batch: PaddedBatch) -> None:
        """Refuses texts longer than there are positions for."""
        limit = self.max_length
        if limit is None or batch.real.shape[1] <= limit:
            return
        longest = int(batch.positions[batch.real].max(initial=-1)) + 1
        if longest > limit:
            raise ValueError(
                f"a text has {longest} tokens, but the model has {limit} positions: call the tokenizer with "
                f"truncation=True, max_length={limit}"
            )

    def _rotations(self, tokens: PackedTokens) -> list[_Rotation]:
        return [
            _rotation(rotary, tokens.text_lengths) if _follows_length(rotary) else fixed
            for rotary, fixed in zip(self._rotaries, self._fixed_rotations, strict=True)
        ]

    def _bias(self, tokens: PackedTokens) -> Float32Array | None:
        """The relative bias of all distances in these texts, computed for twice as many whenever it must grow."""
        if self.data.relative is None or self._relative_table is None:
            return None
        self._explain(tokens)  # before a bias is made as long as a position says
        length = max(int(tokens.position_ids.max(initial=-1)) + 1, int(tokens.lengths.max(initial=0)))
        bias = self._relative  # another thread may put a shorter one in its place
        if bias is None or bias.shape[1] < 2 * length + 1:
            kind = self.data.relative
            bias = self._relative = relative_bias(
                self._relative_table, max(2 * length, 64), kind.max_distance, bidirectional=kind.bidirectional
            )
        return bias

    def _explain(self, tokens: PackedTokens) -> None:
        """What the core refuses, in the words of the model's tables."""
        e = self.data.embeddings
        _check_range("input_ids", tokens.input_ids, e.vocabulary, "the vocabulary has")
        if _takes_types(e, tokens):
            _check_range(
                "token_type_ids", tokens.token_type_ids, e.token_types or e.vocabulary, "token types known are"
            )
        if e.positions:
            _check_range("position_ids", tokens.position_ids + e.position_offset, e.positions, "positions known are")


def _spec(data: StackSpec, rotaries: Sequence[Rotary]) -> dict[str, Any]:
    """The description in the core's words."""
    first = data.blocks[0]
    return {
        "width": data.width,
        "norm": first.norm,
        "eps": first.eps,
        "embedding_scale": data.embeddings.scale,
        "blocks": [_block_spec(block, rotaries) for block in data.blocks],
    }


def _block_spec(block: Block, rotaries: Sequence[Rotary]) -> dict[str, Any]:
    return {
        "inner": block.inner,
        "heads": block.heads,
        "key_heads": block.key_heads,
        "head_size": block.head_size,
        "norm": block.norm,
        "eps": block.eps,
        "parallel": block.placement == "parallel",
        "activation": block.activation,
        "scale": block.head_size**-0.5 if block.scale is None else block.scale,
        "softcap": block.softcap,
        "causal": block.causal,
        "left": block.window[0],
        "right": block.window[1],
        "rotary": rotaries.index(block.rotary) if block.rotary else -1,
        "relative": block.relative,
    }


def _sinusoids(data: StackSpec) -> Float32Array:
    e = data.embeddings
    return positional_encoding(e.positions, e.width, layout="split", dtype=np.float32)


def _follows_length(rotary: Rotary) -> bool:
    return rope_type(rotary.scaling) in ("dynamic", "longrope")


def _rotation(rotary: Rotary, lengths: Sequence[int] | IntArray) -> _Rotation:
    """Frequencies (n, dim / 2) and magnitudes (n,) for texts of n lengths, in the core's order."""
    each = [
        rotary_frequencies(rotary.dim, base=rotary.base, scaling=rotary.scaling, length=int(length))
        for length in (list(lengths) or [0])
    ]
    return np.array([frequencies for frequencies, _ in each]), np.array([m for _, m in each]), rotary.interleaved


def _takes_types(embeddings: Embeddings, tokens: PackedTokens) -> bool:
    return bool(embeddings.token_types) or (embeddings.typed_by_words and tokens.typed)


def _check_range(name: str, values: IntArray, size: int, what: str) -> None:
    if not values.size:
        return
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= size:
        raise ValueError(f"{name} holds {low if low < 0 else high}, but {what} {size}: expected 0 to {size - 1}")
