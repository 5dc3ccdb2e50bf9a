"""Models that write: `generate` and `stream`, over sessions that keep what was read in a cache."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .. import _core
from ..generation import Decode, GenerationConfig, GenerationOptions, Session, Step, Streamer, generate, stream
from ..generation.options import layered, stated
from .checkpoint import Float32Array
from .encoder_decoder import EncoderDecoderModel
from .model import Model
from .packing import IntArray, PackedTokens, PaddedBatch, integers
from .pretrained import Pretrained, generation_settings
from .stack import Stack


class Writing(Pretrained):
    """What language models share. Each says how a session begins and what its decoder reads first."""

    _generation_config: GenerationConfig | None = None

    @property
    def generation_config(self) -> GenerationConfig:
        """What the checkpoint says of generation. What is set here holds from then on, until None is."""
        if self._generation_config is None:
            self._generation_config = GenerationConfig(**stated(generation_settings(self.path, self.config)))
        return self._generation_config

    @generation_config.setter
    def generation_config(self, config: GenerationConfig | dict[str, Any] | None) -> None:
        if isinstance(config, dict):
            config = GenerationConfig(**stated(config))
        if config is not None and not _is_config(config):
            raise _wrong_config(config)
        self._generation_config = config

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {"generation_config": copy.deepcopy(self._generation_config)}

    def __setstate__(self, settings: dict[str, Any]) -> None:
        super().__setstate__(settings)
        self._generation_config = settings["generation_config"]

    def generate(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        *,
        streamer: Streamer | Callable[[IntArray], Any] | None = None,
        tokenizer: Any = None,
        use_cache: bool = True,
        inputs: Any = None,
        generation_config: Any = None,
        **settings: Any,
    ) -> IntArray:
        """Texts and their continuations.

        >>> from tfcore import AutoModelForCausalLM  # doctest: +SKIP
        >>> model = AutoModelForCausalLM.from_pretrained("SmolLM2-135M-Instruct.Q4_1.gguf")  # doctest: +SKIP
        >>> model.generate([[19556, 28]], max_new_tokens=5).shape  # doctest: +SKIP
        (1, 7)

        Texts of different length cost no padding, whichever side of `input_ids` it is on, and a text's continuation
        does not depend on its neighbours. Ctrl-C ends it between two tokens; the model is as it was.

        Parameters
        ----------
        input_ids : (B, L) integers, optional
            Token ids: lists, a NumPy array, a CPU tensor of PyTorch. Default, for a decoder: one beginning of a text.
        attention_mask : (B, L), optional
            1 for real tokens, 0 for padding. Default: a decoder takes its padding tokens for padding, unless one also
            ends texts; an encoder-decoder takes all tokens.
        streamer : object with `put` and `end`, or a function, optional
            Hears of each step's tokens as they come.
        tokenizer : object with `decode`, optional
            Finds `stop_strings` in the text.
        use_cache : bool
            Taken for the sake of code written for Transformers; there is always a cache.
        inputs : optional
            Another name of `input_ids`.
        generation_config : GenerationConfig, Transformers' or tfcore's, or dict, optional
            Settings in one object. The fields of a GenerationConfig that are set replace the checkpoint's, those that
            are None leave them as they are; the entries of a dict count as if they were `settings`, None as well. Names
            that are no settings are skipped.
        **settings
            Those of `tfcore.generation.GenerationOptions`, instead of the checkpoint's and of `generation_config`'s:
            `max_new_tokens`, `do_sample`, `temperature`, `top_k`, `top_p`, `min_p`, `num_beams`, `eos_token_id` (None
            never stops early), `seed`, … `max_length` and `min_length` count a text's own tokens: Transformers counts
            the columns of `input_ids`, padding among them, so that a text's length depends on its neighbours there.

        Returns
        -------
        (R, M) int64
            `num_return_sequences` rows a text: for a decoder, the columns of `input_ids` and what follows; for an
            encoder-decoder the decoder's text. Padding, on the right, is the padding token, else the first end token.

        Raises
        ------
        TypeError
            A setting is unknown, an argument holds the wrong kind of thing.
        ValueError
            A setting is out of range, an id is outside the vocabulary, the model has too few positions.
        """
        if _is_config(attention_mask):  # Transformers' second argument
            attention_mask, generation_config = None, attention_mask
        if inputs is not None:
            if input_ids is not None:
                raise TypeError("input_ids and inputs are both given, and are the same argument: expected one")
            input_ids = inputs
        options, decode = self._options(settings, generation_config), _decode(tokenizer)
        session, prompts, shown, options = self._begin(input_ids, attention_mask, options)
        written = generate(session, prompts, options, streamer=streamer, decode=decode)
        return _padded(shown, prompts, written.sequences, options)

    def stream(
        self, input_ids: Any = None, attention_mask: Any = None, *, tokenizer: Any = None, **settings: Any
    ) -> Iterator[Step]:
        """The same, token by token: yields `rows`, the texts still unfinished, and a token for each.

        >>> [int(step.tokens[0]) for step in model.stream([[19556, 28]], max_new_tokens=3)]  # doctest: +SKIP
        [357, 506, 253]

        It may be left at any step. Parameters and errors are those of `generate`, but for beams, which have no text
        before the end.
        """
        options, decode = self._options(settings), _decode(tokenizer)
        session, prompts, _, options = self._begin(input_ids, attention_mask, options)
        return stream(session, prompts, options, decode=decode)

    def _options(self, settings: dict[str, Any], config: Any = None) -> GenerationOptions:
        """The caller's settings over those of an object of the caller's, and these over the checkpoint's."""
        if self.architecture.decoder and not self.architecture.decoder.blocks[0].causal:
            raise ValueError(f"{self.path}: field 'is_causal' is false: the model reads both ways, and does not write")
        said = self.generation_config.to_diff_dict()
        given = settings if config is None else layered(_set_in(config), settings)
        try:
            return GenerationOptions.merged(said, **given)
        except (TypeError, ValueError) as error:
            GenerationOptions.merged(None, **given)  # raises what is wrong with the caller's own
            raise ValueError(f"{self.path}: the checkpoint's generation settings: {error}") from None

    def _begin(
        self, input_ids: Any, attention_mask: Any, options: GenerationOptions
    ) -> tuple[Session, list[IntArray], IntArray, GenerationOptions]:
        """A session, what its decoder reads first, the columns (B, L) that results show before what is written, and
        the options as they are for these texts."""
        raise NotImplementedError


class CausalLM(Model, Writing):
    """A decoder that writes: called for `logits` (B, L, V), and `generate`."""

    def _begin(
        self, input_ids: Any, attention_mask: Any, options: GenerationOptions
    ) -> tuple[Session, list[IntArray], IntArray, GenerationOptions]:
        if input_ids is None:
            if options.bos_token_id is None:
                raise TypeError("input_ids is missing, and the checkpoint names no bos_token_id to begin with")
            input_ids = [[options.bos_token_id]]
        ids = integers("input_ids", input_ids)
        batch = PaddedBatch.of(ids.shape, _without_padding(ids, options) if attention_mask is None else attention_mask)
        self.stack.check_holes(batch)
        prompts = [row[real] for row, real in zip(ids, batch.real, strict=True)]
        for row, prompt in enumerate(prompts):
            if not len(prompt):
                raise ValueError(f"input_ids[{row}] has no real token, expected at least one")
            if prompt.min() < 0:
                raise ValueError(f"input_ids[{row}] holds {prompt.min()}, expected token ids from 0 on")
        longest = max(map(len, prompts), default=0)
        options = options.within(longest, self._positions)
        _check_room(self.stack, longest, options)
        return _DecoderSession(self, len(prompts)), prompts, ids, options

    @property
    def _positions(self) -> int | None:
        """How long a text the model was made for."""
        trained = self.config.get("max_position_embeddings")
        return trained if type(trained) is int and trained > 0 else self.stack.max_length


class Seq2SeqLM(EncoderDecoderModel, Writing):
    """An encoder-decoder that writes: called for `logits` (B, M, V), and `generate`."""

    def _begin(
        self, input_ids: Any, attention_mask: Any, options: GenerationOptions
    ) -> tuple[Session, list[IntArray], IntArray, GenerationOptions]:
        tokens, _ = self._pack(self.encoder, input_ids, attention_mask)
        start = options.decoder_start_token_id
        start = next((s for s in (start, self.architecture.start, options.bos_token_id) if s is not None), None)
        if start is None:
            raise ValueError(f"{self.path}: decoder_start_token_id is not said, expected the decoder's first token")
        prompts = [np.array([start], np.int64) for _ in tokens.lengths]
        _check_room(self.decoder, 1, options)
        return _EncoderDecoderSession(self, tokens), prompts, np.full((len(prompts), 1), start), options


class _DecoderSession:
    """Texts in progress of a decoder alone."""

    def __init__(self, model: Model, texts: int) -> None:
        self._model = model
        self._cache = _core.Cache(model.stack.core, texts)
        self._limit = model.stack.turns_anew_beyond
        self._texts = [np.empty(0, np.int64) for _ in range(texts if self._limit else 0)]

    def step(self, tokens: Sequence[IntArray], /) -> Float32Array:
        if self._limit:
            tokens = self._from_the_start_where_outgrown(tokens, self._limit)
        packed = PackedTokens.from_texts(tokens, self._cache.lengths)
        states = self._model.stack.run(packed, cache=self._cache).states[-1]
        return self._model.logits(states[packed.cu_seqlens[1:] - 1])

    def _from_the_start_where_outgrown(self, tokens: Sequence[IntArray], limit: int) -> Sequence[IntArray]:
        """Keys of a text that outgrows `limit` turn anew: it is read once more, and so are those beside it."""
        before = self._cache.lengths
        self._texts = [np.concatenate(pair) for pair in zip(self._texts, tokens, strict=True)]
        if not any(0 < past <= limit < len(text) for past, text in zip(before, self._texts, strict=True)):
            return tokens
        self._cache = _core.Cache(self._model.stack.core, len(tokens))
        return self._texts

    def select(self, parents: IntArray, /) -> None:
        self._cache.select(parents)
        if self._limit:
            self._texts = [self._texts[parent] for parent in parents]


class _EncoderDecoderSession:
    """Texts in progress that attend to encoded ones; copies of a text share what was encoded."""

    def __init__(self, model: EncoderDecoderModel, tokens: PackedTokens) -> None:
        self._model = model
        texts = len(tokens.lengths)
        self._cache = _core.Cache(model.decoder.core, texts)
        self._encoded = model.encode_packed(tokens)
        self._sources = np.arange(texts)

    def step(self, tokens: Sequence[IntArray], /) -> Float32Array:
        packed = PackedTokens.from_texts(tokens, self._cache.lengths)
        run = self._model.decoder.run
        states = run(packed, cache=self._cache, encoded=self._encoded, sources=self._sources).states[-1]
        return self._model.logits(states[packed.cu_seqlens[1:] - 1])

    def select(self, parents: IntArray, /) -> None:
        self._cache.select(parents)
        self._sources = self._sources[parents]


def _without_padding(ids: IntArray, options: GenerationOptions) -> IntArray | None:
    """A mask of all but padding tokens, if they are known as such; a row of nothing else is a text of them."""
    pad = options.pad_token_id
    if pad is None or pad in options.end_tokens or ids.ndim != 2:
        return None
    real = ids != pad
    return np.where(real.any(axis=1, keepdims=True), real, True)


def _check_room(stack: Stack, longest: int, options: GenerationOptions) -> None:
    """Refuses at the start what would run out of positions in the middle."""
    most, limit = options.limit(longest), stack.max_length
    if limit is not None and most > limit:
        raise ValueError(
            f"a text may grow to {most} tokens, but the model has {limit} positions: pass max_new_tokens of at most "
            f"{max(limit - longest, 0)}"
        )


def _is_config(value: Any) -> bool:
    """Whether it is a GenerationConfig, Transformers' or ours."""
    return hasattr(type(value), "to_diff_dict")


def _set_in(config: Any) -> dict[str, Any]:
    """What a GenerationConfig or a dict of settings asks for."""
    if _is_config(config):
        config = {name: value for name, value in config.to_diff_dict().items() if value is not None}
    if not isinstance(config, dict):
        raise _wrong_config(config)
    return stated(config)


def _wrong_config(config: Any) -> TypeError:
    return TypeError(f"generation_config is {type(config).__name__}, expected a GenerationConfig or a dict")


def _decode(tokenizer: Any) -> Decode | None:
    if tokenizer is None:
        return None
    decode: Decode | None = getattr(tokenizer, "decode", None)
    if not callable(decode):
        raise TypeError(f"tokenizer is {type(tokenizer).__name__}, expected an object with decode")
    return decode


def _padded(
    shown: IntArray, prompts: list[IntArray], sequences: list[IntArray], options: GenerationOptions
) -> IntArray:
    """Texts as rows of one array: the columns they began with, what was written, padding."""
    copies = len(sequences) // max(len(prompts), 1)
    added = [sequence[len(prompts[row // copies]) :] for row, sequence in enumerate(sequences)]
    fill = _filler(options)
    out = np.full((len(sequences), shown.shape[1] + max(map(len, added), default=0)), fill, np.int64)
    for row, tokens in enumerate(added):
        out[row, : shown.shape[1]] = shown[row // copies]
        out[row, shown.shape[1] : shown.shape[1] + len(tokens)] = tokens
    return out


def _filler(options: GenerationOptions) -> int:
    """What pads texts that ended early. Transformers takes a beam's padding token 0 for none; so do we, to be equal."""
    pad = options.pad_token_id
    if options.num_beams > 1 and options.end_tokens:
        pad = pad or None
    return next((token for token in (pad, *options.end_tokens) if token is not None), 0)
