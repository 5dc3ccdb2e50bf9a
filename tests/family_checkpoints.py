"""Recorded checkpoints of every family and head: config, tensors' names and shapes, inputs, Transformers' outputs.

Weights are not stored. The values of a tensor follow from its name, its shape and the recording's seed, so that a
checkpoint is written in milliseconds: `write_checkpoint(folder, load("llama.causal_lm"))`.
`golden/make_families.py` makes the recordings.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from checkpoints import write_safetensors

FOLDER = Path(__file__).parent / "golden" / "families"
HEADS = {
    "base": "AutoModel",
    "encoder": "AutoModel",  # of a T5 saved without its decoder
    "masked_lm": "AutoModelForMaskedLM",
    "causal_lm": "AutoModelForCausalLM",
    "seq2seq_lm": "AutoModelForSeq2SeqLM",
    "sequence_classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "question_answering": "AutoModelForQuestionAnswering",
}
_WRITES = re.compile(  # projections that add to the residual: strong ones, so that a text is more than its last token
    r"(o_proj|out_proj|down_proj|fc2|wo|o|c_proj|output\.dense|attn\.o|4h_to_h|attention\.dense|Wo|out_lin|lin2)\.weight$"
)
TASKS = ("sequence_classification", "token_classification", "question_answering")
GENERATING = ("causal_lm", "seq2seq_lm")


@dataclass(frozen=True)
class Recording:
    """One checkpoint and what Transformers makes of it.

    name               variant.head, as "llama-yarn.causal_lm"
    config             the contents of config.json; `generation_config` those of generation_config.json, or None
    shapes             tensor name → shape, as save_pretrained stores them: tied ones once
    seed               chooses the weights beside the tensors' names
    sinusoids          names among `shapes` that hold sines and cosines instead of random numbers
    arrays             input_ids (2, L) and short_ids (1, S): two whole texts, and a shorter one; token_type_ids,
                       decoder_input_ids, short_decoder_input_ids where the model takes them; outputs of the whole texts
                       as whole.NAME, of the short one alone as short.NAME, one array a name, layers stacked;
                       prompt_ids, prompt_mask (3, L), and greedy and beam, what generate returns for them
    """

    name: str
    config: dict
    generation_config: dict | None
    shapes: dict[str, tuple[int, ...]]
    seed: int
    sinusoids: tuple[str, ...]
    arrays: Mapping[str, np.ndarray]

    @property
    def head(self) -> str:
        return self.name.split(".")[1]

    @property
    def auto_class(self) -> str:
        """The name of the class that opens it, tfcore's and Transformers' alike."""
        return HEADS[self.head]

    @property
    def has_layers(self) -> bool:
        """Hidden states and attentions are recorded of base models alone."""
        return self.head in ("base", "encoder")

    def outputs(self, of: str) -> dict[str, np.ndarray]:
        """What is recorded of `whole` or `short`, by name."""
        return {key[len(of) + 1 :]: value for key, value in self.arrays.items() if key.startswith(f"{of}.")}

    def whole(self) -> dict[str, np.ndarray]:
        """The inputs of the two whole texts."""
        return {
            key: self.arrays[key] for key in ("input_ids", "token_type_ids", "decoder_input_ids") if key in self.arrays
        }

    def short(self) -> dict[str, np.ndarray]:
        """The inputs of the short text."""
        names = {
            "input_ids": "short_ids",
            "token_type_ids": "token_type_ids",
            "decoder_input_ids": "short_decoder_input_ids",
        }
        ids = self.arrays["short_ids"]
        found = {name: self.arrays[key] for name, key in names.items() if key in self.arrays}
        if "token_type_ids" in found:
            found["token_type_ids"] = found["token_type_ids"][1:, : ids.shape[1]]
        return found

    def padded(self, side: str = "right") -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The first whole text above the short one in one batch, and the mask (2, L) of columns that outputs count.

        A decoder's own input is padded on the right on either side.
        """
        whole, short = self.whole(), self.short()
        pad = self.config.get("pad_token_id") or 0
        inputs, mask = {}, {}
        for name, array in whole.items():
            fill = 0 if name == "token_type_ids" else pad
            where = "right" if name == "decoder_input_ids" else side
            inputs[name], mask[name] = _stack(array[0], short[name][0], fill, where)
        inputs["attention_mask"] = mask["input_ids"]
        if "decoder_input_ids" in mask:
            inputs["decoder_attention_mask"] = mask["decoder_input_ids"]
        return inputs, mask.get("decoder_input_ids", mask["input_ids"])


def _stack(first: np.ndarray, second: np.ndarray, fill: int, side: str) -> tuple[np.ndarray, np.ndarray]:
    width, length = len(first), len(second)
    columns = slice(0, length) if side == "right" else slice(width - length, width)
    row, mask = np.full(width, fill, first.dtype), np.ones((2, width), np.int64)
    row[columns] = second
    mask[1] = 0
    mask[1, columns] = 1
    return np.stack([first, row]), mask


def tensors(
    shapes: Mapping[str, tuple[int, ...]], seed: int = 0, sinusoids: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Values for every tensor, from its name and the seed alone: float32, the same on every machine."""
    return {
        name: _sinusoids(*shape) if name in sinusoids else _values(name, shape, seed) for name, shape in shapes.items()
    }


def _values(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Biases around 0, norms around 1, tables and matrices of a spread that keeps every layer's values near 1."""
    normal = np.random.RandomState([zlib.crc32(name.encode()), seed]).standard_normal(shape)
    return (normal * _spread(name, shape) + _centre(name, shape)).astype(np.float32)


def _centre(name: str, shape: tuple[int, ...]) -> float:
    return 1.0 if len(shape) == 1 and not name.endswith("bias") else 0.0


def _spread(name: str, shape: tuple[int, ...]) -> float:
    if len(shape) == 1 or name.endswith("bias"):
        return 0.2
    if any(word in name for word in ("relative_attention_bias", "position", "wpe")):
        return 1.0
    if any(word in name for word in ("embed", "wte", "wpe", "shared")):
        return 0.3
    crosses = "encoder_attn" in name or "EncDecAttention" in name  # reads the same text at every step: a weak voice
    return float((0.9 if crosses else 3.0 if _WRITES.search(name) else 1.2) / np.sqrt(min(shape)))


def _sinusoids(positions: int, width: int) -> np.ndarray:
    angles = np.arange(positions)[:, None] / 10000 ** (np.arange(0, width, 2) / width)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def write_checkpoint(folder: Path, recording: Recording, weights: Mapping[str, np.ndarray] | None = None) -> Path:
    """A folder as save_pretrained leaves it, with the recording's weights or others."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(recording.config))
    if recording.generation_config is not None:
        (folder / "generation_config.json").write_text(json.dumps(recording.generation_config))
    found = tensors(recording.shapes, recording.seed, recording.sinusoids) if weights is None else weights
    write_safetensors(folder / "model.safetensors", dict(found))
    return folder


def save(path: Path, recordings: list[Recording]) -> None:
    """One file of several recordings: their arrays as NAME/KEY, all else as JSON under "recordings"."""
    facts = [
        {
            "name": recording.name,
            "config": recording.config,
            "generation_config": recording.generation_config,
            "shapes": recording.shapes,
            "seed": recording.seed,
            "sinusoids": recording.sinusoids,
        }
        for recording in recordings
    ]
    packed = np.frombuffer(zlib.compress(json.dumps(facts).encode(), 9), np.uint8)
    arrays = {f"{recording.name}/{key}": value for recording in recordings for key, value in recording.arrays.items()}
    np.savez_compressed(path, recordings=packed, **arrays)


@cache
def _file(path: Path) -> dict[str, Recording]:
    with np.load(path) as stored:
        facts = json.loads(zlib.decompress(stored["recordings"].tobytes()))
        return {fact["name"]: _recording(fact, stored) for fact in facts}


def _recording(fact: dict, stored: Mapping[str, np.ndarray]) -> Recording:
    start = f"{fact['name']}/"
    return Recording(
        name=fact["name"],
        config=fact["config"],
        generation_config=fact["generation_config"],
        shapes={name: tuple(shape) for name, shape in fact["shapes"].items()},
        seed=fact["seed"],
        sinusoids=tuple(fact["sinusoids"]),
        arrays={key[len(start) :]: stored[key] for key in stored if key.startswith(start)},
    )


def recordings() -> Iterator[Recording]:
    """Every recording, family by family."""
    for path in sorted(FOLDER.glob("*.npz")):
        yield from _file(path).values()


def names(*heads: str) -> list[str]:
    """The names of all recordings, or of those with one of these heads."""
    return [recording.name for recording in recordings() if not heads or recording.head in heads]


def load(name: str) -> Recording:
    """The recording of this name."""
    for path in sorted(FOLDER.glob("*.npz")):
        if name in _file(path):
            return _file(path)[name]
    raise KeyError(f"no recording is named {name!r}; there are {', '.join(names())}")
