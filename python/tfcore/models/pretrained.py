"""A checkpoint opened as one of its models: config, family, architecture, weights."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .architecture import Architecture
from .checkpoint import Checkpoint
from .config import Config
from .device import CPU, check_device, check_dtype, is_dtype
from .families import find_family
from .gguf_checkpoint import GgufCheckpoint
from .heads import Head
from .model_config import ModelConfig
from .stack import Stack
from .weights import Weights

CAUSAL_LM, SEQ2SEQ_LM, MASKED_LM = "causal_lm", "seq2seq_lm", "masked_lm"
SEQUENCE, TOKEN, QUESTION = "sequence_classification", "token_classification", "question_answering"
_BESIDE_INPUTS = ("length", "offset_mapping", "overflow_to_sample_mapping", "special_tokens_mask")
_CORE_HEADS = (CAUSAL_LM, SEQ2SEQ_LM)  # the core has these itself: a step of generation wants one row of logits


ConfigAndTensors = tuple[Config, Checkpoint | GgufCheckpoint]


class Pretrained:
    """What all models share. Calls from several threads at once are fine; a pickle holds the path, which it opens
    again, and what was set.

    Attributes
    ----------
    path : Path
        The checkpoint's folder or GGUF file.
    task : str or None
        Whose head the model has ("causal_lm", "sequence_classification", …); None for the model alone.
    config : ModelConfig
        The fields of the checkpoint's `config.json`, as attributes.
    architecture : Architecture
        What they describe: stacks of blocks, and the heads that there can be.
    """

    def __init__(self, path: Path, task: str | None = None, opened: ConfigAndTensors | None = None) -> None:
        self.path = path.resolve()
        self.task = task
        self.config, checkpoint = opened or open_checkpoint(self.path)
        self._family = find_family(self.config)
        self.architecture: Architecture = self._family.read(self.config)
        self.config = ModelConfig(self.config, self._family, self.architecture)
        if task and task not in self.architecture.heads:
            heads = ", ".join(sorted(self.architecture.heads)) or "none"
            kind = self._family.model_type
            raise ValueError(f"{self.path}: models of type {kind!r} have no head for {task}, those known are: {heads}")
        weights = Weights(self._family, self.architecture, task, checkpoint, self.path)
        self._num_parameters = weights.size
        self._build(weights)

    def read_weights(self) -> Weights:
        """The tensors in the checkpoint's files, by our own names, read anew when asked for."""
        _, checkpoint = open_checkpoint(self.path)
        return Weights(self._family, self.architecture, self.task, checkpoint, self.path)

    def _build(self, weights: Weights) -> None:
        """Packs the weights into the core's layout; the files' memory maps can go afterwards."""
        raise NotImplementedError

    def _stack(self, role: str, weights: Weights) -> Stack:
        data = self.architecture.stacks()[role]
        names = {name.removeprefix(f"{role}."): name for name in weights if name.startswith(f"{role}.")}
        head = weights.head
        if head and self.task in _CORE_HEADS and role == "decoder":
            words = names["embeddings.word.weight"]
            if head.tied and data.embeddings.width == data.width:
                del names["embeddings.word.weight"]  # the head's panels serve for both
            names["head.weight"] = words if head.tied else "head.out.weight"
            if head.bias:
                names["head.bias"] = "head.out.bias"
        tensors = weights.under(names)
        return Stack(data, tensors, tensors.as_stored)

    def _make_head(self, weights: Weights, role: str) -> Head | None:
        if weights.head is None or self.task in _CORE_HEADS:
            return None
        for name in ("eos_token_id", "pad_token_id"):
            self.config.token_ids(name)  # what is wrong in the file is told when it is opened
        return Head(weights.head, weights, f"{role}.embeddings.word.weight", self.config)

    def _wanted(self, output_hidden_states: bool | None, output_attentions: bool | None) -> dict[str, Any]:
        """What a call is to return beside its result, where the caller says nothing as the config says."""
        asked = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        return {name: self.config.flag(name, default=False) if wish is None else wish for name, wish in asked.items()}

    def _pass_over(self, others: dict[str, Any]) -> None:
        """Refuses unknown arguments of a call, but for None and for what a tokenizer returns beside the inputs."""
        for name, value in others.items():
            if value is not None and name not in _BESIDE_INPUTS:
                _, *known, _ = inspect.signature(type(self).__call__).parameters  # without `self` and `others`
                raise TypeError(f"unknown argument {name!r}, expected one of {', '.join(known)}")

    def num_parameters(self) -> int:
        """How many numbers the checkpoint holds for this model."""
        return self._num_parameters

    # What lines written for PyTorch ask of a model, which here is always on the CPU, of float32 and in its one mode.

    device = CPU
    dtype = np.dtype(np.float32)
    training = False

    def eval(self) -> Any:
        """The model itself."""
        return self

    def train(self, mode: bool = True) -> Any:
        """The model itself, if `mode` is False."""
        if mode:
            raise ValueError(f"mode is {mode}, expected False: models are not trained here, there are no gradients")
        return self

    def to(self, device: Any = None, dtype: Any = None) -> Any:
        """The model itself, if `device` is the CPU and `dtype` float32. As in PyTorch, a dtype may come first."""
        if is_dtype(device):
            device, dtype = None, device
        check_device(device)
        check_dtype(dtype)
        return self

    def cpu(self) -> Any:
        """The model itself."""
        return self

    def float(self) -> Any:
        """The model itself."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.task), self._settings()

    def __setstate__(self, settings: dict[str, Any]) -> None:
        for name, value in settings["config"].items():
            setattr(self.config, name, value)

    def _settings(self) -> dict[str, Any]:
        """What the caller has set."""
        return {"config": copy.deepcopy(self.config.changes())}

    def __repr__(self) -> str:
        stacks = ", ".join(
            f"{len(stack.blocks)} {role} layers, {stack.width} wide, {stack.blocks[0].heads} heads"
            for role, stack in self.architecture.stacks().items()
        )
        return f"{type(self).__name__}({self.config.model_type}: {stacks}, {self._num_parameters:,} parameters)"


def open_checkpoint(path: Path) -> ConfigAndTensors:
    """The config and the tensors of a checkpoint's folder, or of a GGUF file."""
    if path.is_file():
        gguf = GgufCheckpoint.open(path)
        return Config(gguf.config_fields(), path), gguf
    return Config.read(path / "config.json"), Checkpoint.open(path)


def generation_settings(path: Path, config: Config) -> Mapping[str, Any]:
    """What the checkpoint says of generation: in a file of its own, or in the config of older ones."""
    file = path / "generation_config.json"
    return Config.read(file) if file.is_file() else config
