"""Marian's tokenizer: one SentencePiece model for each side of a translation, and ids of its own for their pieces.

The `sentencepiece` library cuts a text into pieces. What follows is the work of a tokenizer of the `tokenizers` library
over whole pieces: ids, the end token, truncation, padding.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..extras import extra
from .config import Config, read_json
from .sentencepiece_files import SPACE
from .tokenizer_families import TokenizerFamily
from .tokenizers_library import LibraryErrors, token_text

_LANGUAGE = re.compile(r">>.*?<<", re.DOTALL)  # a target language, named at the front of a text


def open_marian(folder: Path, config: Config, family: TokenizerFamily) -> MarianSide:
    """The tokenizer of sources, with the one of targets as its `target`.

    Raises
    ------
    ModuleNotFoundError
        The sentencepiece library is missing.
    ValueError
        A file is missing or broken; the message names it.
    """
    special = {name: token_text(config, name, config.get(name) or token) for name, token in family.special.items()}
    source = _ids(folder / "vocab.json", special)
    separate = config.flag("separate_vocabs", default=False)
    target = _ids(folder / "target_vocab.json", special) if separate else source
    target_side = MarianSide(target, _pieces(folder / "target.spm"))
    return MarianSide(source, _pieces(folder / "source.spm"), target_side)


class MarianSide:
    """The tokenizer of one language: the methods of `tokenizers.Tokenizer` that ours calls.

    Attributes
    ----------
    target : MarianSide
        The side that text in the target language is encoded with.
    """

    def __init__(self, ids: Any, pieces: Any, target: MarianSide | None = None) -> None:
        self._ids = ids
        self._pieces = pieces
        self.target = target or self

    @property
    def decoder(self) -> Any:
        return self._pieces

    def encode_batch(
        self, batch: list[Any], is_pretokenized: bool = False, add_special_tokens: bool = True
    ) -> list[Any]:
        whole = self._whole()

        def pieces(text: Any) -> list[str]:
            words = text if is_pretokenized else [text]
            return [piece for word in words for piece in self._cut(word, whole)]

        cut = [tuple(map(pieces, text)) if isinstance(text, tuple) else pieces(text) for text in batch]
        return list(self._ids.encode_batch(cut, is_pretokenized=True, add_special_tokens=add_special_tokens))

    def decode(self, ids: list[int], skip_special_tokens: bool = False) -> str:
        # With one vocabulary for both sides Transformers joins by the source's model: equal but for odd spaces
        side = self if self.target._ids is self._ids else self.target
        return side._join(ids, skip_special_tokens)

    def _join(self, ids: list[int], skip_special_tokens: bool) -> str:
        special = {i for i, token in self._ids.get_added_tokens_decoder().items() if token.special}
        text, run = "", []
        for i in ids:
            token = self._ids.id_to_token(i)
            if token is None:
                continue
            if i not in special:
                run.append(token)
            elif not skip_special_tokens:
                text, run = f"{text}{self._pieces.decode_pieces(run)}{token} ", []
        return f"{text}{self._pieces.decode_pieces(run)}".replace(SPACE, " ").strip()

    def _whole(self) -> re.Pattern[str]:
        """Matches the tokens that are found whole in a text."""
        tokens = [token.content for token in self._ids.get_added_tokens_decoder().values()]
        return re.compile("(" + "|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) + ")")

    def _cut(self, text: str, whole: re.Pattern[str]) -> list[str]:
        pieces = []
        for i, part in enumerate(whole.split(text)):
            if i % 2:
                pieces.append(part)
                continue
            language = _LANGUAGE.match(part)
            if language:
                pieces.append(language.group())
                part = part[language.end() :]
            pieces += self._pieces.encode(part, out_type=str)
        return pieces

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_ids" not in self.__dict__:  # while a copy is made
            raise AttributeError(name)
        return getattr(self._ids, name)


def _ids(path: Path, special: dict[str, str]) -> Any:
    """The tokenizer of whole pieces: their ids, and the end token after them."""
    from tokenizers import Tokenizer, models, processors

    vocabulary = read_json(path)
    if not all(type(i) is int and i >= 0 for i in vocabulary.values()):
        raise ValueError(f"{path}: holds something else than tokens with their ids")
    missing = [token for token in special.values() if token not in vocabulary]
    if missing:
        raise ValueError(f"{path}: lacks the special tokens {', '.join(missing)}")
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=special["unk_token"]))
    end = special["eos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", pair=f"$A $B:0 {end}", special_tokens=[(end, vocabulary[end])]
    )
    tokenizer.add_special_tokens(list(special.values()))
    return tokenizer


def _pieces(path: Path) -> Any:
    sentencepiece = extra("sentencepiece", "sentencepiece", str(path))
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with LibraryErrors(f"{path}: not a SentencePiece model, or cut short"):
        return sentencepiece.SentencePieceProcessor(model_file=str(path))
