"""Weights from safetensors files: memory-mapped, checked to the byte, as they are or in float32.

A file is the header's length N in eight bytes, N bytes of JSON, and the tensors' bytes end to end::

    {"norm.weight": {"dtype": "F32", "shape": [384], "data_offsets": [0, 1536]}, ...}

The header is read here and not by the `safetensors` package: that one copies every tensor on its way to NumPy, knows no
BF16 there, and its errors do not name the tensor that lies.
"""

from __future__ import annotations

import json
import math
import mmap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .config import described, read_json

Float32Array = npt.NDArray[np.float32]

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_MOST_AXES = 64
_MAX_HEADER = 100_000_000  # the format's own limit
_ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}
_FLOATS = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}  # BF16: the upper half of a float32's bits


class TensorInfo(NamedTuple):
    """One entry of a header: dtype, shape, and where its bytes lie behind the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class StoredRows(NamedTuple):
    """A matrix (N, K) as its file has it: rows (N, bytes) of uint8, whose numbers are of a kind ("BF16", "Q4_1")."""

    kind: str
    rows: npt.NDArray[np.uint8]


class StoredColumns(NamedTuple):
    """A matrix (N, K) whose file has it column by column: (K, bytes) of uint8, as of `StoredRows`."""

    kind: str
    columns: npt.NDArray[np.uint8]


class SafetensorsFile:
    """One safetensors file, memory-mapped. Its whole header is checked before any tensor is handed out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes = _map(path)
        header, self._data_start = _read_header(path, self._bytes)
        self.tensors = {name: _read_entry(path, name, entry) for name, entry in header.items()}
        spans = sorted((info.begin, info.end, name) for name, info in self.tensors.items())
        check_cover(path, spans, len(self._bytes) - self._data_start)

    def release(self) -> None:
        """Lets go of the pages read so far."""
        release(self._bytes)

    def read(self, name: str) -> Float32Array:
        """The tensor as float32: float32 straight from the map, F16 and BF16 widened, F64 narrowed."""
        info = self.tensors[name]
        if info.dtype not in _FLOATS:
            raise ValueError(
                f"{self.path}: tensor {name!r} is of dtype {info.dtype}, expected one of {', '.join(_FLOATS)}"
            )
        stored = self._view(info, _FLOATS[info.dtype]).reshape(info.shape)
        if info.dtype == "BF16":
            stored = (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
        with np.errstate(over="ignore"):
            values: Float32Array = np.require(stored, np.float32, ["C", "A"])
        if info.dtype == "F64" and not np.array_equal(np.isfinite(values), np.isfinite(stored)):
            raise ValueError(f"{self.path}: tensor {name!r} holds values too large for float32")
        return values

    def as_stored(self, name: str) -> StoredRows | None:
        """A matrix of F16 or BF16 as it is, straight from the map; None for other tensors."""
        info = self.tensors[name]
        if info.dtype not in ("F16", "BF16") or len(info.shape) != 2 or 0 in info.shape:
            return None
        return StoredRows(info.dtype, self._view(info, "u1").reshape(info.shape[0], -1))

    def _view(self, info: TensorInfo, dtype: str) -> npt.NDArray[Any]:
        count = (info.end - info.begin) // np.dtype(dtype).itemsize
        return np.frombuffer(self._bytes, dtype, count, self._data_start + info.begin)


def release(mapped: mmap.mmap) -> None:
    """Lets go of the pages read so far, which count as the process's memory; they are read again on use."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def check_cover(path: Path, spans: Iterable[tuple[int, int, str]], size: int, alignment: int = 1) -> None:
    """Tensors (begin, end, name) must cover the bytes behind a header: in order, without overlap, and without gap or
    rest but for alignment."""
    last = 0
    for begin, end, name in spans:
        wanted = aligned(last, alignment)
        if begin % alignment:
            raise ValueError(
                f"{path}: tensor {name!r} begins at byte {begin}, expected a multiple of the alignment, {alignment}"
            )
        if begin != wanted:
            fault = "overlaps the tensor before it" if begin < wanted else "leaves a gap before it"
            raise ValueError(f"{path}: tensor {name!r} begins at byte {begin}, expected {wanted}: it {fault}")
        if end > size:
            raise ValueError(f"{path}: truncated: tensor {name!r} ends at byte {end} of {max(size, 0)}")
        last = end
    if size > aligned(last, alignment):
        raise ValueError(f"{path}: {size - last} bytes behind the last tensor belong to none")


def aligned(position: int, alignment: int) -> int:
    """The first multiple of the alignment from a position on."""
    return -(-position // alignment) * alignment


class Checkpoint(Mapping[str, Float32Array]):
    """The tensors of a checkpoint folder by name, from one file or from the shards an index lists.

    Every tensor comes as a C-contiguous float32 array. The arrays read the files' pages in place where the file holds
    float32; nothing is copied until somebody writes or widens. `as_stored` gives matrices as they are.

    >>> checkpoint = Checkpoint.open(Path("all-MiniLM-L6-v2"))  # doctest: +SKIP
    >>> checkpoint["embeddings.word_embeddings.weight"].shape  # doctest: +SKIP
    (30522, 384)

    Raises
    ------
    FileNotFoundError
        The folder holds no safetensors file, or lacks a shard of its index.
    ValueError
        A file lies about itself: the message names the file and the tensor.
    """

    def __init__(self, files: Mapping[str, SafetensorsFile]) -> None:
        self._files = dict(files)

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """The checkpoint in `folder`: `model.safetensors`, or the shards of `model.safetensors.index.json`."""
        if (folder / WEIGHTS).is_file():
            file = SafetensorsFile(folder / WEIGHTS)
            return cls(dict.fromkeys(file.tensors, file))
        if (folder / INDEX).is_file():
            return cls(_open_shards(folder / INDEX))
        raise FileNotFoundError(_no_weights(folder))

    def shape(self, name: str) -> tuple[int, ...]:
        return self._files[name].tensors[name].shape

    def file(self, name: str) -> Path:
        """The file that holds the tensor."""
        return self._files[name].path

    def release(self) -> None:
        """Lets go of the pages of tensors read so far."""
        for file in set(self._files.values()):
            file.release()

    def __getitem__(self, name: str) -> Float32Array:
        return self._files[name].read(name)

    def as_stored(self, name: str) -> StoredRows | None:
        """A matrix as its file has it, where it has fewer bits than float32 for a number; None elsewhere."""
        return self._files[name].as_stored(name)

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < 8:
            raise ValueError(f"{path}: truncated: {size} bytes, expected at least the 8 of the header's length")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _read_header(path: Path, data: mmap.mmap) -> tuple[dict[str, Any], int]:
    """The header's entries by tensor name, and the offset at which the tensors' bytes begin."""
    length = int.from_bytes(data[:8], "little")
    if length > _MAX_HEADER:
        raise ValueError(f"{path}: the header claims {length} bytes, expected at most {_MAX_HEADER}")
    if 8 + length > len(data):
        raise ValueError(f"{path}: truncated: the header claims {length} bytes, the file has {len(data) - 8} behind it")
    try:
        header = json.loads(data[8 : 8 + length].decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the header cannot be read: {error}") from None
    if not isinstance(header, dict):
        raise ValueError(f"{path}: the header is a JSON {type(header).__name__}, expected an object")
    header.pop("__metadata__", None)  # free text, for people
    return header, 8 + length


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        [(name, times)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{name!r} occurs {times} times")
    return entries


def _read_entry(path: Path, name: str, entry: Any) -> TensorInfo:
    def refuse(got: str) -> ValueError:
        return ValueError(f"{path}: tensor {name!r}: {got}")

    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise refuse("its header entry is not an object with dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise refuse(f"unknown dtype {dtype!r}, expected one of {', '.join(_ITEM_BYTES)}")
    if not _are_sizes(shape) or len(shape) > _MOST_AXES:
        raise refuse(f"shape is {described(shape)}, expected a list of at most {_MOST_AXES} integers >= 0, below 2**63")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise refuse(f"data_offsets is {described(offsets)}, expected [begin, end] with 0 <= begin <= end")
    wanted = math.prod(shape) * _ITEM_BYTES[dtype]
    if offsets[1] - offsets[0] != wanted:
        raise refuse(f"{dtype} of shape {shape} is {wanted} bytes, but data_offsets span {offsets[1] - offsets[0]}")
    return TensorInfo(dtype, tuple(shape), *offsets)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _open_shards(index: Path) -> dict[str, SafetensorsFile]:
    """Every tensor's file, as the index says, after checking that index and shards agree."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(
            f"{index}: field 'weight_map' is missing or empty, expected an object of tensor and file names"
        )
    for name, file in weight_map.items():
        if not isinstance(file, str) or Path(file).name != file:
            raise ValueError(f"{index}: tensor {name!r} is in {file!r}, expected the name of a file beside the index")
    shards = {file: _open_shard(index, file) for file in sorted(set(weight_map.values()))}
    for name, file in weight_map.items():
        if name not in shards[file].tensors:
            raise ValueError(f"{index}: tensor {name!r} is said to be in {file}, which does not hold it")
    for file, shard in shards.items():
        for name in shard.tensors:
            if weight_map.get(name) != file:
                raise ValueError(
                    f"{index}: {file} holds tensor {name!r}, which the index places in {weight_map.get(name)}"
                )
    return {name: shards[file] for name, file in weight_map.items()}


def _open_shard(index: Path, file: str) -> SafetensorsFile:
    if not (index.parent / file).is_file():
        raise FileNotFoundError(f"{index} lists the shard {file}, which is not in {index.parent}")
    return SafetensorsFile(index.parent / file)


def _no_weights(folder: Path) -> str:
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    found = f", only {', '.join(pickles)}" if pickles else ""
    name = folder if pickles else "NAME"
    return (
        f"{folder} holds no {WEIGHTS} and no {INDEX}{found}. PyTorch's .bin files are pickles, which can run code when "
        f'opened, and are not read. Convert them once where torch and transformers are installed: python -c "from '
        f"transformers import AutoModel; AutoModel.from_pretrained('{name}').save_pretrained('{folder}')\""
    )
