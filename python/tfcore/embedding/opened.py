"""What the encoders share: they open a checkpoint when made, and their pickles open it again when first used.

So a pickle is the checkpoint's name, small on the wire, and a worker that never encodes never reads weights.
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..models.config import Config
from ..models.device import check_device
from ..models.hub import SENTENCE_FILES, Lookup, resolve
from .arguments import check_positive, half_a_pair
from .transformer import Transformer, read_optional

Parts = TypeVar("Parts")


class Opened(Generic[Parts]):
    """A checkpoint by name, and its `Parts`, made by `_open` once."""

    def __init__(
        self,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        device: Any = None,
        trust_remote_code: bool = False,
    ) -> None:
        check_device(device)
        source = Lookup(revision, cache_folder, token, local_files_only)
        self.folder = resolve(name, SENTENCE_FILES, source).resolve()
        self._name, self._source = os.fspath(name), replace(source, token=None)  # which stays out of pickles
        self._settings: dict[str, Any] = {}  # that the caller has made
        self._warned = False
        self._lock = threading.Lock()
        self._opened: Parts | None = self._open(self.folder)

    def _open(self, folder: Path) -> Parts:
        raise NotImplementedError

    @property
    def _parts(self) -> Parts:
        """What the checkpoint holds, opened by the first of any threads that ask."""
        if self._opened is None:
            with self._lock:
                if self._opened is None:
                    if not self.folder.is_dir():  # on another machine a hub name is in another cache
                        self.folder = resolve(self._name, SENTENCE_FILES, self._source).resolve()
                    self._opened = self._open(self.folder)
        return self._opened

    @property
    def _transformer(self) -> Transformer:
        raise NotImplementedError

    @property
    def max_seq_length(self) -> int:
        """Longer texts are cut to this many tokens, as the checkpoint wants it. It can be set."""
        return int(self._settings.get("max_seq_length", self._transformer.max_seq_length))

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        check_positive("max_seq_length", value, self._transformer.model.max_length)
        self._settings["max_seq_length"] = value

    def get_max_seq_length(self) -> int:
        """The same as `max_seq_length`, by sentence-transformers' name."""
        return self.max_seq_length

    def eval(self) -> Any:
        """The encoder itself."""
        return self

    def to(self, device: Any) -> Any:
        """The encoder itself, if `device` is the CPU."""
        check_device(device)
        return self

    @property
    def tokenizer(self) -> Any:
        """The checkpoint's tokenizer."""
        return self._transformer.tokenizer

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self._name, "source": self._source, "folder": self.folder, "settings": self._settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._name, self._source, self.folder = state["name"], state["source"], state["folder"]
        self._settings, self._warned = dict(state["settings"]), False
        self._lock, self._opened = threading.Lock(), None


class Options:
    """`config_sentence_transformers.json`: prompts, the similarity, and what else a checkpoint may say of its use.

    As in sentence-transformers, the file counts for nothing without a `modules.json` beside it.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "config_sentence_transformers.json"
        self.config = read_optional(path) if (folder / "modules.json").is_file() else Config({}, path)
        prompts = self.config.get("prompts") or {}
        if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
            raise ValueError(f"{self.config.path}: field 'prompts' is not an object of names and strings")
        self.named = frozenset(prompts)  # by the file; sentence-transformers knows two more, which are empty
        self.prompts = {"query": "", "document": "", **{name: text or "" for name, text in prompts.items()}}
        self.default_prompt_name = self.config.text("default_prompt_name", default="") or None

    def prompt(self, prompt: str | None, name: str | None) -> str:
        """The prompt that a call wants: its own, one by name, the checkpoint's default, or none."""
        if prompt is not None:
            if not isinstance(prompt, str):
                raise TypeError(f"prompt is {type(prompt).__name__}, expected a string")
            if half_a_pair(prompt):
                raise ValueError(f"prompt is {prompt!r}, which holds half of a surrogate pair")
            return prompt
        if name is not None:
            if name not in self.prompts:
                known = ", ".join(map(repr, self.prompts)) or "none"
                raise ValueError(f"prompt_name is {name!r}, and the prompts known are {known}")
            return self.prompts[name]
        default = self.default_prompt_name
        if default is not None and default not in self.prompts:
            raise ValueError(f"{self.config.path}: default_prompt_name is {default!r}, which prompts does not hold")
        return self.prompts[default] if default is not None else ""
