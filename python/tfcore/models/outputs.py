"""What models return: named arrays, reachable by attribute, key, index and slice, as in Transformers.

Letters: B texts of L columns, C wide, H heads, V words. Masked columns are zeros, but of `start_logits` and
`end_logits` they are the lowest number of float32, which no argmax finds. Every output also has `hidden_states`,
layers + 1 arrays (B, L, C), and `attentions`, one array (B, H, L, L) a layer, where they were asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
States = tuple[FloatArray, ...]


class ModelOutput(Mapping[str, Any]):
    """A record that is also a mapping and a sequence. A field that is None is an attribute, but no key and no item.

    >>> output = BaseModelOutput(np.zeros((1, 3, 4)), pooler_output=np.zeros((1, 4)))
    >>> output.last_hidden_state.shape, output["pooler_output"].shape, output[0].shape, len(output[:2])
    ((1, 3, 4), (1, 4), (1, 3, 4), 2)
    >>> output.attentions is None, "attentions" in output, list(output)
    (True, False, ['last_hidden_state', 'pooler_output'])
    """

    def to_tuple(self) -> tuple[Any, ...]:
        """The values of all fields that are not None, in order."""
        return tuple(self[name] for name in self)

    def __getitem__(self, key: str | int | slice) -> Any:
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key not in self:
            raise KeyError(key)
        return getattr(self, key)

    def __contains__(self, key: object) -> bool:
        return any(name == key for name in self)

    def __iter__(self) -> Iterator[str]:
        own = type(self).__annotations__  # what an output is about comes before what it shares with others
        ordered = sorted(fields(self), key=lambda field: field.name not in own)  # type: ignore[arg-type]
        return (field.name for field in ordered if getattr(self, field.name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Seen(ModelOutput):
    """What a stack went through."""

    hidden_states: States | None = None
    attentions: States | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class _SeenByBoth(ModelOutput):
    """What a decoder and its encoder went through."""

    decoder_hidden_states: States | None = None
    decoder_attentions: States | None = None
    cross_attentions: States | None = None
    encoder_last_hidden_state: FloatArray | None = None
    encoder_hidden_states: States | None = None
    encoder_attentions: States | None = None


@dataclass(frozen=True, eq=False)
class BaseModelOutput(_Seen):
    """last_hidden_state (B, L, C); pooler_output (B, C) where the checkpoint has a pooler."""

    last_hidden_state: FloatArray
    pooler_output: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class LogitsOutput(_Seen):
    """logits: (B, L, V) of a language model, (B, L, labels) of tokens, (B, labels) of texts."""

    logits: FloatArray


@dataclass(frozen=True, eq=False)
class QuestionAnsweringOutput(_Seen):
    """start_logits, end_logits (B, L): where an answer begins and ends."""

    start_logits: FloatArray
    end_logits: FloatArray


@dataclass(frozen=True, eq=False)
class Seq2SeqModelOutput(_SeenByBoth):
    """last_hidden_state (B, L, C), the decoder's."""

    last_hidden_state: FloatArray


@dataclass(frozen=True, eq=False)
class Seq2SeqLogitsOutput(_SeenByBoth):
    """logits: as those of one stack, from the decoder's states."""

    logits: FloatArray


@dataclass(frozen=True, eq=False)
class Seq2SeqQuestionAnsweringOutput(_SeenByBoth):
    """start_logits, end_logits (B, L), from the decoder's states."""

    start_logits: FloatArray
    end_logits: FloatArray
