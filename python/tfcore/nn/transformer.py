"""The whole encoder-decoder of "Attention Is All You Need" (Vaswani et al. 2017), between its embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..scalars import integer
from . import initial
from .arrays import Array, Layout, as_array, expect_rows
from .blocks import DecoderLayer, EncoderLayer, make_norm
from .cache import KVCache
from .entry import enter_source
from .layer import Layer, Seed
from .norm import Norm
from .positions import AttentionPositions
from .stacks import Decoder, Encoder


class Transformer(Layer):
    """Encoder and decoder, as `torch.nn.Transformer`: its state dicts, its arguments, its numbers.

    **In masks of bools, True HIDES a key, as everywhere in `torch.nn`. In `tfcore.scaled_dot_product_attention`, True
    lets it be seen.**

    >>> from tfcore import nn
    >>> model = nn.Transformer(64, 8, 2, 2, 256)
    >>> src, tgt = np.ones((3, 7, 64), np.float32), np.ones((3, 5, 64), np.float32)
    >>> padding = np.arange(7) >= np.array([[7], [4], [2]])  # sequences of 7, 4 and 2; True hides
    >>> model(src, tgt, tgt_is_causal=True, src_key_padding_mask=padding, memory_key_padding_mask=padding).shape
    (3, 5, 64)

    Step by step, with the past in a cache:

    >>> memory, cache = model.encode(src, src_key_padding_mask=padding), nn.KVCache()
    >>> model.decode(tgt[:, :1], memory, memory_key_padding_mask=padding, cache=cache).shape
    (3, 1, 64)
    >>> model.decode(tgt[:, 1:2], memory, memory_key_padding_mask=padding, cache=cache).shape
    (3, 1, 64)

    Parameters
    ----------
    d_model, nhead : int
        The width of the sequences, and the number of heads.
    num_encoder_layers, num_decoder_layers : int
    dim_feedforward : int
        The width of the layer within the feed-forward halves.
    activation : str
        "relu", "gelu", "gelu_tanh", "silu", "tanh"; gated: "reglu", "geglu", "geglu_tanh", "swiglu".
    norm_first : bool
        Norms come before attention and feed-forward, inside the residuals; otherwise after them.
    layer_norm_eps : float
    batch_first : bool
        Sequences are (B, L, C); otherwise (L, B, C). Not PyTorch's default.
    bias : bool
        False leaves all biases out.
    dtype : float32 or float64
        Of the weights. Wider input is computed and returned in its own dtype.
    seed : int, numpy.random.Generator or None
        What the fresh weights are drawn from: the same int, the same weights. None draws others every time.
    layer_options
        `dropout`, `norm`, `num_kv_heads`, `head_dim`, `positions`, `window`, `scale`: as in `EncoderLayer`, for all
        layers.

    Attributes
    ----------
    encoder : Encoder
    decoder : Decoder
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        activation: str = "relu",
        norm_first: bool = False,
        *,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = True,
        bias: bool = True,
        dtype: DTypeLike = np.float32,
        seed: Seed = 0,
        **layer_options: Any,
    ) -> None:
        super().__init__(dtype)
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        rng = initial.generator(seed)
        options = {
            "activation": activation, "norm_first": norm_first, "layer_norm_eps": layer_norm_eps,
            "batch_first": batch_first, "bias": bias, "dtype": dtype, "seed": rng, **layer_options,
        }  # fmt: skip

        def layers(kind: Any, name: str, count: int) -> list[Any]:
            return [kind(d_model, nhead, dim_feedforward, **options) for _ in range(integer(name, count))]

        def norm() -> Norm:
            return make_norm(layer_options.get("norm", "layer"), d_model, layer_norm_eps, bias, dtype)

        self.encoder = Encoder(layers(EncoderLayer, "num_encoder_layers", num_encoder_layers), norm=norm())
        self.decoder = Decoder(layers(DecoderLayer, "num_decoder_layers", num_decoder_layers), norm=norm())
        for slot in self._slots(""):
            if slot.array.ndim == 2 and not isinstance(slot.layer, AttentionPositions):  # which are the caller's
                slot.put(initial.xavier(rng, slot.array.shape, self.dtype))

    def __call__(
        self,
        src: Any,
        tgt: Any,
        src_mask: Any = None,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        src_key_padding_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Array:
        """src (B, S, C), tgt (B, T, C) → (B, T, C).

        Parameters
        ----------
        src, tgt : (B, S, C) and (B, T, C)
            (S, B, C) and (T, B, C) with `batch_first=False`; (S, C) and (T, C) without a batch.
        src_mask, tgt_mask, memory_mask : (S, S), (T, T), (T, S), or each with batch * heads in front
            What src sees of itself, tgt of itself, tgt of src. bool: **True HIDES the key from the query**. float:
            added to the scores.
        src_key_padding_mask, tgt_key_padding_mask, memory_key_padding_mask : (B, S), (B, T), (B, S)
            Without a batch (S,), (T,), (S,). bool: **True HIDES the key** from all queries of its sequence. float:
            added to the scores. As in PyTorch, tgt sees the padding of src unless `memory_key_padding_mask` hides it.
        src_is_causal, tgt_is_causal, memory_is_causal : bool
            Position i sees positions 0 to i alone, with or without a mask that says so.

        A position that may see nothing finds zeros, never NaN.

        Raises
        ------
        TypeError
            An argument is of the wrong kind: a mask of integers, say.
        ValueError
            A shape does not fit.
        """
        src, tgt = as_array("src", src), as_array("tgt", tgt)
        layout = Layout.of(src, self.batch_first)
        rows = len(layout.enter("src", src, self.d_model))
        expect_rows("tgt", layout.enter("tgt", tgt, self.d_model), rows, "src")
        memory = self.encode(src, src_mask, src_key_padding_mask, src_is_causal)
        return self.decode(
            tgt,
            memory,
            tgt_mask,
            memory_mask,
            tgt_key_padding_mask,
            memory_key_padding_mask,
            tgt_is_causal,
            memory_is_causal,
        )

    def encode(
        self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, src_is_causal: bool | None = None
    ) -> Array:
        """The memory: src (B, S, C) → (B, S, C). Arguments as when called."""
        names = ("src_mask", "src_key_padding_mask")
        x, visible, layout = enter_source(self, src, src_mask, src_key_padding_mask, src_is_causal, None, names)
        return layout.leave(self.encoder.run(x, visible, None))

    def decode(
        self,
        tgt: Any,
        memory: Any = None,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
        *,
        cache: KVCache | None = None,
    ) -> Array:
        """tgt (B, T, C), memory (B, S, C) → (B, T, C). Arguments as when called, and a cache as in `Decoder`.

        With a cache, tgt holds the new positions alone; each of their rows has the bits that a call over all positions
        with `tgt_is_causal=True` would give it.
        """
        return self.decoder(
            tgt,
            memory,
            tgt_mask,
            memory_mask,
            tgt_key_padding_mask,
            memory_key_padding_mask,
            tgt_is_causal,
            memory_is_causal,
            cache=cache,
        )

    @staticmethod
    def generate_square_subsequent_mask(sz: int) -> Array:
        """The float mask of causality, -inf above the diagonal: (sz, sz). `tgt_is_causal=True` needs none.

        >>> from tfcore import nn
        >>> nn.Transformer.generate_square_subsequent_mask(2).tolist()
        [[0.0, -inf], [0.0, 0.0]]
        """
        return np.triu(np.full((integer("sz", sz, 0), sz), -np.inf, np.float32), 1)

    def _parts(self) -> Mapping[str, Layer]:
        return {"encoder.": self.encoder, "decoder.": self.decoder}

    def _sizes(self) -> str:
        return f"{self.d_model}, {self.nhead}, {len(self.encoder.layers)} + {len(self.decoder.layers)} layers"
