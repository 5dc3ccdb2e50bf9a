"""The tokenizer inside a GGUF file: its vocabulary as a `tokenizers.Tokenizer`, and a `tokenizer_config.json`'s fields.

The file names an algorithm by `tokenizer.ggml.model` and, where that is byte-level BPE, the split of texts before it by
`tokenizer.ggml.pre`. What these names mean is nowhere in the file; it is in the tables here and in `word_splits.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ..extras import extra
from .config import Config
from .gguf import GgufFile
from .sentencepiece_files import CONTROL, SPACE, UNKNOWN, USER_DEFINED, halves
from .word_splits import SPLITS

_SPECIAL = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
    "sep_token": "seperator_token_id",
    "mask_token": "mask_token_id",
}

# ---- the vocabulary


class _Vocabulary:
    """What the file says of its tokens, checked."""

    def __init__(self, file: GgufFile) -> None:
        self.file, self.keys = file, Config(file.metadata, file.path)
        self.kind = self.keys.text("tokenizer.ggml.model")
        self.tokens: list[str] = self.array("tokens", str)
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self.ids) < len(self.tokens):
            twice = next(token for i, token in enumerate(self.tokens) if self.ids[token] != i)
            raise self.refuse("tokens", f"holds {twice!r} twice")
        self.kinds: list[int] = self.array("token_type", int, len(self.tokens)) if self.has("token_type") else []
        self.special = {name: self._token(key) for name, key in _SPECIAL.items() if self.has(key)}

    def has(self, key: str) -> bool:
        return f"tokenizer.ggml.{key}" in self.keys

    def array(self, key: str, kind: type, length: int | None = None) -> list[Any]:
        name = f"tokenizer.ggml.{key}"
        values = self.keys.get(name)
        if values is None:
            raise ValueError(f"{self.file.path}: key {name!r} is missing")
        if not isinstance(values, list) or not all(type(value) is kind for value in values):
            raise self.refuse(key, f"is {type(values).__name__}, expected an array of {kind.__name__}")
        if length is not None and len(values) != length:
            raise self.refuse(key, f"has {len(values)} entries, expected {length}, one for each token")
        return values

    def flag(self, key: str, default: bool) -> bool:
        return self.keys.flag(f"tokenizer.ggml.{key}", default)

    def of_kind(self, kind: int) -> list[str]:
        return [token for token, own in zip(self.tokens, self.kinds, strict=False) if own == kind]

    def refuse(self, key: str, fault: str) -> ValueError:
        return ValueError(f"{self.file.path}: key 'tokenizer.ggml.{key}' {fault}")

    def _token(self, key: str) -> str:
        number = self.keys[f"tokenizer.ggml.{key}"]
        if type(number) is not int or not 0 <= number < len(self.tokens):
            raise self.refuse(key, f"is {number!r}, expected an integer from 0 to {len(self.tokens) - 1}")
        return self.tokens[number]


# ---- from the file to the tokenizer


def read_tokenizer(file: GgufFile) -> tuple[Any, dict[str, Any]]:
    """The file's `tokenizers.Tokenizer`, and the fields of a `tokenizer_config.json` that says what the file says.

    The tokens that texts begin and end with are among the fields alone, not in the tokenizer.

    Raises
    ------
    ValueError
        A key is missing, of the wrong type, or contradicts another; or it names an algorithm or a split that is not
        known, and the message lists those that are.
    """
    extra("tokenizers", "models", "a tokenizer")
    vocabulary = _Vocabulary(file)
    if vocabulary.kind not in _KINDS:
        raise vocabulary.refuse("model", f"is {vocabulary.kind!r}, expected one of {', '.join(_KINDS)}")
    backend, add_bos = _KINDS[vocabulary.kind](vocabulary)
    _add_tokens(backend, vocabulary)
    return backend, _fields(vocabulary, add_bos)


def _fields(vocabulary: _Vocabulary, add_bos: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        **vocabulary.special,
        "add_bos_token": vocabulary.flag("add_bos_token", add_bos and "bos_token" in vocabulary.special),
        "add_eos_token": vocabulary.flag("add_eos_token", False),
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    for end in ("bos", "eos"):
        if fields[f"add_{end}_token"] and f"{end}_token" not in fields:
            raise vocabulary.refuse(f"add_{end}_token", f"is true, but key 'tokenizer.ggml.{end}_token_id' is missing")
    if vocabulary.keys.get("tokenizer.chat_template") is not None:
        fields["chat_template"] = vocabulary.keys.text("tokenizer.chat_template")
    length = f"{vocabulary.keys.get('general.architecture')}.context_length"
    if vocabulary.keys.get(length) is not None:
        fields["model_max_length"] = vocabulary.keys.positive_int(length)
    return fields


def _byte_level(vocabulary: _Vocabulary) -> tuple[Any, bool]:
    """Byte-level BPE, as GPT-2's: merges in the file, a split by name."""
    from tokenizers import Tokenizer, decoders, normalizers

    name = vocabulary.keys.text("tokenizer.ggml.pre", "default")
    if name not in SPLITS:
        raise vocabulary.refuse("pre", f"is {name!r}, expected one of {', '.join(SPLITS)}")
    split = SPLITS[name]
    backend = Tokenizer(_bpe(vocabulary, _stated_merges(vocabulary), ignore_merges=split.ignore_merges))
    backend.pre_tokenizer, backend.decoder = split.pre_tokenizer(), decoders.ByteLevel()
    if split.composed:
        backend.normalizer = normalizers.NFC()
    return backend, split.add_bos


def _sentence_piece(vocabulary: _Vocabulary) -> tuple[Any, bool]:
    """SentencePiece's BPE: the best-scored pair first, bytes for what is in no token."""
    from tokenizers import Tokenizer, decoders, normalizers

    unknown = vocabulary.special.get("unk_token") or next(iter(vocabulary.of_kind(UNKNOWN)), None)
    merges = _stated_merges(vocabulary) if vocabulary.has("merges") else _scored_merges(vocabulary)
    backend = Tokenizer(_bpe(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    decoding: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    spaces: list[Any] = [normalizers.Replace(" ", SPACE)]
    if vocabulary.flag("add_space_prefix", True):  # before what follows a special token, too
        spaces.insert(0, normalizers.Prepend(SPACE))
        decoding.append(decoders.Strip(" ", 1, 0))
    backend.normalizer = normalizers.Sequence(spaces)
    backend.decoder = decoders.Sequence(decoding)
    return backend, True


_KINDS: Mapping[str, Callable[[_Vocabulary], tuple[Any, bool]]] = {"gpt2": _byte_level, "llama": _sentence_piece}

# ---- merges


def _bpe(vocabulary: _Vocabulary, merges: list[tuple[str, str]], **settings: Any) -> Any:
    from tokenizers import models

    try:
        return models.BPE(vocab=vocabulary.ids, merges=merges, **settings)
    except Exception as error:  # the library raises nothing more precise
        raise vocabulary.refuse("merges", f"make no tokenizer: {error}") from None


def _stated_merges(vocabulary: _Vocabulary) -> list[tuple[str, str]]:
    """Each merge is two tokens with a space between them; the first may begin with a space of its own."""
    merges = []
    for merge in vocabulary.array("merges", str):
        middle = merge.find(" ", 1)
        if middle < 0 or middle == len(merge) - 1:
            raise vocabulary.refuse("merges", f"holds {merge!r}, expected two tokens with a space between them")
        merges.append((merge[:middle], merge[middle + 1 :]))
    return merges


def _scored_merges(vocabulary: _Vocabulary) -> list[tuple[str, str]]:
    """All pairs of tokens that make a token, those of the best score first.

    SentencePiece looks for the best-scored token that two neighbours make. Of equals, as the pairs that make the same
    token are, those with the longer first half come first, as in Transformers.
    """
    scores: list[float] = vocabulary.array("scores", float, len(vocabulary.tokens))
    if any(math.isnan(score) for score in scores):
        raise vocabulary.refuse("scores", "holds nan, expected numbers")
    pairs = [(scores[place], pair) for place, pair in halves(vocabulary.tokens, vocabulary.ids)]
    pairs.sort(key=lambda scored: (scored[0], len(scored[1][0]), len(scored[1][1])), reverse=True)
    return [pair for _, pair in pairs]


# ---- special tokens


def _add_tokens(backend: Any, vocabulary: _Vocabulary) -> None:
    """Tokens that are found whole in a text: control tokens, which `decode` can leave out, and a user's own."""
    from tokenizers import AddedToken

    control = dict.fromkeys([*vocabulary.of_kind(CONTROL), *vocabulary.special.values()])
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    own = [token for token in vocabulary.of_kind(USER_DEFINED) if token not in control]
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in own])
