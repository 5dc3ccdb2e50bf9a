"""Checkpoints of random weights in the shapes of real models: the names are those of the families' own tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = dict[str, NDArray[np.float32]]


def random_weights(config: Mapping[str, Any], task: str | None = None) -> Weights:
    """Every tensor of a checkpoint of `config`, spread as an untrained model's, no part too faint.

    Matrices keep the size of what they multiply, norms stay around 1.
    """
    random = np.random.default_rng(1)
    weights: Weights = {}
    for name, shape in stored(config, task).items():
        is_norm = len(shape) == 1 and not name.endswith("bias")
        spread = np.float32(0.55 / max(shape[-1], 300) ** 0.5)
        weights[name] = np.float32(is_norm) + spread * random.standard_normal(shape, np.float32)
    return weights


def stored(config: Mapping[str, Any], task: str | None = None) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the checkpoint's tensors."""
    from ..models.config import Config
    from ..models.families import find_family
    from ..models.weights import stored_shapes

    fields = Config(config, "config.json")
    family = find_family(fields)
    return stored_shapes(family, family.read(fields), task)


def write_checkpoint(folder: Path, config: Mapping[str, Any], weights: Weights) -> None:
    """`config.json` and `model.safetensors`: a length, a JSON header, then the tensors' bytes."""
    (folder / "config.json").write_text(json.dumps(config))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in weights.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.writelines(tensor.data for tensor in weights.values())
