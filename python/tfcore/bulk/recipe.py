"""How a part becomes vectors: the same function in this process, in a worker of Dask's, and in one of Ray's."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..embedding import SentenceEncoder
from ..locks import ProcessLock
from .edges import size_and_edges


class Recipe(NamedTuple):
    """A model by name, and what is asked of it. `batch_size` changes no bit of a vector.

    `checkpoint` is the fingerprint that the model's files are to have; "" takes them as they are now.
    """

    model: str
    batch_size: int | None = None
    prompt: str | None = None
    normalize: bool = False
    truncate_dim: int | None = None
    checkpoint: str = ""

    def options(self) -> dict[str, Any]:
        """What a vector depends on, the checkpoint's files aside."""
        return {"prompt": self.prompt, "normalize": self.normalize, "truncate_dim": self.truncate_dim}


class Embedded(NamedTuple):
    """The vectors (n, dim) float32 of n texts, how many texts were cut, and by which checkpoint."""

    vectors: npt.NDArray[np.float32]
    truncated: int
    checkpoint: str


def embed(recipe: Recipe, texts: list[str]) -> Embedded:
    """The vectors of a part's texts. The model is opened once a process, and again where its files are to be others."""
    encoder, checkpoint = _opened(recipe)
    options: dict[str, Any] = {
        "show_progress_bar": False,
        "prompt": recipe.prompt,
        "normalize_embeddings": recipe.normalize,
        "truncate_dim": recipe.truncate_dim,
    }
    if recipe.batch_size is not None:
        options["batch_size"] = recipe.batch_size
    vectors, info = encoder.encode(texts, return_info=True, **options)
    return Embedded(np.ascontiguousarray(vectors, np.float32), len(info.truncated), checkpoint)


_lock = ProcessLock()
_kept: dict[str, tuple[SentenceEncoder, str]] = {}  # the model that was used last, by name


def _opened(recipe: Recipe) -> tuple[SentenceEncoder, str]:
    with _lock.here:
        found = _kept.get(recipe.model)
        if found is None or found[1] != recipe.checkpoint:
            _kept.clear()
            encoder = SentenceEncoder(recipe.model)
            found = _kept[recipe.model] = encoder, checkpoint_fingerprint(Path(encoder.folder))
        return found


def checkpoint_fingerprint(folder: Path) -> str:
    """What tells a checkpoint from another: its files' names, sizes, beginnings and ends, wherever the folder lies."""
    content = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith((".", "__")) for part in name.split("/")):
            continue
        size, edges = size_and_edges(path)
        content.update(f"{name} {size}\n".encode() + edges)
    return content.hexdigest()
