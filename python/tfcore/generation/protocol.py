"""What generation asks of a model (`Session`), of a listener (`Streamer`) and of a tokenizer (`Decode`).

B sequences in progress, V tokens in the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

Decode = Callable[[Sequence[int]], str]  # token ids to text


class Session(Protocol):
    """B sequences in progress, with their caches."""

    def step(self, tokens: Sequence[IntArray], /) -> Float32Array:
        """Takes the next tokens of every sequence and predicts those that follow.

        Parameters
        ----------
        tokens
            B arrays: the new tokens (n_b,) of sequence b, at least one, as many as there are.

        Returns
        -------
        (B, V): the logits after each sequence's last token, in an array that the caller may write to.
        """
        ...

    def select(self, parents: IntArray, /) -> None:
        """The sequences become copies of those at `parents` (B',), which may repeat, omit and reorder them."""
        ...


@runtime_checkable
class Streamer(Protocol):
    """A listener in Transformers' form: the prompts (R, L) first, then every step's tokens (R,), then the end."""

    def put(self, value: Any, /) -> None: ...

    def end(self) -> None: ...
