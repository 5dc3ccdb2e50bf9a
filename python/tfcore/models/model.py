"""Models of one stack, encoders and decoders alike: token ids in, hidden states or a task's logits out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .. import _core, ops
from .checkpoint import Float32Array
from .heads import pool
from .outputs import BaseModelOutput, LogitsOutput, ModelOutput, QuestionAnsweringOutput
from .packing import PackedTokens, PaddedBatch, integers
from .pretrained import QUESTION, SEQUENCE, Pretrained
from .stack import Hidden, Stack
from .weights import Weights


class Model(Pretrained):
    """A pretrained encoder or decoder, with a task's head or without. Made by the `AutoModel` classes.

    >>> from tfcore import AutoModel, AutoTokenizer  # doctest: +SKIP
    >>> tokenizer = AutoTokenizer.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")  # doctest: +SKIP
    >>> model = AutoModel.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")  # doctest: +SKIP
    >>> model(**tokenizer("Hello!", return_tensors="np")).last_hidden_state.shape  # doctest: +SKIP
    (1, 4, 384)

    Attributes, and what threads and pickles may do: as of `Pretrained`.
    """

    def _build(self, weights: Weights) -> None:
        [role] = self.architecture.stacks()
        self.stack: Stack = self._stack(role, weights)
        self._head = self._make_head(weights, role)
        self._softcap = np.float32(weights.head.softcap if weights.head else 0.0)
        self._pooler = None
        if self.task is None and weights.pooler:
            self._pooler = ops.PackedLinear(weights["pooler.weight"], weights["pooler.bias"])

    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        position_ids: Any = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool = True,
        *,
        use_cache: bool | None = None,
        **others: Any,
    ) -> Any:
        """What the model makes of a batch of texts.

        **Masked positions come back as zeros.** No work is done on padding, so there is nothing else to return there
        (Transformers returns what its padding tokens happened to compute); but `start_logits` and `end_logits` are the
        lowest number of float32 there, so that no answer begins or ends at padding. Real positions do not depend on it:
        without `position_ids`, positions count from each text's first real token, whichever side the padding is on.

        Parameters
        ----------
        input_ids : (B, L) integers
            Token ids: lists, a NumPy array, a CPU tensor of PyTorch.
        attention_mask : (B, L), optional
            1 for real tokens, 0 for padding, on either side; in the midst of a text, too, where the model has no window
            that the text exceeds and no relative bias. All real if not given.
        token_type_ids : (B, L) integers, optional
            The segment each token belongs to. 0 if not given; of no consequence to models without segments. GPT-2 adds
            a word's embedding for each, if given.
        position_ids : (B, L) or (1, L) integers, optional
            Positions as Transformers counts them for this family.
        output_hidden_states, output_attentions : bool, optional
            Whether to return every layer's hidden states, attention weights. Default: as the config says, or not.
        use_cache : bool, optional
            Taken for the sake of code written for Transformers: a call returns no cache, `generate` always has one.
        **others
            Taken and passed over, as there: what is None, and what a tokenizer returns beside these.
        return_dict : bool
            False returns the tuple of the output's values.

        Returns
        -------
        ModelOutput
            `last_hidden_state` (B, L, C) and, where the checkpoint has a pooler, `pooler_output` (B, C), from each
            text's first token; with a head `logits`, or `start_logits` and `end_logits`; `hidden_states` and
            `attentions` where asked for. NumPy arrays of float32.

        Raises
        ------
        TypeError
            An argument is missing or holds the wrong kind of thing.
        ValueError
            A shape does not fit, an id is outside its table, a text is longer than the model has positions.
        """
        self._pass_over(others)
        if input_ids is None:
            raise TypeError("input_ids is missing")
        ids = integers("input_ids", input_ids)
        batch = PaddedBatch.of(ids.shape, attention_mask)
        types = None if token_type_ids is None else integers("token_type_ids", token_type_ids, ids.shape)
        self.stack.check_holes(batch)
        if position_ids is None:
            self.stack.check_length(batch)
            padding = self.stack.data.embeddings.padding
            positions = batch.positions if padding is None else batch.positions_between(ids == padding)
        else:
            offset = self.stack.data.embeddings.position_offset
            positions = integers("position_ids", position_ids, ids.shape) - offset
        tokens = batch.pack(ids, types, positions)
        wanted = self._wanted(output_hidden_states, output_attentions)
        hidden = self.stack.run(tokens, **wanted)
        rest: dict[str, Any] = {}
        if wanted["output_hidden_states"]:
            rest["hidden_states"] = tuple(map(batch.unpack_tokens, hidden.states))
        if wanted["output_attentions"]:
            rest["attentions"] = tuple(map(batch.unpack_attention, hidden.attentions))
        output = self._output(hidden, tokens, batch, rest)
        return output if return_dict else output.to_tuple()

    def forward_packed(self, tokens: PackedTokens) -> Float32Array:
        """The last hidden states (T, C) of packed tokens, each text's from position 0 on.

        Raises
        ------
        ValueError
            A token id, token type or position is outside its table.
        """
        padding = self.stack.data.embeddings.padding
        if padding is not None:
            tokens = replace(tokens, position_ids=tokens.positions_between(tokens.input_ids == padding))
        return self.stack.run(tokens).states[-1]

    def classify_packed(self, tokens: PackedTokens) -> Float32Array:
        """A sequence classifier's logits (B, labels) of packed tokens.

        Raises
        ------
        ValueError
            The model was opened for another task, or a token is outside its table.
        """
        if self.task != SEQUENCE or self._head is None:
            raise ValueError(f"a model for {self.task or 'hidden states'} has no logits of texts, expected {SEQUENCE}")
        return self._head(self.forward_packed(tokens), tokens)

    def logits(self, states: Float32Array) -> Float32Array:
        """A language model's, of last hidden states (R, C): (R, V)."""
        logits: Float32Array = self.stack.core.logits(states)
        if self._softcap:
            logits = self._softcap * _core.vector_math("tanh", logits / self._softcap)
        return logits

    @property
    def max_length(self) -> int | None:
        """How many tokens a text may have; None where no table bounds it."""
        return self.stack.max_length

    def _output(self, hidden: Hidden, tokens: PackedTokens, batch: PaddedBatch, rest: dict[str, Any]) -> ModelOutput:
        last = hidden.states[-1]
        if self.task is None:
            states = rest["hidden_states"][-1] if "hidden_states" in rest else batch.unpack_tokens(last)
            pooled = pool(self._pooler, last, tokens) if self._pooler is not None else None
            return BaseModelOutput(states, pooled, **rest)
        if self._head is None:
            return LogitsOutput(batch.unpack_tokens(self.logits(last)), **rest)
        logits = self._head(last, tokens)
        if self.task == QUESTION:
            return QuestionAnsweringOutput(*batch.unpack_answers(logits), **rest)
        if self._head.data.rows == "all":
            logits = batch.unpack_tokens(logits)
        return LogitsOutput(logits, **rest)
