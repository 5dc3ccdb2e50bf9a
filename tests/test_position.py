"""positional_encoding, rotary_embedding and alibi_slopes against the reference."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import tfcore
from arrays import FLOATS, OnlyDLPack, around, layouts, normal
from closeness import as_accurate_as_numpy, assert_close, assert_same_bits, unit
from tfcore import reference
from tfcore.rope import rotary_frequencies

U64 = 2.0**-53


def wide(x):
    return np.asarray(x, np.float64)


# --- positional_encoding ---------------------------------------------------------------------------------------------


def check_encoding(seq_len, d_model, dtype=np.float64, **options):
    """The angle is a rounded product of a rounded frequency, on both sides; then sine or cosine, a few roundings."""
    want = reference.positional_encoding(seq_len, d_model, **options)
    last = abs(options.get("offset", 0)) + seq_len
    got = tfcore.positional_encoding(seq_len, d_model, dtype=dtype, **options)
    bound = 6 * U64 * last + 4 * unit(dtype)
    assert_close(got, want, bound=bound, dtype=dtype, what=f"{seq_len} {d_model} {options}")
    return got


@pytest.mark.parametrize("dtype", FLOATS)
def test_widths(machine, dtype):
    for width in (*range(10), *around(16, 32, 64), 512, 513):
        for layout, frequencies in itertools.product(("interleaved", "split"), ("geometric", "linear")):
            check_encoding(5, width, dtype, layout=layout, frequencies=frequencies)


@pytest.mark.parametrize("dtype", FLOATS)
def test_lengths(machine, dtype):
    for length in (*around(4, 16, 64), 3000):
        check_encoding(length, 24, dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("offset", [0, 1, 1000, 10**6, 2**24, 2**31 + 1, -7])
def test_offset(isa, dtype, offset):
    whole = check_encoding(20, 30, dtype, offset=offset)
    assert_same_bits(tfcore.positional_encoding(13, 30, dtype=dtype, offset=offset + 7), whole[7:])


@pytest.mark.parametrize("base", [1.0, 2.0, 100.0, 5e5])
def test_base(isa, base):
    for dtype in FLOATS:
        check_encoding(50, 20, dtype, base=base)


def test_float16(isa):
    check_encoding(40, 20, np.float16)


def test_defaults():
    assert_same_bits(tfcore.positional_encoding(9, 6), tfcore.positional_encoding(9, 6, dtype=np.float64))
    assert tfcore.positional_encoding(9, 6).dtype == np.float64


def test_encoding_out(machine):
    for dtype in FLOATS:
        want = tfcore.positional_encoding(70, 34, dtype=dtype)
        for name, out in layouts(np.full_like(want, np.nan)):
            if name not in ("read-only", "bytes swapped"):
                assert tfcore.positional_encoding(70, 34, dtype=dtype, out=out) is out
                assert_same_bits(out, want, name)


@pytest.mark.parametrize("frequencies", ["geometric", "linear"])
def test_encoding_is_as_accurate_as_numpy(isa, frequencies):
    i = np.arange(64)
    for dtype in FLOATS:
        longer = np.longdouble if dtype == np.float64 else np.float64
        for form_dtype in (longer, dtype):
            t = form_dtype
            if frequencies == "geometric":
                per_position = t(10000) ** (-(2 * (i // 2)).astype(t) / t(64))
            else:
                per_position = i.astype(t) / t(64)
            angle = np.arange(4000).astype(t)[:, None] * per_position
            result = np.where(i % 2, np.cos(angle), np.sin(angle))
            if form_dtype is longer:
                want = result.astype(np.float64)
        got = tfcore.positional_encoding(4000, 64, frequencies=frequencies, dtype=dtype)
        as_accurate_as_numpy(got, result, want, str(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("frequencies", ["geometric", "linear"])
@pytest.mark.parametrize("offset", [0, 31, 250, 100_000, 2**24 - 150, 2**24 + 5, -140, -(2**24) - 150])
def test_sines_are_right_to_an_ulp_of_the_angle(isa, dtype, frequencies, offset):
    """Turned from tables or computed directly: among the first rows, next to zeros, where angles leave the range."""
    i = np.arange(250)
    geometric = np.array([math.pow(10000.0, -2 * (j // 2) / 250) for j in i])  # to the bit: angles are large
    per_position = geometric if frequencies == "geometric" else i / 250
    angle = (np.arange(offset, offset + 300)[:, None] * per_position).astype(np.longdouble)
    want = np.where(i % 2, np.cos(angle), np.sin(angle))
    got = tfcore.positional_encoding(300, 250, frequencies=frequencies, dtype=dtype, offset=offset)
    ulp = np.maximum(np.spacing(np.abs(want).astype(dtype)), np.finfo(dtype).tiny)
    error = np.abs(got - want) / ulp.astype(np.longdouble)
    assert np.all(error <= 1), f"off by {float(error.max())} ulp at {np.unravel_index(np.argmax(error), error.shape)}"


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_small_cosine_beside_a_column_that_does_not_turn(isa, dtype):
    """103993 / 66204 is pi / 2 to nine digits: column 1 of that row is nearly 0, column 0 is 0 in every row."""
    got = tfcore.positional_encoding(1, 66204, frequencies="linear", offset=103993, dtype=dtype)
    want = np.cos(np.longdouble(103993 * (1 / 66204)))
    assert got[0, 0] == 0
    assert abs(got[0, 1] - want) <= np.spacing(dtype(abs(want)))


# --- rotary_embedding ------------------------------------------------------------------------------------------------

SCALINGS = [
    None,
    {"rope_type": "default"},
    {"rope_type": "linear", "factor": 4.0},
    {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 8},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 16, "beta_slow": 2},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "attention_factor": 1.5},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256,
    },
]


def check_rotary(x, positions=None, what="", **options):
    """x₁ cos - x₂ sin: both factors as good as an encoding's, two products and a sum."""
    want = reference.rotary_embedding(wide(x), positions, **options)
    got = tfcore.rotary_embedding(x, positions, **options)
    furthest = np.max(np.abs(x.shape[-2] if positions is None else positions), initial=0)
    size = 2 * np.max(np.abs(wide(x)), axis=-1, keepdims=True, initial=0.0)  # a pair's two terms
    bound = (6 * U64 * furthest + 8 * unit(x.dtype)) * size * 1.5  # 1.5: the largest attention factor here
    assert_close(got, want, bound=bound, dtype=x.dtype, what=f"{what} {x.shape} {options}")
    return got


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("interleaved", [False, True])
def test_head_sizes(machine, rng, dtype, interleaved):
    for size in (2, 4, 6, 8, 14, 16, 18, 30, 32, 34, 64, 80, 96, 128, 256):
        x = normal(rng, 2, 3, 9, size, dtype=dtype)
        check_rotary(x, interleaved=interleaved)
        for rotary_dim in {0, 2, size // 2 // 2 * 2, size}:
            got = check_rotary(x, interleaved=interleaved, rotary_dim=rotary_dim)
            assert_same_bits(got[..., rotary_dim:], x[..., rotary_dim:])


def test_odd_columns_pass_beside_the_rotated(isa, rng):
    x = normal(rng, 5, 7)
    assert_same_bits(check_rotary(x, rotary_dim=4)[:, 4:], x[:, 4:])


@pytest.mark.parametrize("dtype", FLOATS)
def test_shapes_and_lengths(isa, rng, dtype):
    for shape in ((5, 8), (0, 8), (3, 5, 8), (2, 3, 0, 8), (0, 3, 5, 8), (2, 1, 3, 5, 8), (2, 2, 130, 8), (3, 5, 0)):
        check_rotary(normal(rng, *shape, dtype=dtype))


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s["rope_type"] if s else "none")
def test_scaling(isa, rng, scaling):
    x = normal(rng, 2, 40, 64)
    for interleaved in (False, True):
        check_rotary(x, scaling=scaling, interleaved=interleaved)
        check_rotary(x, scaling=scaling, interleaved=interleaved, base=5e5, rotary_dim=32)


def test_longrope(rng):
    """Each pair's own divisor, of the short list up to the trained length, of the long one beyond."""
    x = normal(rng, 20, 8)
    short, long_ = [1.0, 1.5, 2.0, 4.0], [2.0, 3.0, 8.0, 16.0]
    scaling = {"rope_type": "longrope", "factor": 4.0, "original_max_position_embeddings": 16}
    scaling |= {"short_factor": short, "long_factor": long_}
    for length, divisors in ((0, short), (16, short), (17, long_)):
        frequencies, magnitude = rotary_frequencies(8, base=100.0, scaling=scaling, length=length)
        np.testing.assert_allclose(frequencies, 100.0 ** (-np.arange(4) / 4) / divisors, rtol=1e-15)
        assert magnitude == pytest.approx(np.sqrt(1.5), rel=1e-15)  # ln 4 / ln 16
    assert rotary_frequencies(8, scaling=scaling | {"attention_factor": 1.25})[1] == 1.25
    assert rotary_frequencies(8, scaling=scaling | {"factor": 1.0})[1] == 1.0
    check_rotary(x[:16], scaling=scaling)
    check_rotary(x, scaling=scaling)
    assert not np.array_equal(
        tfcore.rotary_embedding(x[:16], scaling=scaling), tfcore.rotary_embedding(x, scaling=scaling)[:16]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"short_factor": [1.0]}, r"'short_factor' is \[1.0\], expected 4 positive numbers"),
        ({"short_factor": [1.0, 1.0, 0.0, 1.0]}, "'short_factor' is .* expected 4 positive"),
        ({"factor": -2.0}, "'factor' is -2.0, expected a positive number"),
        ({"original_max_position_embeddings": 0}, "'original_max_position_embeddings' is 0, expected a positive"),
    ],
)
def test_longrope_refuses(change, message):
    scaling = {"rope_type": "longrope", "factor": 4.0, "original_max_position_embeddings": 16}
    scaling |= {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    with pytest.raises(ValueError, match=message):
        rotary_frequencies(8, scaling=scaling | change)


def test_dynamic_scaling_looks_at_the_highest_position(rng):
    x = normal(rng, 5, 16)
    scaling = {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 8}
    plain = tfcore.rotary_embedding(x)
    assert_same_bits(tfcore.rotary_embedding(x, scaling=scaling), plain)
    later = check_rotary(x, np.arange(20, 25), scaling=scaling)
    assert not np.array_equal(later, tfcore.rotary_embedding(x, np.arange(20, 25)))
    fewer, _ = rotary_frequencies(16, base=1e4, scaling=scaling, length=25)
    assert_close(later, reference.rotary_embedding(wide(x), np.arange(20, 25), base=fewer[1] ** -8.0), bound=1e-5)


@pytest.mark.parametrize("dtype", FLOATS)
def test_positions(machine, rng, dtype):
    x = normal(rng, 2, 3, 9, 16, dtype=dtype)
    forms = [
        np.arange(9),
        np.arange(9)[::-1],
        np.array([5, 5, 0, 1000, 2, 3, 10**6, 4, 4]),
        np.array(7),
        rng.integers(0, 100, (2, 9)),
        rng.integers(0, 100, (1, 9)),
        rng.integers(0, 100, (2, 1, 9)),
        rng.integers(0, 100, (3, 9))[None],
        rng.integers(0, 100, (2, 3, 9)),
        rng.integers(0, 100, (2, 3, 1)),
        -np.arange(9),
    ]
    for positions in forms:
        for kind in (np.int64, np.int32):
            check_rotary(x, positions.astype(kind), what=f"positions {positions.shape}")
    assert_same_bits(tfcore.rotary_embedding(x, list(range(9))), tfcore.rotary_embedding(x))
    assert_same_bits(tfcore.rotary_embedding(x, np.arange(9, dtype=np.uint8)), tfcore.rotary_embedding(x))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_in_place(machine, rng, dtype, interleaved):
    for size, rotary_dim in ((16, 16), (22, 14), (80, 80)):
        x = normal(rng, 3, 70, size, dtype=dtype)
        want = tfcore.rotary_embedding(x, interleaved=interleaved, rotary_dim=rotary_dim)
        assert tfcore.rotary_embedding(x, interleaved=interleaved, rotary_dim=rotary_dim, out=x) is x
        assert_same_bits(x, want, str(size))


def test_positions_of_a_batch_come_before_positions_of_heads(rng):
    """(2, L) for x (2, 2, L, D) could be either; it is one row per batch."""
    x = normal(rng, 2, 2, 5, 8)
    positions = np.array([np.arange(5), np.arange(5) + 50])
    got = check_rotary(x, positions)
    assert_same_bits(got[0], tfcore.rotary_embedding(x[0]))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_layouts(machine, rng, dtype, interleaved):
    x = normal(rng, 2, 3, 9, 16, dtype=dtype)
    positions = rng.integers(0, 100, (2, 9))
    want = tfcore.rotary_embedding(x, positions, interleaved=interleaved)
    for name, other in layouts(x):
        assert_same_bits(tfcore.rotary_embedding(other, positions, interleaved=interleaved), want, name)
    backwards = np.ascontiguousarray(positions[:, ::-1])[:, ::-1]
    for other in (backwards, np.asfortranarray(positions), np.repeat(positions, 2, axis=1)[:, ::2]):
        assert_same_bits(tfcore.rotary_embedding(x, other, interleaved=interleaved), want, str(other.strides))
    for name, out in layouts(np.full_like(want, np.nan)):
        if name not in ("read-only", "bytes swapped"):
            assert tfcore.rotary_embedding(x, positions, interleaved=interleaved, out=out) is out
            assert_same_bits(out, want, name)
    head = np.broadcast_to(x[:, :1], x.shape)
    assert_same_bits(
        tfcore.rotary_embedding(head, positions, interleaved=interleaved), np.broadcast_to(want[:, :1], x.shape)
    )


def test_rotary_dtypes(isa, rng):
    x = normal(rng, 3, 5, 8, dtype=np.float16)
    check_rotary(x)
    integers = rng.integers(-5, 5, (3, 5, 8))
    want = reference.rotary_embedding(integers)
    assert_close(tfcore.rotary_embedding(integers), want, steps=20, magnitude=10.0, dtype=np.float64)
    x = normal(rng, 3, 5, 8, dtype=np.float64)
    assert_same_bits(tfcore.rotary_embedding(x.tolist()), tfcore.rotary_embedding(x))
    assert_same_bits(tfcore.rotary_embedding(OnlyDLPack(x)), tfcore.rotary_embedding(x))


def test_torch_tensors(rng):
    torch = pytest.importorskip("torch")
    x = normal(rng, 3, 5, 8)
    got = tfcore.rotary_embedding(torch.from_numpy(x), torch.arange(5))
    assert_same_bits(got, tfcore.rotary_embedding(x))


@pytest.mark.parametrize("dtype", FLOATS)
def test_rotary_is_as_accurate_as_numpy(isa, rng, dtype):
    """NumPy in the same dtype, from tables of cosines and sines made in float64, as everybody makes them."""
    x = normal(rng, 2, 500, 64, dtype=dtype)
    angle = np.arange(500)[:, None] * rotary_frequencies(64, base=1e4, scaling=None, length=500)[0]
    exact = np.arange(500)[:, None] * np.longdouble(10000) ** (-np.arange(0, 64, 2).astype(np.longdouble) / 64)

    def rotate(x, cos, sin):
        first, second = x[..., :32], x[..., 32:]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    theirs = rotate(x, np.cos(angle).astype(dtype), np.sin(angle).astype(dtype))
    want = rotate(x.astype(np.longdouble), np.cos(exact), np.sin(exact)).astype(np.float64)
    as_accurate_as_numpy(tfcore.rotary_embedding(x), theirs, want)


def test_a_nan_stays_in_its_pair(isa, rng):
    x = normal(rng, 4, 5, 16)
    for interleaved, pair in ((False, [3, 11]), (True, [2, 3])):
        want = tfcore.rotary_embedding(x, interleaved=interleaved)
        bad = x.copy()
        bad[1, 2, 3] = np.nan
        got = tfcore.rotary_embedding(bad, interleaved=interleaved)
        assert np.isnan(got[1, 2, pair]).all()
        want[1, 2, pair] = got[1, 2, pair]
        assert_same_bits(got, want)


# --- alibi_slopes ----------------------------------------------------------------------------------------------------


def test_alibi_slopes():
    for heads in (*range(1, 34), 64, 71):
        got = tfcore.alibi_slopes(heads)
        assert_close(got, reference.alibi_slopes(heads), steps=2, magnitude=1.0)
        assert got.shape == (heads,)


def test_alibi_slopes_go_straight_into_attention(rng):
    q = normal(rng, 6, 5, 8)
    got = tfcore.scaled_dot_product_attention(q, q, q, alibi_slopes=tfcore.alibi_slopes(6))
    want = reference.scaled_dot_product_attention(*(wide(q),) * 3, alibi_slopes=reference.alibi_slopes(6))
    assert_close(got, want, steps=40, magnitude=3.0, dtype=np.float32)
