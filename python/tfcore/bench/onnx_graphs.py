"""The cases as ONNX models, built from the same arrays, for ONNX Runtime and OpenVINO to run.

A model's sizes are fixed, so that a runtime can plan for them; those of `PaddedEncoder` are open, for batches of text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from .plain import Array

__all__ = ["Encoder", "FusedEncoder", "Graph", "PaddedEncoder", "attention", "attention_by_heads", "attention_by_steps"]

_FUSED = "com.microsoft"  # ONNX Runtime's own operators
_OPSETS = {"": 23, _FUSED: 1}
_IR_VERSION = 11  # what opset 23 came with


class Graph:
    """A model under construction. Each operator appends a node and returns its result's name.

    Operands are names or arrays; an array becomes a constant.
    """

    def __init__(self) -> None:
        self._onnx = import_module("onnx")
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def __call__(self, operator: str, *operands: str | Array, domain: str = "", **attributes: Any) -> str:
        names = [operand if isinstance(operand, str) else self._constant(operand) for operand in operands]
        result = f"{operator}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(operator, names, [result], domain=domain, **attributes))
        return result

    def _constant(self, array: Array) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def model(self, inputs: Mapping[str, Array], result: str, any_size: bool = False) -> bytes:
        """The finished model: its inputs are of these arrays' types and shapes, its output is float32.

        With `any_size` only the number of their dimensions counts.
        """
        helper = self._onnx.helper
        described = [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(x.dtype), (None,) * x.ndim if any_size else x.shape
            )
            for name, x in inputs.items()
        ]
        output = helper.make_tensor_value_info(result, self._onnx.TensorProto.FLOAT, None)
        graph = helper.make_graph(self._nodes, "case", described, [output], self._constants)
        opsets = [helper.make_opsetid(domain, number) for domain, number in _OPSETS.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        return bytes(model.SerializeToString())


# --- attention over inputs named query, key and value ----------------------------------------------------------------


def attention(inputs: Mapping[str, Array], is_causal: bool) -> bytes:
    """The standard operator: (B, H, L, D), (B, G, S, D), (B, G, S, D) → (B, H, L, D)."""
    graph = Graph()
    return graph.model(inputs, graph("Attention", *inputs, is_causal=int(is_causal)))


def attention_by_heads(inputs: Mapping[str, Array], is_causal: bool) -> bytes:
    """ONNX Runtime's own operator: (B, L, H·D), (B, H, S, D), (B, H, S, D) → (B, L, H·D)."""
    graph, heads = Graph(), inputs["key"].shape[1]
    own = graph("MultiHeadAttention", *inputs, domain=_FUSED, num_heads=heads, unidirectional=int(is_causal))
    return graph.model(inputs, own)


def attention_by_steps(inputs: Mapping[str, Array]) -> bytes:
    """One node a step: (B, H, L, D), (B, H, S, D), (B, H, S, D) → (B, H, L, D)."""
    graph, scale = Graph(), inputs["query"].shape[-1] ** -0.5
    scores = graph("FusedMatMul", "query", "key", domain=_FUSED, transB=1, alpha=scale)
    return graph.model(inputs, graph("MatMul", graph("Softmax", scores, axis=-1), "value"))


# --- encoders of the BERT kind ---------------------------------------------------------------------------------------


class Encoder:
    """Token ids → last hidden state (B, L, C), in standard operators."""

    def __init__(self, weights: Mapping[str, Array], layers: int, heads: int) -> None:
        self._weights, self._layers, self._heads = weights, layers, heads

    def model(self, ids: Array) -> bytes:
        """The model for ids of this type and shape; its input is named ids."""
        self._graph, self._size = Graph(), ids.shape
        return self._graph.model({"ids": ids}, self._hidden())

    def _hidden(self) -> str:
        x = self._embed()
        for layer in (f"encoder.layer.{i}" for i in range(self._layers)):
            x = self._add_and_norm(f"{layer}.attention.output", self._attend(f"{layer}.attention.self", x), x)
            x = self._add_and_norm(f"{layer}.output", self._dense_gelu(f"{layer}.intermediate.dense", x), x)
        return x

    def _embed(self) -> str:
        words, positions, types = (
            self._weights[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")
        )
        fixed = self._first_positions(positions + types[0])
        return self._norm("embeddings.LayerNorm", self._graph("Add", self._graph("Gather", words, "ids"), fixed))

    def _first_positions(self, positions: Array) -> str | Array:
        return positions[: self._size[1]]

    def _attend(self, module: str, x: str) -> str:
        query, key, value = (self._split(self._dense(f"{module}.{part}", x)) for part in ("query", "key", "value"))
        size = self._weights[f"{module}.query.bias"].size // self._heads
        scores = self._graph("MatMul", query, self._graph("Transpose", key, perm=[0, 1, 3, 2]))
        scores = self._graph("Mul", scores, np.float32(size**-0.5))
        heads = self._graph("MatMul", self._graph("Softmax", scores, axis=-1), value)
        return self._graph("Reshape", self._graph("Transpose", heads, perm=[0, 2, 1, 3]), self._shape(-1))

    def _split(self, x: str) -> str:
        return self._graph("Transpose", self._graph("Reshape", x, self._shape(self._heads, -1)), perm=[0, 2, 1, 3])

    def _shape(self, *columns: int) -> Array:
        return np.array([*self._size, *columns])

    def _dense_gelu(self, module: str, x: str) -> str:
        return self._graph("Gelu", self._dense(module, x))

    def _add_and_norm(self, module: str, x: str, residual: str) -> str:
        return self._norm(f"{module}.LayerNorm", self._graph("Add", self._dense(f"{module}.dense", x), residual))

    def _dense(self, module: str, x: str) -> str:
        return self._graph("Add", self._product([module], x), self._weights[f"{module}.bias"])

    def _product(self, modules: Sequence[str], x: str) -> str:
        return self._graph("MatMul", x, self._joined(modules, "weight").T)

    def _joined(self, modules: Sequence[str], part: str) -> Array:
        return np.concatenate([self._weights[f"{module}.{part}"] for module in modules])

    def _norm(self, module: str, x: str) -> str:
        return self._graph("LayerNormalization", x, *self._scales(module), epsilon=1e-12)

    def _scales(self, module: str) -> list[Array]:
        return [self._weights[f"{module}.{part}"] for part in ("weight", "bias")]


class FusedEncoder(Encoder):
    """The same in the operators that ONNX Runtime's own optimizer fuses a BERT into."""

    _mask: tuple[str, ...] = ()

    def _attend(self, module: str, x: str) -> str:
        parts = [f"{module}.{part}" for part in ("query", "key", "value")]
        weight, bias = self._joined(parts, "weight").T, self._joined(parts, "bias")
        return self._graph("Attention", x, weight, bias, *self._mask, domain=_FUSED, num_heads=self._heads)

    def _dense_gelu(self, module: str, x: str) -> str:
        return self._graph("BiasGelu", self._product([module], x), self._weights[f"{module}.bias"], domain=_FUSED)

    def _add_and_norm(self, module: str, x: str, residual: str) -> str:
        product, bias = self._product([f"{module}.dense"], x), self._weights[f"{module}.dense.bias"]
        scales = self._scales(f"{module}.LayerNorm")
        return self._graph("SkipLayerNormalization", product, residual, *scales, bias, domain=_FUSED, epsilon=1e-12)


class PaddedEncoder(FusedEncoder):
    """The same over a batch of any size: ids (B, L), of which the first of `lengths` (B,) count in each row."""

    _mask = ("lengths",)

    def padded_model(self) -> bytes:
        """The model, whose inputs are named ids and lengths."""
        self._graph = Graph()
        inputs: dict[str, Array] = {"ids": np.empty((0, 0), np.int64), "lengths": np.empty(0, np.int32)}
        return self._graph.model(inputs, self._hidden(), any_size=True)

    def _first_positions(self, positions: Array) -> str:
        length = self._graph("Shape", "ids", start=1)
        return self._graph("Slice", positions, np.array([0]), length)
