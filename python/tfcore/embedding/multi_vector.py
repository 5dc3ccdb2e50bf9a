"""`MultiVectorEncoder`: one vector a token, to be compared by MaxSim, as ColBERT and its descendants do.

Two kinds of folders describe such an encoder. sentence-transformers' name a Dense, a mask and a Normalize of tokens in
`modules.json`, and lengths and query expansion beside the transformer. PyLate's (`model_type` "ColBERT") name a Dense
there and the rest in `config_sentence_transformers.json`. Other checkpoints are refused.

The markers that say which side a text is of ("[Q] ", "[D] ") come first in it; a query shorter than the expansion's
length is filled with mask tokens, whose vectors count like any; documents lose the vectors of punctuation.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..models.batch_encoding import torch_tensor
from ..models.checkpoint import Float32Array
from ..models.config import Config
from ..scalars import check_choice
from .arguments import check_run, several
from .batching import Tokenized, Window, prompted, run_in_passes
from .modules import TOKENS, Features, Module, Normalize, dense_of_tokens, normalized, open_modules, read_entries
from .opened import Opened, Options, Parts
from .report import Tally, progress
from .results import Listed
from .similarity import matrices, maxsim
from .transformer import Transformer

_QUERY_LENGTH = 32  # ColBERT's


class _Expansion(NamedTuple):
    """Queries are filled up to `length` with a token, and cut to it where it is `fixed`.

    All tokens attend to those that fill where `attend` says so, else none does (as in ColBERT), not even they.
    """

    length: int
    fixed: bool
    attend: bool
    token: int


@dataclass
class _Parts(Parts):
    """Also modules in order, how wide their vectors are, and what is done to texts.

    markers      token ids that come behind the model's first own, by side
    lengths      how many tokens a text may have, by side
    skip         ids of tokens whose vectors are left out, by side
    """

    modules: list[Module]
    dimension: int
    markers: dict[str, list[int]]
    lengths: dict[str, int | None]
    expansion: _Expansion | None
    skip: dict[str, npt.NDArray[np.int64]]


class MultiVectorEncoder(Opened[_Parts]):
    """Texts to a vector for each token, and MaxSim between those of queries and of documents.

    >>> encoder = MultiVectorEncoder("lightonai/GTE-ModernColBERT-v1")  # doctest: +SKIP
    >>> queries = encoder.encode_query(["Where do cats sleep?"])  # doctest: +SKIP
    >>> documents = encoder.encode_document(["On mats.", "Rust never sleeps."])  # doctest: +SKIP
    >>> encoder.similarity(queries, documents).shape  # doctest: +SKIP
    (1, 2)

    A text's vectors have the same bits alone, in any batch and in any order. Calls from several threads at once are
    fine. A pickle holds the checkpoint's name and opens it when first used.

    Parameters
    ----------
    name : str or path
        A folder or hub name, as sentence-transformers or PyLate save multi-vector encoders.
    revision : str, optional
        A branch, tag or commit of the hub's.
    cache_folder, token, local_files_only
        How a name is looked up: `cache_dir`, `token` and `local_files_only` of `AutoModel`.
    device, trust_remote_code
        Taken for the sake of code written for sentence-transformers: the device is "cpu", and no code of a checkpoint
        ever runs.
    prompts, default_prompt_name : optional
        The attributes of these names from the beginning; `prompts` are added to the checkpoint's.

    Attributes
    ----------
    All are as the checkpoint's files say, and can be set.

    max_seq_length : int
        Longer texts are cut to this many tokens, where the checkpoint has no length of their side's own.
    prompts : dict of str
        Prompts by name: "query" and "document" are those of the two sides.
    default_prompt_name : str or None
        The prompt of `encode` where none is named.

    Raises
    ------
    FileNotFoundError
        There is no such folder or name, or it lacks a file.
    ValueError
        A file is broken, or the checkpoint is none of one vector a token.
    """

    _owner = "sentence-transformers"

    def _open(self, folder: Path) -> _Parts:
        entries = read_entries(folder)
        options = Options(folder)
        transformer = Transformer(entries[0].folder if entries else folder)
        widths = {TOKENS: transformer.width}
        mask = _Mask()
        modules = open_modules(entries[1:], widths, {"Dense": dense_of_tokens, "MultiVectorMask": mask.open})
        pylate = options.config.get("model_type") == "ColBERT"
        if not pylate and not mask.found:
            raise ValueError(
                f"{folder}: no MultiVectorMask among the modules and no model_type 'ColBERT' in "
                "config_sentence_transformers.json, expected a multi-vector checkpoint"
            )
        if pylate:
            mask = _Mask(options.config.texts("skiplist_words", string.punctuation))
            modules.append(Normalize(folder / "Normalize", widths, source=TOKENS))
        settings = options.config if pylate else transformer.settings
        tokenizer = transformer.tokenizer
        return _Parts(
            transformer,
            options,
            modules,
            widths[TOKENS],
            {side: _marker(options, side, tokenizer) for side in ("query", "document")},
            {side: _optional_length(settings, f"{side}_length") for side in ("query", "document")},
            _expansion(settings, tokenizer, pylate),
            {side: mask.ids(tokenizer) for side in mask.sides},
        )

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return self._parts.dimension

    def encode_query(self, sentences: str | Iterable[str], **options: Any) -> Any:
        """The vectors of queries' tokens, those of the expansion among them; arguments and result as in `encode`."""
        return self.encode(sentences, **options, task="query")

    def encode_document(self, sentences: str | Iterable[str], **options: Any) -> Any:
        """The vectors of documents' tokens, without those on the checkpoint's skiplist; otherwise as `encode`."""
        return self.encode(sentences, **options, task="document")

    def encode(
        self,
        sentences: str | Iterable[str],
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        normalize_embeddings: bool = False,
        prompt: str | None = None,
        *,
        prompt_name: str | None = None,
        task: str | None = None,
        return_info: bool = False,
        convert_to_numpy: bool = True,
        device: Any = None,
    ) -> Any:
        """The vectors of the tokens of texts.

        Parameters
        ----------
        sentences : str or iterable of str
            One text, or n texts.
        batch_size : int, optional
            How many texts run at a time at most. Default: as many as a budget of tokens allows.
        show_progress_bar : bool, optional
            None: on long work on a terminal, where `rich` is installed.
        normalize_embeddings : bool
            Whether to scale vectors to length 1, where the checkpoint does not anyway.
        prompt, prompt_name : str, optional
            Put before each text. Default: of a side, the checkpoint's prompt of that name; else `default_prompt_name`.
        task : str, optional
            The side the texts are of, "query" or "document". Default: neither, so no marker and no expansion.
        return_info : bool
            Whether to return an `EncodingInfo` too, which takes the place of the warning that texts were cut.
        convert_to_numpy : bool
            False: tensors of PyTorch, on the CPU.
        device : optional
            "cpu", for the sake of code written for sentence-transformers.

        Returns
        -------
        list of (tokens, dim) float32, or one such array for a single string

        Raises
        ------
        TypeError
            `sentences` holds something else than strings.
        ValueError
            A text is no Unicode, or an argument is out of range.
        """
        check_choice("task", task, ("query", "document", None))
        check_run(batch_size, device)
        alone = isinstance(sentences, str)
        texts, total = several("sentences", sentences, alone, "a string or several")
        if task is not None and prompt is None and prompt_name is None:
            prompt = self.prompts.get(task, "")
        prompt = self._prompt(prompt, prompt_name)
        tally, results = Tally(), Listed()
        with progress(total, show_progress_bar) as advance:
            for rows, vectors in self._run(task, texts, prompt, batch_size, tally):
                results.put(rows, [normalized(matrix) for matrix in vectors] if normalize_embeddings else vectors)
                advance(len(rows))
        if not return_info:
            self._warn_once(tally, self._limit(task), "sentences")
        values = (
            results.values
            if convert_to_numpy
            else [torch_tensor(matrix, "convert_to_numpy=False") for matrix in results.values]
        )
        value = values[0] if alone else values
        return (value, tally.info()) if return_info else value

    def similarity(self, queries: Any, documents: Any) -> Float32Array:
        """`maxsim` (n, m), divided by the number of a query's tokens where the checkpoint says "meanmaxsim"."""
        asked = matrices("queries", queries)
        scores = maxsim(asked, documents)
        if self._parts.options.config.get("similarity_fn_name") == "meanmaxsim":
            scores /= np.array([max(len(query), 1) for query in asked], np.float32)[:, None]
        return scores

    def _limit(self, task: str | None) -> int:
        """How many tokens a text may have, marker and expansion among them."""
        parts = self._parts
        own = parts.lengths.get(task) if task else None
        limit = self.max_seq_length if own is None else own
        if task == "query" and parts.expansion:
            return parts.expansion.length if parts.expansion.fixed else max(limit, parts.expansion.length)
        return limit

    def _run(
        self, task: str | None, texts: Iterable[str], prompt: str, batch_size: int | None, tally: Tally
    ) -> Iterator[tuple[npt.NDArray[np.int64], list[Float32Array]]]:
        """Passes of texts, by their rows, and each text's vectors (tokens, dim)."""
        parts, limit = self._parts, self._limit(task)
        marker = parts.markers[task] if task else []
        expansion = parts.expansion if task == "query" else None
        skip = parts.skip.get(task or "document")

        def tokenize(window: Window) -> Tokenized:
            plain = parts.transformer.tokenize(window, limit - len(marker))
            marked = [[*ids[:1], *marker, *ids[1:]] for ids in plain.ids]
            return _filled(marked, plain.cut, expansion) if expansion else Tokenized(marked, None, plain.cut)

        for rows, packed in run_in_passes(texts, prompted(prompt), tokenize, batch_size, tally):
            features = Features(packed, 0, {TOKENS: parts.transformer.hidden(packed)})
            for module in parts.modules:
                module(features)
            kept = np.ones(len(packed.input_ids), bool) if skip is None else ~np.isin(packed.input_ids, skip)
            spans = [slice(*span) for span in pairwise(packed.cu_seqlens.tolist())]
            yield rows, [features.arrays[TOKENS][span][kept[span]] for span in spans]

    def __repr__(self) -> str:
        return f"MultiVectorEncoder({self._name!r}, dimension={self.dimension}, max_seq_length={self.max_seq_length})"


def _filled(texts: list[list[int]], cut: list[int], expansion: _Expansion) -> Tokenized:
    """Queries' ids, filled up to the expansion's length."""
    filled = [ids + [expansion.token] * (expansion.length - len(ids)) for ids in texts]
    return Tokenized(filled, None, cut, None if expansion.attend else [len(ids) for ids in texts])


class _Mask:
    """Which words' vectors are left out, of texts of which sides."""

    def __init__(self, words: Sequence[str] = ()) -> None:
        self.words, self.sides = words, ["document"]
        self.found = False

    def open(self, folder: Path, widths: dict[str, int]) -> Module:
        """Reads the module's config; the vectors themselves it leaves as they are."""
        config = Config.read(folder / "config.json")
        config.expect("keep_only_token_ids", None)
        self.words = config.texts("skiplist_words")
        sides = config.get("skiplist_tasks")
        self.sides = [sides] if isinstance(sides, str) else config.texts("skiplist_tasks", ["document"])
        self.found = True
        return lambda features: None

    def ids(self, tokenizer: Any) -> npt.NDArray[np.int64]:
        """The words' tokens, as far as they are single ones."""
        found = [tokenizer.convert_tokens_to_ids(word) for word in self.words]
        known = [
            token
            for word, token in zip(self.words, found, strict=True)
            if token is not None and (token != tokenizer.unk_token_id or word == tokenizer.unk_token)
        ]
        return np.array(known, np.int64)


def _optional_length(config: Config, field: str) -> int | None:
    return None if config.get(field) is None else config.positive_int(field)


def _marker(options: Options, side: str, tokenizer: Any) -> list[int]:
    """The token that PyLate's files put before a side's texts; a marker that is no single token joins the prompt."""
    prefix = options.config.text(f"{side}_prefix", default="")
    for name in (prefix, prefix.strip()):
        if name and name in tokenizer.get_vocab():
            return [tokenizer.get_vocab()[name]]
    prompt = options.prompts.get(side, "")
    options.prompts[side] = prefix + prompt.removeprefix(prefix)
    return []


def _expansion(settings: Config, tokenizer: Any, pylate: bool) -> _Expansion | None:
    """How queries are filled up: today's one field, or PyLate's several."""
    fields = settings.get("query_expansion")
    if fields is None and (not pylate or "query_expansion" in settings or settings.get("do_query_expansion") is False):
        return None
    if fields is None:
        attend = settings.flag("attend_to_expansion_tokens", default=False)
        fields = {"strategy": "fixed", "attend": attend, "length": settings.get("query_length") or _QUERY_LENGTH}
    if not isinstance(fields, dict):
        raise ValueError(f"{settings.path}: field 'query_expansion' is {fields!r}, expected an object")
    config = Config(fields, settings.path)
    fixed = config.choice("strategy", {"fixed": "fixed", "min": "min"}) == "fixed"
    token = config.get("token")
    ids = [tokenizer.mask_token_id, tokenizer.eos_token_id] if token is None else [tokenizer.get_vocab().get(token)]
    known = [token_id for token_id in ids if token_id is not None]
    if not known:
        raise ValueError(f"{settings.path}: query_expansion's token is {token!r}, expected one that the tokenizer has")
    return _Expansion(config.positive_int("length"), fixed, config.flag("attend", default=False), known[0])
