"""What the encoders share: they open a checkpoint when made, and their pickles open it again when first used.

So a pickle is the checkpoint's name and what was set, small on the wire, and a worker that never encodes never reads
weights.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from ..locks import ProcessLock
from ..models.config import Config
from ..models.device import CPU, check_device
from ..models.hub import SENTENCE_FILES, Lookup, resolve
from ..scalars import integer
from .arguments import check_prompt
from .report import Tally
from .transformer import Transformer, read_optional


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


@dataclass
class Parts:
    """What every encoder's files describe: a tokenizer and a model, and options."""

    transformer: Transformer
    options: Options


P = TypeVar("P", bound=Parts)


class Opened(Generic[P]):
    """A checkpoint by name, its parts, made by `_open` once, and settings: what the caller has set instead of them."""

    device = CPU
    _owner: ClassVar[str]  # of the hub's names that have none, as in sentence-transformers

    def __init__(
        self,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        prompts: Mapping[str, str | None] | None = None,
        default_prompt_name: str | None = None,
        device: Any = None,
        trust_remote_code: bool = False,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise TypeError(f"{type(self).__name__} has no argument {next(iter(unknown))!r}")
        check_device(device)
        source = Lookup(revision, cache_folder, token, local_files_only)
        self.folder = resolve(name, SENTENCE_FILES, source, self._owner).resolve()
        self._name, self._source = os.fspath(name), replace(source, token=None)  # which stays out of pickles
        self._settings: dict[str, Any] = {}
        self._warned = False
        self._lock = ProcessLock()
        self._opened: P | None = self._open(self.folder)
        if prompts is not None:
            self.prompts = {**self._parts.options.prompts, **_checked_prompts(prompts)}
            self._settings["named"] = self._parts.options.named | prompts.keys()
        if default_prompt_name is not None:
            self._prompt_named("default_prompt_name", default_prompt_name)
            self.default_prompt_name = default_prompt_name

    def _open(self, folder: Path) -> P:
        raise NotImplementedError

    @property
    def _parts(self) -> P:
        """What the checkpoint holds, opened by the first of any threads that ask."""
        if self._opened is None:
            with self._lock.here:
                if self._opened is None:
                    if not self.folder.is_dir():  # on another machine a hub name is in another cache
                        self.folder = resolve(self._name, SENTENCE_FILES, self._source, self._owner).resolve()
                    self._opened = self._open(self.folder)
        return self._opened

    @property
    def max_seq_length(self) -> int:
        """Longer texts are cut to this many tokens, as the checkpoint wants it. It can be set."""
        return int(self._settings.get("max_seq_length", self._parts.transformer.max_seq_length))

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        integer("max_seq_length", value, most=self._parts.transformer.model.max_length)
        self._settings["max_seq_length"] = value

    def get_max_seq_length(self) -> int:
        """The same as `max_seq_length`, by sentence-transformers' name."""
        return self.max_seq_length

    @property
    def prompts(self) -> dict[str, str]:
        """Prompts by name, as the checkpoint wants them. They can be set, together or one by one."""
        prompts: dict[str, str] = self._settings.setdefault("prompts", dict(self._parts.options.prompts))
        return prompts

    @prompts.setter
    def prompts(self, value: Mapping[str, str | None]) -> None:
        self._settings["prompts"] = _checked_prompts(value)
        self._settings["named"] = frozenset(self._settings["prompts"])

    @property
    def default_prompt_name(self) -> str | None:
        """The name of the prompt of calls that name none, as the checkpoint wants it. It can be set."""
        name: str | None = self._settings.get("default_prompt_name", self._parts.options.default_prompt_name)
        return name

    @default_prompt_name.setter
    def default_prompt_name(self, value: str | None) -> None:
        if not isinstance(value, str | None):
            raise TypeError(f"default_prompt_name is {type(value).__name__}, expected a string or None")
        self._settings["default_prompt_name"] = value

    def _prompt(self, prompt: str | None, name: str | None) -> str:
        """The prompt that a call wants: its own, one by name, the default, or none."""
        if prompt is not None:
            check_prompt("prompt", prompt)
            return prompt
        if name is not None:
            return self._prompt_named("prompt_name", name)
        default, said_by = self.default_prompt_name, "default_prompt_name"
        if said_by not in self._settings:
            said_by = f"{self._parts.options.config.path}: {said_by}"
        return "" if default is None else self._prompt_named(said_by, default)

    def _prompt_named(self, argument: str, name: str) -> str:
        if not isinstance(name, str):
            raise TypeError(f"{argument} is {type(name).__name__}, expected a string")
        if name not in self.prompts:
            known = ", ".join(map(repr, self.prompts)) or "none"
            raise ValueError(f"{argument} is {name!r}, and the prompts known are {known}")
        check_prompt(f"prompts[{name!r}]", self.prompts[name])
        return self.prompts[name]

    def _warn_once(self, tally: Tally, limit: int, what: str) -> None:
        """Warns the first time that texts were cut."""
        if not self._warned:
            self._warned = tally.warn(limit, what)

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
        return self._parts.transformer.tokenizer

    def __getstate__(self) -> dict[str, Any]:
        settings = copy.deepcopy(self._settings)
        return {"name": self._name, "source": self._source, "folder": self.folder, "settings": settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._name, self._source, self.folder = state["name"], state["source"], state["folder"]
        self._settings, self._warned = state["settings"], False
        self._lock, self._opened = ProcessLock(), None


def _checked_prompts(prompts: Any) -> dict[str, str]:
    if not isinstance(prompts, Mapping):
        raise TypeError(f"prompts is {type(prompts).__name__}, expected a dict of names and prompts")
    checked = {name: "" if prompt is None else prompt for name, prompt in prompts.items()}
    for name, prompt in checked.items():
        check_prompt(f"prompts[{name!r}]", prompt)
    return checked
