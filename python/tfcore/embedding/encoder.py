"""`SentenceEncoder`: one vector a text, as sentence-transformers computes it, from the checkpoint's own files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from ..models.checkpoint import Float32Array
from ..models.packing import IntArray
from ..scalars import check_choice, integer
from .arguments import check_run, converted, converted_item, several
from .batching import Window, prompted, run_in_passes
from .modules import SENTENCE, TOKENS, DefaultPooling, Features, Module, normalizes, open_modules, read_entries
from .opened import Opened, Options, Parts
from .precision import PRECISIONS
from .report import Tally, progress
from .results import Finish, Listed, by_text
from .similarity import PAIRWISE, SIMILARITIES, Pairwise, comparable
from .transformer import Transformer

_QUERY, _DOCUMENT = ("query",), ("document", "passage", "corpus")  # the names under which prompts are looked for


@dataclass
class _Parts(Parts):
    """Also modules in order, and how wide their vectors are."""

    modules: list[Module]
    dimension: int
    normalizes: bool
    truncate_dim: int | None


class SentenceEncoder(Opened[_Parts]):
    """Texts to vectors, with the pooling, layers, length limit and prompts that the checkpoint's files ask for.

    >>> encoder = SentenceEncoder("sentence-transformers/all-MiniLM-L6-v2")  # doctest: +SKIP
    >>> vectors = encoder.encode(["A cat sits.", "A kitten rests.", "Rust never sleeps."])  # doctest: +SKIP
    >>> vectors.shape, encoder.similarity(vectors, vectors).shape  # doctest: +SKIP
    ((3, 384), (3, 3))

    A text's vector has the same bits alone, in any batch, in any order and with any number of threads. Calls from
    several threads at once are fine. A pickle holds the checkpoint's name and opens it when first used.

    Parameters
    ----------
    name : str or path
        A checkpoint folder or hub name; one without an owner is looked for among those of sentence-transformers first.
        `modules.json` and the files it names say how to pool; without it, the mean, or the last token's state of a
        model that was made to write.
    revision : str, optional
        A branch, tag or commit of the hub's.
    cache_folder, token, local_files_only
        How a name is looked up: `cache_dir`, `token` and `local_files_only` of `AutoModel`.
    truncate_dim, prompts, default_prompt_name, similarity_fn_name : optional
        The attributes of these names from the beginning; `prompts` are added to the checkpoint's.
    device, trust_remote_code
        Taken for the sake of code written for sentence-transformers: the device is "cpu", and no code of a checkpoint
        ever runs.

    Attributes
    ----------
    All are as the checkpoint's files say, and can be set.

    max_seq_length : int
        Longer texts are cut to this many tokens.
    truncate_dim : int or None
        How many leading dimensions vectors keep.
    prompts : dict of str
        Prompts by name, as the checkpoint wants them.
    default_prompt_name : str or None
        The prompt of calls that name none.
    similarity_fn_name : str
        How `similarity` compares: "cosine", "dot", "euclidean" or "manhattan". Where the checkpoint names another,
        reading it is an error.

    Raises
    ------
    FileNotFoundError
        There is no such folder or name, or it lacks a file.
    ValueError
        A file is broken, or names a module that is not implemented.
    """

    _owner = "sentence-transformers"

    def __init__(
        self,
        name: str | os.PathLike[str],
        *,
        truncate_dim: int | None = None,
        similarity_fn_name: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(name, **options)
        if truncate_dim is not None:
            self.truncate_dim = truncate_dim
        if similarity_fn_name is not None:
            self.similarity_fn_name = similarity_fn_name

    def _open(self, folder: Path) -> _Parts:
        entries = read_entries(folder)
        transformer = Transformer(entries[0].folder if entries else folder)
        widths = {TOKENS: transformer.width}
        modules = open_modules(entries[1:], widths)
        if not entries:
            modules.append(DefaultPooling(transformer, widths))
        if SENTENCE not in widths:
            raise ValueError(
                f"{folder / 'modules.json'}: no module pools tokens to a text's vector, expected a Pooling; "
                "MultiVectorEncoder opens checkpoints of one vector a token"
            )
        options = Options(folder)
        truncate_dim = options.config.get("truncate_dim")
        if truncate_dim is not None:
            truncate_dim = min(options.config.positive_int("truncate_dim"), widths[SENTENCE])
        return _Parts(transformer, options, modules, widths[SENTENCE], normalizes(modules), truncate_dim)

    @property
    def truncate_dim(self) -> int | None:
        """How many leading dimensions vectors keep, as the checkpoint wants it; None for all. It can be set."""
        dim: int | None = self._settings.get("truncate_dim", self._parts.truncate_dim)
        return dim

    @truncate_dim.setter
    def truncate_dim(self, value: int | None) -> None:
        if value is not None:
            integer("truncate_dim", value, most=self._parts.dimension)
        self._settings["truncate_dim"] = None if value is None else int(value)

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return self.truncate_dim or self._parts.dimension

    def get_embedding_dimension(self) -> int:
        """The length of a vector: the same as `dimension`, by sentence-transformers' name."""
        return self.dimension

    def get_sentence_embedding_dimension(self) -> int:
        """The same, by its earlier name."""
        return self.dimension

    @property
    def similarity_fn_name(self) -> str:
        """The similarity that the checkpoint was made for: "cosine", "dot", "euclidean" or "manhattan". It can be set.

        Raises
        ------
        ValueError
            The checkpoint names another.
        """
        config = self._parts.options.config
        name: str = self._settings.get("similarity_fn_name") or config.text("similarity_fn_name", default="cosine")
        if name not in SIMILARITIES:
            raise ValueError(f"{config.path}: similarity_fn_name is {name!r}, expected {', '.join(SIMILARITIES)}")
        return name

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: Any) -> None:
        value = getattr(value, "value", value)  # sentence-transformers has an enumeration of them
        check_choice("similarity_fn_name", value, tuple(SIMILARITIES))
        self._settings["similarity_fn_name"] = value

    def encode(
        self,
        sentences: str | Iterable[str],
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        normalize_embeddings: bool = False,
        prompt: str | None = None,
        truncate_dim: int | None = None,
        output_value: str | None = SENTENCE,
        *,
        prompt_name: str | None = None,
        precision: str = "float32",
        ranges: npt.ArrayLike | None = None,
        calibration_embeddings: npt.ArrayLike | None = None,
        return_info: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
    ) -> Any:
        """The vectors of texts.

        Texts are read as they are needed, so a generator of millions is fine. Where texts are cut to `max_seq_length`,
        an encoder warns of it, once.

        Parameters
        ----------
        sentences : str or iterable of str
            One text, or n texts. Texts longer than `max_seq_length` tokens are cut.
        batch_size : int, optional
            How many texts run at a time at most. Default: as many as a budget of tokens allows.
        show_progress_bar : bool, optional
            None: on long work on a terminal, where `rich` is installed.
        normalize_embeddings : bool
            Whether to scale vectors to length 1, where the checkpoint does not anyway.
        prompt : str, optional
            Put before each text; "" for none. Default: the one that `prompt_name` names, or `default_prompt_name`.
        truncate_dim : int, optional
            Keep this many leading dimensions, of length 1 again where vectors were of length 1. Default: the encoder's
            own number, if it has one; what that leaves is not scaled, as sentence-transformers does not.
        output_value : str or None
            "sentence_embedding"; "token_embeddings" for a list of (tokens, C) arrays; None for a list of dicts that
            hold both, and the `input_ids`.
        prompt_name : str, optional
            One of `prompts`.
        precision : str
            "float32", "int8", "uint8", "binary" or "ubinary", as `quantize_embeddings` says.
        ranges, calibration_embeddings : optional
            What "int8" and "uint8" are scaled by. Default: the vectors of this call, which must be more than one.
        return_info : bool
            Whether to return an `EncodingInfo` too, which tells token counts and the rows of texts that were cut. It
            takes the warning's place.
        convert_to_numpy, convert_to_tensor : bool
            Not to NumPy: a list of rows. To a tensor: one of PyTorch's, on the CPU.
        device : optional
            "cpu", for the sake of code written for sentence-transformers.

        Returns
        -------
        (n, dim) float32, or (dim,) for a single string; with `return_info` a pair of that and the report.

        Raises
        ------
        TypeError
            `sentences` holds something else than strings.
        ValueError
            A text is no Unicode, or an argument is out of range.
        """
        check_choice("output_value", output_value, (SENTENCE, TOKENS, None))
        check_choice("precision", precision, PRECISIONS)
        if output_value == TOKENS and precision != "float32":
            raise ValueError(f"precision is {precision!r}, expected 'float32' where output_value is {TOKENS!r}")
        check_run(batch_size, device)
        if truncate_dim is not None:
            integer("truncate_dim", truncate_dim, most=self._parts.dimension)
        alone = isinstance(sentences, str)
        texts, total = several("sentences", sentences, alone, "a string or several")
        prompt = self._prompt(prompt, prompt_name)
        normalize = normalize_embeddings or (self._parts.normalizes and truncate_dim is not None)
        finish = Finish(truncate_dim or self.dimension, normalize, precision, ranges, calibration_embeddings)
        vectors, items = finish.rows(total if output_value == SENTENCE else 0), Listed()
        tally = Tally()
        with progress(total, show_progress_bar) as advance:
            for places, features in self._run(texts, prompt, batch_size, tally):
                if output_value == SENTENCE:
                    vectors.put(places, finish(features.arrays[SENTENCE]))
                else:
                    items.put(places, by_text(features, output_value, finish))
                advance(len(places))
        if not return_info:
            self._warn_once(tally, self.max_seq_length, "sentences")
        result: Any = finish.in_items(items.values) if output_value is None else items.values
        if output_value == SENTENCE:
            result = converted(finish.all(vectors.array()), convert_to_numpy, convert_to_tensor)
        elif convert_to_tensor:
            result = [converted_item(item) for item in result]
        result = result[0] if alone else result
        return (result, tally.info()) if return_info else result

    def encode_query(self, sentences: str | Iterable[str], **options: Any) -> Any:
        """The vectors of queries: `encode` with the prompt called "query", or without any."""
        return self.encode(sentences, **self._with_prompt(_QUERY, options))

    def encode_document(self, sentences: str | Iterable[str], **options: Any) -> Any:
        """The vectors of documents: `encode` with the prompt called "document", "passage" or "corpus", or without."""
        return self.encode(sentences, **self._with_prompt(_DOCUMENT, options))

    def similarity(self, a: npt.ArrayLike, b: npt.ArrayLike) -> Float32Array:
        """How alike each of n vectors is to each of m: (n, dim), (m, dim) → (n, m).

        As `similarity_fn_name` says: the cosine, "dot", or the negative of the "euclidean" or "manhattan" distance.
        """
        compare: Pairwise = SIMILARITIES[self.similarity_fn_name]
        return compare(*comparable(a, b))

    def similarity_pairwise(self, a: npt.ArrayLike, b: npt.ArrayLike) -> Float32Array:
        """How alike n vectors are to n others, one by one: (n, dim), (n, dim) → (n,)."""
        compare: Pairwise = PAIRWISE[self.similarity_fn_name]
        first, second = comparable(a, b)
        if len(first) != len(second):
            raise ValueError(f"b has shape {second.shape}, expected as many vectors as a, {first.shape}")
        return compare(first, second)

    def _run(
        self, texts: Iterable[str], prompt: str, batch_size: int | None, tally: Tally
    ) -> Iterator[tuple[IntArray, Features]]:
        """Passes of texts, by their rows, through the transformer and every module."""
        parts, limit = self._parts, self.max_seq_length
        skip = parts.transformer.prompt_length(prompt, limit) if prompt else 0

        def tokenize(window: Window) -> Any:
            return parts.transformer.tokenize(window, limit)

        for places, packed in run_in_passes(texts, prompted(prompt), tokenize, batch_size, tally):
            features = Features(packed, skip, {TOKENS: parts.transformer.hidden(packed)})
            for module in parts.modules:
                module(features)
            yield places, features

    def _with_prompt(self, names: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
        if options.get("prompt") is not None or options.get("prompt_name") is not None:
            return options
        named = self._settings.get("named", self._parts.options.named)
        found = [name for name in names if name in self.prompts and (name in named or self.prompts[name])]
        if found:
            return {**options, "prompt_name": found[0]}
        return {**options, "prompt": ""} if self.prompts.keys() & set(names) else options

    def __repr__(self) -> str:
        return f"SentenceEncoder({self._name!r}, dimension={self.dimension}, max_seq_length={self.max_seq_length})"
