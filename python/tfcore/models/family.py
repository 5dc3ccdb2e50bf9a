"""A family of checkpoints as data: how its config describes a model, and what its tensors are called.

Our own names on the left, the checkpoint's on the right. Adding a family is one small file: a function from the config
to an `Architecture`, and tables of names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from .architecture import Architecture, Shape
from .checkpoint import StoredColumns, StoredRows
from .config import Config

_BOTH = MappingProxyType({"weight": ".weight", "bias": ".bias"})


@dataclass(frozen=True)
class Source:
    """One module of a checkpoint, and the modules of ours that it holds.

    theirs      its name; `{i}` is the block's number
    ours        one module, or several whose rows lie one after the other
    transposed  the weight is stored (in, out), as GPT-2's
    by_head     the rows are head by head, each with its part of every module of ours (GPT-NeoX)
    shift       added to every number: Gemma stores its norms' weights less 1
    row         stored with a leading axis of one (BART's bias of its logits)
    optional    of a head: what is not stored is not there
    preferred   where the files hold it, it counts before the module's other sources
    suffixes    what follows the name for a weight and for a bias; one that is left out is not stored
    """

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False
    by_head: bool = False
    shift: float = 0.0
    row: bool = False
    optional: bool = False
    preferred: bool = False
    suffixes: Mapping[str, str] = field(default_factory=lambda: _BOTH, hash=False)

    def stored_shape(self, shapes: list[Shape]) -> Shape:
        """Its shape in the file, where its modules have `shapes`."""
        whole = (sum(shape[0] for shape in shapes), *shapes[0][1:])
        return (1, *whole) if self.row else whole[::-1] if self.transposed else whole

    def read(self, stored: npt.NDArray[Any], shapes: list[Shape], which: int, heads: int) -> npt.NDArray[Any]:
        """What module `which` of ours is of the stored tensor."""
        whole = stored[0] if self.row else stored.T if self.transposed else stored
        part = self._part(whole, shapes, which, heads)
        return np.ascontiguousarray(part + np.float32(self.shift) if self.shift else part)

    def read_stored(
        self, found: StoredRows | StoredColumns, shapes: list[Shape], which: int, heads: int
    ) -> StoredRows | None:
        """The same of a matrix as its file has it; None where numbers would change, or blocks of them be torn apart."""
        whole: npt.NDArray[Any] = found[1]
        if self.shift or self.row:
            return None
        if self.transposed != isinstance(found, StoredColumns):
            if found.kind not in ("F16", "BF16"):
                return None
            whole = whole.view(np.uint16).T
        part = np.ascontiguousarray(self._part(whole, shapes, which, heads))
        return StoredRows(found.kind, part.view(np.uint8))

    def _part(self, whole: npt.NDArray[Any], shapes: list[Shape], which: int, heads: int) -> npt.NDArray[Any]:
        if self.by_head:
            parts = whole.reshape(heads, len(shapes), -1, *whole.shape[1:])
            return parts[:, which].reshape(-1, *whole.shape[1:])
        if len(shapes) == 1:
            return whole
        begin = sum(shape[0] for shape in shapes[:which])
        return whole[begin : begin + shapes[which][0]]


def module(ours: str, theirs: str, *, transposed: bool = False, shift: float = 0.0) -> Source:
    """A module that is stored by itself."""
    return Source(theirs, (ours,), transposed=transposed, shift=shift)


def bias_only(ours: str, theirs: str, *, row: bool = False, optional: bool = False) -> Source:
    """A module of which the checkpoint has the bias alone, under a name of its own."""
    return Source(theirs, (ours,), row=row, optional=optional, suffixes={"bias": ""})


def fused(ours: tuple[str, ...], theirs: str, *, transposed: bool = False, by_head: bool = False) -> Source:
    """Modules whose rows are stored as one."""
    return Source(theirs, ours, transposed=transposed, by_head=by_head)


QKV = ("attention.query", "attention.key", "attention.value")
GATE_UP = ("feed_forward.gate", "feed_forward.up")


@dataclass(frozen=True)
class Part:
    """The names of one stack's tensors: outside its blocks, and in block {i}."""

    outside: tuple[Source, ...]
    block: tuple[Source, ...]


@dataclass(frozen=True)
class Family:
    """How one `model_type` maps onto an `Architecture`.

    model_type  as `config.json` names it
    describe    from the config to the architecture
    parts       the names of the tensors of each stack ("encoder", "decoder")
    heads       the names of each task's tensors; of a tied table also the name it may be saved under once more. The
                family has no other heads, whatever `describe` says
    pooler      the name of the pooler's linear layer, if the family has one
    prefixes    what checkpoints may put before the names of stacks
    renamed     old endings of tensor names → today's
    ignored     patterns of tensors that no model has a use for: buffers, heads of training, tables saved twice
    aliases     Transformers' common names of the config's sizes → the family's own
    usual_labels  how many labels its classifiers have, where the config says nothing
    """

    model_type: str
    describe: Callable[[Config], Architecture]
    parts: Mapping[str, Part]
    heads: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)
    pooler: str = ""
    prefixes: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    usual_labels: int = 2

    def read(self, config: Config) -> Architecture:
        """What a config describes. A decoder whose `is_causal` is false, as of texts' vectors, reads both ways."""
        architecture = self.describe(config)
        heads = {task: head for task, head in architecture.heads.items() if task in self.heads}
        architecture = replace(architecture, heads=heads)
        if architecture.decoder is None or config.flag("is_causal", default=True):
            return architecture
        if architecture.encoder is not None:
            config.expect("is_causal", True)
        return replace(architecture, decoder=architecture.decoder.both_ways())
