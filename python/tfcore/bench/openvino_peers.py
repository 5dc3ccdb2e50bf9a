"""OpenVINO's side: standard ONNX models, compiled for the CPU in float32, as many threads as tfcore uses."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from .. import runtime
from .plain import Array
from .timing import Run


def run(model: bytes, inputs: Mapping[str, Array]) -> Run:
    """The call that runs a model on these inputs and returns its output."""
    core = import_module("openvino").Core()
    settings = {
        "INFERENCE_NUM_THREADS": runtime.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(core.read_model(model, b""), "CPU", settings).create_infer_request()
    feed = list(inputs.values())
    return lambda: request.infer(feed, share_inputs=True, share_outputs=True)[0]
