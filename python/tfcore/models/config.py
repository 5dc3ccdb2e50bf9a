"""Reading `config.json`: a field that is missing, of the wrong type or out of range is an error that names it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..scalars import shown

_REQUIRED: Any = object()
_MOST = 10**36
_MOST_FLOAT32 = 3.4028234663852886e38


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
        """The field's integer from 1 to 10**36: lengths of 10**30 stand for none."""
        value = self._field(name, default)
        if type(value) is not int or not 0 < value <= _MOST:  # a bool is an int to isinstance, but not here
            self.refuse(name, "a positive integer" + " up to 10**36" * (type(value) is int and value > 0))
        return int(value)

    def token_id(self, name: str, default: int = _REQUIRED) -> int:
        """The field's integer, 0 or more."""
        value = self._field(name, default)
        if type(value) is not int or value < 0:
            self.refuse(name, "a token's id: 0 or a positive integer")
        return int(value)

    def token_ids(self, name: str) -> list[int]:
        """The field's ids, of which it holds none, one or several; -1, too, which stands for none in some files."""
        value = self._fields.get(name)
        ids = [] if value is None else value if isinstance(value, list) else [value]
        if not all(type(token) is int and -1 <= token < 1 << 31 for token in ids):
            self.refuse(name, "a token's id or several")
        return ids

    def texts(self, name: str, default: Sequence[str] = ()) -> list[str]:
        """The field's strings, or the default ones where it is missing."""
        value = self._fields.get(name)
        if value is None:
            return list(default)
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            self.refuse(name, "a list of strings")
        return value

    def positive_number(self, name: str, default: float = _REQUIRED) -> float:
        """The field's number, above 0 and within float32."""
        value = self._field(name, default)
        if type(value) not in (int, float) or not 0 < value <= _MOST_FLOAT32:
            beyond = type(value) in (int, float) and _MOST_FLOAT32 < value < float("inf")
            self.refuse(name, "a positive number" + " within float32" * beyond)
        return float(value)

    def label_count(self, default: int = 2) -> int:
        """How many labels a classifier tells apart: those named, or the number that is said, or as usual."""
        labels = self._fields.get("id2label")
        if labels is not None and not isinstance(labels, dict):
            self.refuse("id2label", "an object of labels by their numbers")
        return len(labels) if labels else self.positive_int("num_labels", default=default)

    def text(self, name: str, default: str = _REQUIRED) -> str:
        """The field's string."""
        value = self._field(name, default)
        if not isinstance(value, str):
            self.refuse(name, "a string")
        return str(value)

    def flag(self, name: str, default: bool = _REQUIRED) -> bool:
        """The field's true or false."""
        value = self._field(name, default)
        if not isinstance(value, bool):
            self.refuse(name, "true or false")
        return bool(value)

    def choice(self, name: str, choices: Mapping[str, str], default: str = _REQUIRED) -> str:
        """What `choices` says of the field's text."""
        value = self.text(name, default)
        if value not in choices:
            self.refuse(name, f"one of {', '.join(choices)}")
        return choices[value]

    def expect(self, name: str, value: Any) -> None:
        """Refuses a field that is present and says anything but `value`: a variant that is not implemented."""
        if self._fields.get(name) not in (None, value):
            self.refuse(name, f"{described(value)}: nothing else is implemented")

    def _field(self, name: str, default: Any) -> Any:
        value = self._fields.get(name)
        if value is not None:
            return value
        if default is _REQUIRED:
            raise ValueError(f"{self.path}: field {name!r} is missing")
        return default

    def refuse(self, name: str, wanted: str) -> NoReturn:
        """Raises what is wrong with a field."""
        raise ValueError(f"{self.path}: field {name!r} is {described(self._fields[name])}, expected {wanted}")

    def to_dict(self) -> dict[str, Any]:
        """All fields as read."""
        return dict(self._fields)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle holds: fields of its own."""
        return {name: dict(value) if isinstance(value, dict) else value for name, value in vars(self).items()}

    def __getattr__(self, name: str) -> Any:
        if name != "_fields" and name in self._fields:  # a copy in the making has no fields yet
            return self._fields[name]
        raise AttributeError(f"config has no field {name!r}")

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Config({json.dumps(self._fields, indent=2)})"


def described(value: Any) -> str:
    """A value as JSON, cut where it is long."""
    return shown(value, json.dumps)
