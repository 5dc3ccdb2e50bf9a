"""What is measured: the grid of shapes, a line each. The functions that make the cases stand in `*_cases.py`.

Targets, fixed before the kernels were written: how many times the speed of the best peer, or of those named, and which
share of the limit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from . import encoder
from .attention_cases import attention, decode, one_call, varlen, window
from .corpus_cases import embed, embed_sentence
from .drop_in_cases import geometric_encoding, multi_head_attention, positional_encoding, self_attention
from .harness import Case, Contest
from .layer_cases import gelu, layer_norm, linear, linear_gelu, log_softmax, rms_norm, rotary_embedding, softmax
from .writers import GPT2_SMALL, T5_SMALL
from .writing_cases import forward, prefill, step, write

__all__ = ["CASES", "encode"]


def encode(shape: encoder.Shape, batch: int, length: int) -> Case:
    """An encoder's forward pass, random weights, no padding; torch here is Transformers on torch."""

    def make() -> Contest:
        ids = np.random.default_rng(0).integers(0, shape.vocabulary, (batch, length))
        models = encoder.opened(shape)
        return Contest(
            rivals={
                "tfcore": lambda: models.tfcore(ids),
                "torch": lambda: models.torch(ids),
                "onnxruntime": lambda: models.onnxruntime(ids),
                "openvino": lambda: models.openvino(ids),
                "ctranslate2": lambda: models.ctranslate2(ids),
            },
            want=encoder.forward(shape, models.weights, ids),
            bound=2e-5,  # normalised rows, so of size 1; what MiniLM's recorded outputs are held to
        )

    work = encoder.flops(shape, batch, length)
    return Case(f"{shape.name} {batch}x{length}", "encoder", make, work, limit="fma_float32")


_SMALL = (
    self_attention(1, 5, 64).aims(numpy=3),
    one_call(1, 5, 64).aims(torch=4, numpy=6),
    multi_head_attention(1, 5, 512, "float64").aims(numpy=40),
)

_DROP_IN = (
    multi_head_attention(512, 512, 512, "float64").aims(numpy=8),
    multi_head_attention(512, 512, 512, "float32").aims(numpy=11),
    positional_encoding(8192, 512).aims(numpy=20, share=0.6),
    geometric_encoding(8192, 512).aims(numpy=35, share=0.6),
)

_ATTENTION = (
    attention(1, 8, 128, 128, 64).aims(ratio=1.5, share=0.78),
    attention(8, 12, 128, 128, 64).aims(ratio=1.6, share=0.78),
    attention(32, 12, 32, 32, 64).aims(ratio=2),
    attention(1, 12, 512, 512, 64).aims(ratio=1.25, share=0.8),
    attention(1, 16, 1024, 1024, 128).aims(ratio=1.15, share=0.78),
    attention(1, 12, 2048, 2048, 64).aims(ratio=1.25, share=0.8),
    attention(1, 12, 2048, 2048, 64, causal=True).aims(ratio=1.4, share=0.75),
    attention(1, 8, 8192, 8192, 64, causal=True).aims(ratio=1.3, share=0.75),
    attention(1, 8, 512, 512, 64, dtype="float64").aims(ratio=1.6, share=0.65),
    window(8, 8192, 64, left=256).aims(ratio=4),
    varlen(np.random.default_rng(0).integers(5, 257, 64), 12, 64).aims(ratio=2),
    decode(32, 32, 2048, 128).aims(ratio=1.35, share=0.85),
    decode(32, 8, 4096, 128).aims(ratio=1.35, share=0.85),
)

_LINEAR = (
    *(
        linear(m, k, n).aims(ratio=1.05, share=0.8 if m >= 128 else None)
        for k, n in ((384, 384), (384, 1536), (1536, 384), (768, 768), (768, 2304), (768, 3072), (3072, 768))
        for m in (1, 16, 128, 512, 1024)
    ),
    linear_gelu(128, 768, 3072).aims(ratio=1.4),
    linear_gelu(512, 768, 3072).aims(ratio=1.4),
)

_ELEMENTWISE = tuple(
    case.aims(ratio=1.5, share=0.5)
    for case in (
        softmax(4096, 1024),
        log_softmax(32, 50257),
        layer_norm(4096, 1024),
        rms_norm(4096, 1024),
        gelu(4096, 1024),
        rotary_embedding(16, 4096, 64),
    )
)

_ENCODERS = tuple(
    encode(model, batch, length).aims(
        ratio=1.05 if (model, length) == (encoder.BERT_BASE, 16) else 1.15,
        share=0.8 if (batch, length) == (8, 128) else None,
    )
    for model in (encoder.MINILM_L6, encoder.BERT_BASE)
    for batch, length in ((1, 16), (1, 128), (8, 128), (1, 512), (32, 32))
)

_WRITING = (
    prefill(512).aims(ratio=3),
    step(128).aims(ratio=1, share=0.85),
    forward(GPT2_SMALL, 128).aims(ratio=1.15),
    write(GPT2_SMALL, 32, 32).aims(ratio=1.15),
    write(GPT2_SMALL, 32, 16, texts=8).aims(ratio=1.15),
    forward(T5_SMALL, 128, 32).aims(ratio=1.5),
    write(T5_SMALL, 128, 32).aims(ratio=1.15),
    write(T5_SMALL, 32, 32, texts=8, beams=4).aims(ratio=1.15),
)

_CORPUS = (
    embed(128, "sentence-transformers").aims(ratio=2, share=0.78),
    embed(128, "onnxruntime").aims(ratio=1.35, share=0.78),
    embed_sentence().aims(ratio=2),
)

_SHORT = (
    "drop-in self_attention 1x64 over 5x64",
    "drop-in multi_head_attention float64 512x512",
    "drop-in multi_head_attention float32 512x512",
    "drop-in positional_encoding 8192x512",
    "attention float32 8,12,128,128,64",
    "attention float32 1,12,512,512,64",
    "attention float32 1,12,2048,2048,64 causal",
    "decode float32 1,32,1,2048,128",
    "linear 128x768 to 3072",
    "layer_norm 4096x1024",
    "MiniLM-L6 1x16",
    "MiniLM-L6 8x128",
    "BERT-base 1x128",
    "SmolLM2-135M prefill 512",
    "GPT-2 small writes 32 behind 32",
)

CASES = tuple(
    replace(case, short=case.name in _SHORT)
    for case in (*_SMALL, *_DROP_IN, *_ATTENTION, *_LINEAR, *_ELEMENTWISE, *_ENCODERS, *_WRITING, *_CORPUS)
)
