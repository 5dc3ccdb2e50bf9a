"""The settings of one call of `generate`: Transformers' names, defaults and meaning, checked once, here."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

from ..scalars import plain, shown
from .rules import read

_NEW_TOKENS = 20  # where no length is asked for

# Settings of Transformers that change its tokens and are not implemented, with the values that leave them alone.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "assistant_model": (None,),
    "constraints": (None,),
    "diversity_penalty": (None, 0.0),
    "dola_layers": (None,),
    "encoder_no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1.0),
    "epsilon_cutoff": (None, 0.0),
    "eta_cutoff": (None, 0.0),
    "exponential_decay_length_penalty": (None,),
    "force_words_ids": (None,),
    "guidance_scale": (None, 1.0),
    "logits_processor": (None, []),
    "max_time": (None,),
    "negative_prompt_attention_mask": (None,),
    "negative_prompt_ids": (None,),
    "num_beam_groups": (None, 1),
    "output_scores": (None, False),
    "penalty_alpha": (None, 0.0),
    "prefix_allowed_tokens_fn": (None,),
    "remove_invalid_values": (None, False),
    "return_dict_in_generate": (None, False),
    "sequence_bias": (None,),
    "stopping_criteria": (None, []),
    "token_healing": (None, False),
    "top_h": (None,),
    "typical_p": (None, 1.0),
    "watermarking_config": (None,),
}

# Those that change how it computes, or what it would return beside the tokens.
_WITHOUT_EFFECT = (
    *("cache_config", "cache_implementation", "compile_config", "disable_compile", "output_attentions"),
    *("output_hidden_states", "output_logits", "synced_gpus"),
)


@dataclasses.dataclass(frozen=True)
class GenerationOptions:
    """How to continue a text. Every setting may be None, which turns it off.

    >>> GenerationOptions(max_new_tokens=5, eos_token_id=[2, 7]).end_tokens
    (2, 7)
    >>> GenerationOptions.merged({"max_length": 142, "num_beams": 4, "eos_token_id": 2}, num_beams=1)
    GenerationOptions(max_length=142, eos_token_id=(2,))
    >>> GenerationOptions(top_p=1.5)
    Traceback (most recent call last):
    ValueError: top_p is 1.5, expected a number from 0 to 1

    Parameters
    ----------
    max_new_tokens, max_length
        The most tokens to add, and the most with the prompt, of which padding is no part; where both are given the
        first counts, where neither is, 20 are added. What a call gives of either replaces what a checkpoint says of
        both, and likewise below.
    min_new_tokens, min_length
        No end token comes before so many; where both are given the first counts.
    do_sample, temperature, top_k, top_p, min_p, seed
        Draws tokens instead of taking the best: from the `top_k` most probable (0: all), of these from the fewest that
        hold `top_p` of the probability, of these from those of at least `min_p` times the highest. With a seed, the
        same prompts give the same text again. Without one, a seed is drawn from NumPy's global random state: after
        `np.random.seed(42)`, as after Transformers' `set_seed(42)`, the same calls give the same texts; forked
        processes begin with copies of that state, so let each set its own.
    repetition_penalty, no_repeat_ngram_size, bad_words_ids, suppress_tokens, begin_suppress_tokens
        What makes a token less probable, or impossible: that it came before, that it would repeat n tokens, that it
        would complete a list of tokens, that it is named, that it is named and would be the first.
    num_beams, length_penalty, early_stopping
        Beam search: a finished text's score is its log-probability over its length to the power of `length_penalty`;
        `early_stopping` ends the search at `num_beams` finished texts (True), when no better one is likely (False),
        or when none can come any more ("never").
    num_return_sequences
        Texts to a prompt: several draws, or the best of the beams, the very best again where the options leave fewer.
    eos_token_id
        The token or tokens that end a text; None never ends it early. Ids are integers of Python, NumPy or PyTorch;
        several are a list, an array or a CPU tensor.
    stop_strings
        Texts that end it, as soon as a token completes one; they stay in the text.
    forced_bos_token_id, forced_eos_token_id
        The only token possible after a prompt of one, and at the last place before the length's limit.
    renormalize_logits
        Whether probabilities sum to one again after all of the above: it matters to the scores of beams alone.
    pad_token_id, bos_token_id, decoder_start_token_id
        For whoever makes prompts and arrays of the texts.

    Raises
    ------
    TypeError, ValueError
        A setting of another kind, or out of its range.
    """

    max_new_tokens: int | None = None
    max_length: int | None = None
    min_new_tokens: int | None = None
    min_length: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    num_return_sequences: int = 1
    eos_token_id: int | Sequence[int] | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    decoder_start_token_id: int | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | Sequence[int] | None = None
    suppress_tokens: Sequence[int] | None = None
    begin_suppress_tokens: Sequence[int] | None = None
    bad_words_ids: Sequence[Sequence[int]] | None = None
    renormalize_logits: bool = False
    seed: int | None = None
    stop_strings: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, read(field.name, getattr(self, field.name)))
        if self.num_beams == 1 and not self.do_sample and self.num_return_sequences > 1:
            raise ValueError(
                f"num_return_sequences is {self.num_return_sequences}, expected 1: "
                "the best continuation is one; do_sample=True or num_beams gives several"
            )
        if 1 < self.num_beams < self.num_return_sequences:
            raise ValueError(
                f"num_return_sequences is {self.num_return_sequences}, expected at most num_beams, {self.num_beams}"
            )
        if self.do_sample and self.temperature == 0:
            raise ValueError("temperature is 0.0, expected a positive number; do_sample=False takes the best token")

    @classmethod
    def merged(cls, checkpoint: Mapping[str, Any] | None = None, /, **given: Any) -> GenerationOptions:
        """A checkpoint's settings under those of the caller.

        Parameters
        ----------
        checkpoint
            The fields of `generation_config.json`. None in one means that it says nothing; names that are no settings
            are skipped.
        given
            Settings of the caller. None turns a setting off: `eos_token_id=None` never stops early.

        Raises
        ------
        TypeError
            The caller names an unknown setting, or a setting is of another kind.
        ValueError
            A setting is out of its range, or one that is not implemented is in use.
        """
        check_known(given)
        said = {name: value for name, value in stated(checkpoint or {}).items() if value is not None}
        settings = layered(said, given)
        for name in sorted(settings.keys() & _NEUTRAL.keys()):
            if plain(settings[name]) not in _NEUTRAL[name]:
                raise ValueError(
                    f"{name} is {shown(settings[name])}, expected {_NEUTRAL[name][-1]!r}: it is not implemented"
                )
        return cls(**{name: value for name, value in settings.items() if name in cls.__dataclass_fields__})

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """The tokens that end a text: none, one or several."""
        return cast("tuple[int, ...]", self.eos_token_id or ())

    def within(self, prompt_length: int, positions: int | None) -> GenerationOptions:
        """These, but where no length is asked for, no more tokens than a model has positions, if it has any left."""
        if self.max_new_tokens is not None or self.max_length is not None or positions is None:
            return self
        left = positions - prompt_length
        return dataclasses.replace(self, max_new_tokens=left) if 0 < left < _NEW_TOKENS else self

    def limit(self, prompt_length: int) -> int:
        """The most tokens of a text with its prompt.

        Raises
        ------
        ValueError
            The prompt fills `max_length` already.
        """
        if self.max_new_tokens is None and self.max_length is not None:
            if prompt_length >= self.max_length:
                raise ValueError(f"max_length is {self.max_length}, expected more than the {prompt_length} of a prompt")
            return self.max_length
        return prompt_length + (_NEW_TOKENS if self.max_new_tokens is None else self.max_new_tokens)

    def least(self, prompt_length: int) -> int:
        """The length, with the prompt, below which no end token may come."""
        return self.min_length if self.min_new_tokens is None else prompt_length + self.min_new_tokens

    def __repr__(self) -> str:
        fields = ((field, getattr(self, field.name)) for field in dataclasses.fields(self))
        said = (f"{field.name}={value!r}" for field, value in fields if value != field.default)
        return f"GenerationOptions({', '.join(said)})"


def is_known(name: str) -> bool:
    """Whether it is a setting, or one of Transformers' that has no effect, or none as long as it is neutral."""
    return name in _NEUTRAL or name in _WITHOUT_EFFECT or name in GenerationOptions.__dataclass_fields__


def check_known(names: Iterable[str]) -> None:
    """Refuses names that are no settings."""
    unknown = sorted(name for name in names if not is_known(name))
    if unknown:
        known = ", ".join(GenerationOptions.__dataclass_fields__)
        raise TypeError(f"generate has no setting {', '.join(unknown)}; the settings are {known}")


def stated(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among the fields of a `generation_config.json`, in the words of a caller."""
    said = {name: value for name, value in fields.items() if is_known(name)}
    for name in ("pad_token_id", "eos_token_id"):
        if plain(said.get(name)) == -1:  # how some checkpoints say that they have none
            said[name] = None
    if plain(said.get("top_k")) == -1:  # and that they draw from all
        said["top_k"] = 0
    return said


def layered(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others over them: a limit replaces the same limit of the other kind, too."""
    settings = dict(under)
    for limit, total in (("max_new_tokens", "max_length"), ("min_new_tokens", "min_length")):
        if over.get(total) is not None:
            settings.pop(limit, None)
    return settings | dict(over)
