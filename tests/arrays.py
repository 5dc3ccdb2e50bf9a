"""Inputs for the tests: seeded numbers, the lengths around a tile, and one array's values in every layout."""

from __future__ import annotations

import numpy as np

FLOATS = (np.float32, np.float64)


def around(*tiles: int) -> list[int]:
    """0, 1 and N - 1, N, N + 1, 3N + 2 for each tile size N."""
    return sorted({0, 1} | {n for tile in tiles for n in (tile - 1, tile, tile + 1, 3 * tile + 2)})


def normal(rng: np.random.Generator, *shape: int, dtype=np.float32, scale: float = 1.0) -> np.ndarray:
    return (scale * rng.standard_normal(shape)).astype(dtype)


def layouts(x: np.ndarray):
    """(name, array) pairs, each array equal to x."""
    yield "contiguous", np.ascontiguousarray(x)
    yield "Fortran-ordered", np.asfortranarray(x)
    yield "every second column", _inside(x, (..., slice(None, None, 2)), (*x.shape[:-1], 2 * x.shape[-1]))
    yield "padded rows", _inside(x, (..., slice(3, 3 + x.shape[-1])), (*x.shape[:-1], x.shape[-1] + 5))
    yield "columns backwards", np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    if x.ndim > 1:
        yield "rows backwards", np.ascontiguousarray(x[..., ::-1, :])[..., ::-1, :]
        yield "transposed", np.ascontiguousarray(np.swapaxes(x, -1, -2)).swapaxes(-1, -2)
    if x.ndim > 2:
        yield "heads inside rows", np.ascontiguousarray(np.swapaxes(x, -2, -3)).swapaxes(-2, -3)
    yield "misaligned", misaligned(x)
    yield "read-only", read_only(x)
    yield "bytes swapped", x.astype(x.dtype.newbyteorder())


def _inside(x: np.ndarray, where, shape) -> np.ndarray:
    """x as a view into a larger array whose other elements are NaN, so that reading one of them shows."""
    whole = np.full(shape, np.nan, x.dtype)
    whole[where] = x
    return whole[where]


def misaligned(x: np.ndarray) -> np.ndarray:
    """x one byte past an aligned address."""
    buffer = np.zeros(x.nbytes + 1, np.uint8)
    copy = buffer[1:].view(x.dtype).reshape(x.shape)
    copy[...] = x
    assert x.size == 0 or not copy.flags.aligned
    return copy


def read_only(x: np.ndarray) -> np.ndarray:
    copy = x.copy()
    copy.flags.writeable = False
    return copy


class OnlyDLPack:
    """An array that speaks DLPack and nothing else, as some libraries' do."""

    def __init__(self, x: np.ndarray) -> None:
        self._x = x

    def __dlpack__(self, **options):
        return self._x.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._x.__dlpack_device__()
