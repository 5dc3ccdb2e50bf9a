"""matmul, linear, PackedLinear and feed_forward against the reference."""

from __future__ import annotations

import copy
import itertools
import pickle

import numpy as np
import pytest
import tfcore
from arrays import FLOATS, OnlyDLPack, around, layouts, normal, read_only
from closeness import as_accurate_as_numpy, assert_close, assert_same_bits, dot_bound, roundings, unit
from tfcore import reference

ACTIVATIONS = [None, "relu", "gelu", "gelu_tanh", "silu", "tanh"]


def wide(x):
    return np.asarray(x, np.float64)


def linear_bound(x, weight, dtype, want, bias=None, residual=None):
    """A dot product, an addition for bias and residual each, an activation of slope at most 1.13 and error 8 u."""
    sum_bound = dot_bound(x, np.swapaxes(weight, -1, -2), dtype)
    size = np.abs(wide(x)) @ np.abs(wide(weight)).T
    size = size + sum(np.abs(wide(term)) for term in (bias, residual) if term is not None)
    return 1.13 * sum_bound + 8 * unit(dtype) * (size + np.abs(want))


def check_linear(x, weight, bias=None, residual=None, activation=None, what=""):
    arrays = [None if a is None else wide(a) for a in (x, weight, bias, residual)]
    want = reference.linear(*arrays[:3], residual=arrays[3], activation=activation)
    got = tfcore.linear(x, weight, bias, residual=residual, activation=activation)
    bound = linear_bound(x, weight, x.dtype, want, bias, residual)
    assert_close(got, want, bound=bound, dtype=x.dtype, what=f"{what} {x.shape} {weight.shape} {activation}")
    return got


# --- sizes -----------------------------------------------------------------------------------------------------------

ROWS = around(12, 32)
COLUMNS = around(16, 32, 64)
DEPTHS = [0, 1, 2, 3, 15, 16, 17, 50, 64, 767, 769]


def sizes():
    """(M, N, K): every number of rows, columns and every depth, each against small and large others."""
    rotate = lambda values, by: [*values[by:], *values[:by]]  # noqa: E731
    count = max(len(ROWS), len(COLUMNS), len(DEPTHS))
    cycle = lambda values: list(itertools.islice(itertools.cycle(values), count))  # noqa: E731
    for by in (0, 2, 5):
        yield from zip(cycle(ROWS), cycle(rotate(COLUMNS, by)), cycle(rotate(DEPTHS, 2 * by)), strict=True)


@pytest.mark.parametrize("dtype", FLOATS)
def test_matmul_sizes(machine, dtype, rng):
    for m, n, k in sizes():
        a, b = normal(rng, m, k, dtype=dtype), normal(rng, k, n, dtype=dtype)
        assert_close(
            tfcore.matmul(a, b), wide(a) @ wide(b), bound=dot_bound(a, b, dtype), dtype=dtype, what=f"{m} {n} {k}"
        )


@pytest.mark.parametrize("dtype", FLOATS)
def test_linear_sizes(machine, dtype, rng):
    for m, n, k in sizes():
        check_linear(normal(rng, m, k, dtype=dtype), normal(rng, n, k, dtype=dtype), normal(rng, n, dtype=dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_packed_linear_sizes(machine, dtype, rng):
    """The bits of linear, whichever way the weight was packed."""
    for m, n, k in sizes():
        x, weight, bias = (normal(rng, *shape, dtype=dtype) for shape in ((m, k), (n, k), (n,)))
        packed = tfcore.PackedLinear(weight, bias)
        assert_same_bits(packed(x), tfcore.linear(x, weight, bias), what=f"{m} {n} {k}")


@pytest.mark.parametrize("dtype", FLOATS)
def test_large(machine, dtype, rng):
    """More than one block of rows, of columns and of depth, and enough work for several threads."""
    check_linear(normal(rng, 200, 1600, dtype=dtype), normal(rng, 300, 1600, dtype=dtype), activation="gelu")


@pytest.mark.parametrize("dtype", FLOATS)
def test_threads_as_rows_and_columns(machine, dtype, rng):
    """Tall, wide and square results: however bands of rows and groups of columns are dealt out, each is there once."""
    for m, n in ((1, 2000), (13, 700), (128, 384), (300, 64), (700, 40), (97, 513)):
        x, weight, bias = (normal(rng, *shape, dtype=dtype) for shape in ((m, 300), (n, 300), (n,)))
        packed = tfcore.PackedLinear(weight, bias)
        with tfcore.num_threads(1):
            want = packed(x, activation="relu")
        for threads in (2, 4, 6, 12, 16):
            with tfcore.num_threads(threads):
                got = packed(x, activation="relu", out=np.full_like(want, np.nan))
            assert_same_bits(got, want, f"{m} x {n}, {threads} threads")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((5,), (5,)),
        ((5,), (5, 3)),
        ((4, 5), (5,)),
        ((2, 4, 5), (5, 3)),
        ((4, 5), (2, 5, 3)),
        ((2, 1, 4, 5), (3, 5, 3)),
        ((3, 4, 5), (3, 5)[::-1]),
        ((2, 3, 4, 5), (5,)),
        ((0, 4, 5), (5, 3)),
        ((2, 4, 0), (2, 0, 3)),
        ((0,), (0,)),
        ((4, 5), (5, 0)),
    ],
)
@pytest.mark.parametrize("dtype", FLOATS)
def test_matmul_shapes(rng, a, b, dtype):
    a, b = normal(rng, *a, dtype=dtype), normal(rng, *b, dtype=dtype)
    want = np.matmul(wide(a), wide(b))
    got = tfcore.matmul(a, b)
    assert isinstance(got, (np.ndarray, np.generic))
    assert_close(got, want, bound=np.matmul(np.abs(wide(a)), np.abs(wide(b))) * roundings(5) * unit(dtype), dtype=dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_linear_shapes(rng, dtype):
    weight, bias = normal(rng, 7, 5, dtype=dtype), normal(rng, 7, dtype=dtype)
    for lead in ((), (1,), (3,), (2, 3), (2, 1, 3), (0,), (2, 0)):
        x, residual = normal(rng, *lead, 5, dtype=dtype), normal(rng, *lead, 7, dtype=dtype)
        for activation in (None, "gelu"):
            assert check_linear(x, weight, bias, residual, activation).shape == (*lead, 7)
        assert_same_bits(tfcore.PackedLinear(weight, bias)(x), tfcore.linear(x, weight, bias))


# --- epilogue --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_bias_activation_and_residual(machine, rng, dtype, activation):
    x, weight, bias, residual = (normal(rng, *s, dtype=dtype) for s in ((27, 40), (50, 40), (50,), (27, 50)))
    for with_bias, with_residual in itertools.product((bias, None), (residual, None)):
        got = check_linear(x, weight, with_bias, with_residual, activation)
        packed = tfcore.PackedLinear(weight, with_bias)
        assert_same_bits(packed(x, activation=activation, residual=with_residual), got)


@pytest.mark.parametrize("dtype", FLOATS)
def test_residual_may_be_the_result_of_another(machine, rng, dtype):
    """x + feed_forward(x), as in a transformer block: the residual is the input itself."""
    x, weight = normal(rng, 27, 40, dtype=dtype), normal(rng, 40, 40, dtype=dtype)
    check_linear(x, weight, residual=x)


def test_activation_of_hostile_sums(isa, rng):
    """Sums far out on both sides and at zero: no activation makes a NaN of a finite sum."""
    x = np.array([[-1e30], [-1e4], [-100.0], [-20.0], [-1e-30], [-0.0], [0.0], [1e-30], [20.0], [100.0], [1e30]])
    for dtype, activation in itertools.product(FLOATS, ACTIVATIONS):
        got = check_linear(x.astype(dtype), np.ones((3, 1), dtype), activation=activation)
        assert np.all(np.isfinite(got)), activation


def test_non_finite_terms(isa):
    for dtype in FLOATS:
        x = np.array([[np.inf, 1.0], [-np.inf, 1.0], [np.nan, 1.0], [np.inf, -np.inf], [1.0, 1.0]], dtype)
        weight = np.array([[1.0, 1.0], [0.0, 1.0]], dtype)
        with np.errstate(invalid="ignore"):
            want = wide(x) @ wide(weight).T
        for got in (tfcore.linear(x, weight), tfcore.matmul(x, weight.T)):
            assert_close(got, want, bound=0, nan_equal=True)


def test_infinity_reaches_its_own_row_and_column_only(machine, rng):
    x, weight = normal(rng, 30, 40), normal(rng, 50, 40)
    want = tfcore.linear(x, weight)
    for poison in (np.nan, np.inf):
        bad = x.copy()
        bad[13, 7] = poison
        got = tfcore.linear(bad, weight)
        assert_same_bits(np.delete(got, 13, axis=0), np.delete(want, 13, axis=0))
        assert not np.any(np.isfinite(got[13]))
        bad = weight.copy()
        bad[49, 39] = poison
        got = tfcore.linear(x, bad)
        assert_same_bits(got[:, :49], want[:, :49])
        assert not np.any(np.isfinite(got[:, 49]))


# --- accuracy --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("depth", [64, 768, 3072])
def test_as_accurate_as_numpy(isa, rng, dtype, depth):
    x, weight = normal(rng, 96, depth, dtype=dtype), normal(rng, 80, depth, dtype=dtype)
    exact = np.einsum("mk,nk->mn", x.astype(np.longdouble), weight.astype(np.longdouble)).astype(np.float64)
    as_accurate_as_numpy(tfcore.linear(x, weight), x @ weight.T, exact)
    as_accurate_as_numpy(tfcore.matmul(x, weight.T), x @ weight.T, exact)


# --- inputs and outputs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_layouts(machine, rng, dtype):
    x, weight, bias, residual = (normal(rng, *s, dtype=dtype) for s in ((19, 23), (37, 23), (37,), (19, 37)))
    want = tfcore.linear(x, weight, bias, residual=residual)
    product = tfcore.matmul(x, weight.T)
    for name, other in layouts(x):
        assert_same_bits(tfcore.linear(other, weight, bias, residual=residual), want, f"x {name}")
        assert_same_bits(tfcore.matmul(other, weight.T), product, f"a {name}")
    for name, other in layouts(weight):
        assert_same_bits(tfcore.linear(x, other, bias, residual=residual), want, f"weight {name}")
        assert_same_bits(tfcore.PackedLinear(other, bias)(x, residual=residual), want, f"packed weight {name}")
        assert_same_bits(tfcore.matmul(x, other.T), product, f"b {name}")
    for name, other in layouts(bias):
        assert_same_bits(tfcore.linear(x, weight, other, residual=residual), want, f"bias {name}")
    for name, other in layouts(residual):
        assert_same_bits(tfcore.linear(x, weight, bias, residual=other), want, f"residual {name}")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("columns", [1, 2, 15, 16, 17, 40, 130])
def test_few_rows_and_columns_read_weights_as_they_lie(machine, rng, dtype, columns):
    for rows, depth in itertools.product((1, 2, 4, 5, 8, 9, 33), (1, 3, 31, 100, 385, 800)):
        what = f"{rows} x {depth}"
        x, weight = normal(rng, rows, depth, dtype=dtype), normal(rng, columns, depth + 3, dtype=dtype)[:, :depth]
        residual = normal(rng, rows, columns, dtype=dtype)
        packed = tfcore.PackedLinear(weight)
        assert_same_bits(tfcore.linear(x, weight), packed(x), what)
        after = {"activation": "gelu", "residual": residual}
        assert_same_bits(tfcore.linear(x, weight, **after), packed(x, **after), f"{what}, gelu and residual")
        assert_same_bits(tfcore.matmul(x, np.ascontiguousarray(weight.T)), packed(x), f"{what}, by rows")
        assert_same_bits(tfcore.matmul(x, weight[-1]), packed(x)[:, -1], f"{what}, a vector")


def test_broadcast_inputs(isa, rng):
    x, weight = normal(rng, 1, 23), normal(rng, 37, 1)
    check_linear(np.broadcast_to(x, (19, 23)), np.broadcast_to(weight, (37, 23)), np.broadcast_to(weight[0], (37,)))


def test_dtypes(isa, rng):
    x, weight, bias = normal(rng, 9, 20), normal(rng, 6, 20), normal(rng, 6)
    check_linear(*(a.astype(np.float16) for a in (x, weight, bias)))
    for kinds in (
        (np.int64, np.int8, bool),
        (bool, bool, np.uint8),
        (np.float32, np.float64, np.float32),
        (np.float16, np.float32, np.float16),
        (np.float32, np.int64, np.float32),
    ):
        a, w, b = (np.round(2 * array).astype(kind) for array, kind in zip((x, weight, bias), kinds, strict=True))
        want = reference.linear(a, w, b)
        size = np.abs(wide(a)) @ np.abs(wide(w)).T + np.abs(wide(b))
        assert_close(tfcore.linear(a, w, b), want, steps=24, magnitude=size, dtype=want.dtype)
        want = np.matmul(wide(a), wide(w).T)
        assert_close(tfcore.matmul(a, w.T), want, steps=24, magnitude=size, dtype=reference.matmul(a, w.T).dtype)


def test_lists_dlpack_and_torch(rng):
    x, weight, bias = normal(rng, 4, 3), normal(rng, 5, 3), normal(rng, 5)
    want = tfcore.linear(x, weight, bias)
    assert_same_bits(tfcore.linear(*map(OnlyDLPack, (x, weight, bias))), want)
    from_lists = tfcore.linear(x.tolist(), weight.tolist(), bias.tolist())
    assert_same_bits(from_lists, tfcore.linear(wide(x), wide(weight), wide(bias)))


def test_torch_tensors(rng):
    torch = pytest.importorskip("torch")
    x, weight, bias = normal(rng, 4, 3), normal(rng, 5, 3), normal(rng, 5)
    tensors = [torch.from_numpy(a).requires_grad_(False) for a in (x, weight, bias)]
    assert_same_bits(tfcore.linear(*tensors), tfcore.linear(x, weight, bias))
    assert_same_bits(tfcore.PackedLinear(*tensors[1:])(tensors[0]), tfcore.linear(x, weight, bias))


@pytest.mark.parametrize("dtype", FLOATS)
def test_out(machine, rng, dtype):
    x, weight, bias = (normal(rng, *s, dtype=dtype) for s in ((19, 23), (37, 23), (37,)))
    want = tfcore.linear(x, weight, bias)
    packed = tfcore.PackedLinear(weight, bias)
    for name, out in layouts(np.full_like(want, np.nan)):
        if name in ("read-only", "bytes swapped"):
            continue
        assert tfcore.linear(x, weight, bias, out=out) is out
        assert_same_bits(out, want, name)
        out[...] = np.nan
        assert packed(x, out=out) is out
        assert_same_bits(out, want, name)
        out[...] = np.nan
        assert tfcore.matmul(x, weight.T, out=out) is out
        assert_same_bits(out, tfcore.linear(x, weight), name)


def test_a_weight_of_more_elements_than_there_are_addresses():
    with pytest.raises(MemoryError):
        tfcore.PackedLinear(np.broadcast_to(np.float32(1), (1, 2**60)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("biased", [True, False])
def test_a_packed_weight_is_copied_and_pickled(rng, dtype, biased):
    weight, bias = rng.standard_normal((37, 21)).astype(dtype), rng.standard_normal(37).astype(dtype)
    layer, x = tfcore.PackedLinear(weight, bias if biased else None), rng.standard_normal((3, 21)).astype(dtype)
    for other in (copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert (other.shape, other.dtype) == ((37, 21), dtype)
        assert np.array_equal(other(x), layer(x))
    assert repr(layer) == f"PackedLinear(37, 21; {np.dtype(dtype)})"


def test_a_packed_weight_before_its_init():
    class Early(tfcore.PackedLinear):
        def __init__(self):
            assert (self.shape, repr(self)) == ((0, 0), "PackedLinear()")
            for use in (lambda: self(np.ones(2)), lambda: pickle.dumps(self)):
                with pytest.raises(TypeError, match="PackedLinear: __init__ has not been called yet"):
                    use()
            super().__init__(np.ones((3, 2)))

    assert Early()(np.ones(2)).tolist() == [2, 2, 2]


def test_a_packed_weight_is_a_copy(rng):
    x, weight, bias = normal(rng, 4, 23), normal(rng, 37, 23), normal(rng, 37)
    want = tfcore.linear(x, weight, bias)
    mine = weight.copy()
    packed = tfcore.PackedLinear(mine, read_only(bias))
    mine[...] = np.nan
    assert_same_bits(packed(x), want)


# --- feed_forward ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_feed_forward(machine, rng, dtype, activation):
    shapes = (2, 13, 24), (96, 24), (96,), (24, 96), (24,)
    x, w1, b1, w2, b2 = (normal(rng, *shape, dtype=dtype) for shape in shapes)
    want = reference.feed_forward(*map(wide, (x, w1, b1, w2, b2)), activation=activation)
    hidden = reference.linear(*map(wide, (x, w1, b1)), activation=activation)
    hidden_bound = linear_bound(x, w1, dtype, hidden, b1)
    bound = linear_bound(hidden, w2, dtype, want, b2) + hidden_bound @ np.abs(wide(w2)).T
    got = tfcore.feed_forward(x, w1, b1, w2, b2, activation=activation)
    assert_close(got, want, bound=bound, dtype=dtype)


def test_feed_forward_is_gelu_and_two_linears(rng):
    x, w1, b1, w2, b2 = (normal(rng, *shape) for shape in ((13, 24), (96, 24), (96,), (24, 96), (24,)))
    want = tfcore.linear(tfcore.linear(x, w1, b1, activation="gelu"), w2, b2)
    assert_same_bits(tfcore.feed_forward(x, w1, b1, w2, b2), want)


def test_feed_forward_computes_its_hidden_layer_in_the_dtype_of_all(isa, rng):
    """float16 in float32, whose hidden layer may leave float16; float32 beside one float64 weight in float64."""
    x, w1, b1, w2 = np.full((1, 8), 200.0), np.full((4, 8), 100.0), np.zeros(4), np.full((8, 4), 1e-3)
    half = tfcore.feed_forward(*(a.astype(np.float16) for a in (x, w1, b1, w2)), None, activation="relu")
    assert half.dtype == np.float16
    assert np.array_equal(half, np.full((1, 8), 640.5, np.float16))
    x, w1, b1, w2 = normal(rng, 6, 8), normal(rng, 32, 8), normal(rng, 32), normal(rng, 8, 32, dtype=np.float64)
    wide = [a.astype(np.float64) for a in (x, w1, b1, w2)]
    assert np.array_equal(tfcore.feed_forward(x, w1, b1, w2, None), tfcore.feed_forward(*wide, None))
