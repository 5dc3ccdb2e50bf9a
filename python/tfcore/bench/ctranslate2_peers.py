"""CTranslate2's side: a Transformers checkpoint converted by its own converter, as many threads as tfcore uses."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from .. import runtime
from . import torch_peers
from .plain import Array
from .timing import Run


def open_encoder(folder: str) -> Any:
    """The checkpoint in `folder`, which may go afterwards."""
    ctranslate2 = import_module("ctranslate2")
    torch_peers.load_transformers()  # which its converter needs, without saying so
    converted = str(Path(folder) / "ctranslate2")
    import_module("ctranslate2.converters").TransformersConverter(folder).convert(converted)
    threads = {"inter_threads": 1, "intra_threads": runtime.get_num_threads()}
    return ctranslate2.Encoder(converted, device="cpu", compute_type="float32", **threads)


def run(encoder: Any, ids: Array) -> Run:
    """The call that returns the last hidden state (B, L, C) of token ids (B, L) without padding."""
    view = import_module("ctranslate2").StorageView.from_array
    tokens, lengths = (np.ascontiguousarray(x, np.int32) for x in (ids, np.full(len(ids), ids.shape[1])))
    feed = view(tokens), view(lengths)
    return lambda: np.asarray(encoder.forward_batch(*feed).last_hidden_state)
