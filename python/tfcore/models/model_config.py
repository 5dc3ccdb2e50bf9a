"""A model's config as code written for Transformers reads it: where the file is silent, its class there would speak."""

from __future__ import annotations

import copy
from typing import Any

from .architecture import Architecture
from .config import Config
from .family import Family

_USUAL = {"output_hidden_states": False, "output_attentions": False, "return_dict": True, "problem_type": None}
_USUAL |= dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"))


class ModelConfig(Config):
    """The fields of `config.json`, and as attributes what it leaves out: labels, Transformers' names of sizes, None for
    special tokens. Items and typed access are the file's alone.

    `id2label` has numbers for keys, where JSON has strings. Fields can be set: what a call reads, the special tokens,
    `output_hidden_states` and `output_attentions`, holds from then on; what the model was built from does not change.
    """

    def __init__(self, config: Config, family: Family, architecture: Architecture) -> None:
        super().__init__(config, config.path)
        self._unset = copy.deepcopy(self._fields)  # what nobody has set, also not in place, is still equal to this
        self._aliases = family.aliases
        self._usual_labels = family.usual_labels
        self._is_encoder_decoder = architecture.encoder is not None and architecture.decoder is not None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "path" or name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self._fields[name] = value
            self._unset.pop(name, None)

    @property
    def name_or_path(self) -> str:
        """The checkpoint's folder or GGUF file, from which its tokenizer comes, too."""
        return str(self.path.parent if self.path.name == "config.json" else self.path)

    def changes(self) -> dict[str, Any]:
        """The fields that were set or changed in place, and to what."""
        old = self._unset
        return {name: value for name, value in self._fields.items() if name not in old or value != old[name]}

    def __getattr__(self, name: str) -> Any:
        if name == "_name_or_path" and name not in self:
            return self.name_or_path
        if name.startswith("_"):
            return super().__getattr__(name)
        if name == "id2label":
            return self._labels()
        if name == "num_labels":
            return self.label_count(self._usual_labels)
        field = name if name in self else self._aliases.get(name, name)
        if field in self:
            return self[field]
        if name == "label2id":
            return {label: number for number, label in self._labels().items()}
        if name == "is_encoder_decoder":
            return self._is_encoder_decoder
        return _USUAL[name] if name in _USUAL else super().__getattr__(name)

    def _labels(self) -> dict[int, Any]:
        labels = self.get("id2label")
        if not labels:
            return {number: f"LABEL_{number}" for number in range(self.num_labels)}
        try:
            return {int(number): label for number, label in labels.items()}
        except (AttributeError, ValueError):
            self.refuse("id2label", "an object of labels by their numbers")
