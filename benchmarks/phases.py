"""Where the time of an encoder layer goes: each phase by itself, its rate and its share.

    python benchmarks/phases.py            both models, 1x16, 1x128 and 8x128 tokens
    python benchmarks/phases.py MiniLM

The weights are those of as many layers as the model has, taken in turn, so that they come from where they come from in
a forward pass. Times are medians; nothing else should run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np
import tfcore
from tfcore.bench.encoder import BERT_BASE, MINILM_L6, Shape
from tfcore.bench.report import seconds, three_digits
from tfcore.bench.timing import FULL, Run, interleave

Array = np.ndarray[Any, np.dtype[np.float32]]
Phase = tuple[str, Run, float]  # name, call, floating-point operations


def phases(shape: Shape, batch: int, length: int) -> Iterator[Phase]:
    """The seven steps of a post-norm layer, on random numbers."""
    rng = np.random.default_rng(0)
    tokens, width, inner = batch * length, shape.width, shape.inner

    def normal(*size: int) -> Array:
        return rng.standard_normal(size, dtype=np.float32)

    def product(inputs: int, outputs: int, **options: Any) -> tuple[Run, float]:
        layers = cycle(
            [tfcore.PackedLinear(0.02 * normal(outputs, inputs), normal(outputs)) for _ in range(shape.layers)]
        )
        x, out = normal(tokens, inputs), np.empty((tokens, outputs), np.float32)
        return lambda: next(layers)(x, out=out, **options), 2.0 * tokens * inputs * outputs

    def layer_norm() -> Run:
        x, weight = normal(tokens, width), normal(width)
        out = np.empty_like(x)
        return lambda: tfcore.layer_norm(x, weight, weight, out=out)

    def attention() -> Run:
        heads = normal(tokens, 3, shape.heads, width // shape.heads)
        borders = np.arange(batch + 1) * length
        return lambda: tfcore.attention_varlen(heads[:, 0], heads[:, 1], heads[:, 2], borders)

    residual = normal(tokens, width)
    yield "queries, keys, values", *product(width, 3 * width)
    yield "attention", attention(), 4.0 * batch * length**2 * width
    yield "output, residual", *product(width, width, residual=residual)
    yield "norm", layer_norm(), 8.0 * tokens * width
    yield "up, GELU", *product(width, inner, activation="gelu")
    yield "down, residual", *product(inner, width, residual=residual)
    yield "norm again", layer_norm(), 8.0 * tokens * width


def table(shape: Shape, batch: int, length: int) -> str:
    steps = list(phases(shape, batch, length))
    timings = interleave({name: run for name, run, _ in steps}, FULL)
    whole = sum(timing.median for timing in timings.values())
    lines = [f"{shape.name} {batch}x{length}: {seconds(whole)} a layer"]
    for name, _, flops in steps:
        time = timings[name].median
        rate = f"{three_digits(flops / time / 1e9)} GFLOP/s"
        lines.append(f"  {name:22} {seconds(time):>8} {time / whole:6.0%} {rate:>14}")
    return "\n".join(lines)


def main(show: Callable[[str], None] = print) -> None:
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    for shape in (MINILM_L6, BERT_BASE):
        if wanted in shape.name:
            for batch, length in ((1, 16), (1, 128), (8, 128)):
                show(table(shape, batch, length))


if __name__ == "__main__":
    main()
