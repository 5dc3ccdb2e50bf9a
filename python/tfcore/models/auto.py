"""`AutoModel`: from a name to a model, whatever its family."""

from __future__ import annotations

import os

from .encoder import EncoderModel
from .hub import MODEL_FILES, resolve


class AutoModel:
    """Opens pretrained models without their task's head. `AutoModel.from_pretrained(…)` is all there is to it."""

    @staticmethod
    def from_pretrained(name: str | os.PathLike[str], *, revision: str | None = None) -> EncoderModel:
        """The model of a checkpoint folder or hub name.

        >>> model = AutoModel.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")  # doctest: +SKIP
        >>> model([[101, 7592, 102]]).last_hidden_state.shape  # doctest: +SKIP
        (1, 3, 384)

        Parameters
        ----------
        name : str or path
            A folder in Hugging Face's layout (`config.json`, `model.safetensors` or its shards), a name in the local
            Hugging Face cache, or a name on the hub.
        revision : str, optional
            A branch, tag or commit of the hub's.

        Returns
        -------
        EncoderModel
            Called as in Transformers: `model(**inputs)`.

        Raises
        ------
        FileNotFoundError
            There is no such folder or name, or it lacks a file.
        ValueError
            The config's `model_type` is not known (the message lists those that are), a config field or tensor is
            missing or wrong, a file lies about itself. The message names file and field or tensor.
        """
        return EncoderModel(resolve(name, MODEL_FILES, revision=revision))
