"""llama.cpp's side: the same GGUF file with its weights as they are stored, on as many threads as tfcore uses."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from .. import runtime
from .plain import Array

_CONTEXT = 2048


def open_model(path: Path) -> Any:
    """The file, open. ImportError where llama-cpp-python is not installed."""
    threads = runtime.get_num_threads()
    return import_module("llama_cpp").Llama(
        model_path=str(path), n_ctx=_CONTEXT, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False
    )


def restart(model: Any) -> None:
    """Forgets what was read."""
    model.reset()
    model._ctx.kv_cache_clear()


def read(model: Any, tokens: Sequence[int]) -> Array:
    """Reads tokens behind what was read before: the logits (V,) of the last one."""
    if model.n_tokens + len(tokens) > _CONTEXT:
        restart(model)
    model.eval(tokens)
    logits = np.ctypeslib.as_array(model._ctx.get_logits(), shape=(model.n_vocab(),))
    return np.array(logits, np.float32)
