from collections.abc import Callable, Mapping
from typing import Any, final

import numpy as np
from numpy import dtype
from numpy.typing import ArrayLike, DTypeLike, NDArray

__version__: str
compiler: str

def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def isa() -> str: ...
def available_isas() -> tuple[str, ...]: ...
def set_isa(name: str) -> None: ...
def probe(kind: str, amount: int) -> float: ...
def dequantize(kind: str, data: NDArray[np.uint8], count: int) -> NDArray[np.float32]: ...
def scaled_dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    attn_mask: ArrayLike | None,
    is_causal: bool,
    query_offset: int | ArrayLike,
    key_lengths: ArrayLike | None,
    window: Any,
    scale: float | None,
    softcap: float,
    alibi_slopes: ArrayLike | None,
    sinks: ArrayLike | None,
    enable_gqa: bool,
    return_weights: bool,
    out: NDArray[Any] | None,
    /,
) -> Any: ...
def attention_varlen(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    cu_seqlens_q: ArrayLike,
    cu_seqlens_k: ArrayLike | None,
    is_causal: bool,
    window: Any,
    scale: float | None,
    softcap: float,
    enable_gqa: bool,
    out: NDArray[Any] | None,
    /,
) -> NDArray[Any]: ...
def self_attention(query: ArrayLike, key: ArrayLike, value: ArrayLike, /) -> NDArray[Any]: ...
def multi_head_attention(query: ArrayLike, key: ArrayLike, value: ArrayLike, num_heads: int, /) -> NDArray[Any]: ...
def matmul(a: ArrayLike, b: ArrayLike, out: NDArray[Any] | None, /) -> NDArray[Any]: ...
def linear(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    activation: str | None,
    residual: ArrayLike | None,
    out: NDArray[Any] | None,
    /,
) -> NDArray[Any]: ...

@final
class PackedLinear:
    def __init__(self, weight: ArrayLike, bias: ArrayLike | None = None) -> None: ...
    def __call__(
        self,
        x: ArrayLike,
        *,
        activation: str | None = None,
        residual: ArrayLike | None = None,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def dtype(self) -> dtype[Any]: ...

def feed_forward(
    x: ArrayLike,
    w1: ArrayLike,
    b1: ArrayLike | None,
    w2: ArrayLike,
    b2: ArrayLike | None,
    activation: str | None,
    /,
) -> NDArray[Any]: ...
def log_softmax(x: ArrayLike, axis: int, out: NDArray[Any] | None, /) -> NDArray[Any]: ...
def softmax(x: ArrayLike, axis: int, out: NDArray[Any] | None, /) -> NDArray[Any]: ...
def layer_norm(
    x: ArrayLike, weight: ArrayLike | None, bias: ArrayLike | None, eps: float, out: NDArray[Any] | None, /
) -> NDArray[Any]: ...
def rms_norm(x: ArrayLike, weight: ArrayLike | None, eps: float, out: NDArray[Any] | None, /) -> NDArray[Any]: ...
def gelu(x: ArrayLike, approximate: str, out: NDArray[Any] | None, /) -> NDArray[Any]: ...
def relu(x: ArrayLike, out: NDArray[Any] | None, /) -> NDArray[Any]: ...
def silu(x: ArrayLike, out: NDArray[Any] | None, /) -> NDArray[Any]: ...
def vector_math(name: str, x: ArrayLike, /) -> NDArray[Any]: ...
def positional_encoding(
    seq_len: int,
    d_model: int,
    base: float,
    offset: int,
    layout: str,
    frequencies: str,
    dtype: DTypeLike,
    out: NDArray[Any] | None,
    /,
) -> NDArray[Any]: ...
def rotary_embedding(
    x: ArrayLike,
    positions: ArrayLike,
    frequencies: ArrayLike,
    interleaved: bool,
    magnitude: float,
    out: NDArray[Any] | None,
    /,
) -> NDArray[Any]: ...

@final
class CrossKeys: ...

@final
class Stack:
    def __init__(
        self,
        spec: dict[str, Any],
        tensors: Mapping[str, NDArray[Any]],
        stored: Callable[[str], tuple[str, NDArray[Any]] | None] | None = None,
    ) -> None: ...
    def forward(
        self,
        input_ids: ArrayLike,
        token_type_ids: ArrayLike | None,
        position_ids: ArrayLike,
        turns: NDArray[Any],
        cu_seqlens: ArrayLike,
        rotations: list[tuple[NDArray[Any], NDArray[Any], bool]],
        relative_bias: NDArray[Any] | None,
        cache: Cache | None,
        cross_keys: CrossKeys | None,
        sources: ArrayLike | None,
        seen: ArrayLike | None,
        output_hidden_states: bool,
        output_attentions: bool,
    ) -> tuple[list[NDArray[Any]], list[NDArray[Any]], list[NDArray[Any]]]: ...
    def cross_keys(self, encoded: NDArray[Any], cu_seqlens: ArrayLike) -> CrossKeys: ...
    def logits(self, x: NDArray[Any]) -> NDArray[Any]: ...

@final
class Cache:
    def __init__(self, stack: Stack, sequences: int) -> None: ...
    def select(self, parents: ArrayLike) -> None: ...
    @property
    def lengths(self) -> tuple[int, ...]: ...
    @property
    def nbytes(self) -> int: ...
