"""The encoder model: token ids in, hidden states out, in one call of the core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .. import _core, ops
from .checkpoint import Checkpoint, Float32Array
from .config import Config
from .families import find_family
from .family import Spec, Weights, load_weights
from .outputs import EncoderOutput
from .packing import IntArray, PackedTokens, PaddedBatch, integers, mask


class EncoderModel:
    """A pretrained encoder of the BERT kind. Called with token ids, it returns an `EncoderOutput`.

    >>> from tfcore import AutoModel, AutoTokenizer  # doctest: +SKIP
    >>> tokenizer = AutoTokenizer.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")  # doctest: +SKIP
    >>> model = AutoModel.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")  # doctest: +SKIP
    >>> model(**tokenizer("Hello!", return_tensors="np")).last_hidden_state.shape  # doctest: +SKIP
    (1, 4, 384)

    Attributes
    ----------
    config
        The fields of the checkpoint's `config.json`, as attributes.

    Calls from several threads at once are fine. A pickle holds the folder's path and opens it again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.config = Config.read(folder / "config.json")
        family = find_family(self.config)
        self._spec = family.read_spec(self.config)
        weights = load_weights(family, self._spec, Checkpoint.open(folder), folder)
        self._num_parameters = sum(tensor.size for tensor in weights)
        self._core = _pack(self._spec, weights)
        self._pooler = _pack_pooler(weights)

    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        return_dict: bool = True,
    ) -> EncoderOutput | tuple[Any, ...]:
        """The hidden states of a batch of texts.

        **Masked positions come back as zeros.** No work is done on padding, so there is nothing else to return there
        (Transformers returns what its padding tokens happened to compute). Real positions do not depend on it.

        Parameters
        ----------
        input_ids : (B, L) integers
            Token ids: lists, a NumPy array, a CPU tensor of PyTorch.
        attention_mask : (B, L), optional
            1 for real tokens, 0 for padding, anywhere: right, left, holes. All real if not given.
        token_type_ids : (B, L) integers, optional
            The segment each token belongs to. 0 if not given.
        position_ids : (B, L) or (1, L) integers, optional
            0 … L-1 by column if not given.
        output_hidden_states, output_attentions : bool
            Whether to return every layer's hidden states, attention weights.
        return_dict : bool
            False returns the tuple of the output's values.

        Returns
        -------
        EncoderOutput
            `last_hidden_state` (B, L, C); `pooler_output` (B, C) where the checkpoint has a pooler, computed from
            column 0; `hidden_states` and `attentions` where asked for. NumPy arrays of float32.

        Raises
        ------
        TypeError
            An argument is missing or holds the wrong kind of thing.
        ValueError
            A shape does not fit, an id is outside its table, a text is longer than the model has positions.
        """
        if input_ids is None:
            raise TypeError("input_ids is missing")
        ids = integers("input_ids", input_ids)
        shape = ids.shape
        batch = PaddedBatch(
            np.ones(shape, bool) if attention_mask is None else mask("attention_mask", attention_mask, shape)
        )
        types = np.zeros_like(ids) if token_type_ids is None else integers("token_type_ids", token_type_ids, shape)
        if position_ids is None:
            positions = np.broadcast_to(np.arange(shape[1]), shape)
        else:
            positions = integers("position_ids", position_ids, shape)
        if position_ids is None:
            self._check_length(batch)

        hidden, attentions = self.forward_packed(
            batch.pack(ids, types, positions),
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        hidden = [batch.unpack_tokens(states) for states in hidden]
        output = EncoderOutput(
            last_hidden_state=hidden[-1],
            pooler_output=self._pool(hidden[-1]),
            hidden_states=tuple(hidden) if output_hidden_states else None,
            attentions=None if attentions is None else tuple(batch.unpack_attention(weights) for weights in attentions),
        )
        return output if return_dict else output.to_tuple()

    def forward_packed(
        self, tokens: PackedTokens, *, output_hidden_states: bool = False, output_attentions: bool = False
    ) -> tuple[list[Float32Array], list[Float32Array] | None]:
        """The core's one call, on packed tokens: hidden states (T, C), the last or all of them, and attentions.

        Raises
        ------
        ValueError
            A token id, token type or position is outside its table.
        """
        sizes = self._spec.sizes
        _check_range("input_ids", tokens.input_ids, sizes["V"], "the vocabulary has")
        _check_range("token_type_ids", tokens.token_type_ids, sizes["Y"], "token types known are")
        _check_range("position_ids", tokens.position_ids, sizes["P"], "positions known are")
        return self._core.forward(
            tokens.input_ids,
            tokens.token_type_ids,
            tokens.position_ids,
            tokens.cu_seqlens,
            output_hidden_states,
            output_attentions,
        )

    def num_parameters(self) -> int:
        """How many numbers the checkpoint holds for this model."""
        return self._num_parameters

    @property
    def max_length(self) -> int:
        """How many tokens a text may have."""
        return self._spec.sizes["P"]

    def eval(self) -> EncoderModel:
        """The model itself: it knows no other mode. Here so that lines written for PyTorch run."""
        return self

    def _pool(self, last: Float32Array) -> Float32Array | None:
        if self._pooler is None or not last.shape[1]:
            return None
        return self._pooler(last[:, 0], activation="tanh")

    def _check_length(self, batch: PaddedBatch) -> None:
        if batch.real.shape[1] > self.max_length < batch.columns_in_use:
            raise ValueError(
                f"a text has {batch.columns_in_use} tokens, but the model has {self.max_length} positions: call the "
                f"tokenizer with truncation=True, max_length={self.max_length}"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder,)

    def __repr__(self) -> str:
        spec = self._spec
        return (
            f"EncoderModel({self.config.model_type}: {spec.layers} layers, {spec.sizes['C']} wide, {spec.heads} heads, "
            f"{self._num_parameters:,} parameters)"
        )


def _pack(spec: Spec, weights: Weights) -> _core.Encoder:
    """The core's encoder, with copies of the weights in its own layout: the checkpoint's memory map can go."""
    return _core.Encoder(
        weights.embeddings, weights.layers, num_heads=spec.heads, eps=spec.eps, activation=spec.activation
    )


def _pack_pooler(weights: Weights) -> ops.PackedLinear | None:
    return ops.PackedLinear(weights.pooler["pooler.weight"], weights.pooler["pooler.bias"]) if weights.pooler else None


def _check_range(name: str, values: IntArray, size: int, what: str) -> None:
    if not values.size:
        return
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= size:
        raise ValueError(f"{name} holds {low if low < 0 else high}, but {what} {size}: expected 0 to {size - 1}")
