"""A GGUF file as a checkpoint: Hugging Face's tensor names, shapes and numbers, and the fields of a `config.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from .checkpoint import Float32Array, StoredColumns, StoredRows
from .gguf import GgufFile
from .gguf_config import Fields, architecture_of, read_config
from .gguf_names import ARCHITECTURES, Stored, TensorNames


class GgufCheckpoint(Mapping[str, Float32Array]):
    """The tensors of a GGUF file by the names that a safetensors checkpoint of the same model has.

    Every tensor comes as a C-contiguous float32 array, with what the conversion to GGUF did to it undone. What the file
    holds as float32 and unchanged is read in place; all else is widened when it is asked for, each time anew.
    `as_stored` gives matrices as they are.

    >>> checkpoint = GgufCheckpoint.open(Path("SmolLM2-135M-Instruct.Q4_1.gguf"))  # doctest: +SKIP
    >>> checkpoint["model.layers.0.self_attn.q_proj.weight"].shape  # doctest: +SKIP
    (576, 576)
    >>> checkpoint.config_fields()["model_type"]  # doctest: +SKIP
    'llama'

    Raises
    ------
    ValueError
        The file lies about itself, is of an unknown architecture, or holds a tensor that its architecture does not
        have: the message names the file, and the key or the tensors.
    """

    def __init__(self, file: GgufFile) -> None:
        self.gguf = file
        _expect_all(file)
        self._stored = _translate(file, ARCHITECTURES[architecture_of(file)])
        self._config = read_config(file)
        self._check_heads()

    @classmethod
    def open(cls, path: Path) -> GgufCheckpoint:
        """The checkpoint in the file at `path`."""
        return cls(GgufFile(path))

    def config_fields(self) -> Fields:
        """What the `config.json` of a checkpoint folder would hold."""
        return dict(self._config)

    def shape(self, name: str) -> tuple[int, ...]:
        stored = self._stored[name]
        return stored.change.shape(self.gguf.tensors[stored.gguf_name].shape)

    def file(self, name: str) -> Path:
        """The file that holds the tensor."""
        return self.gguf.path

    def release(self) -> None:
        """Lets go of the pages of tensors read so far."""
        self.gguf.release()

    def __getitem__(self, name: str) -> Float32Array:
        stored = self._stored[name]
        values: Float32Array = stored.change.undo(self.gguf.read(stored.gguf_name), self._heads(stored))
        return values

    def as_stored(self, name: str) -> StoredRows | StoredColumns | None:
        """A matrix as the file has it, where it has fewer bits than float32 for a number; None elsewhere.

        What the conversion did to its rows is undone, but for turned matrices, whose rows are the checkpoint's columns;
        where it did something to the numbers of a row, None.
        """
        stored = self._stored[name]
        found = self.gguf.as_stored(stored.gguf_name)
        return found and stored.change.undo_stored(found, self._heads(stored))

    def _heads(self, stored: Stored) -> int:
        return int(self._config.get(stored.change.heads, 1))

    def _check_heads(self) -> None:
        for stored in self._stored.values():
            rows, heads = self.shape(stored.name)[:1], self._heads(stored)
            if stored.change.heads and (not rows or rows[0] % (2 * heads)):
                raise ValueError(
                    f"{self.gguf.path}: tensor {stored.gguf_name!r} has shape {self.shape(stored.name)}, "
                    f"expected pairs of rows for each of {heads} heads"
                )

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def _expect_all(file: GgufFile) -> None:
    count = file.metadata.get("split.count", 1)
    if count not in (0, 1):
        raise ValueError(
            f"{file.path}: key 'split.count' is {count!r}: the tensors are split over several files, which is not "
            "implemented; merge them with llama.cpp's llama-gguf-split --merge"
        )


def _translate(file: GgufFile, names: TensorNames) -> dict[str, Stored]:
    translated = {name: names.translate(name) for name in file.tensors if name not in names.consumed}
    unknown = [name for name, stored in translated.items() if stored is None]
    if unknown:
        listed = ", ".join(map(repr, unknown[:5])) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        raise ValueError(f"{file.path}: unknown to architecture {architecture_of(file)}: {listed}")
    return {stored.name: stored for stored in translated.values() if stored is not None}
