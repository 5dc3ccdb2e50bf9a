"""A tokenizer's special tokens: those that have a name, and those that do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..scalars import integer
from .locked_backend import LockedBackend
from .tokenizer_families import SPECIAL

_EXTRA = ("additional_special_tokens", "extra_special_tokens")  # before Transformers 5, and since
MOST_ID = (1 << 32) - 1


def _token(name: str) -> property:
    def read(self: SpecialTokens) -> str | None:
        return self._special.get(name)

    def write(self: SpecialTokens, token: str | None) -> None:
        if token is None:
            self._special.pop(name, None)
            return
        named = _special(name, token)
        if self._backend.token_to_id(named.content) is None:
            self._add_special([named])
        self._special[name] = named.content  # and no more: a word of the vocabulary stays one, as in Transformers

    return property(read, write, doc=f"The {name.replace('_', ' ')}, or None.")


def _token_id(name: str) -> property:
    def read(self: SpecialTokens) -> int | None:
        token = self._special.get(name)
        return None if token is None else self._backend.token_to_id(token)

    def write(self: SpecialTokens, token_id: int | None) -> None:
        token = None
        if token_id is not None:
            number = integer(f"{name}_id", token_id, 0, MOST_ID, expected="a token's id, or None")
            token = self._backend.id_to_token(number)
            if token is None:
                raise ValueError(f"{name}_id is {number}, expected a token's id, or None")
        setattr(self, name, token)

    return property(read, write, doc=f"The id of the {name.replace('_', ' ')}, or None.")


def _added(name: str, end: int) -> property:
    def read(self: SpecialTokens) -> bool:
        return self._special.get(name) in self._locked.ends()[end]

    def write(self: SpecialTokens, added: bool) -> None:
        if not isinstance(added, bool):
            raise TypeError(f"add_{name} is {type(added).__name__}, expected a bool")
        if added and self._special.get(name) is None:
            raise ValueError(f"add_{name} is True, and {name} is None: set it first")
        if added != read(self):
            self._locked.put_end(end, self._special[name], added=added)

    return property(read, write, doc=f"Whether a call puts the {name.replace('_', ' ')} at that end of each text.")


class SpecialTokens:
    """What a tokenizer knows of its special tokens, which are found whole in a text and left out of a decoded one."""

    bos_token, bos_token_id = _token("bos_token"), _token_id("bos_token")
    eos_token, eos_token_id = _token("eos_token"), _token_id("eos_token")
    unk_token, unk_token_id = _token("unk_token"), _token_id("unk_token")
    sep_token, sep_token_id = _token("sep_token"), _token_id("sep_token")
    pad_token, pad_token_id = _token("pad_token"), _token_id("pad_token")
    cls_token, cls_token_id = _token("cls_token"), _token_id("cls_token")
    mask_token, mask_token_id = _token("mask_token"), _token_id("mask_token")
    add_bos_token, add_eos_token = _added("bos_token", 0), _added("eos_token", 1)

    def __init__(self, backend: Any, named: dict[str, Any], extra: Sequence[Any]) -> None:
        self._backend = backend  # for what its state does not change
        self._locked = LockedBackend(backend)
        self._special: dict[str, str] = {}
        self._extra_special = [token.content for token in extra]
        self._name_special(named)
        self._add_special(extra)

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """The special tokens by name."""
        return dict(self._special)

    @property
    def all_special_tokens(self) -> list[str]:
        """The special tokens, each once."""
        return list(dict.fromkeys([*self._special.values(), *self._extra_special]))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of the special tokens."""
        return [self._backend.token_to_id(token) for token in self.all_special_tokens]

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids that `decode(…, skip_special_tokens=True)` leaves out."""
        added = self._backend.get_added_tokens_decoder().items()
        return frozenset(token_id for token_id, token in added if token.special)

    def add_special_tokens(self, special_tokens_dict: Mapping[str, Any]) -> int:
        """Names special tokens: {"pad_token": "[PAD]"}. How many of them the vocabulary lacked and now ends with.

        `additional_special_tokens` is a list of those without a name. A model has no embedding for new ones: they can
        pad beside an attention mask, and are refused elsewhere.

        Raises
        ------
        TypeError
            A token is no string.
        ValueError
            A name is none of a special token.
        """
        unknown = sorted(special_tokens_dict.keys() - {*SPECIAL, *_EXTRA})
        if unknown:
            raise ValueError(f"special_tokens_dict names {unknown[0]!r}, expected {', '.join(SPECIAL)} or {_EXTRA[0]}")
        named, extra = {}, None
        for name, token in special_tokens_dict.items():
            if name not in _EXTRA:
                named[name] = _special(name, token)
            elif isinstance(token, list | tuple):
                extra = [_special(name, one) for one in token]
            else:
                raise TypeError(f"{name} is {type(token).__name__}, expected a list of tokens")
        before = len(self)
        self._name_special(named)
        if extra is not None:
            self._extra_special = [token.content for token in extra]
            self._add_special(extra)
        return len(self) - before

    def __len__(self) -> int:
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    def _name_special(self, named: Mapping[str, Any]) -> None:
        self._add_special(list(named.values()))
        self._special.update({name: token.content for name, token in named.items()})

    def _add_special(self, tokens: Sequence[Any]) -> None:
        """Makes tokens special that are not yet."""
        known = {token.content for token in self._backend.get_added_tokens_decoder().values()}
        self._backend.add_special_tokens([token for token in tokens if token.content not in known])


def _special(name: str, token: Any) -> Any:
    from tokenizers import AddedToken

    if not isinstance(token, str | AddedToken):
        raise TypeError(f"{name} is {type(token).__name__}, expected a string or an AddedToken")
    return AddedToken(token, special=True, normalized=False) if isinstance(token, str) else token
