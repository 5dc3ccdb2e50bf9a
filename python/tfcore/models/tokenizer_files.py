"""A checkpoint's tokenizer files: `tokenizer.json` or BERT's `vocab.txt`, and what the files beside it say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .config import Config, read_json

SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_WORD_PIECE = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_NORMALIZER = {  # fields of tokenizer_config.json → attributes of BERT's normalizer
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}


def import_tokenizers() -> Any:
    """The `tokenizers` library, which an extra installs."""
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'the tokenizers library is missing: pip install "tfcore[models]"', name=error.name
        ) from None
    return tokenizers


def open_backend(folder: Path, config: Config) -> Any:
    """The `tokenizers.Tokenizer` of a folder."""
    tokenizers = import_tokenizers()
    file, vocabulary = folder / "tokenizer.json", folder / "vocab.txt"
    if not file.is_file():
        if not vocabulary.is_file():
            raise FileNotFoundError(f"{folder} holds no tokenizer.json and no vocab.txt")
        return _open_word_piece(vocabulary, config)
    try:
        backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more precise
        raise ValueError(f"{file}: not a tokenizer: {error}") from None
    _follow(config, backend.normalizer)
    return backend


def _open_word_piece(vocabulary: Path, config: Config) -> Any:
    """BERT's tokenizer from its word list alone, one token a line."""
    from tokenizers import Tokenizer as Backend
    from tokenizers.implementations import BertWordPieceTokenizer  # type: ignore[attr-defined]

    tokens = vocabulary.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    special: dict[str, Any] = {
        name: _token_text(config, name, config.get(name) or token) for name, token in _WORD_PIECE.items()
    }
    missing = [token for token in special.values() if token not in tokens]
    if missing:
        raise ValueError(f"{vocabulary}: lacks the special tokens {', '.join(missing)}")
    pipeline = BertWordPieceTokenizer({token: i for i, token in enumerate(tokens)}, **special)
    backend = Backend.from_str(pipeline.to_str())
    _follow(config, backend.normalizer)
    return backend


def _follow(config: Config, normalizer: Any) -> None:
    """BERT's normalizer as `tokenizer_config.json` says, which wins over `tokenizer.json` in Transformers too."""
    if type(normalizer).__name__ != "BertNormalizer":
        return
    for field, attribute in _NORMALIZER.items():
        if config.get(field) is not None:
            setattr(normalizer, attribute, config.flag(field))


def read_tokenizer_config(folder: Path, settings: dict[str, Any]) -> Config:
    """`tokenizer_config.json`, under it what `special_tokens_map.json` says, and over it the caller's `settings`."""
    path, special = folder / "tokenizer_config.json", folder / "special_tokens_map.json"
    fields = read_json(path) if path.is_file() else {}
    if special.is_file() and "added_tokens_decoder" not in fields:  # a file of old checkpoints, stale beside new ones
        fields |= read_json(special)
    return Config(fields | settings, path)


def named_special(config: Config, backend: Any) -> dict[str, str]:
    """The special tokens by name: BERT's own where its vocabulary has them, and what the files say."""
    defaults = _WORD_PIECE if type(backend.model).__name__ == "WordPiece" else {}
    named = {name: token for name, token in defaults.items() if backend.token_to_id(token) is not None}
    stated = {name: _token_text(config, name, config[name]) for name in SPECIAL if config.get(name) is not None}
    return named | stated


def extra_special(config: Config) -> list[str]:
    """Special tokens without a name of their own: a list, or by name in an object."""
    field = "extra_special_tokens" if config.get("extra_special_tokens") else "additional_special_tokens"
    tokens = config.get(field) or []
    return [_token_text(config, field, token) for token in (tokens.values() if isinstance(tokens, dict) else tokens)]


def _token_text(config: Config, field: str, token: Any) -> str:
    """A token is a string, or an object with its string as `content`."""
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str):
        raise ValueError(
            f"{config.path}: field {field!r} holds {token!r}, expected a string or an object with its content"
        )
    return text
