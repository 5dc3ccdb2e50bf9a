"""Cases of models that write: reading a prompt, a step of writing, a forward pass, a text from prompt to end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import _core, reference_model
from ..carried import smollm2_file
from ..generation import GenerationOptions, generate
from . import ctranslate2_peers, llamacpp_peers, torch_peers, writers
from .harness import Case, Contest
from .timing import Run
from .writers import Ids, Shape

__all__ = ["forward", "prefill", "step", "write"]

# Of the logits' standard deviation. llama.cpp has 4-bit weights in common, but meets them with 8-bit activations.
_FLOAT32, _FOUR_BITS = 5e-5, 2.0


def prefill(length: int) -> Case:
    """SmolLM2-135M reads a prompt: the logits of its last token. llama.cpp works on the file's 4-bit weights."""
    ids = np.arange(length) * 37 % 4000 + 10

    def make() -> Contest:
        model = writers.smollm2()
        want = exact_logits(model, ids)
        return Contest(
            rivals={
                "tfcore": lambda: lambda: _read(model, _core.Cache(model.stack.core, 1), ids),
                "llama.cpp": lambda: _llamacpp_prefill(ids),
            },
            want=want,
            bound=_FLOAT32 * want.std(),
            bounds={"llama.cpp": _FOUR_BITS * want.std()},
        )

    return Case(f"SmolLM2-135M prefill {length}", "writing", make, 2.0 * _PRODUCTS * length, limit="fma_float32")


def step(past: int) -> Case:
    """SmolLM2-135M writes one token more behind `past` (and, call by call, some more): bound by reading its weights, or
    by widening them.
    """
    ids = np.arange(past) * 37 % 4000 + 10

    def make() -> Contest:
        model = writers.smollm2()
        want = exact_logits(model, ids)

        def tfcore() -> Run:
            cache = _core.Cache(model.stack.core, 1)
            _read(model, cache, ids[:-1])
            return partial(_read, model, cache, ids[-1:])

        return Contest(
            rivals={"tfcore": tfcore, "llama.cpp": lambda: _llamacpp_step(ids)},
            want=want,
            bound=_FLOAT32 * want.std(),
            bounds={"llama.cpp": _FOUR_BITS * want.std()},
        )

    return Case(f"SmolLM2-135M step behind {past}", "writing", make, _STEP_BYTES, limit="read")


def forward(shape: Shape, length: int, written: int = 0) -> Case:
    """Logits of a whole text; of an encoder-decoder, those of `written` tokens over an encoded text."""
    ids = _some_ids(length)

    def make() -> Contest:
        models = writers.opened(shape)
        want = exact_logits_of_all(shape, ids[0], ids[0, :written])
        inputs = {"input_ids": ids} | ({"decoder_input_ids": ids[:, :written]} if written else {})
        rivals: dict[str, Callable[[], Run]] = {
            "tfcore": lambda: lambda: models.tfcore(**inputs).logits,
            "torch": lambda: _torch(models.torch, inputs),
        }
        if not written:  # its encoder-decoders show no logits
            rivals["ctranslate2"] = lambda: ctranslate2_peers.read(models.ctranslate2, ids)
        return Contest(rivals, want, bound=_FLOAT32 * want.std())

    sizes = f"{length}" if not written else f"{length} to {written}"
    return Case(f"{shape.name} forward {sizes}", "writing", make, _flops(shape, length, written), limit="fma_float32")


def write(shape: Shape, length: int, written: int, texts: int = 1, beams: int = 1) -> Case:
    """Texts of `length` tokens continued by `written`, the best or by beams: every rival must write the same."""
    ids = _some_ids(length, texts)
    both = shape.task == "seq2seq_lm"
    settings: dict[str, Any] = {
        "max_new_tokens": written,
        "eos_token_id": None,
        "do_sample": False,
        "num_beams": beams,
        "suppress_tokens": [ctranslate2_peers.END],
    }

    def make() -> Contest:
        models = writers.opened(shape)

        def ctranslate2() -> Run:
            if not both:
                return ctranslate2_peers.write(models.ctranslate2, ids, written, beams)
            start = models.tfcore.architecture.start
            return ctranslate2_peers.translate(models.ctranslate2, ids, start, written, beams)

        return Contest(
            rivals={
                "tfcore": lambda: partial(models.tfcore.generate, ids, **settings),
                "torch": lambda: _torch_generate(models.torch, ids, settings),
                "ctranslate2": ctranslate2,
            },
            want=_written_without_cache(models.tfcore, ids, settings).astype(np.float64),
            bound=0.0,
        )

    many = (f", {texts} texts" if texts > 1 else "") + (f", {beams} beams" if beams > 1 else "")
    added = beams * written
    work = texts * (_flops(shape, length, added) if both else _flops(shape, length + added, 0))
    return Case(f"{shape.name} writes {written} behind {length}{many}", "writing", make, work)


# --- the rivals ------------------------------------------------------------------------------------------------------

_PRODUCTS, _HEAD = 106_168_320, 49152 * 576  # weights of SmolLM2's blocks, and of its table of words
_STEP_BYTES = _PRODUCTS * 24 / 32 + _HEAD * 36 / 32  # of 32 numbers: 16 and two scales; 32 and one


def _some_ids(length: int, texts: int = 1) -> Ids:
    return np.random.default_rng(0).integers(10, 30000, (texts, length))


def _packed(texts: Ids, past: Sequence[int] | int = 0) -> Any:
    from ..models.packing import PackedTokens

    return PackedTokens.from_texts(list(texts), past)


def _read(model: Any, cache: _core.Cache, ids: Ids) -> Any:
    tokens = _packed(ids[None], cache.lengths)
    return model.logits(model.stack.run(tokens, cache=cache).states[-1][-1:])[0]


def _llamacpp_prefill(ids: Ids) -> Run:
    model, tokens = llamacpp_peers.open_model(smollm2_file()), ids.tolist()

    def run() -> Any:
        llamacpp_peers.restart(model)
        return llamacpp_peers.read(model, tokens)

    return run


def _llamacpp_step(ids: Ids) -> Run:
    model, tokens = llamacpp_peers.open_model(smollm2_file()), ids.tolist()
    llamacpp_peers.read(model, tokens[:-1])
    return lambda: llamacpp_peers.read(model, tokens[-1:])


def _torch(model: Any, inputs: dict[str, Ids]) -> Run:
    torch = torch_peers.load()
    tensors = {name: torch.from_numpy(np.ascontiguousarray(ids)) for name, ids in inputs.items()}
    run: Run = torch.inference_mode()(lambda: model(**tensors).logits)
    return run


def _torch_generate(model: Any, ids: Ids, settings: dict[str, Any]) -> Run:
    torch = torch_peers.load()
    tensor = torch.from_numpy(ids)
    mask = torch.ones_like(tensor)
    run: Run = torch.inference_mode()(lambda: model.generate(tensor, attention_mask=mask, pad_token_id=0, **settings))
    return run


# --- the results in float64 ------------------------------------------------------------------------------------------


def exact_logits(model: Any, ids: Ids) -> Any:
    """Of the last token, (V,), by the plain NumPy reference over the same weights."""
    return _exact(model, ids)[-1]


def exact_logits_of_all(shape: Shape, ids: Ids, written: Ids) -> Any:
    """(1, L, V), by the plain NumPy reference over the same weights."""
    return _exact(writers.opened(shape).tfcore, ids, written)[None]


def _exact(model: Any, ids: Ids, written: Any = None) -> Any:
    weights = model.read_weights()
    stacks, head = model.architecture.stacks(), weights.head
    tensors = {role: _under(weights, f"{role}.") for role in stacks}
    encoded = None
    if "encoder" in stacks:
        encoded = reference_model.stack(ids, tensors["encoder"], stacks["encoder"]).states[-1]
        ids = written
    states = reference_model.stack(ids, tensors["decoder"], stacks["decoder"], encoded=encoded).states[-1]
    words = tensors["decoder"]["embeddings.word.weight"] if head.tied else weights["head.out.weight"]
    return (states * head.scale) @ words.astype(np.float64).T


def _under(weights: Any, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): weights[name] for name in weights if name.startswith(prefix)}


def _written_without_cache(model: Any, ids: Ids, settings: dict[str, Any]) -> Ids:
    """What the rules of generation make of full passes over the texts so far, again and again."""
    start = model.architecture.start
    begun = list(ids) if start is None else [np.array([start])] * len(ids)
    return np.array(generate(_Reread(model, ids), begun, GenerationOptions(**settings)).sequences)


class _Reread:
    """Texts in progress without a cache."""

    def __init__(self, model: Any, prompts: Ids) -> None:
        self._model = model
        self._texts, self._sources = np.empty((len(prompts), 0), np.int64), np.arange(len(prompts))
        both = model.architecture.start is not None
        self._stack = model.decoder if both else model.stack
        self._encoded = model.encode_packed(_packed(prompts)) if both else None

    def step(self, tokens: Sequence[Ids], /) -> Any:
        self._texts = np.concatenate([self._texts, tokens], axis=1)
        packed = _packed(self._texts)
        sources = None if self._encoded is None else self._sources
        states = self._stack.run(packed, encoded=self._encoded, sources=sources).states[-1]
        return self._model.logits(states[packed.cu_seqlens[1:] - 1])

    def select(self, parents: Ids, /) -> None:
        self._texts, self._sources = self._texts[parents], self._sources[parents]


def _flops(shape: Shape, length: int, written: int) -> float:
    """Two for each weight and token that meets it. Attention is left out: a hundredth of it at these lengths."""
    from .random_checkpoint import stored

    weights = {name: float(np.prod(size)) for name, size in stored(shape.config, shape.task).items() if len(size) == 2}
    read = sum(size for name, size in weights.items() if name.startswith("encoder."))
    tables = sum(size for name, size in weights.items() if name.endswith("wpe.weight"))
    rest = sum(weights.values()) - read - tables
    return 2.0 * (read * length + rest * written) if read else 2.0 * rest * length
