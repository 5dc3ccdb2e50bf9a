"""SentencePiece files alone: T5's `spiece.model`, XLM-R's `sentencepiece.bpe.model`, Llama's `tokenizer.model`.

Such a file is a protocol buffer of pieces with their scores and of how to normalise a text. It is read here, and
becomes a tokenizer of the `tokenizers` library with the ids that the models of its family were trained on.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from .tokenizers_library import LibraryErrors

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4  # the types of pieces
_UNIGRAM, _BPE = 1, 2
SPACE = "▁"  # stands for a space
_FLOATS = {1: ("<d", 8), 5: ("<f", 4)}  # kinds of field → layout and size


class Piece(NamedTuple):
    """One token: its text, its score (a logarithm), and its type."""

    text: str
    score: float
    kind: int


class SentencePieces(NamedTuple):
    """What a SentencePiece file holds, as far as a tokenizer needs it."""

    path: Path
    pieces: list[Piece]
    algorithm: int
    characters: bytes | None  # the compiled table of characters' replacements

    def add_to(self, tokenizer: Any, special: Iterable[str] = ()) -> None:
        """Makes the control tokens, and the user's own, be found whole in a text; the user's need not be special."""
        from tokenizers import AddedToken

        tokenizer.add_tokens(
            [
                AddedToken(piece.text, normalized=False, special=piece.kind == CONTROL or piece.text in special)
                for piece in self.pieces
                if piece.kind in (CONTROL, USER_DEFINED)
            ]
        )

    @property
    def named(self) -> dict[str, str]:
        """The special tokens whose names can be told from the file alone."""
        texts = {piece.text for piece in self.pieces}
        named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": self.pieces[self.unknown].text}
        return {name: text for name, text in named.items() if text in texts}

    @property
    def unknown(self) -> int:
        """The number of the piece for what is unknown."""
        for i, piece in enumerate(self.pieces):
            if piece.kind == UNKNOWN:
                return i
        raise ValueError(f"{self.path}: has no piece for what is unknown")

    def need(self, algorithm: int, family: str) -> None:
        if self.algorithm != algorithm:
            raise ValueError(
                f"{self.path}: was trained by algorithm {self.algorithm}, expected {algorithm} for {family} "
                f"({_UNIGRAM} is unigram, {_BPE} is BPE)"
            )


def read_pieces(path: Path) -> SentencePieces:
    """The contents of a SentencePiece file.

    Raises
    ------
    ValueError
        The file is cut short, or is no such file; the message names it.
    """
    try:
        return _parse(path, path.read_bytes())
    except (ValueError, IndexError, struct.error) as error:
        raise ValueError(f"{path}: not a SentencePiece model, or cut short: {error}") from None


def t5_sentinels(extra_ids: int) -> list[str]:
    """The tokens that stand for the gaps in T5's texts."""
    return [f"<extra_id_{i}>" for i in range(extra_ids)]


def t5_tokenizer(model: SentencePieces, extra_ids: int) -> Any:
    """T5's: the pieces, then its sentinels from the last to the first; each text ends in </s>."""
    model.need(_UNIGRAM, "T5")
    sentinels = t5_sentinels(extra_ids)[::-1]
    vocabulary = [(piece.text, piece.score) for piece in model.pieces] + [(token, 0.0) for token in sentinels]
    tokenizer = _word_wise(model, vocabulary, unk_id=model.unknown)
    model.add_to(tokenizer)
    tokenizer.add_special_tokens(sentinels)
    _surround(tokenizer, model, "$A </s>", "$A </s> $B </s>")
    return tokenizer


def xlm_roberta_tokenizer(model: SentencePieces) -> Any:
    """XLM-RoBERTa's: fairseq's four tokens take the place of the file's three, and <mask> is last."""
    model.need(_UNIGRAM, "XLM-RoBERTa")
    head = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    vocabulary = [*head, *((piece.text, piece.score) for piece in model.pieces[3:]), ("<mask>", 0.0)]
    tokenizer = _word_wise(model, vocabulary, unk_id=3)
    model.add_to(tokenizer)
    _surround(tokenizer, model, "<s> $A </s>", "<s> $A </s> </s> $B </s>")
    return tokenizer


def llama_tokenizer(
    model: SentencePieces, special: Iterable[str] = (), *, add_prefix_space: bool = True, legacy: bool = False
) -> Any:
    """Llama's: BPE over the whole text, a space before it, bytes for characters it lacks."""
    from tokenizers import decoders, pre_tokenizers

    tokenizer = _byte_fallback_bpe(model, "Llama", special)
    scheme = ("always" if legacy else "first") if add_prefix_space else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme=scheme, split=False)
    own_space = [decoders.Strip(content=" ", left=1)] if add_prefix_space else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *own_space]
    )
    return tokenizer


def gemma_tokenizer(model: SentencePieces, special: Iterable[str] = ()) -> Any:
    """Gemma's: BPE with spaces as they are, bytes for characters it lacks."""
    from tokenizers import decoders, normalizers, pre_tokenizers

    tokenizer = _byte_fallback_bpe(model, "Gemma", special)
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def merges_of(vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """The merges of a BPE whose file has pieces alone: every way to make one piece of two others, best piece first."""
    pieces = sorted(vocabulary, key=vocabulary.__getitem__)
    return [pair for _, pair in halves(pieces, vocabulary)]


def halves(pieces: Iterable[str], vocabulary: Mapping[str, int]) -> Iterator[tuple[int, tuple[str, str]]]:
    """Every way to make one of `pieces`, whose place is told, of two of the vocabulary; shorter first halves first.

    Cuts are tried at the lengths of the vocabulary alone: a piece of a megabyte would take a minute at each of its own.
    """
    lengths = sorted({len(piece) for piece in vocabulary} - {0})
    known = set(lengths)
    for place, piece in enumerate(pieces):
        for i in takewhile(len(piece).__gt__, lengths):
            if len(piece) - i in known and piece[:i] in vocabulary and piece[i:] in vocabulary:
                yield place, (piece[:i], piece[i:])


def _word_wise(model: SentencePieces, vocabulary: list[tuple[str, float]], unk_id: int) -> Any:
    """A unigram model over words, each with the space before it."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=unk_id, byte_fallback=False))
    if model.characters:
        with LibraryErrors(f"{model.path}: its table of characters is broken"):
            tokenizer.normalizer = normalizers.Precompiled(model.characters)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(SPACE, prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(SPACE, prepend_scheme="always")
    return tokenizer


def _byte_fallback_bpe(model: SentencePieces, family: str, special: Iterable[str]) -> Any:
    from tokenizers import Tokenizer, models

    model.need(_BPE, family)
    vocabulary = {piece.text: i for i, piece in enumerate(model.pieces)}
    unknown = model.pieces[model.unknown].text
    bpe = models.BPE(vocabulary, merges_of(vocabulary), unk_token=unknown, fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(bpe)
    model.add_to(tokenizer, special)
    return tokenizer


def _surround(tokenizer: Any, model: SentencePieces, single: str, pair: str) -> None:
    """Puts the family's own tokens around a text, or a pair of texts, all of type 0."""
    from tokenizers import processors

    own = {token for token in pair.split() if not token.startswith("$")}
    missing = sorted(token for token in own if tokenizer.token_to_id(token) is None)
    if missing:
        raise ValueError(f"{model.path}: lacks the special tokens {', '.join(missing)}")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single,
        pair=pair.replace("$B", "$B:0"),
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in own],
    )


# ---- the file's format: numbered fields, each with its own size


def _parse(path: Path, data: bytes) -> SentencePieces:
    pieces: list[Piece] = []
    parts: dict[int, dict[int, Any]] = {}
    for field, value in _fields(data):
        if field == 1:
            pieces.append(_piece(_bytes(value)))
        elif field in (2, 3):  # how it was trained, how it normalises
            parts[field] = dict(_fields(_bytes(value)))
    if not pieces or len(parts) < 2:
        raise ValueError(f"it holds {len(pieces)} pieces and {len(parts)} of the 2 parts after them")
    characters = parts[3].get(2)
    return SentencePieces(path, pieces, parts[2].get(3, _UNIGRAM), _bytes(characters) if characters else None)


def _piece(data: bytes) -> Piece:
    fields = dict(_fields(data))
    score, kind = fields.get(2, 0.0), fields.get(3, NORMAL)
    if not isinstance(score, float) or not isinstance(kind, int):
        raise ValueError("a piece's score or type is of the wrong kind")
    return Piece(_bytes(fields.get(1, b"")).decode("utf-8"), score, kind)


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError(f"a field holds {type(value).__name__}, expected bytes")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Each field's number and value: an integer, a float, or the bytes of a text or of fields within."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        value: int | float | bytes
        if wire == 0:
            value, at = _varint(data, at)
        elif wire in _FLOATS:
            layout, length = _FLOATS[wire]
            value, at = float(struct.unpack_from(layout, data, at)[0]), at + length
        elif wire == 2:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            raise ValueError(f"byte {at} starts a field of unknown kind {wire}")
        if at > len(data):
            raise ValueError(f"field {number} ends at byte {at} of {len(data)}")
        yield number, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An integer of seven bits a byte, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError(f"the number at byte {at} is too long")
