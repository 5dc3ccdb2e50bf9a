"""ONNX Runtime's side: models built from the arrays, all graph optimizations on, as many threads as tfcore uses."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from .. import runtime
from . import onnx_graphs
from .plain import Array
from .timing import Run, fastest

_ERRORS_ONLY = 3


def attention(query: Array, key: Array, value: Array, is_causal: bool = False) -> Run:
    """(B, H, L, D), (B, G, S, D), (B, G, S, D): the fastest of the ways it has."""
    inputs = {"query": query, "key": key, "value": value}
    ways = [run(onnx_graphs.attention(inputs, is_causal), inputs)]
    if query.shape[1] == key.shape[1]:
        ways.append(_by_heads(inputs, is_causal))
        if not is_causal:
            ways.append(run(onnx_graphs.attention_by_steps(inputs), inputs))
    return fastest(*ways)


def _by_heads(inputs: Mapping[str, Array], is_causal: bool) -> Run:
    """The queries are laid out beforehand as the operator wants them; its result is seen as (B, H, L, D)."""
    b, h, length, d = inputs["query"].shape
    inputs = {**inputs, "query": inputs["query"].swapaxes(1, 2).reshape(b, length, h * d)}
    attend = run(onnx_graphs.attention_by_heads(inputs, is_causal), inputs)
    return lambda: attend().reshape(b, length, h, d).swapaxes(1, 2)


def run(model: bytes, inputs: Mapping[str, Array]) -> Run:
    """The call that runs a model on these inputs and returns its output."""
    feed, compute = dict(inputs), open_session(model).run
    return lambda: compute(None, feed)[0]


def open_session(model: bytes) -> Any:
    """A model ready to run. ImportError where the package is not installed."""
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = runtime.get_num_threads()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _ERRORS_ONLY
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
