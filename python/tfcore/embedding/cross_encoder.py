"""`CrossEncoder`: how well a text answers another, read together, as sentence-transformers' class scores."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import ops
from ..models.checkpoint import Float32Array
from ..models.config import Config
from ..scalars import integer
from .arguments import check_iterable, check_run, converted, several
from .batching import Window, run_in_passes
from .modules import Activation, activation_of, read_entries
from .opened import Opened, Options, Parts
from .report import Tally, progress
from .transformer import Transformer

_SIGMOID, _IDENTITY = "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity"


@dataclass
class _Parts(Parts):
    """Also what makes scores of the classifier's logits, and of how many labels."""

    activation: Activation
    labels: int


class CrossEncoder(Opened[_Parts]):
    """Scores of pairs of texts: rerankers, and other classifiers of pairs.

    >>> encoder = CrossEncoder("cross-encoder/ms-marco-MiniLM-L6-v2")  # doctest: +SKIP
    >>> question = "Where do cats sleep?"  # doctest: +SKIP
    >>> encoder.predict([(question, "On mats."), (question, "2 + 2")]).shape  # doctest: +SKIP
    (2,)
    >>> encoder.rank(question, ["2 + 2", "On mats."], top_k=1)  # doctest: +SKIP
    [{'corpus_id': ..., 'score': ...}]

    A pair's score has the same bits alone, in any batch and in any order. Calls from several threads at once are fine.
    A pickle holds the checkpoint's name and opens it when first used.

    Parameters
    ----------
    name : str or path
        The folder or hub name of a sequence classifier; a name without an owner is looked for among those of
        cross-encoder first. What is done to its logits is what its files name
        (`activation_fn`), else the sigmoid for one label and nothing for several.
    revision : str, optional
        A branch, tag or commit of the hub's.
    cache_folder, token, local_files_only
        How a name is looked up: `cache_dir`, `token` and `local_files_only` of `AutoModel`.
    max_length : int, optional
        `max_seq_length` from the beginning.
    activation_fn, prompts, default_prompt_name : optional
        The attributes of these names from the beginning; `prompts` are added to the checkpoint's.
    device, trust_remote_code
        Taken for the sake of code written for sentence-transformers: the device is "cpu", and no code of a checkpoint
        ever runs.

    Attributes
    ----------
    All are as the checkpoint's files say, and can be set.

    max_seq_length : int
        Longer pairs are cut to this many tokens, the longer text first.
    activation_fn : callable
        From logits (n, labels) to scores. PyTorch's modules are given tensors.
    prompts : dict of str
        Prompts by name, as the checkpoint wants them.
    default_prompt_name : str or None
        The prompt of calls that name none.

    Raises
    ------
    FileNotFoundError
        There is no such folder or name, or it lacks a file.
    ValueError
        A file is broken, names an unknown function, or holds no sequence classifier.
    """

    _owner = "cross-encoder"

    def __init__(
        self,
        name: str | os.PathLike[str],
        *,
        max_length: int | None = None,
        activation_fn: Activation | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, **options)
        if max_length is not None:
            self.max_length = max_length
        if activation_fn is not None:
            self.activation_fn = activation_fn

    def _open(self, folder: Path) -> _Parts:
        entries = read_entries(folder)
        if len(entries) > 1:
            kinds = ", ".join(entry.kind for entry in entries)
            raise ValueError(f"{folder / 'modules.json'}: modules are {kinds}, expected a Transformer alone")
        transformer = Transformer(entries[0].folder if entries else folder, classify=True)
        labels = transformer.model.architecture.heads["sequence_classification"].size
        options = Options(folder)
        return _Parts(transformer, options, _activation(transformer.model.config, options.config, labels), labels)

    @property
    def max_length(self) -> int:
        """`max_seq_length` by its earlier name."""
        return self.max_seq_length

    @max_length.setter
    def max_length(self, value: int) -> None:
        integer("max_length", value, most=self._parts.transformer.model.max_length)
        self.max_seq_length = value

    @property
    def activation_fn(self) -> Activation:
        """From logits (n, labels) to scores, as the checkpoint wants it. It can be set."""
        function: Activation = self._settings.get("activation_fn", self._parts.activation)
        return function

    @activation_fn.setter
    def activation_fn(self, value: Activation) -> None:
        _callable(value)
        self._settings["activation_fn"] = value

    @property
    def num_labels(self) -> int:
        """How many numbers a pair gets: 1 of a reranker."""
        return self._parts.labels

    def predict(
        self,
        inputs: Any,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        activation_fn: Callable[[Float32Array], Any] | None = None,
        apply_softmax: bool = False,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        return_info: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
    ) -> Any:
        """The scores of pairs of texts.

        Parameters
        ----------
        inputs : (str, str) or iterable of such
            One pair, or n pairs.
        batch_size : int, optional
            How many pairs run at a time at most. Default: as many as a budget of tokens allows.
        show_progress_bar : bool, optional
            None: on long work on a terminal, where `rich` is installed.
        activation_fn : callable, optional
            From logits (n, labels) to scores, instead of the attribute of this name.
        apply_softmax : bool
            Whether the scores of several labels are to sum to 1.
        prompt_name, prompt : str, optional
            Put before the first text of each pair, as in `SentenceEncoder.encode`.
        return_info : bool
            Whether to return an `EncodingInfo` too, which takes the place of the warning that pairs were cut.
        convert_to_numpy, convert_to_tensor, device
            As in `SentenceEncoder.encode`.

        Returns
        -------
        (n,) float32, or (n, labels) of a classifier of several; without n for a single pair.

        Raises
        ------
        TypeError
            `inputs` holds something else than pairs of strings.
        ValueError
            A text is no Unicode, or an argument is out of range.
        """
        check_run(batch_size, device)
        activate = _callable(self.activation_fn if activation_fn is None else activation_fn)
        alone = _is_pair(inputs)
        pairs, total = several("inputs", inputs, alone, "a pair of strings or several")
        tally = Tally()
        logits = self._logits(pairs, self._prompt(prompt, prompt_name), batch_size, tally, total, show_progress_bar)
        if not return_info:
            self._warn_once(tally, self.max_seq_length, "inputs")
        scores = np.asarray(activate(logits))
        if scores.shape != logits.shape or scores.dtype.kind not in "fiu":
            got = f"{scores.dtype} {scores.shape}"
            raise ValueError(f"activation_fn returned {got}, expected numbers {logits.shape}, as it was given")
        if self.num_labels == 1:
            scores = scores.reshape(len(logits))
        elif apply_softmax:
            scores = ops.softmax(scores)
        value = converted(scores, convert_to_numpy, convert_to_tensor)
        value = value[0] if alone else value
        return (value, tally.info()) if return_info else value

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        return_info: bool = False,
        **options: Any,
    ) -> Any:
        """Documents in the order of their scores for a query, the best first; equals in their own order.

        Parameters
        ----------
        query : str
        documents : list of str
        top_k : int, optional
            How many to return. Default: all.
        return_documents : bool
            Whether each entry holds its document, as "text".
        return_info : bool
            Whether to return (ranking, info), as `predict` does.
        **options
            As in `predict`; the kind of array makes no difference.

        Returns
        -------
        list of dict
            `corpus_id`, the document's row, and `score`.

        Raises
        ------
        TypeError
            `query` or a document is no string.
        ValueError
            The checkpoint has several labels, so that there is no order.
        """
        if self.num_labels != 1:
            raise ValueError(f"rank takes a checkpoint of one label, and this has {self.num_labels}: use predict")
        if top_k is not None:
            integer("top_k", top_k)
        if not isinstance(query, str):
            raise TypeError(f"query is {type(query).__name__}, expected a string")
        texts = list(check_iterable("documents", documents, "a list of strings"))
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"documents[{row}] is {type(text).__name__}, expected a string")
        options |= {"convert_to_numpy": True, "convert_to_tensor": False, "return_info": True}
        scores, info = self.predict([(query, text) for text in texts], **options)
        order = np.argsort(-scores, kind="stable")[:top_k].tolist()
        texts_of = {row: {"text": texts[row]} for row in order} if return_documents else {}
        ranking = [{"corpus_id": row, "score": float(scores[row]), **texts_of.get(row, {})} for row in order]
        return (ranking, info) if return_info else ranking

    def _logits(
        self,
        pairs: Iterable[Any],
        prompt: str,
        batch_size: int | None,
        tally: Tally,
        total: int | None,
        show: bool | None,
    ) -> npt.NDArray[np.float32]:
        """(n, labels), in the caller's order."""
        transformer, limit = self._parts.transformer, self.max_seq_length
        found: list[tuple[npt.NDArray[np.int64], Float32Array]] = []

        def check(row: int, pair: Any) -> tuple[str, str]:
            return _pair(row, pair, prompt)

        def tokenize(window: Window) -> Any:
            return transformer.tokenize(window, limit, "inputs")

        with progress(total, show) as advance:
            for rows, packed in run_in_passes(pairs, check, tokenize, batch_size, tally):
                found.append((rows, transformer.model.classify_packed(packed)))
                advance(len(rows))
        logits = np.zeros((sum(len(rows) for rows, _ in found), self.num_labels), np.float32)
        for rows, values in found:
            logits[rows] = values
        return logits

    def __repr__(self) -> str:
        return f"CrossEncoder({self._name!r}, num_labels={self.num_labels}, max_seq_length={self.max_seq_length})"


def _activation(model: Config, options: Config, labels: int) -> Activation:
    """What the checkpoint's files name, the newer first."""
    default = _SIGMOID if labels == 1 else _IDENTITY
    if options.get("activation_fn") is not None:
        return activation_of(options, "activation_fn", default)
    inside = model.get("sentence_transformers")
    if isinstance(inside, dict) and inside.get("activation_fn") is not None:
        return activation_of(Config(inside, model.path), "activation_fn", default)
    return activation_of(model, "sbert_ce_default_activation_function", default)


def _callable(activation_fn: Any) -> Callable[[Float32Array], Any]:
    if not callable(activation_fn):
        raise TypeError(f"activation_fn is {type(activation_fn).__name__}, expected a function of logits")
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(activation_fn, torch.nn.Module):
        return lambda logits: activation_fn(torch.from_numpy(logits)).detach()
    return activation_fn  # type: ignore[no-any-return]


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray) and len(value) == 2 and all(isinstance(v, str) for v in value)


def _pair(row: int, value: Any, prompt: str) -> tuple[str, str]:
    if not _is_pair(value):
        what = f" of {', '.join(type(v).__name__ for v in value[:3])}" if isinstance(value, list | tuple) else ""
        raise TypeError(f"inputs[{row}] is {type(value).__name__}{what}, expected a pair of strings")
    first, second = value
    return prompt + first, second
