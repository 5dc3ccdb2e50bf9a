"""GGUF files: metadata and tensors, memory-mapped, checked to the byte, as they are or widened to float32.

Little-endian throughout; a string is its length in eight bytes and that much UTF-8::

    "GGUF", version, number of tensors, number of keys
    for each key:     its name, the type of its value, the value
    for each tensor:  its name, its dimensions (the adjacent one first), its type, where its bytes begin
    the tensors' bytes in the same order, each at a multiple of the alignment

The file is read here and not by the `gguf` package: that one believes every length a file states, and turns weights
into numbers in NumPy at a fraction of the speed of memory.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import _core
from .checkpoint import Float32Array, StoredRows, aligned, check_cover, release

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)  # version 1 counts in four bytes, and nothing has written it since 2023
_ALIGNMENT = 32  # where no key says otherwise
_MAX_KEY, _MAX_NAME, _MAX_DIMENSIONS = 65535, 64, 4  # the format's own limits
_LEAST_ENTRY = 8 + 4 + 1  # bytes of a key and its value, at least
_LEAST_TENSOR = 8 + 4 + 4 + 8

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_BOOL, _STRING, _ARRAY = 7, 8, 9


class TensorType(NamedTuple):
    """A way to store numbers: blocks of so many in so many bytes."""

    name: str
    numbers: int
    bytes: int


_TYPES = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    9: TensorType("Q8_1", 32, 40),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    15: TensorType("Q8_K", 256, 292),
    16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98),
    19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18),
    21: TensorType("IQ3_S", 256, 110),
    22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136),
    24: TensorType("I8", 1, 1),
    25: TensorType("I16", 1, 2),
    26: TensorType("I32", 1, 4),
    27: TensorType("I64", 1, 8),
    28: TensorType("F64", 1, 8),
    29: TensorType("IQ1_M", 256, 56),
    30: TensorType("BF16", 1, 2),
    34: TensorType("TQ1_0", 256, 54),
    35: TensorType("TQ2_0", 256, 66),
    39: TensorType("MXFP4", 32, 17),
    40: TensorType("NVFP4", 64, 36),
    41: TensorType("Q1_0", 128, 18),
}
READABLE = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K")


class TensorInfo(NamedTuple):
    """One tensor: its type, its shape in NumPy's order, and where its bytes lie behind the header."""

    type: TensorType
    shape: tuple[int, ...]
    begin: int
    end: int


class GgufFile:
    """One GGUF file, memory-mapped. Everything before the tensors' bytes is checked before any of them is read.

    >>> file = GgufFile(Path("SmolLM2-135M-Instruct.Q4_1.gguf"))  # doctest: +SKIP
    >>> file.metadata["llama.block_count"], file.tensors["token_embd.weight"].shape  # doctest: +SKIP
    (30, (49152, 576))
    >>> file.read("token_embd.weight").dtype  # doctest: +SKIP
    dtype('float32')

    Attributes
    ----------
    path : Path
    version : int
        2 or 3.
    metadata : mapping
        Values by key: int, float, bool, str, or a list of one of these.
    tensors : mapping
        `TensorInfo` by name, in the file's order.

    Raises
    ------
    ValueError
        The file is none of this format, or lies about itself: the message names the file and the key or tensor.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes = _map(path)
        cursor = _Cursor(path, self._bytes)
        self.version, tensors, keys = _read_start(cursor)
        metadata = _read_metadata(cursor, keys)
        alignment = _alignment(path, metadata)
        infos = _read_tensors(cursor, tensors)
        self._data_start = aligned(cursor.position, alignment)
        spans = [(info.begin, info.end, name) for name, info in infos.items()]
        check_cover(path, spans, len(self._bytes) - self._data_start, alignment)
        self.metadata: Mapping[str, Any] = MappingProxyType(metadata)
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(infos)

    def release(self) -> None:
        """Lets go of the pages read so far."""
        release(self._bytes)

    def read(self, name: str) -> Float32Array:
        """The tensor as float32: F32 straight from the map, everything else widened.

        Raises
        ------
        KeyError
            There is no such tensor.
        ValueError
            It is stored in a way that is not read; the message names it and those that are.
        """
        info = self.tensors[name]
        if info.type.name not in READABLE:
            raise ValueError(
                f"{self.path}: tensor {name!r} is of type {info.type.name}, expected one of {', '.join(READABLE)}"
            )
        stored = self._view(info)
        if info.type.name == "F32":
            values: Float32Array = np.require(stored.view("<f4"), np.float32, ["C", "A"])
        else:
            values = _core.dequantize(info.type.name, stored, math.prod(info.shape))
        return values.reshape(info.shape)

    def as_stored(self, name: str) -> StoredRows | None:
        """A matrix of fewer bits than float32 as it is, straight from the map; None for tensors that `read` takes."""
        info = self.tensors[name]
        if info.type.name not in READABLE or info.type.name == "F32" or len(info.shape) != 2 or 0 in info.shape:
            return None
        return StoredRows(info.type.name, self._view(info).reshape(info.shape[0], -1))

    def _view(self, info: TensorInfo) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self._bytes, np.uint8, info.end - info.begin, self._data_start + info.begin)


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        start = file.read(4)
        if start != _MAGIC:
            raise ValueError(f"{path}: begins with {start!r}, expected {_MAGIC!r}: no GGUF file")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class _Cursor:
    """A position in a file that only moves forward, and never past the end."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.position = path, 0
        self._data, self._size = data, len(data)

    def take(self, count: int, what: str) -> int:
        """Where the next `count` bytes begin; they are there."""
        begin = self.position
        if count > self._size - begin:
            raise ValueError(
                f"{self.path}: truncated: {what} needs {count} bytes at byte {begin}, the file has {self._size - begin}"
            )
        self.position += count
        return begin

    def number(self, layout: str, what: str) -> Any:
        begin = self.take(struct.calcsize(layout), what)
        return struct.unpack_from(layout, self._data, begin)[0]

    def text(self, what: str, most: int | None = None) -> str:
        length = self.number("<Q", what)
        if most is not None and length > most:
            raise ValueError(f"{self.path}: {what} is {length} bytes long, expected at most {most}")
        begin = self.take(length, what)
        try:
            return self._data[begin : begin + length].decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path}: {what} is not UTF-8: {error}") from None

    def texts(self, count: int, what: str) -> list[str]:
        self.expect_room(count, 8, what)
        return [self.text(what) for _ in range(count)]

    def numbers(self, layout: str, count: int, what: str) -> npt.NDArray[Any]:
        kind = np.dtype(layout)
        self.expect_room(count, kind.itemsize, what)
        return np.frombuffer(self._data, kind, count, self.take(count * kind.itemsize, what))

    def expect_room(self, count: int, least: int, what: str) -> None:
        """Refuses a count that the rest of the file cannot hold, before anything is made for so many."""
        if count * least > self._size - self.position:
            raise ValueError(
                f"{self.path}: truncated: {what} claims {count} entries of at least {least} bytes, "
                f"the file has {self._size - self.position} left"
            )


def _read_start(cursor: _Cursor) -> tuple[int, int, int]:
    """The version, and how many tensors and keys there are."""
    cursor.take(len(_MAGIC), "the magic")
    version = cursor.number("<I", "the version")
    if version not in _VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        note = " (the file is big-endian)" if swapped in _VERSIONS else ""
        raise ValueError(f"{cursor.path}: version is {version}{note}, expected {' or '.join(map(str, _VERSIONS))}")
    tensors = cursor.number("<Q", "the number of tensors")
    keys = cursor.number("<Q", "the number of keys")
    cursor.expect_room(keys, _LEAST_ENTRY, "the number of keys")
    cursor.expect_room(tensors, _LEAST_TENSOR, "the number of tensors")
    return version, tensors, keys


def _read_metadata(cursor: _Cursor, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for i in range(count):
        key = cursor.text(f"the name of key {i}", _MAX_KEY)
        if key in metadata:
            raise ValueError(f"{cursor.path}: key {key!r} occurs twice")
        metadata[key] = _read_value(cursor, key)
    return metadata


def _read_value(cursor: _Cursor, key: str) -> Any:
    what = f"the value of key {key!r}"
    kind = cursor.number("<I", what)
    if kind == _STRING:
        return cursor.text(what)
    if kind == _ARRAY:
        return _read_array(cursor, key)
    if kind == _BOOL:
        return _booleans(cursor, 1, key)[0]
    return cursor.number(_layout(cursor, kind, key), what)


def _read_array(cursor: _Cursor, key: str) -> list[Any]:
    what = f"the array of key {key!r}"
    kind, count = cursor.number("<I", what), cursor.number("<Q", what)
    if kind == _STRING:
        return cursor.texts(count, what)
    if kind == _ARRAY:
        raise ValueError(f"{cursor.path}: key {key!r} is an array of arrays, which no model has")
    if kind == _BOOL:
        return _booleans(cursor, count, key)
    values: list[Any] = cursor.numbers(_layout(cursor, kind, key), count, what).tolist()
    return values


def _layout(cursor: _Cursor, kind: int, key: str) -> str:
    if kind not in _SCALARS:
        raise ValueError(f"{cursor.path}: key {key!r} has a value of type {kind}, expected one from 0 to 12")
    return _SCALARS[kind]


def _booleans(cursor: _Cursor, count: int, key: str) -> list[bool]:
    stored = cursor.numbers("<u1", count, f"the value of key {key!r}")
    if stored.max(initial=0) > 1:
        raise ValueError(f"{cursor.path}: key {key!r} holds {stored.max()} for a boolean, expected 0 or 1")
    return [value == 1 for value in stored.tolist()]


def _alignment(path: Path, metadata: Mapping[str, Any]) -> int:
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or alignment < 8 or alignment & (alignment - 1):
        raise ValueError(f"{path}: key 'general.alignment' is {alignment!r}, expected a power of two from 8 on")
    return alignment


def _read_tensors(cursor: _Cursor, count: int) -> dict[str, TensorInfo]:
    tensors: dict[str, TensorInfo] = {}
    for i in range(count):
        name = cursor.text(f"the name of tensor {i}", _MAX_NAME)
        if name in tensors:
            raise ValueError(f"{cursor.path}: tensor {name!r} occurs twice")
        tensors[name] = _read_tensor(cursor, name)
    return tensors


def _read_tensor(cursor: _Cursor, name: str) -> TensorInfo:
    def refuse(fault: str) -> ValueError:
        return ValueError(f"{cursor.path}: tensor {name!r} {fault}")

    what = f"the entry of tensor {name!r}"
    dimensions = cursor.number("<I", what)
    if dimensions > _MAX_DIMENSIONS:
        raise refuse(f"has {dimensions} dimensions, expected at most {_MAX_DIMENSIONS}")
    sizes = [cursor.number("<Q", what) for _ in range(dimensions)]
    number, begin = cursor.number("<I", what), cursor.number("<Q", what)
    if number not in _TYPES:
        raise refuse(f"is of the unknown type {number}, expected one of {', '.join(t.name for t in _TYPES.values())}")
    kind = _TYPES[number]
    if (sizes[0] if sizes else 1) % kind.numbers:
        raise refuse(f"has rows of {sizes[0] if sizes else 1}, expected a multiple of {kind.numbers} for {kind.name}")
    size = math.prod(sizes) // kind.numbers * kind.bytes
    return TensorInfo(kind, tuple(reversed(sizes)), begin, begin + size)
