"""Layers and the whole encoder-decoder, over NumPy weights, with the names, shapes and numbers of `torch.nn`.

    from tfcore import nn
    model = nn.Transformer(d_model=512, nhead=8)
    model.load_state_dict(torch_model.state_dict())  # or arrays of the same names
    y = model(src, tgt, tgt_is_causal=True, src_key_padding_mask=padding, memory_key_padding_mask=padding)

**In masks of bools, True HIDES a key, as everywhere in `torch.nn`.** In `tfcore.scaled_dot_product_attention`, as in
`torch.nn.functional`, True lets it be seen.

Layers are for inference: nothing is dropped, and there is no gradient. Weights are read-only arrays, replaced as a
whole by assignment or by `load_state_dict`, and packed for the products when first used. Sequences are batch first
unless a layer is made with `batch_first=False`. A result row depends on its own inputs alone, and a step with a
`KVCache` gives the bits of one call over everything.

Letters: B batch, H heads, L queries, S keys (source positions), T target positions, C width.
"""

from .attention import MultiHeadAttention
from .blocks import DecoderLayer, EncoderLayer
from .cache import KVCache
from .embedding import Embedding
from .feed_forward import FeedForward
from .linear import Linear
from .norm import LayerNorm, RMSNorm
from .positions import (
    ALiBiPositions,
    BucketedPositions,
    LearnedPositions,
    RotaryPositions,
    SinusoidalPositions,
)
from .stacks import Decoder, Encoder
from .transformer import Transformer

__all__ = [
    "ALiBiPositions",
    "BucketedPositions",
    "Decoder",
    "DecoderLayer",
    "Embedding",
    "Encoder",
    "EncoderLayer",
    "FeedForward",
    "KVCache",
    "LayerNorm",
    "LearnedPositions",
    "Linear",
    "MultiHeadAttention",
    "RMSNorm",
    "RotaryPositions",
    "SinusoidalPositions",
    "Transformer",
]
