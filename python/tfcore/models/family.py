"""A family of checkpoints as data: what its config fields are called, and its tensors.

Our own words and letters on the left, the checkpoint's on the right. Letters: V vocabulary, P positions,
Y token types, C width, F width of the feed-forward layer. Adding a family is one small file of such tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .checkpoint import Checkpoint, Float32Array
from .config import Config

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


class Tensor(NamedTuple):
    """A tensor's name in the checkpoint, and the letters of its shape."""

    name: str
    shape: str


Table = Mapping[str, Tensor]


def linear(ours: str, theirs: str, shape: str) -> dict[str, Tensor]:
    """The rows of a linear layer: a weight of two letters, (out, in), and a bias."""
    return {f"{ours}.weight": Tensor(f"{theirs}.weight", shape), f"{ours}.bias": Tensor(f"{theirs}.bias", shape[0])}


def norm(ours: str, theirs: str) -> dict[str, Tensor]:
    """The rows of a layer normalisation."""
    return {f"{ours}.{part}": Tensor(f"{theirs}.{part}", "C") for part in ("weight", "bias")}


@dataclass(frozen=True)
class Family:
    """How an encoder family's `config.json` and tensors map onto `tfcore._core.Encoder`.

    model_type    as `config.json` names it
    sizes         letter → the config field that holds it
    layers, heads, eps, activation
                  the config fields of these
    defaults      fields that older configs leave out
    expected      fields that, where present, must say this: variants that are not implemented
    prefix        what checkpoints of task models put before the encoder's names
    renamed       old endings of tensor names → today's
    embeddings, layer, pooler
                  the tables; `{i}` is the layer's number; a pooler may be absent
    ignored       patterns of tensors that belong to no encoder: buffers and the heads of tasks
    """

    model_type: str
    prefix: str
    sizes: Mapping[str, str]
    layers: str
    heads: str
    eps: str
    activation: str
    embeddings: Table
    layer: Table
    pooler: Table
    ignored: tuple[str, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    expected: Mapping[str, Any] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)

    def read_spec(self, config: Config) -> Spec:
        """The numbers of one checkpoint's config, checked."""
        for name, value in self.expected.items():
            config.expect(name, value)
        full = Config({**self.defaults, **{k: v for k, v in config.items() if v is not None}}, config.path)
        spec = Spec(
            sizes={letter: full.positive_int(name) for letter, name in self.sizes.items()},
            layers=full.positive_int(self.layers),
            heads=full.positive_int(self.heads),
            eps=full.positive_number(self.eps),
            activation=full.choice(self.activation, ACTIVATIONS),
        )
        if spec.sizes["C"] % spec.heads:
            raise ValueError(
                f"{config.path}: field {self.sizes['C']!r} is {spec.sizes['C']}, expected a multiple of "
                f"{self.heads!r}, {spec.heads}"
            )
        return spec


@dataclass(frozen=True)
class Spec:
    """One encoder's numbers: sizes by letter, layers, heads, the norms' epsilon, the activation."""

    sizes: Mapping[str, int]
    layers: int
    heads: int
    eps: float
    activation: str


@dataclass(frozen=True)
class Weights:
    """One encoder's tensors under our own names."""

    embeddings: dict[str, Float32Array]
    layers: list[dict[str, Float32Array]]
    pooler: dict[str, Float32Array]

    def __iter__(self) -> Iterator[Float32Array]:
        for table in (self.embeddings, *self.layers, self.pooler):
            yield from table.values()


def load_weights(family: Family, spec: Spec, checkpoint: Checkpoint, folder: Path) -> Weights:
    """Every tensor of the checkpoint in its place, exactly once.

    Raises
    ------
    ValueError
        Tensors are missing, misshaped, of a dtype that is no float, or unknown to the family. All are listed, each
        with its file. There is no partly loaded model.
    """
    if spec.layers > len(checkpoint):
        raise ValueError(
            f"{folder}: the config says {spec.layers} layers, but the tensors in all are {len(checkpoint)}"
        )
    stored = _encoder_names(family, checkpoint)
    has_pooler = any(tensor.name in stored for tensor in family.pooler.values())
    tables = [
        family.embeddings,
        *(_numbered(family.layer, i) for i in range(spec.layers)),
        family.pooler if has_pooler else {},
    ]
    _check(tables, stored, spec, checkpoint, folder)
    embeddings, *layers, pooler = (
        {ours: checkpoint[stored[tensor.name]] for ours, tensor in table.items()} for table in tables
    )
    return Weights(embeddings, layers, pooler)


def _encoder_names(family: Family, checkpoint: Checkpoint) -> dict[str, str]:
    """The family's own names → the names in the file; buffers and other tasks' heads are left out."""
    ignored = re.compile("|".join(family.ignored))
    names: dict[str, str] = {}
    for stored in checkpoint:
        name = stored.removeprefix(family.prefix)
        if ignored.fullmatch(name):
            continue
        for old, new in family.renamed.items():
            name = re.sub(f"{re.escape(old)}$", new, name)
        if name in names:
            raise ValueError(f"{checkpoint.file(stored)}: tensors {names[name]!r} and {stored!r} are both {name!r}")
        names[name] = stored
    return names


def _numbered(table: Table, i: int) -> Table:
    return {ours: Tensor(tensor.name.format(i=i), tensor.shape) for ours, tensor in table.items()}


def _check(tables: list[Table], stored: Mapping[str, str], spec: Spec, checkpoint: Checkpoint, folder: Path) -> None:
    wanted = {tensor.name: _shape(tensor, spec) for table in tables for tensor in table.values()}
    missing = [f"{folder}: tensor {name!r} is missing" for name in wanted if name not in stored]
    wrong = []
    for name, stored_name in stored.items():
        where = f"{checkpoint.file(stored_name)}: tensor {stored_name!r}"
        if name not in wanted:
            wrong.append(f"{where} is unknown to this family of models")
        elif checkpoint.shape(stored_name) != wanted[name]:
            wrong.append(f"{where} has shape {checkpoint.shape(stored_name)}, expected {wanted[name]}")
    if missing or wrong:
        raise ValueError("\n".join(_first(missing) + _first(wrong)))


def _first(problems: list[str], most: int = 5) -> list[str]:
    return problems[:most] + ([f"… and {len(problems) - most} more"] if len(problems) > most else [])


def _shape(tensor: Tensor, spec: Spec) -> tuple[int, ...]:
    return tuple(spec.sizes[letter] for letter in tensor.shape)
