"""What several families read from their configs in the same words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..architecture import ACTIVATIONS, Head, Rotary
from ..config import Config

FULL, SLIDING = "full_attention", "sliding_attention"  # kinds of layers, as configs name them

_MOST_LAYERS = 10_000


def labels(config: Config) -> int:
    """How many labels a classifier tells apart: Transformers' two, if the config names none."""
    named = config.get("id2label")
    return len(named) if isinstance(named, dict) and named else config.positive_int("num_labels", default=2)


def classifiers(config: Config, *, question: bool = True, bias: bool = True) -> dict[str, Head]:
    """Plain linear heads over every token: token classification, and where begin and end answers."""
    heads = {"token_classification": Head("all", labels(config), bias=bias)}
    return heads | ({"question_answering": Head("all", 2)} if question else {})


def activation(config: Config, name: str, default: str | None = None) -> str:
    """The operators' name of the function in a config's field."""
    return config.choice(name, ACTIVATIONS, **({} if default is None else {"default": default}))


def layers(config: Config, name: str = "num_hidden_layers", default: int | None = None) -> int:
    """How many blocks, within reason."""
    count = config.positive_int(name) if default is None else config.positive_int(name, default=default)
    if count > _MOST_LAYERS:
        raise ValueError(f"{config.path}: field {name!r} is {count}, expected at most {_MOST_LAYERS}")
    return count


def head_size(config: Config, width: str = "hidden_size", heads: str = "num_attention_heads") -> int:
    """The config's `head_dim`, or the width shared out to the heads, by the names of their fields."""
    if config.get("head_dim") is not None:
        return config.positive_int("head_dim")
    whole, parts = config.positive_int(width), config.positive_int(heads)
    if whole % parts:
        raise ValueError(f"{config.path}: field {width!r} is {whole}, expected a multiple of {heads!r}, {parts}")
    return whole // parts


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
    """Rotary positions as configs of today and of before say them: `rope_parameters`, or `rope_theta` and
    `rope_scaling`.

    size   of a head
    kind   of layer, where each has parameters of its own ("full_attention", "sliding_attention")
    base, part   where the config does not say: the base, and the share of the head that turns
    """
    fields = _rope_fields(config, kind)
    theta = fields.pop("rope_theta", None) or config.get("rope_theta") or base
    part = fields.pop("partial_rotary_factor", None) or config.get("partial_rotary_factor") or part
    kind_of_scaling = fields.get("rope_type", fields.get("type", "default"))
    if kind_of_scaling == "default":
        return Rotary(int(size * part), float(theta))
    trained = config.get("original_max_position_embeddings") or config.get("max_position_embeddings")
    scaling = {"original_max_position_embeddings": trained} | {k: v for k, v in fields.items() if v is not None}
    return Rotary(int(size * part), float(theta), scaling=scaling)


def _rope_fields(config: Config, kind: str | None) -> dict[str, Any]:
    fields = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if kind and isinstance(fields.get(kind), Mapping):
        fields = fields[kind]
    return dict(fields)
