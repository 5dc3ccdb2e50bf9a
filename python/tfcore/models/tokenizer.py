"""Texts to token ids and back, called as in Transformers, over the `tokenizers` library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

from ..extras import extra
from .batch_encoding import BatchEncoding, Text, as_batch, as_columns, as_lists, as_tensors, first_rows
from .chat import as_conversations, chat_templates, choose_template
from .config import Config
from .layout import SIDES, Layout, lay_out
from .special_tokens import MOST_ID, SpecialTokens
from .tokenizer_families import family_of
from .tokenizer_files import extra_special, named_special


class Tokenizer(SpecialTokens):
    """Texts to ids and back. Made by `AutoTokenizer.from_pretrained`; safe to call from several threads.

    Padding and truncation saved inside `tokenizer.json` are ignored, as Transformers does: a call says what it wants.

    Parameters
    ----------
    backend : tokenizers.Tokenizer
        What cuts texts and puts the model's own tokens around them.
    config : Config
        Of the fields of `tokenizer_config.json` those it has: special tokens, `tokenizer_class`, `chat_template`, …

    Attributes
    ----------
    pad_token, pad_token_id, …
        The same for bos, eos, unk, sep, cls and mask. Both can be set.
    add_bos_token, add_eos_token : bool
        Whether a call puts those two around each text. Both can be set.
    is_fast : bool
        Whether tokens know the words and characters they are from; Marian's do not.
    model_max_length : int
        The length `truncation=True` cuts to when no `max_length` is given.
    padding_side, truncation_side : str
        "right" or "left".
    clean_up_tokenization_spaces : bool
        Whether `decode` takes back the spaces before punctuation, where a call does not say.
    chat_template : str, dict of str or None
        The Jinja template of `apply_chat_template`, or several by name. It can be set.
    """

    def __init__(self, backend: Any, config: Config) -> None:
        super().__init__(backend, named_special(config, backend), extra_special(config))
        self.clean_up_tokenization_spaces = config.flag("clean_up_tokenization_spaces", default=False)
        self.chat_template = chat_templates(config)
        family = family_of(config, backend)
        self.model_max_length = int(config.positive_number("model_max_length", default=family.model_max_length))
        padding, truncation = backend.padding or {}, backend.truncation or {}
        side = padding.get("direction", family.padding_side)
        self.padding_side = config.choice("padding_side", SIDES, default=side)
        side = truncation.get("direction", "right")
        self.truncation_side = config.choice("truncation_side", SIDES, default=side)
        self.model_input_names = config.texts("model_input_names") or family.input_names

    # ---- texts to ids

    def __call__(
        self,
        text: str | Sequence[Any] | None = None,
        text_pair: str | Sequence[Any] | None = None,
        add_special_tokens: bool = True,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        *,
        stride: int = 0,
        is_split_into_words: bool = False,
        text_target: str | Sequence[str] | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
    ) -> BatchEncoding:
        """The token ids of a text, a pair of texts, or a batch of either.

        >>> batch = tokenizer(["one", "two words"], padding=True, return_tensors="np")  # doctest: +SKIP
        >>> batch.input_ids.shape, batch.attention_mask.tolist()  # doctest: +SKIP
        ((2, 4), [[1, 1, 1, 0], [1, 1, 1, 1]])

        Parameters
        ----------
        text, text_pair : str or list of str
            A text, or a batch of texts; with a second text each, of as many. A batch may also be a list of pairs.
            With `is_split_into_words` a text is itself a list of words.
        add_special_tokens : bool
            Whether to put the model's own tokens ([CLS], [SEP], …) around the texts.
        padding : bool or str
            True or "longest": to the longest of the batch; "max_length": to `max_length`; False: not at all.
        truncation : bool or str
            True or "longest_first": cut the longer text of a pair first; or "only_first", "only_second"; False: do not.
        max_length : int, optional
            Default `model_max_length`. Given alone, it truncates.
        stride : int
            How many tokens each part of a cut text repeats of the part before it, if `return_overflowing_tokens`.
        is_split_into_words : bool
            Whether the texts are lists of words.
        text_target : str or list of str, optional
            What a model is to answer, as a translator is to in its other language. Beside `text`, its ids are the
            result's `labels`; alone, they are the result.
        pad_to_multiple_of : int, optional
            Round the padded length up.
        padding_side : str, optional
            "right" or "left", instead of the tokenizer's own.
        return_tensors : str, optional
            "np": NumPy arrays (B, L) of int64; "pt": PyTorch tensors; None: lists.
        return_token_type_ids, return_attention_mask : bool, optional
            Default: whether the model takes them.
        return_overflowing_tokens : bool
            Whether what truncation cuts off makes rows of its own, behind the text's first; the number of each row's
            text is `overflow_to_sample_mapping` then. So a text of any length is read in windows.
        return_special_tokens_mask, return_offsets_mapping, return_length : bool
            Also 1 for each special token; where in the text each token begins and ends; how many tokens a row has.

        Raises
        ------
        TypeError
            `text` holds something else than texts, or an option is of another kind.
        ValueError
            Rows of different lengths cannot be a tensor (padding=True makes them equal), an option is unknown, or
            `max_length` has no room for the text.
        """
        if not isinstance(add_special_tokens, bool):
            raise TypeError(f"add_special_tokens is {type(add_special_tokens).__name__}, expected a bool")
        layout = self._layout(
            padding, truncation, max_length, pad_to_multiple_of, padding_side, stride, return_overflowing_tokens
        )
        if return_offsets_mapping and not self.is_fast:
            raise ValueError("return_offsets_mapping is True, and Marian's pieces are not told where they are from")
        columns: dict[str, tuple[Callable[[Any], Any], bool]] = {
            "input_ids": (attrgetter("ids"), True),
            "token_type_ids": (attrgetter("type_ids"), self._takes("token_type_ids", return_token_type_ids)),
            "attention_mask": (attrgetter("attention_mask"), self._takes("attention_mask", return_attention_mask)),
            "special_tokens_mask": (attrgetter("special_tokens_mask"), return_special_tokens_mask),
            "offset_mapping": (attrgetter("offsets"), return_offsets_mapping),
            "length": (len, return_length),
        }
        call = partial(
            self._call,
            add_special_tokens=add_special_tokens,
            words=is_split_into_words,
            layout=layout,
            asked={key: read for key, (read, wanted) in columns.items() if wanted},
            kind=return_tensors,
        )
        if text_target is None:
            return call(text, text_pair)
        answer = call(text_target, None, target=True)
        if text is None:
            return answer
        result = call(text, text_pair)
        result["labels"] = answer["input_ids"]
        return result

    def encode(self, text: str, text_pair: str | None = None, **options: Any) -> Any:
        """The ids alone: `self(text, text_pair, **options).input_ids`."""
        return self(text, text_pair, **options)["input_ids"]

    def tokenize(self, text: str, text_pair: str | None = None, add_special_tokens: bool = False) -> list[str]:
        """The tokens of a text as strings."""
        return self(text, text_pair, add_special_tokens).tokens()

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """How many tokens a call puts around a text, or a pair of texts."""
        return int(self._backend.num_special_tokens_to_add(pair))

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchEncoding:
        """Rows of ids that were made one by one, filled up to one length.

        >>> rows = [tokenizer("one"), tokenizer("two words")]  # doctest: +SKIP
        >>> tokenizer.pad(rows, return_tensors="np").attention_mask  # doctest: +SKIP
        array([[1, 1, 1, 0],
               [1, 1, 1, 1]])

        Parameters
        ----------
        encoded_inputs : dict of lists or arrays, or list of such dicts
            `input_ids` of one text or of several, and `attention_mask`, `token_type_ids`, `special_tokens_mask` beside
            them; whatever else there is stays as it is.
        padding, max_length, pad_to_multiple_of, padding_side, return_tensors
            As in a call. Arrays and tensors come back as such.
        return_attention_mask : bool, optional
            Whether to add a mask where there is none. Default: whether the model takes it.

        Raises
        ------
        ValueError
            There are no `input_ids`, or what is beside them has rows of other lengths.
        """
        layout = self._layout(padding, False, max_length, pad_to_multiple_of, padding_side)
        columns, kind = as_columns(encoded_inputs)
        one = not all(isinstance(row, list) for row in columns["input_ids"])
        if self._takes("attention_mask", return_attention_mask) and "attention_mask" not in columns:
            ids = columns["input_ids"]
            columns["attention_mask"] = [1] * len(ids) if one else [[1] * len(row) for row in ids]
        fills = {"input_ids": self.pad_token_id, "attention_mask": 0, "token_type_ids": 0, "special_tokens_mask": 1}
        rows = {key: [column] if one else column for key, column in columns.items() if key in fills}
        lengths = [len(row) for row in rows["input_ids"]]
        for key, column in rows.items():
            if [len(row) for row in column] != lengths:
                raise ValueError(f"{key} has rows of other lengths than input_ids")
            padded = layout.pad(column, fills[key])
            columns[key] = padded[0] if one else padded
        return BatchEncoding(as_tensors(columns, return_tensors or kind))

    # ---- ids to texts

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> Any:
        """The text of a sequence of ids (list, array or tensor), or the texts of a list of sequences.

        >>> tokenizer.decode([101, 7592, 102])  # doctest: +SKIP
        '[CLS] hello [SEP]'
        >>> tokenizer.decode([[101, 7592, 102]], skip_special_tokens=True)  # doctest: +SKIP
        ['hello']
        """
        ids = as_lists(token_ids)
        if isinstance(ids, list) and ids and isinstance(ids[0], list):
            return [self.decode(row, skip_special_tokens, clean_up_tokenization_spaces) for row in ids]
        ids = _checked("token_ids", ids if isinstance(ids, list) else [ids])
        text: str = self._backend.decode(ids, skip_special_tokens=skip_special_tokens)
        return clean_up(text) if self._cleans_up(clean_up_tokenization_spaces) else text

    def batch_decode(
        self, sequences: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> list[str]:
        """The text of each of several sequences of ids."""
        return [self.decode(row, skip_special_tokens, clean_up_tokenization_spaces) for row in as_lists(sequences)]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """The token of an id, or the tokens of a sequence of ids; None for an id that is no token's."""
        ids = as_lists(ids)
        if not isinstance(ids, list):
            return self._backend.id_to_token(_checked("ids", [ids])[0])
        skip = self.special_ids if skip_special_tokens else frozenset()
        return [self._backend.id_to_token(token) for token in _checked("ids", ids) if token not in skip]

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> Any:
        """The id of a token, or the ids of a sequence of tokens; the unknown token's where there is none."""
        if isinstance(tokens, str):
            token = self._backend.token_to_id(tokens)
            return self.unk_token_id if token is None else token
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """The text that tokens make."""
        decoder = self._backend.decoder
        text: str = decoder.decode(list(tokens)) if decoder else " ".join(tokens)
        return text

    @property
    def cleans_up(self) -> bool:
        """Whether `decode` takes back spaces before punctuation, where a call does not say."""
        return self._cleans_up(None)

    def _cleans_up(self, asked: bool | None) -> bool:
        """A BPE of bytes has put no spaces of its own before punctuation."""
        return _default(asked, self.clean_up_tokenization_spaces) and type(self._backend.model).__name__ != "BPE"

    # ---- the vocabulary

    @property
    def is_fast(self) -> bool:
        return self._locked.has_offsets

    @property
    def vocab(self) -> dict[str, int]:
        """Every token and its id."""
        return self.get_vocab()

    @property
    def backend_tokenizer(self) -> Any:
        """The tokenizer of the `tokenizers` library that does the work."""
        return self._backend

    @property
    def vocab_size(self) -> int:
        """The size of the vocabulary without added tokens; `len(tokenizer)` counts those too."""
        return int(self._backend.get_vocab_size(with_added_tokens=False))

    def __bool__(self) -> bool:
        return True

    def get_vocab(self) -> dict[str, int]:
        """Every token and its id."""
        return dict(self._backend.get_vocab(with_added_tokens=True))

    # ---- conversations

    def apply_chat_template(
        self,
        conversation: Sequence[Any],
        tokenize: bool = True,
        add_generation_prompt: bool = False,
        chat_template: str | None = None,
        return_tensors: str | None = None,
        return_dict: bool = False,
        *,
        continue_final_message: bool = False,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        **variables: Any,
    ) -> Any:
        """A conversation as the model was taught to read one: its ids, or its text.

        >>> chatty = "{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}"  # doctest: +SKIP
        >>> tokenizer.apply_chat_template(  # doctest: +SKIP
        ...     [{"role": "user", "content": "Hello!"}], tokenize=False, chat_template=chatty
        ... )
        'user: Hello! '

        Parameters
        ----------
        conversation : list of dict, or list of such lists
            Messages of `role` and `content`; or a batch of conversations.
        tokenize : bool
            False: the text.
        add_generation_prompt : bool
            End with the words that open the assistant's answer.
        chat_template : str, optional
            A Jinja template, or the name of one of several, instead of the tokenizer's.
        return_tensors, padding, truncation, max_length
            As in a call.
        return_dict : bool
            All that a call returns, instead of its `input_ids`.
        continue_final_message : bool
            End inside the last message, for the model to go on with it.
        **variables
            What the template sees beside `messages` and the special tokens: `tools`, `documents`, `enable_thinking`, …

        Raises
        ------
        TypeError
            A message is not a dict, or something in it is not text, a number, or lists and dicts of them.
        ValueError
            There is no template, or it is broken, or it refuses the conversation.
        """
        extra("jinja2", "models", "a chat template")
        from .chat_template import render

        if continue_final_message and add_generation_prompt:
            raise ValueError("continue_final_message continues an answer, add_generation_prompt begins one: choose one")
        for name in ("return_assistant_tokens_mask", "tokenizer_kwargs"):  # Transformers' own, no template's
            if variables.pop(name, None):
                raise ValueError(f"{name} is given, expected it left out: it is not implemented")
        template = choose_template(self.chat_template, chat_template, tools=variables.get("tools") is not None)
        conversations, batched = as_conversations(conversation)
        seen = {"tools": None, "documents": None, **self._special, **variables}
        seen["add_generation_prompt"] = add_generation_prompt
        texts = [render(template, c, seen, continue_final_message=continue_final_message) for c in conversations]
        text = texts if batched else texts[0]
        if not tokenize:
            return text
        result = self(text, None, False, padding, truncation, max_length, return_tensors=return_tensors)
        return result if return_dict else result["input_ids"]

    def encodings(self, texts: list[Text], max_length: int | None) -> list[Any]:
        """The backend's results for texts, or pairs, cut to `max_length`: what a call makes its lists of."""
        layout = self._layout(False, max_length is not None, max_length, None, None)
        return self._locked.encode(texts, layout, add_special_tokens=True, words=False, target=False)

    # ---- inside

    def _takes(self, column: str, asked: bool | None) -> bool:
        return _default(asked, column in self.model_input_names)

    def _layout(
        self,
        padding: Any,
        truncation: Any,
        max_length: int | None,
        multiple: int | None,
        padding_side: str | None,
        stride: int = 0,
        overflow: bool = False,
    ) -> Layout:
        return lay_out(
            padding,
            truncation,
            max_length,
            multiple,
            padding_side or self.padding_side,
            stride,
            overflow=overflow,
            model_max_length=self.model_max_length,
            truncation_side=self.truncation_side,
            pad_id=self.pad_token_id,
            pad_token=self.pad_token,
        )

    def _call(
        self,
        text: Any,
        pair: Any,
        *,
        target: bool = False,
        add_special_tokens: bool,
        words: bool,
        layout: Layout,
        asked: Mapping[str, Callable[[Any], Any]],
        kind: str | None,
    ) -> BatchEncoding:
        """What is asked of the texts' tokens, as lists or as tensors of one kind."""
        batch, batched = as_batch(text, pair, words=words)
        encodings = self._locked.encode(
            batch, layout, add_special_tokens=add_special_tokens, words=words, target=target
        )
        rows = [(i, part) for i, e in enumerate(encodings) for part in (e, *(e.overflowing if layout.overflow else ()))]
        parts = [part for _, part in rows]
        data = {key: [read(part) for part in parts] for key, read in asked.items()}
        if layout.overflow:
            data["overflow_to_sample_mapping"] = [i for i, _ in rows]
        if kind is None and not (batched or layout.overflow):
            data = first_rows(data)
        return BatchEncoding(as_tensors(data, kind), parts, has_offsets=self.is_fast)

    def __repr__(self) -> str:
        return f"Tokenizer({len(self)} tokens, model_max_length={self.model_max_length}, {self._special})"


# ---- arguments and results


def _default(value: bool | None, default: bool) -> bool:
    return default if value is None else value


def _checked(name: str, ids: list[Any]) -> list[int]:
    for token in ids:
        if type(token) is not int:
            raise TypeError(f"{name} holds {type(token).__name__}, expected integers")
        if not 0 <= token <= MOST_ID:
            raise ValueError(f"{name} holds {token}, expected ids from 0 to 2**32 - 1")
    return ids


def clean_up(text: str) -> str:
    """Takes back the spaces that a split into words has put before punctuation."""
    for spaced in (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're"):
        text = text.replace(spaced, spaced.strip())
    return text
