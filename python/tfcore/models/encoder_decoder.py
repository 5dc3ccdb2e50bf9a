"""Encoder-decoders: a text in, hidden states or logits of another text that attends to it out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .. import _core
from .checkpoint import Float32Array
from .outputs import Seq2SeqLogitsOutput, Seq2SeqModelOutput, Seq2SeqQuestionAnsweringOutput
from .packing import IntArray, PackedTokens, PaddedBatch, integers
from .pretrained import QUESTION, SEQ2SEQ_LM, Pretrained
from .stack import Hidden, Stack
from .weights import Weights


class EncoderDecoderModel(Pretrained):
    """A pretrained encoder-decoder, with a task's head or without. Made by the `AutoModel` classes.

    Attributes, and what threads and pickles may do: as of `Pretrained`.
    """

    def _build(self, weights: Weights) -> None:
        self.encoder: Stack = self._stack("encoder", weights)
        self.decoder: Stack = self._stack("decoder", weights)
        self._head = self._make_head(weights, "decoder")
        self._scale = weights.head.scale if weights.head else 1.0

    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        decoder_attention_mask: Any = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool = True,
        *,
        use_cache: bool | None = None,
        **others: Any,
    ) -> Any:
        """What the model makes of a batch of texts and of what the decoder is given.

        **Masked positions come back as zeros**, and no work is done on them; `start_logits` and `end_logits` are the
        lowest number of float32 there, so that no answer begins or ends at padding.

        Parameters
        ----------
        input_ids : (B, L) integers
            The encoder's token ids: lists, a NumPy array, a CPU tensor of PyTorch.
        attention_mask : (B, L), optional
            1 for real tokens, 0 for padding, on any side.
        decoder_input_ids : (B, M) integers, optional
            The decoder's. If not given, the encoder's shifted by one behind the start token, as BART does.
        decoder_attention_mask : (B, M), optional
            As `attention_mask`.
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
            `last_hidden_state` (B, M, C), or with a head `logits`, or `start_logits` and `end_logits`;
            `encoder_last_hidden_state` (B, L, C); where asked for `encoder_…` and `decoder_hidden_states`,
            `…_attentions`, and `cross_attentions`.

        Raises
        ------
        TypeError
            An argument is missing or holds the wrong kind of thing.
        ValueError
            A shape does not fit, an id is outside its table, a text is longer than the model has positions.
        """
        self._pass_over(others)
        tokens, batch = self._pack(self.encoder, input_ids, attention_mask)
        texts = len(batch.real)
        if decoder_input_ids is None:
            written, written_batch = self._shifted(tokens), batch
        else:
            written, written_batch = self._pack(self.decoder, decoder_input_ids, decoder_attention_mask, "decoder_")
            if len(written_batch.real) != texts:
                raise ValueError(f"decoder_input_ids has {len(written_batch.real)} rows, expected {texts} as input_ids")
        wanted = self._wanted(output_hidden_states, output_attentions)
        encoded = self.encoder.run(tokens, **wanted)
        decoded = self.decoder.run(
            written,
            encoded=self.decoder.core.cross_keys(encoded.states[-1], tokens.cu_seqlens),
            sources=np.arange(texts),
            **wanted,
        )
        rest = _rest(encoded, decoded, batch, written_batch, *wanted.values())
        output = self._output(decoded.states[-1], tokens, written, written_batch, rest)
        return output if return_dict else output.to_tuple()

    def encode_packed(self, tokens: PackedTokens) -> _core.CrossKeys:
        """The keys and values of packed texts, as the decoder's blocks attend to them."""
        return self.decoder.core.cross_keys(self.encoder.run(tokens).states[-1], tokens.cu_seqlens)

    def logits(self, states: Float32Array) -> Float32Array:
        """Of the decoder's states (R, C): (R, V)."""
        scaled = states if self._scale == 1 else states * np.float32(self._scale)
        return self.decoder.core.logits(scaled)

    def _pack(
        self, stack: Stack, input_ids: Any, attention_mask: Any, side: str = ""
    ) -> tuple[PackedTokens, PaddedBatch]:
        """The texts that a stack is given; `side` begins the names of its arguments."""
        if input_ids is None:
            raise TypeError(f"{side}input_ids is missing")
        ids = integers(f"{side}input_ids", input_ids)
        batch = PaddedBatch.of(ids.shape, attention_mask, f"{side}attention_mask")
        stack.check_holes(batch, f"{side}attention_mask")
        stack.check_length(batch)
        return batch.pack(ids, None, batch.positions), batch

    def _shifted(self, tokens: PackedTokens) -> PackedTokens:
        """Each text behind the start token, without its last."""
        start = self.architecture.start
        if start is None:
            raise TypeError("decoder_input_ids is missing, and the config names no decoder_start_token_id")
        shifted: IntArray = np.roll(tokens.input_ids, 1)
        begins = tokens.cu_seqlens[:-1][tokens.lengths > 0]
        shifted[begins] = start
        return replace(tokens, input_ids=shifted)

    def _output(
        self, last: Float32Array, tokens: PackedTokens, written: PackedTokens, batch: PaddedBatch, rest: dict[str, Any]
    ) -> Any:
        if self.task is None:
            return Seq2SeqModelOutput(batch.unpack_tokens(last), **rest)
        if self.task == SEQ2SEQ_LM or self._head is None:
            return Seq2SeqLogitsOutput(batch.unpack_tokens(self.logits(last)), **rest)
        at = tokens if self._head.data.rows == "eos" else written  # the decoder read the encoder's text, shifted
        logits = self._head(last, at)
        if self.task == QUESTION:
            return Seq2SeqQuestionAnsweringOutput(*batch.unpack_answers(logits), **rest)
        if self._head.data.rows == "all":
            logits = batch.unpack_tokens(logits)
        return Seq2SeqLogitsOutput(logits, **rest)


def _rest(
    encoded: Hidden, decoded: Hidden, batch: PaddedBatch, written: PaddedBatch, states: bool, attentions: bool
) -> dict[str, Any]:
    """What both stacks went through, padded."""
    rest: dict[str, Any] = {"encoder_last_hidden_state": batch.unpack_tokens(encoded.states[-1])}
    if states:
        rest["encoder_hidden_states"] = tuple(map(batch.unpack_tokens, encoded.states))
        rest["decoder_hidden_states"] = tuple(map(written.unpack_tokens, decoded.states))
    if attentions:
        rest["encoder_attentions"] = tuple(map(batch.unpack_attention, encoded.attentions))
        rest["decoder_attentions"] = tuple(map(written.unpack_attention, decoded.attentions))
        rest["cross_attentions"] = tuple(
            written.unpack_attention(weights, batch) for weights in decoded.cross_attentions
        )
    return rest
