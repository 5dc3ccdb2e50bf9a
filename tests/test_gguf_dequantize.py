"""Every block format against its definition, number by number, and against the `gguf` package: the same bits."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import tfcore
from closeness import assert_same_bits
from gguf_files import BLOCKS
from isas import ISAS
from tfcore import _core

QUANTIZED = [kind for kind, (numbers, _) in BLOCKS.items() if numbers > 1]


# ---- the definitions: a number at a time, in float32


def halves(raw: bytes, at: int, count: int = 1) -> list[np.float32]:
    return list(np.frombuffer(raw, "<f2", count, at).astype(np.float32))


def nibble(byte: int, high: bool) -> int:
    return byte >> 4 if high else byte & 15


def bit(raw: bytes, i: int) -> int:
    return raw[i // 8] >> i % 8 & 1


def one_of_32(kind: str, raw: bytes, i: int) -> np.float32:
    """Number i of a block of 32."""
    has_minimum, five = kind in ("Q4_1", "Q5_1"), kind in ("Q5_0", "Q5_1")
    head = 4 if has_minimum else 2
    [d] = halves(raw, 0)
    if kind == "Q8_0":
        return d * np.float32(np.int8(np.uint8(raw[head + i])))
    q = nibble(raw[head + 4 * five + i % 16], i >= 16)
    if five:
        q += 16 * bit(raw[head : head + 4], i)
    if has_minimum:
        return d * np.float32(q) + halves(raw, 2)[0]
    return d * np.float32(q - (16 if five else 8))


def six_bits(scales: bytes, s: int) -> tuple[int, int]:
    """Scale and minimum of sub-block s: bits 0 to 47 are eight of six bits, their upper ones packed behind."""
    if s < 4:
        return scales[s] % 64, scales[s + 4] % 64
    return scales[s + 4] % 16 + scales[s - 4] // 64 * 16, scales[s + 4] // 16 + scales[s] // 64 * 16


def one_of_256(kind: str, raw: bytes, i: int) -> np.float32:
    """Number i of a block of 256."""
    if kind == "Q6_K":
        half, rest = divmod(i, 128)
        low, high, scales = raw[64 * half :], raw[128 + 32 * half :], np.frombuffer(raw, np.int8, 16, 192)
        q = nibble(low[rest % 64], rest >= 64) + 16 * (high[rest % 32] >> 2 * (rest // 32) & 3)
        return halves(raw, 208)[0] * np.float32(scales[i // 16]) * np.float32(q - 32)
    s, five = i // 32, kind == "Q5_K"
    d, m = halves(raw, 0, 2)
    scale, minimum = six_bits(raw[4:16], s)
    q = nibble(raw[(48 if five else 16) + s // 2 * 32 + i % 32], s % 2 == 1)
    if five:
        q += 16 * (raw[16 + i % 32] >> s & 1)
    return d * np.float32(scale) * np.float32(q) - m * np.float32(minimum)


def defined(kind: str, data: np.ndarray) -> np.ndarray:
    numbers, size = BLOCKS[kind]
    one = one_of_32 if numbers == 32 else one_of_256
    with np.errstate(all="ignore"):
        blocks = (data[at : at + size].tobytes() for at in range(0, data.size, size))
        return np.array([one(kind, raw, i) for raw in blocks for i in range(numbers)], np.float32)


# ---- inputs


def random_blocks(kind: str, blocks: int, seed: int = 0) -> np.ndarray:
    """Any bytes at all, with scales that are finite: infinity times nothing would be a NaN of either sign."""
    rng = np.random.default_rng(seed)
    numbers, size = BLOCKS[kind]
    data = rng.integers(0, 256, (blocks, size), np.uint8)
    if numbers > 1:
        scale = rng.standard_normal(2 * blocks).astype("<f2").view(np.uint8).reshape(blocks, 4)
        scale[0] = np.array([1, 0x80, 0xFF, 3], np.uint8)  # subnormal, of either sign
        at = 208 if kind == "Q6_K" else 0
        data[:, at : at + 4] = scale[:, : min(4, size - at)]
    return data.reshape(-1)


@pytest.fixture(params=ISAS)
def isa(request):
    with tfcore.use_isa(request.param):
        yield request.param


# ---- tests


@pytest.mark.parametrize("kind", QUANTIZED)
def test_every_number_is_the_defined_one(kind, isa):
    data = random_blocks(kind, 7)
    assert_same_bits(_core.dequantize(kind, data, 7 * BLOCKS[kind][0]), defined(kind, data), kind)


def test_all_halves(isa):
    """All 65536, with subnormal ones and infinities; any NaN is a NaN."""
    words = np.arange(65536, dtype="<u2")
    values = _core.dequantize("F16", words.view(np.uint8), words.size)
    want = words.view("<f2").astype(np.float32)
    number = ~np.isnan(want)
    assert_same_bits(values[number], want[number])
    assert np.isnan(values[~number]).all()


def test_all_bfloat16s(isa):
    words = np.arange(65536, dtype="<u2")
    values = _core.dequantize("BF16", words.view(np.uint8), words.size)
    assert_same_bits(values.view(np.uint32), words.astype(np.uint32) << np.uint32(16))


@pytest.mark.parametrize("kind", BLOCKS)
def test_the_gguf_package_gives_the_same_bits(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quants = pytest.importorskip("gguf.quants")
        kinds = pytest.importorskip("gguf").GGMLQuantizationType
    data = random_blocks(kind, 1000, seed=1)
    with np.errstate(all="ignore"):
        want = quants.dequantize(data.reshape(1, -1), kinds[kind]).reshape(-1)
    got = _core.dequantize(kind, data, 1000 * BLOCKS[kind][0])
    number = ~np.isnan(want)
    assert number.mean() > 0.9
    assert_same_bits(got[number], want[number], kind)
    assert np.isnan(got[~number]).all()


@pytest.mark.parametrize("kind", BLOCKS)
def test_threads_change_no_bit(kind):
    data = random_blocks(kind, 20000)
    count = 20000 * BLOCKS[kind][0]
    with tfcore.num_threads(1):
        alone = _core.dequantize(kind, data, count)
    with tfcore.num_threads(3):
        assert_same_bits(_core.dequantize(kind, data, count), alone, kind)


@pytest.mark.parametrize("kind", BLOCKS)
def test_bytes_may_begin_anywhere_and_lie_apart(kind):
    data = random_blocks(kind, 5)
    want = _core.dequantize(kind, data, 5 * BLOCKS[kind][0])
    shifted = np.concatenate([[np.uint8(0)], data])[1:]
    apart = np.repeat(data, 2)[::2]
    apart.flags.writeable = False
    for other in (shifted, apart, data.reshape(5, -1)):
        assert_same_bits(_core.dequantize(kind, other, want.size), want, kind)


def test_nothing_gives_nothing():
    assert _core.dequantize("Q4_K", np.empty(0, np.uint8), 0).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("Q3_K", np.zeros(110, np.uint8), 256), ValueError, "kind is 'Q3_K', expected 'F16', 'BF16', 'Q8_0'"),
        ((8, np.zeros(34, np.uint8), 32), TypeError, "kind is of type int"),
        (("Q8_0", np.zeros(34, np.int8), 32), TypeError, "data has dtype int8, expected uint8"),
        (("Q8_0", np.zeros(34, np.uint8), 33), ValueError, "count is 33, expected a multiple of 32"),
        (("Q8_0", np.zeros(34, np.uint8), -32), ValueError, "count is -32"),
        (("Q8_0", np.zeros(34, np.uint8), 32.0), TypeError, "count is of type float"),
        (("Q8_0", np.zeros(35, np.uint8), 32), ValueError, "data has 35 bytes, expected 34 for every 32 of 32 numbers"),
        (("Q8_0", np.zeros(34, np.uint8), 64), ValueError, "data has 34 bytes, expected 34 for every 32 of 64 numbers"),
        (("Q8_0", np.zeros(34, np.uint8), 2**62), ValueError, "data has 34 bytes"),
    ],
)
def test_what_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        _core.dequantize(*arguments)
