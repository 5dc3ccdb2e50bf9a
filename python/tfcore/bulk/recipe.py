"""How a part becomes vectors: the same function in this process, in a worker of Dask's, and in one of Ray's."""

from __future__ import annotations

import functools
import hashlib
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..embedding import SentenceEncoder

_EDGE = 1 << 16  # bytes of a file's beginning and end that go into a checkpoint's fingerprint


class Recipe(NamedTuple):
    """A model by name, and what is asked of it. `batch_size` changes no bit of a vector."""

    model: str
    batch_size: int = 32
    prompt: str | None = None
    normalize: bool = False
    truncate_dim: int | None = None

    def options(self) -> dict[str, Any]:
        """What a vector depends on, the checkpoint's files aside."""
        return {"prompt": self.prompt, "normalize": self.normalize, "truncate_dim": self.truncate_dim}


class Embedded(NamedTuple):
    """The vectors (n, dim) float32 of n texts, by which checkpoint."""

    vectors: npt.NDArray[np.float32]
    checkpoint: str


def embed(recipe: Recipe, texts: list[str]) -> Embedded:
    """The vectors of a part's texts. The model is opened once a process."""
    encoder, checkpoint = _opened(recipe.model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # cut texts are no news in a corpus
        vectors = encoder.encode(
            texts,
            batch_size=recipe.batch_size,
            show_progress_bar=False,
            prompt=recipe.prompt,
            normalize_embeddings=recipe.normalize,
            truncate_dim=recipe.truncate_dim,
        )
    return Embedded(np.ascontiguousarray(vectors, np.float32), checkpoint)


@functools.lru_cache(maxsize=1)
def _opened(model: str) -> tuple[SentenceEncoder, str]:
    encoder = SentenceEncoder(model)
    return encoder, checkpoint_fingerprint(Path(encoder.folder))


def checkpoint_fingerprint(folder: Path) -> str:
    """What tells a checkpoint from another: its files' names, sizes, beginnings and ends, wherever the folder lies."""
    content = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith((".", "__")) for part in name.split("/")):
            continue
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            content.update(f"{name} {size}\n".encode())
            content.update(file.read(_EDGE))
            file.seek(max(0, size - _EDGE))
            content.update(file.read(_EDGE))
    return content.hexdigest()
