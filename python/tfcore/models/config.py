"""Reading `config.json`: a field that is missing, of the wrong type or out of range is an error that names it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

_REQUIRED: Any = object()
_MOST = 10**36  # lengths of 10**30 stand for none
_MOST_FLOAT32 = 3.4028234663852886e38

_BART = {
    "hidden_size": "d_model",
    "num_hidden_layers": "encoder_layers",
    "num_attention_heads": "encoder_attention_heads",
}
_ALIASES = {  # what Transformers also calls the fields of families that have names of their own
    "bart": _BART,
    "marian": _BART,
    "distilbert": {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"},
    "gpt2": {
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
    },
    "t5": {
        "hidden_size": "d_model",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "head_dim": "d_kv",
    },
}
_ENCODER_DECODERS = ("bart", "marian", "t5")


def read_json(path: Path, kind: type = dict) -> Any:
    """The object (or, with ``kind=list``, the array) a JSON file holds.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is not JSON, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # json's own error is a ValueError, so is a wrong encoding
        raise ValueError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(value, kind):
        wanted = "an object" if kind is dict else "an array"
        raise ValueError(f"{path}: holds {described(value)}, expected {wanted}")
    return value


class Config(Mapping[str, Any]):
    """The fields of one JSON file, as attributes and items, with typed access that names what is wrong.

    Where the file is silent, attributes have Transformers' names of sizes and its labels, and None for special tokens.
    Items and typed access are the file's alone.

    >>> config = Config({"hidden_size": 384, "hidden_act": "gelu"}, "config.json")
    >>> config.hidden_size, config.positive_int("hidden_size"), config.text("norm", default="layer")
    (384, 384, 'layer')
    >>> config.positive_int("hidden_act")
    Traceback (most recent call last):
    ValueError: config.json: field 'hidden_act' is "gelu", expected a positive integer
    """

    def __init__(self, fields: Mapping[str, Any], path: Path | str) -> None:
        self._fields = dict(fields)
        self.path = Path(path)

    @classmethod
    def read(cls, path: Path) -> Config:
        """The fields of the JSON file at `path`."""
        return cls(read_json(path), path)

    def positive_int(self, name: str, default: int = _REQUIRED) -> int:
        value = self._field(name, default)
        if type(value) is not int or not 0 < value <= _MOST:  # a bool is an int to isinstance, but not here
            self._refuse(name, "a positive integer" + " up to 10**36" * (type(value) is int and value > 0))
        return int(value)

    def token_id(self, name: str, default: int = _REQUIRED) -> int:
        value = self._field(name, default)
        if type(value) is not int or value < 0:
            self._refuse(name, "a token's id: 0 or a positive integer")
        return int(value)

    def token_ids(self, name: str) -> list[int]:
        """Of a field that holds none, one or several. -1, too, which stands for none in some files."""
        value = self._fields.get(name)
        ids = [] if value is None else value if isinstance(value, list) else [value]
        if not all(type(token) is int and -1 <= token < 1 << 31 for token in ids):
            self._refuse(name, "a token's id or several")
        return ids

    def texts(self, name: str) -> list[str]:
        """Of a field that may be missing."""
        value = self._fields.get(name) or []
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            self._refuse(name, "a list of strings")
        return value

    def positive_number(self, name: str, default: float = _REQUIRED) -> float:
        value = self._field(name, default)
        if type(value) not in (int, float) or not 0 < value <= _MOST_FLOAT32:
            beyond = type(value) in (int, float) and _MOST_FLOAT32 < value < float("inf")
            self._refuse(name, "a positive number" + " within float32" * beyond)
        return float(value)

    def text(self, name: str, default: str = _REQUIRED) -> str:
        value = self._field(name, default)
        if not isinstance(value, str):
            self._refuse(name, "a string")
        return str(value)

    def flag(self, name: str, default: bool = _REQUIRED) -> bool:
        value = self._field(name, default)
        if not isinstance(value, bool):
            self._refuse(name, "true or false")
        return bool(value)

    def choice(self, name: str, choices: Mapping[str, str], default: str = _REQUIRED) -> str:
        """What `choices` says of the field's text."""
        value = self.text(name, default)
        if value not in choices:
            self._refuse(name, f"one of {', '.join(choices)}")
        return choices[value]

    def expect(self, name: str, value: Any) -> None:
        """Refuses a field that is present and says anything but `value`: a variant that is not implemented."""
        if self._fields.get(name) not in (None, value):
            self._refuse(name, f"{described(value)}: nothing else is implemented")

    def _field(self, name: str, default: Any) -> Any:
        value = self._fields.get(name)
        if value is not None:
            return value
        if default is _REQUIRED:
            raise ValueError(f"{self.path}: field {name!r} is missing")
        return default

    def _refuse(self, name: str, wanted: str) -> NoReturn:
        raise ValueError(f"{self.path}: field {name!r} is {described(self._fields[name])}, expected {wanted}")

    def to_dict(self) -> dict[str, Any]:
        """All fields as read."""
        return dict(self._fields)

    def __getattr__(self, name: str) -> Any:
        if name == "_fields":  # a copy in the making has none yet
            raise AttributeError(name)
        if name == "id2label":
            return self._labels()
        if name == "num_labels":
            return len(self.id2label)
        model_type = str(self._fields.get("model_type"))
        for field in (name, _ALIASES.get(model_type, {}).get(name)):
            if field in self._fields:
                return self._fields[field]
        if name == "label2id":
            return {label: number for number, label in self.id2label.items()}
        if name == "is_encoder_decoder":
            return model_type in _ENCODER_DECODERS
        if name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            return None
        raise AttributeError(f"config has no field {name!r}")

    def _labels(self) -> dict[int, Any]:
        """Labels by number, which JSON has as strings; where none are named, "LABEL_0" and so on."""
        labels = self._fields.get("id2label")
        if labels is None:
            usual = 3 if self._fields.get("model_type") == "bart" else 2
            return {i: f"LABEL_{i}" for i in range(self.positive_int("num_labels", default=usual))}
        try:
            return {int(key): label for key, label in labels.items()}
        except (AttributeError, ValueError):
            self._refuse("id2label", "an object of labels by their numbers")

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Config({json.dumps(self._fields, indent=2)})"


def described(value: Any, limit: int = 60) -> str:
    """A value as JSON, cut where it is long."""
    try:
        text = json.dumps(value)
    except ValueError:  # Python writes no integer of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= limit else text[: limit - 1] + "…"
