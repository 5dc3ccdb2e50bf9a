"""The first module of every encoder: a tokenizer and a model, with the length limit of the checkpoint's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..models import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from ..models.checkpoint import Float32Array
from ..models.config import Config
from ..models.model import Model
from ..models.packing import PackedTokens
from ..scalars import half_a_pair
from .batching import Tokenized, Window

_UNBOUNDED = 1 << 40  # tokenizers of models that have no limit state a longer one
_SETTINGS = tuple(  # sentence-transformers once named the file by the model
    f"sentence_{model}_config.json" for model in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta")
)


class Transformer:
    """Texts to packed tokens, and those to hidden states (T, C).

    Attributes
    ----------
    max_seq_length : int
        Longer texts are cut to this many tokens.
    settings : Config
        The fields of `sentence_bert_config.json`.
    """

    def __init__(self, folder: Path, *, classify: bool = False) -> None:
        self.settings = read_settings(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        model = (AutoModelForSequenceClassification if classify else AutoModel).from_pretrained(folder)
        self.model: Model = model
        self._stack = _encoder_of(folder, model)
        self.max_seq_length = self._limit(model.config)
        self._lower_case = self.settings.flag("do_lower_case", default=False)

    @property
    def width(self) -> int:
        """How wide hidden states are."""
        return int(self._stack.data.width)

    def tokenize(self, window: Window, max_length: int, what: str = "sentences") -> Tokenized:
        """The tokens of a window's texts, or pairs of texts, cut to `max_length`.

        Raises
        ------
        ValueError
            A text is no Unicode.
        """
        texts = [_lower(text) for text in window.texts] if self._lower_case else window.texts
        bounded = max_length < _UNBOUNDED
        try:
            encodings = self.tokenizer.encodings(texts, max_length if bounded else None)
        except ValueError:
            _refuse_surrogates(window, what)
            raise
        ids = [encoding.ids for encoding in encodings]
        typed = "token_type_ids" in self.tokenizer.model_input_names
        types = [encoding.type_ids for encoding in encodings] if typed else None
        cut = [i for i, encoding in enumerate(encodings) if len(ids[i]) >= max_length and encoding.overflowing]
        return Tokenized(ids, types, cut)

    def hidden(self, tokens: PackedTokens) -> Float32Array:
        """The last hidden states (T, C) of packed texts."""
        if isinstance(self.model, Model):
            return self.model.forward_packed(tokens)
        return self._stack.run(tokens).states[-1]

    def prompt_length(self, prompt: str, limit: int) -> int:
        """How many leading tokens of a text of at most `limit` are its prompt's, the model's own before them too."""
        ids = self.tokenize(Window(0, [prompt]), limit).ids[0]
        return len(ids) - bool(ids and ids[-1] in self.tokenizer.all_special_ids)

    def _limit(self, config: Config) -> int:
        """The files' limit, but never more than the model has positions."""
        default = self.tokenizer.model_max_length
        if isinstance(positions := config.get("max_position_embeddings"), int) and positions > 0:
            default = min(default, positions)
        limit = self.settings.positive_int("max_seq_length", default=default)
        most = self._stack.max_length
        return limit if most is None else min(limit, most)


def read_optional(path: Path) -> Config:
    """The fields of a JSON file; none, if there is no such file."""
    return Config.read(path) if path.is_file() else Config({}, path)


def read_settings(folder: Path) -> Config:
    """The fields of a transformer's `sentence_bert_config.json`, under today's name or an old one."""
    found = [folder / name for name in _SETTINGS if (folder / name).is_file()]
    return read_optional(found[0] if found else folder / _SETTINGS[0])


def _encoder_of(folder: Path, model: Any) -> Any:
    """The stack that reads a text: a model's only one, or the encoder of a T5."""
    if isinstance(model, Model):
        return model.stack
    if model.config.model_type == "t5":
        return model.encoder
    raise ValueError(f"{folder}: a {model.config.model_type} is an encoder-decoder and makes no vectors of texts")


def _lower(text: Any) -> Any:
    return text.lower() if isinstance(text, str) else tuple(part.lower() for part in text)


def _refuse_surrogates(window: Window, what: str) -> None:
    """Names the row that made a tokenizer refuse its window."""
    for place, text in enumerate(window.texts):
        if half_a_pair("".join(text)):
            row = window.first + place
            raise ValueError(f"{what}[{row}] holds half of a surrogate pair, which is no character") from None
