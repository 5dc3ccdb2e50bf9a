"""A checkpoint's tokenizer files: `tokenizer.json` or the older ones without it, and what the files beside it say.

Whatever the files, the result is a `tokenizers.Tokenizer`, or what behaves like one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..extras import extra
from .config import Config, read_json
from .gguf import GgufFile
from .gguf_tokenizer import read_tokenizer
from .marian_tokenizer import open_marian
from .sentencepiece_files import (
    gemma_tokenizer,
    llama_tokenizer,
    read_pieces,
    t5_sentinels,
    t5_tokenizer,
    xlm_roberta_tokenizer,
)
from .tokenizer_families import BERT, FAMILIES, SPECIAL, TokenizerFamily, family_of
from .tokenizers_library import LibraryErrors, added_token, put_ends, token_text
from .word_splits import SPLITS

_BERT_NORMALIZER = {  # fields of tokenizer_config.json → its attributes
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
_STEPS = (
    ("normalizer", "BertNormalizer", _BERT_NORMALIZER),
    ("pre_tokenizer", "ByteLevel", {"add_prefix_space": "add_prefix_space"}),
    ("post_processor", "RobertaProcessing", {"add_prefix_space": "add_prefix_space"}),  # which puts offsets right
)
_MOST_EXTRA_IDS = 100_000
_PIECES = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model")


def open_tokenizer(path: Path, settings: dict[str, Any]) -> tuple[Any, Config]:
    """The `tokenizers.Tokenizer` of a folder or GGUF file, and what it and the caller's `settings` say besides."""
    extra("tokenizers", "models", "a tokenizer")
    if path.is_file():
        backend, fields = read_tokenizer(GgufFile(path))
        config = Config(fields | settings, path)
        _add_ends(backend, config)
        return backend, config
    config = _read_config(path, settings)
    if (path / "tokenizer.json").is_file():
        return _open_json(path / "tokenizer.json", config), config
    return _open_older(path, config)


def _open_json(file: Path, config: Config) -> Any:
    from tokenizers import Tokenizer

    with LibraryErrors(f"{file}: not a tokenizer"):
        backend = Tokenizer.from_file(str(file))
    _follow(config, backend)
    _add_ends(backend, config)
    return backend


def _open_older(folder: Path, config: Config) -> tuple[Any, Config]:
    """From the files that checkpoints had before `tokenizer.json`."""
    if (folder / "source.spm").is_file():
        config = _with_defaults(config, {"tokenizer_class": "MarianTokenizer"})
        backend: Any = open_marian(folder, config, FAMILIES["MarianTokenizer"])
    elif file := next((folder / name for name in _PIECES if (folder / name).is_file()), None):
        backend, config = _open_pieces(file, config)
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        backend = _open_byte_level(folder, config)
    elif (folder / "vocab.txt").is_file():
        backend = _open_word_piece(folder / "vocab.txt", config)
    else:
        raise FileNotFoundError(
            f"{folder} holds no tokenizer.json and no vocab.txt, vocab.json with merges.txt, source.spm, "
            f"{' or '.join(_PIECES)}"
        )
    _add_listed(backend, folder, config)
    return backend, config


def _with_defaults(config: Config, fields: dict[str, Any]) -> Config:
    return Config(fields | {name: value for name, value in config.items() if value is not None}, config.path)


# ---- one kind of file each


def _open_word_piece(vocabulary: Path, config: Config) -> Any:
    """BERT's tokenizer, or MPNet's, from its word list alone, one token a line."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    stated = family_of(config)
    family = stated if "cls_token" in stated.special else BERT
    try:
        tokens = vocabulary.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{vocabulary}: not UTF-8 (byte {error.start + 1})") from None
    ids = {token: i for i, token in enumerate(tokens)}
    special = _special(config, family, ids, vocabulary)
    backend = Tokenizer(models.WordPiece(ids, unk_token=special["unk_token"]))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    if "bos_token" in family.special:
        backend.post_processor = _roberta_ends(special, ids, add_prefix_space=False)
    else:
        backend.post_processor = processors.BertProcessing(*_ends(special, ids))
    _follow(config, backend)
    return backend


def _open_byte_level(folder: Path, config: Config) -> Any:
    """The tokenizers of GPT-2 and RoBERTa and what descends from them, from their tokens and merges."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    files, family = (folder / "vocab.json", folder / "merges.txt"), family_of(config)
    with LibraryErrors(f"{files[0]} and {files[1].name}: not a vocabulary and its merges"):
        ids, merges = models.BPE.read_file(*map(str, files))
        backend = Tokenizer(models.BPE(ids, merges))
    prefix = config.flag("add_prefix_space", default=False)
    split = SPLITS["qwen2" if family.name == "Qwen2Tokenizer" else "gpt-2"]
    if family.name in ("Qwen2Tokenizer", "GPTNeoXTokenizer"):
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer, backend.decoder = split.pre_tokenizer(prefix), decoders.ByteLevel()
    if "cls_token" in family.special:
        special = _special(config, family, ids, files[0])
        backend.post_processor = _roberta_ends(special, ids, prefix)
    else:
        _add_ends(backend, config)
    return backend


def _open_pieces(file: Path, config: Config) -> tuple[Any, Config]:
    """The tokenizer of a SentencePiece file: its family's, else that of the family its name is of."""
    pieces, family = read_pieces(file), family_of(config)
    if family.name == "T5Tokenizer" or file.name == "spiece.model":
        count = _extra_ids(config)
        learned = {"tokenizer_class": "T5Tokenizer", "additional_special_tokens": t5_sentinels(count)}
        return t5_tokenizer(pieces, count), _with_defaults(config, learned)
    if family.name == "XLMRobertaTokenizer" or file.name == "sentencepiece.bpe.model":
        return xlm_roberta_tokenizer(pieces), _with_defaults(config, {"tokenizer_class": "XLMRobertaTokenizer"})
    special = set(family.special.values())
    if family.name == "GemmaTokenizer":
        backend = gemma_tokenizer(pieces, special)
    else:
        config = _with_defaults(config, pieces.named)
        prefix = config.flag("add_prefix_space", default=True)
        backend = llama_tokenizer(pieces, special, add_prefix_space=prefix, legacy=config.flag("legacy", default=False))
    _add_ends(backend, config)
    return backend, config


# ---- what the other files say


def _follow(config: Config, backend: Any) -> None:
    """What `tokenizer_config.json` says of steps that `tokenizer.json` has: it wins, as in Transformers."""
    for step, kind, fields in _STEPS:
        if type(getattr(backend, step)).__name__ != kind:
            continue
        for field, attribute in fields.items():
            if config.get(field) is not None:
                setattr(getattr(backend, step), attribute, config.flag(field))


def _add_ends(backend: Any, config: Config) -> None:
    """The beginning and end tokens around each text that `add_bos_token` and `add_eos_token` ask for."""
    if config.get("add_bos_token") is None and config.get("add_eos_token") is None:
        return
    special = named_special(config, backend)
    before, behind = (
        [_end(backend, special.get(name), name, config)] if config.flag(f"add_{name}", default=False) else []
        for name in ("bos_token", "eos_token")
    )
    put_ends(backend, before, behind)


def _end(backend: Any, token: Any, name: str, config: Config) -> str:
    if token is None:
        raise ValueError(f"{config.path}: field 'add_{name}' asks for a token, and no {name!r} is stated")
    if not token.content:
        raise ValueError(f"{config.path}: field {name!r} is empty, and 'add_{name}' puts it around texts")
    backend.add_special_tokens([token])
    return str(token.content)


def _add_listed(backend: Any, folder: Path, config: Config) -> None:
    """Tokens added to a vocabulary after it was made, which must get the ids they are listed with."""
    from tokenizers import AddedToken

    listed = {int(i): added_token(config, "added_tokens_decoder", token) for i, token in _listed(config).items()}
    file = folder / "added_tokens.json"
    if not listed and file.is_file():
        special, ids = {token.content for token in named_special(config, backend).values()}, read_json(file)
        if not all(type(i) is int for i in ids.values()):
            raise ValueError(f"{file}: holds something else than tokens with their ids")
        listed = {
            i: AddedToken(text, special=text in special, normalized=text not in special) for text, i in ids.items()
        }
    for i in sorted(listed):
        (backend.add_special_tokens if listed[i].special else backend.add_tokens)([listed[i]])
        got = backend.token_to_id(listed[i].content)
        if got != i:
            raise ValueError(f"{folder}: token {listed[i].content!r} is listed with the id {i}, and gets {got}")


def _listed(config: Config) -> dict[str, Any]:
    listed = config.get("added_tokens_decoder") or {}
    if not isinstance(listed, dict) or not all(key.isdecimal() for key in listed):
        raise ValueError(f"{config.path}: field 'added_tokens_decoder' is not an object of ids and tokens")
    return listed


def _extra_ids(config: Config) -> int:
    count = config.get("extra_ids", 100)
    if type(count) is not int or not 0 <= count <= _MOST_EXTRA_IDS:
        raise ValueError(f"{config.path}: field 'extra_ids' is {count!r}, expected 0 to {_MOST_EXTRA_IDS}")
    return count


def _special(config: Config, family: TokenizerFamily, ids: Any, vocabulary: Path) -> dict[str, str]:
    """The family's special tokens as the files name them, all of which the vocabulary must have."""
    special = {name: token_text(config, name, config.get(name) or token) for name, token in family.special.items()}
    missing = [token for token in dict.fromkeys(special.values()) if token not in ids]
    if missing:
        raise ValueError(f"{vocabulary}: lacks the special tokens {', '.join(missing)}")
    return special


def _roberta_ends(special: dict[str, str], ids: dict[str, int], add_prefix_space: bool) -> Any:
    from tokenizers import processors

    sep, cls = _ends(special, ids)
    roberta: Any = processors.RobertaProcessing  # whose stub has its arguments in another order
    return roberta(sep, cls, trim_offsets=True, add_prefix_space=add_prefix_space)


def _ends(special: dict[str, str], ids: dict[str, int]) -> list[tuple[str, int]]:
    """The tokens after and before a text, with their ids."""
    return [(special[name], ids[special[name]]) for name in ("sep_token", "cls_token")]


def _read_config(folder: Path, settings: dict[str, Any]) -> Config:
    """`tokenizer_config.json`, under it what the files beside it say, and over it the caller's `settings`."""
    path, special = folder / "tokenizer_config.json", folder / "special_tokens_map.json"
    fields = read_json(path) if path.is_file() else {}
    if special.is_file() and "added_tokens_decoder" not in fields:  # a file of old checkpoints, stale beside new ones
        fields |= read_json(special)
    if (folder / "tokenizer.json").is_file():  # which has what these two ask for
        fields = {name: value for name, value in fields.items() if name not in ("add_bos_token", "add_eos_token")}
    return Config(_model(folder) | fields | _chat_templates(folder) | settings, path)


def _model(folder: Path) -> dict[str, Any]:
    """What `config.json` says of the tokenizer."""
    fields = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    return {name: fields[name] for name in ("model_type", "tokenizer_class") if fields.get(name) is not None}


def _chat_templates(folder: Path) -> dict[str, Any]:
    """Chat templates in files of their own, which win over those in `tokenizer_config.json`."""
    default, others = folder / "chat_template.jinja", sorted((folder / "additional_chat_templates").glob("*.jinja"))
    templates = {"default": _text(default)} if default.is_file() else {}
    templates |= {file.stem: _text(file) for file in others}
    if not templates:
        return {}
    return {"chat_template": templates if others else templates["default"]}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not text in UTF-8: {error}") from None


def named_special(config: Config, backend: Any) -> dict[str, Any]:
    """The special tokens by name: the family's own where the vocabulary has them, and what the files say."""
    defaults = family_of(config, backend).special
    if backend.padding:
        defaults = {**defaults, "pad_token": backend.padding["pad_token"]}
    named = {name: token for name, token in defaults.items() if backend.token_to_id(token) is not None}
    named |= {name: config[name] for name in SPECIAL if config.get(name) is not None}
    return {name: added_token(config, name, named[name]) for name in SPECIAL if name in named}


def extra_special(config: Config) -> list[Any]:
    """Special tokens without a name of their own: a list, or by name in an object."""
    field = "extra_special_tokens" if config.get("extra_special_tokens") else "additional_special_tokens"
    tokens = config.get(field) or []
    if not isinstance(tokens, list | dict):
        raise ValueError(f"{config.path}: field {field!r} is {tokens!r}, expected a list of tokens or an object")
    return [added_token(config, field, token) for token in (tokens.values() if isinstance(tokens, dict) else tokens)]
