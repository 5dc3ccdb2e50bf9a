"""CTranslate2's side: a Transformers checkpoint converted by its own converter, as many threads as tfcore uses."""

from __future__ import annotations

import json
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from .. import runtime
from . import torch_peers
from .plain import Array
from .timing import Run

END = 1  # which none of its models writes before it may end


def open_model(folder: str, kind: str) -> Any:
    """The checkpoint in `folder`, which may go afterwards, as an "Encoder", a "Generator" or a "Translator"."""
    ctranslate2 = import_module("ctranslate2")
    torch_peers.load_transformers()  # which its converter needs, without saying so
    _write_words(Path(folder))
    converted = str(Path(folder) / "ctranslate2")
    import_module("ctranslate2.converters").TransformersConverter(folder).convert(converted)
    threads = {"inter_threads": 1, "intra_threads": runtime.get_num_threads()}
    return getattr(ctranslate2, kind)(converted, device="cpu", compute_type="float32", **threads)


def encode(encoder: Any, ids: Array) -> Run:
    """The call that returns the last hidden state (B, L, C) of token ids (B, L) without padding."""
    feed = _tokens_and_lengths(ids)
    return lambda: np.asarray(encoder.forward_batch(*feed).last_hidden_state)


def read(generator: Any, ids: Array) -> Run:
    """The call that returns the logits (B, L, V) of a decoder's token ids (B, L)."""
    feed = _tokens_and_lengths(ids)
    return lambda: np.asarray(generator.forward_batch(*feed))


def write(generator: Any, ids: Array, count: int, beams: int) -> Run:
    """The call that returns texts (B, L) of a decoder and `count` tokens more."""
    settings = {"max_length": count, "min_length": count, "include_prompt_in_result": False}
    run = partial(generator.generate_batch, _words(ids), beam_size=beams, **settings)
    return lambda: np.concatenate([ids, [result.sequences_ids[0] for result in run()]], axis=1)


def translate(translator: Any, ids: Array, start: int, count: int, beams: int) -> Run:
    """The call that returns a start token and the `count` that an encoder-decoder writes of texts (B, L)."""
    settings = {"max_decoding_length": count, "min_decoding_length": count}
    run = partial(translator.translate_batch, _words(ids), beam_size=beams, **settings)
    return lambda: np.array([[start, *map(int, result.hypotheses[0])] for result in run()])


def _tokens_and_lengths(ids: Array) -> tuple[Any, Any]:
    view = import_module("ctranslate2").StorageView.from_array
    return tuple(view(np.ascontiguousarray(x, np.int32)) for x in (ids, np.full(len(ids), ids.shape[1])))


def _words(ids: Array) -> list[list[str]]:
    return [list(map(str, row)) for row in ids.tolist()]


def _write_words(folder: Path) -> None:
    """The tokenizer that the converter asks for: a token's word is its id in digits."""
    count = json.loads((folder / "config.json").read_text())["vocab_size"]
    model = {"type": "WordLevel", "vocab": {str(i): i for i in range(count)}, "unk_token": "2"}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))
    special = {"pad_token": "0", "bos_token": "0", "eos_token": str(END), "unk_token": "2"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **special}))
