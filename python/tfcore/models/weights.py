"""From a family's tables and a checkpoint to a model's tensors: every one in its place, exactly once, or an error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import NamedTuple

from .architecture import Architecture, HeadSpec, Shape, Shapes, linear_shapes
from .checkpoint import Checkpoint, Float32Array, StoredRows
from .family import Family, Source
from .gguf_checkpoint import GgufCheckpoint


class _Piece(NamedTuple):
    """Where a tensor of ours comes from: module `which` of a source, whose modules have `shapes`."""

    source: Source
    stored: str
    shapes: list[Shape]
    which: int
    heads: int


class Weights(Mapping[str, Float32Array]):
    """A model's tensors under our own names ("decoder.blocks.0.attention.query.weight"), each read when it is asked
    for.

    `head` is what a task adds, None for the model alone; `pooler` says whether the checkpoint has one.

    Raises
    ------
    ValueError
        Tensors are missing, misshaped, of a dtype that is no float, or unknown to the family. All are listed, each
        with its file. There is no partly loaded model.
    """

    def __init__(
        self,
        family: Family,
        architecture: Architecture,
        task: str | None,
        checkpoint: Checkpoint | GgufCheckpoint,
        folder: Path,
    ) -> None:
        blocks = sum(len(stack.blocks) for stack in architecture.stacks().values())
        if blocks > len(checkpoint):
            raise ValueError(f"{folder}: the config says {blocks} layers, but the tensors in all are {len(checkpoint)}")
        self._checkpoint = checkpoint
        self._files = _family_names(family, checkpoint)
        head = _head_in_files(architecture.heads[task], family.heads[task], self._files) if task else None
        self.head = head
        has_pooler = bool(family.pooler) and f"{family.pooler}.weight" in self._files
        self.pooler = has_pooler and (head is None or head.rows == "pooler")
        plan = _Plan(family, self._files)
        plan.add_stacks(architecture)
        if head and task:
            plan.add(family.heads[task], head.shapes(_width(architecture)))
        if self.pooler:
            plan.add((Source(family.pooler, ("pooler",)),), linear_shapes("pooler", *2 * (_width(architecture),), True))
        self._pieces = plan.pieces
        _check(self._pieces, self._files, _ignored(family), checkpoint, folder)

    @property
    def size(self) -> int:
        """How many numbers the checkpoint holds for this model; a table that serves twice counts once."""
        stored = {piece.stored for piece in self._pieces.values()}
        return sum(prod(self._checkpoint.shape(self._files[name])) for name in stored)

    def under(self, names: Mapping[str, str]) -> RenamedWeights:
        """The same tensors under other names: new → ours. They are read when asked for."""
        return RenamedWeights(self, names)

    def as_stored(self, name: str) -> StoredRows | None:
        """A matrix as its file has it, where it has fewer bits than float32 for a number; None elsewhere."""
        piece = self._pieces[name]
        self._checkpoint.release()
        found = self._checkpoint.as_stored(self._files[piece.stored])
        return found and piece.source.read_stored(found, piece.shapes, piece.which, piece.heads)

    def __getitem__(self, name: str) -> Float32Array:
        piece = self._pieces[name]
        self._checkpoint.release()  # of the tensors before, which are packed by now
        stored = self._checkpoint[self._files[piece.stored]]
        values: Float32Array = piece.source.read(stored, piece.shapes, piece.which, piece.heads)
        return values

    def __contains__(self, name: object) -> bool:
        return name in self._pieces

    def __iter__(self) -> Iterator[str]:
        return iter(self._pieces)

    def __len__(self) -> int:
        return len(self._pieces)


def stored_shapes(family: Family, architecture: Architecture, task: str | None = None) -> dict[str, Shape]:
    """The names and shapes of a whole checkpoint's tensors, as its files would hold them."""
    plan = _Plan(family, {})
    plan.add_stacks(architecture)
    if task:
        plan.add(family.heads[task], architecture.heads[task].shapes(_width(architecture)))
    return {piece.stored: piece.source.stored_shape(piece.shapes) for piece in plan.pieces.values()}


class RenamedWeights(Mapping[str, Float32Array]):
    """A model's tensors under other names than our own."""

    def __init__(self, weights: Weights, names: Mapping[str, str]) -> None:
        self._weights, self._names = weights, names

    def __getitem__(self, name: str) -> Float32Array:
        return self._weights[self._names[name]]

    def as_stored(self, name: str) -> StoredRows | None:
        """A matrix as its file has it, or None, as of `Weights`; None for names that are not here."""
        return self._weights.as_stored(self._names[name]) if name in self._names else None

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


# ---- the names in the files


def _family_names(family: Family, checkpoint: Checkpoint | GgufCheckpoint) -> dict[str, str]:
    """The family's own names → the names in the files."""
    names: dict[str, str] = {}
    for stored in checkpoint:
        prefix = next((prefix for prefix in family.prefixes if stored.startswith(prefix)), "")
        name = stored.removeprefix(prefix)
        for old, new in family.renamed.items():
            name = re.sub(f"{re.escape(old)}$", new, name)
        if name in names:
            raise ValueError(f"{checkpoint.file(stored)}: tensors {names[name]!r} and {stored!r} are both {name!r}")
        names[name] = stored
    return names


def _ignored(family: Family) -> re.Pattern[str]:
    """Tensors that this model may leave aside: those the family has no use for, and other tasks' heads."""
    modules = {re.escape(source.theirs) for sources in family.heads.values() for source in sources}
    modules |= {re.escape(family.pooler)} if family.pooler else set()
    return re.compile("|".join([*family.ignored, *(rf"{name}(\.weight|\.bias)?" for name in sorted(modules))]))


def _head_in_files(head: HeadSpec, sources: tuple[Source, ...], files: Mapping[str, str]) -> HeadSpec:
    """The head as the files have it: a table that the config ties but they hold is the one to use."""
    last = [source for source in sources if "head.out" in source.ours]
    if any(f"{source.theirs}.weight" in files for source in last):
        head = replace(head, tied=False)
    if any(source.optional and source.theirs + source.suffixes["bias"] not in files for source in last):
        head = replace(head, bias=False)
    return head


# ---- where each tensor of ours comes from


class _Plan:
    """The pieces found so far. Of several sources of one module, the first that the files hold counts."""

    def __init__(self, family: Family, files: Mapping[str, str]) -> None:
        self.pieces: dict[str, _Piece] = {}
        self._family, self._files = family, files

    def add_stacks(self, architecture: Architecture) -> None:
        for role, stack in architecture.stacks().items():
            part, heads = self._family.parts[role], stack.blocks[0].heads
            shapes = {f"{role}.{name}": shape for name, shape in stack.shapes().items()}
            for source in part.outside:
                self._add(source, source.theirs, f"{role}.", shapes, heads)
            for i in range(len(stack.blocks)):
                for source in part.block:
                    self._add(source, source.theirs.format(i=i), f"{role}.blocks.{i}.", shapes, heads)
            self._expect(shapes)

    def add(self, sources: tuple[Source, ...], shapes: Shapes) -> None:
        for source in sources:
            self._add(source, source.theirs, "", shapes, 1)
        self._expect(shapes)

    def _add(self, source: Source, theirs: str, at: str, shapes: Shapes, heads: int) -> None:
        for kind, suffix in source.suffixes.items():
            ours = [f"{at}{name}.{kind}" for name in source.ours]
            stored = theirs + suffix
            if all(name in shapes and self._is_better(source, stored, name) for name in ours):
                each = [shapes[name] for name in ours]
                self.pieces |= {name: _Piece(source, stored, each, i, heads) for i, name in enumerate(ours)}

    def _is_better(self, source: Source, stored: str, name: str) -> bool:
        """Whether `stored` is where to read `name` from: no source is known so far, or none that the files hold."""
        known = self.pieces.get(name)
        return known is None or (stored in self._files and (source.preferred or known.stored not in self._files))

    def _expect(self, shapes: Shapes) -> None:
        nameless = sorted(shapes.keys() - self.pieces.keys())
        if nameless:
            raise NotImplementedError(f"family {self._family.model_type!r} has no name for {', '.join(nameless)}")


def _width(architecture: Architecture) -> int:
    """Of the states that a head reads: the last stack's."""
    return list(architecture.stacks().values())[-1].width


# ---- what is wrong with a checkpoint


def _check(
    pieces: Mapping[str, _Piece],
    files: Mapping[str, str],
    ignored: re.Pattern[str],
    checkpoint: Checkpoint | GgufCheckpoint,
    folder: Path,
) -> None:
    wanted = {piece.stored: piece.source.stored_shape(piece.shapes) for piece in pieces.values()}
    missing = [f"{folder}: tensor {name!r} is missing" for name in wanted if name not in files]
    wrong = []
    for name, stored in files.items():
        where = f"{checkpoint.file(stored)}: tensor {stored!r}"
        if name in wanted:
            if checkpoint.shape(stored) != wanted[name]:
                wrong.append(f"{where} has shape {checkpoint.shape(stored)}, expected {wanted[name]}")
        elif not ignored.fullmatch(name):
            wrong.append(f"{where} is unknown to this family of models")
    if missing or wrong:
        raise ValueError("\n".join(_first(missing) + _first(wrong)))


def _first(problems: list[str], most: int = 5) -> list[str]:
    return problems[:most] + ([f"… and {len(problems) - most} more"] if len(problems) > most else [])
