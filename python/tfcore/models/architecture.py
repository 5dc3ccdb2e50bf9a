"""What a model is made of, as data: one declarative description of a block that all families map onto.

A `Block` says what one transformer block computes, a `StackSpec` puts blocks between embeddings and a last norm, a
`HeadSpec` is what a task adds. Each knows its tensors' shapes by our own names; nothing here computes anything.
Letters: V vocabulary, C width, H heads, G key heads, D head size, F width of the feed-forward layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Shape = tuple[int, ...]
Shapes = dict[str, Shape]

EVERY_BIAS = frozenset({"query", "key", "value", "output", "up", "gate", "down", "norm"})
NO_BIAS: frozenset[str] = frozenset()

ACTIVATIONS = {  # as configs name them → as operators do
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_python": "gelu",
    "gelu_accurate": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}


@dataclass(frozen=True)
class Rotary:
    """Rotary position embeddings (Su et al. 2021) over the first `dim` columns of a head."""

    dim: int
    base: float = 10000.0
    interleaved: bool = False
    scaling: Mapping[str, Any] | None = field(default=None, hash=False)


@dataclass(frozen=True)
class RelativeBuckets:
    """T5's relative position bias: one learned number a head and bucket of distances, shared by all blocks."""

    buckets: int
    max_distance: int
    bidirectional: bool


@dataclass(frozen=True)
class Block:
    """One transformer block: attention, then the encoder's keys where `cross`, then a feed-forward layer.

    norm           "layer" or "rms"
    placement      "pre": x + f(norm(x)); "post": norm(x + f(x)); "sandwich": x + norm(f(norm(x))); "parallel": as pre,
                   but the feed-forward layer reads what the attention read
    biases         which linear layers have a bias: query, key, value, output, up, gate, down; and "norm" for the norms
    head_norm      an RMS norm over each query's and key's head before they are turned
    window         how many keys to the left and right of its own position a query sees; -1: all
    rotary         None where positions come otherwise
    relative       the stack's relative bias joins the scores
    first_norm     False where the attention has no norm of its own (ModernBERT's first block)
    """

    heads: int
    key_heads: int
    head_size: int
    inner: int
    norm: str
    placement: str
    eps: float
    activation: str
    gated: bool = False
    biases: frozenset[str] = EVERY_BIAS
    scale: float | None = None
    softcap: float = 0.0
    causal: bool = False
    window: tuple[int, int] = (-1, -1)
    rotary: Rotary | None = None
    relative: bool = False
    head_norm: bool = False
    cross: bool = False
    first_norm: bool = True

    def shapes(self, width: int) -> Shapes:
        """The names and shapes of its tensors."""
        q, k = self.heads * self.head_size, self.key_heads * self.head_size
        shapes: Shapes = {}
        for part in ("attention", "cross") if self.cross else ("attention",):
            shapes |= self._linear(part, "query", q, width) | self._linear(part, "key", k, width)
            shapes |= self._linear(part, "value", k, width) | self._linear(part, "output", width, q)
        if self.head_norm:
            shapes |= {f"attention.{name}_norm.weight": (self.head_size,) for name in ("query", "key")}
        for name in ("gate", "up") if self.gated else ("up",):
            shapes |= self._linear("feed_forward", name, self.inner, width)
        shapes |= self._linear("feed_forward", "down", width, self.inner)
        for norm in self._norms():
            shapes |= norm_shapes(norm, width, self.norm == "layer" and "norm" in self.biases)
        return shapes

    def _linear(self, part: str, name: str, out: int, into: int) -> Shapes:
        return linear_shapes(f"{part}.{name}", out, into, name in self.biases)

    def _norms(self) -> list[str]:
        own = {"pre": ["norm"], "parallel": ["norm"], "post": ["after_norm"], "sandwich": ["norm", "branch_norm"]}
        parts = ["attention", *(["cross"] if self.cross else []), "feed_forward"]
        norms = [f"{part}.{norm}" for part in parts for norm in own[self.placement]]
        return norms if self.first_norm else [norm for norm in norms if norm != "attention.norm"]


@dataclass(frozen=True)
class Embeddings:
    """Tables whose rows are added: words (times `scale`), and where there are any, token types and positions.

    width            of the tables; where it is not the blocks' own, a linear layer leads from one to the other
    positions        how many rows the table of positions has; 0: no table
    position_offset  the row of position 0
    padding          the id that takes no position: wherever it stands, its row is the one before position 0 (RoBERTa);
                     None where all tokens are counted
    sinusoidal       the table of positions is computed, not stored: sines in the first half, cosines in the second
    norm             whether a norm follows
    typed_by_words   token types, where they are given, are rows of the words' table (GPT-2)
    """

    vocabulary: int
    width: int
    scale: float = 1.0
    positions: int = 0
    position_offset: int = 0
    padding: int | None = None
    sinusoidal: bool = False
    token_types: int = 0
    norm: bool = False
    typed_by_words: bool = False


@dataclass(frozen=True)
class StackSpec:
    """Embeddings, blocks, and where `final_norm`, a norm at the end. Embeddings and last norm have the blocks' kind."""

    width: int
    embeddings: Embeddings
    blocks: tuple[Block, ...]
    final_norm: bool = False
    relative: RelativeBuckets | None = None

    def shapes(self) -> Shapes:
        """The names and shapes of its tensors."""
        e, first = self.embeddings, self.blocks[0]
        bias = first.norm == "layer" and "norm" in first.biases
        shapes: Shapes = {"embeddings.word.weight": (e.vocabulary, e.width)}
        if e.positions and not e.sinusoidal:
            shapes["embeddings.position.weight"] = (e.positions, e.width)
        if e.token_types:
            shapes["embeddings.token_type.weight"] = (e.token_types, e.width)
        if e.norm:
            shapes |= norm_shapes("embeddings.norm", e.width, bias)
        if e.width != self.width:
            shapes |= linear_shapes("embeddings.projection", self.width, e.width, True)
        if self.relative:
            shapes["relative.weight"] = (self.relative.buckets, first.heads)
        for i, block in enumerate(self.blocks):
            shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.shapes(self.width).items()}
        return shapes | (norm_shapes("final_norm", self.width, bias) if self.final_norm else {})

    def both_ways(self) -> StackSpec:
        """The same without causality: a window of n keys, the own one among them, reaches n keys to each side."""
        reach = [block.window[0] + 1 if max(block.window) >= 0 else -1 for block in self.blocks]
        both = [replace(block, causal=False, window=(n, n)) for block, n in zip(self.blocks, reach, strict=True)]
        return replace(self, blocks=tuple(both))


@dataclass(frozen=True)
class HeadSpec:
    """What a task adds to hidden states (T, C): out(norm(activation(dense(rows)))), each step but the last optional.

    rows        "all" tokens, each text's "first", "last" that is no pad token, "mean", its last end token ("eos"), or
                what the checkpoint's "pooler" makes of the first
    size        how many numbers come out of a row
    tied        the words' table is the last layer's weight
    dense       the width of a layer before the last; 0: none
    activation  after it
    norm        the epsilon of a norm after that; 0: none
    scale       of the rows (T5 ties its table scaled by C^-0.5)
    softcap     c: what comes out is c tanh(out / c); 0: as it is
    """

    rows: str
    size: int
    tied: bool = False
    bias: bool = True
    dense: int = 0
    dense_bias: bool = True
    activation: str | None = None
    norm: float = 0.0
    norm_bias: bool = True
    scale: float = 1.0
    softcap: float = 0.0

    def shapes(self, width: int) -> Shapes:
        """The names and shapes of its tensors."""
        into = self.dense or width
        shapes: Shapes = {} if self.tied else {"head.out.weight": (self.size, into)}
        if self.bias:
            shapes["head.out.bias"] = (self.size,)
        if self.dense:
            shapes |= linear_shapes("head.dense", self.dense, width, self.dense_bias)
        return shapes | (norm_shapes("head.norm", into, self.norm_bias) if self.norm else {})


@dataclass(frozen=True)
class Architecture:
    """A model: its stacks ("encoder", "decoder" or both), and the heads it can carry by task.

    pooler   whether checkpoints of the family may have BERT's pooler: tanh of a linear layer of each text's first token
    start    the token a decoder of an encoder-decoder begins with
    """

    encoder: StackSpec | None = None
    decoder: StackSpec | None = None
    heads: Mapping[str, HeadSpec] = field(default_factory=dict)
    pooler: bool = False
    start: int | None = None

    def stacks(self) -> dict[str, StackSpec]:
        """The stacks by name."""
        return {name: stack for name, stack in (("encoder", self.encoder), ("decoder", self.decoder)) if stack}


def linear_shapes(name: str, out: int, into: int, bias: bool) -> Shapes:
    shapes: Shapes = {f"{name}.weight": (out, into)}
    return shapes | ({f"{name}.bias": (out,)} if bias else {})


def norm_shapes(name: str, width: int, bias: bool) -> Shapes:
    shapes: Shapes = {f"{name}.weight": (width,)}
    return shapes | ({f"{name}.bias": (width,)} if bias else {})
