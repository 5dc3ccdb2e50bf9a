"""What several families read from their configs in the same words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...rope import rotary_frequencies
from ..architecture import ACTIVATIONS, HeadSpec, Rotary, StackSpec
from ..config import Config
from ..family import Source, module

FULL, SLIDING = "full_attention", "sliding_attention"  # kinds of layers, as configs name them
EVERYWHERE = (-1, -1)  # the window of a query that sees all

_MOST_LAYERS = 10_000
_MOST_WINDOW = 1 << 31  # as wide as this stands for none
_TRAINED = "original_max_position_embeddings"
_FAR = 2**40  # further than any text goes
_MOST_HEAD_SIZE = 1 << 16


def classifiers(config: Config) -> dict[str, HeadSpec]:
    """Plain linear heads over every token: token classification, and where begin and end answers."""
    return {"token_classification": HeadSpec("all", config.label_count()), "question_answering": HeadSpec("all", 2)}


CLASSIFIERS = {  # what most families call the tensors of these
    "token_classification": (module("head.out", "classifier"),),
    "question_answering": (module("head.out", "qa_outputs"),),
}


def dense_and_out(theirs: str) -> tuple[Source, ...]:
    """The names of a classifier's two layers."""
    return module("head.dense", f"{theirs}.dense"), module("head.out", f"{theirs}.out_proj")


def masked_lm(config: Config, stack: StackSpec, act: str) -> HeadSpec:
    """BERT's logits of words: a dense layer as wide as the embeddings and a norm before the table, tied by default."""
    e = stack.embeddings
    tied = config.flag("tie_word_embeddings", default=True)
    return HeadSpec("all", e.vocabulary, tied=tied, dense=e.width, activation=act, norm=stack.blocks[0].eps)


def decoder_heads(config: Config, *, tied: bool, softcap: float = 0.0) -> dict[str, HeadSpec]:
    """What decoders carry: words' logits, tied where the config says so or else `tied`, and classifiers."""
    words = config.positive_int("vocab_size")
    tied = config.flag("tie_word_embeddings", default=tied)
    return {
        "causal_lm": HeadSpec("all", words, tied=tied, bias=False, softcap=softcap),
        "sequence_classification": HeadSpec("last", config.label_count(), bias=False),
        **classifiers(config),
    }


def activation(config: Config, name: str, default: str) -> str:
    """The operators' name of the function in a config's field."""
    return config.choice(name, ACTIVATIONS, default=default)


def layers(config: Config, name: str = "num_hidden_layers", default: int | None = None) -> int:
    """How many blocks, within reason."""
    count = config.positive_int(name) if default is None else config.positive_int(name, default=default)
    if count > _MOST_LAYERS:
        raise ValueError(f"{config.path}: field {name!r} is {count}, expected at most {_MOST_LAYERS}")
    return count


def head_size(
    config: Config, width: str = "hidden_size", heads: str = "num_attention_heads", default: int | None = None
) -> int:
    """The config's `head_dim`, the family's default, or the width shared out to the heads, by their fields' names."""
    if config.get("head_dim") is not None:
        return config.positive_int("head_dim")
    if default is not None:
        return default
    whole, parts = config.positive_int(width), config.positive_int(heads)
    if whole % parts:
        raise ValueError(f"{config.path}: field {width!r} is {whole}, expected a multiple of {heads!r}, {parts}")
    return whole // parts


def start_token(config: Config, words: int, default: int) -> int | None:
    """The `decoder_start_token_id`, or else the family's, of a decoder of `words`; None where it lacks the latter."""
    if config.get("decoder_start_token_id") is None:
        return default if default < words else None
    start = config.token_id("decoder_start_token_id")
    if start >= words:
        raise ValueError(
            f"{config.path}: field 'decoder_start_token_id' is {start}, expected 0 to {words - 1}: a token of the "
            "decoder's vocabulary"
        )
    return start


def window(config: Config, default: int | None = None) -> tuple[int, int]:
    """The `sliding_window` of a causal layer, which counts the query's own key; null or vast: a query sees all."""
    if config.get("sliding_window", default) is None:
        return EVERYWHERE
    keys = config.positive_int("sliding_window", default=default or 1)
    return (keys - 1, -1) if keys < _MOST_WINDOW else EVERYWHERE


def window_around(config: Config, name: str, default: int) -> tuple[int, int]:
    """A window of so many keys, as a config's field says, half of them to each side; vast: a query sees all."""
    keys = config.positive_int(name, default=default)
    return (keys // 2, keys // 2) if keys < _MOST_WINDOW else EVERYWHERE


def kinds_of_layers(config: Config, default: Sequence[str]) -> Sequence[str]:
    """Each layer's kind, FULL or SLIDING: what `layer_types` says, or else the default."""
    kinds = config.get("layer_types")
    if kinds is None:
        return default
    if not (isinstance(kinds, list) and len(kinds) == len(default) and all(kind in (FULL, SLIDING) for kind in kinds)):
        raise ValueError(
            f"{config.path}: field 'layer_types' is {kinds}, expected {len(default)} of {FULL!r} and {SLIDING!r}"
        )
    return kinds


def rotary(config: Config, size: int, *, kind: str | None = None, base: float = 10000.0, part: float = 1.0) -> Rotary:
    """Rotary positions as configs say them: today in `rope_parameters`, before in `rope_theta` and `rope_scaling`.

    size   of a head
    kind   of layer, where each has parameters of its own (FULL, SLIDING)
    base, part   where the config does not say: the base, and the share of the head that turns
    """
    fields = _rope_fields(config, kind)
    theta = _stated(fields, config, "rope_theta", base)
    part = _stated(fields, config, "partial_rotary_factor", part)
    scaling = _rope_scaling(config, fields)
    try:
        if isinstance(theta, bool | str):
            raise TypeError(f"rope_theta is {theta!r}, expected a number")
        if not 0 < part <= 1:
            raise ValueError(f"partial_rotary_factor is {part}, expected a share of the head, above 0 and at most 1")
        if size > _MOST_HEAD_SIZE:
            raise ValueError(f"the head size is {size}, expected at most {_MOST_HEAD_SIZE}")
        found = Rotary(int(size * part), float(theta), scaling=scaling)
        for length in (0, _FAR):
            rotary_frequencies(found.dim, base=found.base, scaling=found.scaling, length=length)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"{config.path}: rotary positions: {error}") from None
    return found


def _stated(fields: dict[str, Any], config: Config, name: str, default: float) -> Any:
    """What the rotation's own fields say, and takes it out of them; or the config, or neither."""
    said = fields.pop(name, None)
    said = config.get(name) if said is None else said
    return default if said is None else said


def _rope_fields(config: Config, kind: str | None) -> dict[str, Any]:
    name = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
    fields = config.get(name) or {}
    if kind and isinstance(fields, Mapping) and any(isinstance(value, Mapping) for value in fields.values()):
        fields = fields.get(kind) or {}
    if not isinstance(fields, Mapping) or any(isinstance(value, Mapping) for value in fields.values()):
        raise ValueError(f"{config.path}: field {name!r} is {fields}, expected one set of parameters")
    return {key: value for key, value in fields.items() if value is not None}


def _rope_scaling(config: Config, fields: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = fields.get("rope_type", fields.get("type", "default"))
    if kind == "default":
        return None
    if kind == "su" or "short_factor" in fields:
        kind = "longrope"  # which the first files of Phi-3 call "su" or "yarn"
    where = config if config.get(_TRAINED) is not None else Config(fields, config.path)
    longest, trained = config.get("max_position_embeddings"), where.get(_TRAINED)
    if kind == "longrope":
        config.positive_int("max_position_embeddings", default=1)
        where.positive_int(_TRAINED, default=1)
    if kind == "dynamic" or trained is None:
        trained = longest
    stretch = {"factor": longest / trained} if kind == "longrope" and longest and trained else {}
    return {**stretch, **fields, "rope_type": kind, _TRAINED: trained}
