"""The modules that `modules.json` strings together, behind the transformer: what each does to vectors.

A module reads one of two arrays and writes one: "token_embeddings" (T, C), or "sentence_embedding" (B, D), which a
pooling makes of the tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .. import _core, ops
from ..models.architecture import Shapes
from ..models.checkpoint import WEIGHTS, Checkpoint, Float32Array
from ..models.config import Config, read_json
from ..models.packing import PackedTokens
from .pooling import Pooling
from .transformer import Transformer, read_optional

TOKENS, SENTENCE = "token_embeddings", "sentence_embedding"


@dataclass
class Features:
    """What modules hand on: a pass's texts, the length of their prompt, and vectors of tokens and of texts by name."""

    tokens: PackedTokens
    prompt_length: int
    arrays: dict[str, Float32Array]


class Module(Protocol):
    """One step. Opened with the widths of the arrays before it, which it changes to those behind it."""

    def __call__(self, features: Features) -> None: ...


Widths = dict[str, int]


class _Pool:
    def __init__(self, folder: Path, widths: Widths) -> None:
        self.pooling = Pooling.read(Config.read(folder / "config.json"))
        widths[SENTENCE] = widths[TOKENS] * len(self.pooling.modes)

    def __call__(self, features: Features) -> None:
        skip = 0 if self.pooling.include_prompt else features.prompt_length
        features.arrays[SENTENCE] = self.pooling.pool(features.arrays[TOKENS], features.tokens.cu_seqlens, skip)


class DefaultPooling:
    """Where no file says how to pool: the mean, or the last token's state of a model that was made to write."""

    def __init__(self, transformer: Transformer, widths: Widths) -> None:
        config = transformer.model.config
        made_to_write = any(name.endswith("ForCausalLM") for name in config.texts("architectures")[:1])
        writes = made_to_write and config.get("is_causal") is not False
        self._pooling = Pooling(("lasttoken" if writes else "mean",))
        widths[SENTENCE] = widths[TOKENS]

    def __call__(self, features: Features) -> None:
        features.arrays[SENTENCE] = self._pooling.pool(features.arrays[TOKENS], features.tokens.cu_seqlens, 0)


class _Dense:
    """activation(x @ weight.T + bias), and the input added again where the file says so."""

    def __init__(self, folder: Path, widths: Widths, *, source: str = SENTENCE) -> None:
        config = Config.read(folder / "config.json")
        self._source = _name(config, "module_input_name", source)
        self._target = _name(config, "module_output_name", self._source)
        into, out = config.positive_int("in_features"), config.positive_int("out_features")
        _check_width(config, "in_features", into, widths, self._source)
        shapes: Shapes = {"linear.weight": (out, into)}
        if config.flag("bias", default=True):
            shapes["linear.bias"] = (out,)
        self._residual = config.flag("use_residual", default=False)
        if self._residual and into != out:
            shapes["residual.weight"] = (out, into)
        tensors = _read_tensors(folder, shapes)
        self._linear = ops.PackedLinear(tensors["linear.weight"], tensors.get("linear.bias"))
        again = tensors.get("residual.weight")
        self._again = None if again is None else ops.PackedLinear(again)
        self._activation = activation_of(config, "activation_function", "torch.nn.modules.activation.Tanh")
        widths[self._target] = out

    def __call__(self, features: Features) -> None:
        x = features.arrays[self._source]
        y = self._activation(self._linear(x))
        if self._residual:
            y = y + (x if self._again is None else self._again(x))
        features.arrays[self._target] = y


class _LayerNorm:
    def __init__(self, folder: Path, widths: Widths) -> None:
        config = Config.read(folder / "config.json")
        width = config.positive_int("dimension")
        _check_width(config, "dimension", width, widths, SENTENCE)
        tensors = _read_tensors(folder, {"norm.weight": (width,), "norm.bias": (width,)})
        self._weight, self._bias = np.array(tensors["norm.weight"]), np.array(tensors["norm.bias"])

    def __call__(self, features: Features) -> None:
        features.arrays[SENTENCE] = ops.layer_norm(features.arrays[SENTENCE], self._weight, self._bias, eps=1e-5)


class Normalize:
    """Vectors of length 1."""

    def __init__(self, folder: Path, widths: Widths, *, source: str = SENTENCE) -> None:
        config = read_optional(folder / "config.json")
        self._source = _name(config, "module_input_name", source)
        self.target = _name(config, "module_output_name", self._source)
        if self._source not in widths:
            raise ValueError(f"{folder}: Normalize stands before any Pooling, expected one that makes {self._source!r}")
        widths[self.target] = widths[self._source]

    def __call__(self, features: Features) -> None:
        features.arrays[self.target] = normalized(features.arrays[self._source])


class _Dropout:
    """Something at training alone."""

    def __init__(self, folder: Path, widths: Widths) -> None:
        pass

    def __call__(self, features: Features) -> None:
        pass


Opener = Callable[[Path, Widths], Module]
_KINDS: dict[str, Opener] = {
    "Pooling": _Pool,
    "Dense": _Dense,
    "LayerNorm": _LayerNorm,
    "Normalize": Normalize,
    "Dropout": _Dropout,
}


def dense_of_tokens(folder: Path, widths: Widths) -> Module:
    """A Dense that reads tokens' vectors unless its file says otherwise, as multi-vector checkpoints have it."""
    return _Dense(folder, widths, source=TOKENS)


class Entry(NamedTuple):
    """One line of `modules.json`: a class, without the package it has moved between, and a folder."""

    kind: str
    folder: Path


def read_entries(folder: Path) -> list[Entry]:
    """The lines of `modules.json`, the transformer's first; none, if there is no such file.

    Raises
    ------
    ValueError
        The file is broken, or does not begin with a transformer.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return []
    entries = []
    for fields in read_json(path, list):
        line = Config(fields if isinstance(fields, dict) else {}, path)
        inside = line.text("path", default="")
        if Path(inside).is_absolute() or ".." in Path(inside).parts:
            raise ValueError(f"{path}: field 'path' is {inside!r}, expected a folder inside {folder}")
        entries.append(Entry(line.text("type").rsplit(".", 1)[-1], folder / inside))
    kinds = [entry.kind for entry in entries]
    if kinds[:1] != ["Transformer"]:
        raise ValueError(f"{path}: modules are {', '.join(kinds) or 'none'}, expected a Transformer first")
    return entries


def open_modules(entries: list[Entry], widths: Widths, more: dict[str, Opener] | None = None) -> list[Module]:
    """The modules behind the transformer, in order. `widths` has the transformer's, and gets those at the end.

    Raises
    ------
    ValueError
        A module is not known (the message lists those that are), or its files are wrong.
    """
    known = {**_KINDS, **(more or {})}
    modules = []
    for kind, folder in entries:
        if kind not in known:
            path = folder.parent / "modules.json"
            raise ValueError(f"{path}: module {kind!r} is not known, expected Transformer, {', '.join(known)}")
        modules.append(known[kind](folder, widths))
    return modules


def normalizes(modules: list[Module]) -> bool:
    """Whether the last to touch texts' vectors gave them length 1."""
    return bool(modules) and isinstance(modules[-1], Normalize) and modules[-1].target == SENTENCE


def normalized(vectors: npt.NDArray[np.float32]) -> Float32Array:
    """Rows scaled to length 1; zeros stay zeros."""
    wide = vectors.astype(np.float64)
    norms = np.sqrt(np.add.reduce(wide * wide, axis=1, keepdims=True))
    return (wide / np.maximum(norms, 1e-12)).astype(np.float32)


# ---- activations, by the names of torch's classes


def _tanh(x: Float32Array) -> Float32Array:
    y: Float32Array = _core.vector_math("tanh", x)
    return y


def _sigmoid(x: Float32Array) -> Float32Array:
    """1 / (1 + exp(-x)), by tanh: no overflow, and the same bits wherever a number stands in an array."""
    y: Float32Array = (0.5 + 0.5 * _core.vector_math("tanh", 0.5 * x.astype(np.float64))).astype(np.float32)
    return y


def _softmax(x: Float32Array) -> Float32Array:
    return ops.softmax(x)


Activation = Callable[[Float32Array], Float32Array]
_ACTIVATIONS: dict[str, Activation] = {
    "Identity": lambda x: x,
    "Tanh": _tanh,
    "ReLU": lambda x: np.maximum(x, np.float32(0)),
    "GELU": lambda x: ops.gelu(x),
    "SiLU": lambda x: ops.silu(x),
    "Sigmoid": _sigmoid,
    "LeakyReLU": lambda x: np.where(x > 0, x, np.float32(0.01) * x),
    "Softmax": _softmax,
}


def activation_of(config: Config, field: str, default: str) -> Activation:
    """The function that a file names by torch's class ("torch.nn.modules.activation.Tanh").

    Raises
    ------
    ValueError
        It is not known; the message lists those that are.
    """
    path = config.text(field, default=default)
    name = path.rsplit(".", 1)[-1]
    if not path.startswith("torch.nn.") or name not in _ACTIVATIONS:
        raise ValueError(f"{config.path}: {field} is {path!r}, expected torch.nn's {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


# ---- a module's files


def _name(config: Config, field: str, default: str) -> str:
    return config.choice(field, {TOKENS: TOKENS, SENTENCE: SENTENCE, "scores": "scores"}, default=default)


def _check_width(config: Config, field: str, width: int, widths: Widths, source: str) -> None:
    if source not in widths:
        raise ValueError(f"{config.path}: the module reads {source!r}, which no module before it makes")
    if width != widths[source]:
        raise ValueError(f"{config.path}: field {field!r} is {width}, expected {widths[source]}, as wide as {source!r}")


def _read_tensors(folder: Path, shapes: Shapes) -> dict[str, Float32Array]:
    """A module's tensors, all there and shaped as its config says."""
    if not (folder / WEIGHTS).is_file():
        raise FileNotFoundError(f"{folder} holds no {WEIGHTS}{_only_pickles(folder)}")
    checkpoint = Checkpoint.open(folder)
    for name, shape in shapes.items():
        if name not in checkpoint:
            raise ValueError(f"{folder / WEIGHTS}: tensor {name!r} is missing")
        if checkpoint.shape(name) != shape:
            raise ValueError(
                f"{folder / WEIGHTS}: tensor {name!r} has shape {checkpoint.shape(name)}, expected {shape}"
            )
    return {name: checkpoint[name] for name in shapes}


def _only_pickles(folder: Path) -> str:
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if not pickles:
        return ""
    return (
        f", only {', '.join(pickles)}. That is a pickle, which can run code when opened, and is not read. Convert the "
        "checkpoint once where sentence-transformers is installed: SentenceTransformer(FOLDER).save(NEW_FOLDER)"
    )
