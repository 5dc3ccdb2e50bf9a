"""tfcore.nn beside torch.nn, live: weights that are handed over, and a seeded grid of sizes, masks and options."""

from __future__ import annotations

import numpy as np
import pytest
from arrays import normal
from closeness import assert_close, assert_same_bits
from nn_cases import KINDS, RECORDED, draw_case, run_tfcore, run_torch
from tfcore import nn

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor", "ignore:The PyTorch API of nested tensors")

CLOSE = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-10}


@pytest.fixture(autouse=True)
def one_thread():
    """On arrays this small PyTorch's threads would only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def test_grid(kind):
    for number in range(RECORDED, RECORDED + 20):
        case = draw_case(kind, number)
        for got, want in zip(run_tfcore(case), run_torch(case), strict=True):
            assert_close(got, want, bound=CLOSE[case.dtype], dtype=case.dtype, what=f"{kind} {number}")


def hand_over(theirs, ours):
    """A state dict, there and back; both layers."""
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    back = {name: torch.from_numpy(value) for name, value in ours.state_dict().items()}
    theirs.load_state_dict(back)
    return theirs.eval(), ours


def test_small_layers(rng):
    x = normal(rng, 2, 3, 8)
    pairs = [
        (torch.nn.Linear(8, 5), nn.Linear(8, 5)),
        (torch.nn.Linear(8, 5, bias=False), nn.Linear(8, 5, bias=False)),
        (torch.nn.LayerNorm(8), nn.LayerNorm(8)),
        (torch.nn.LayerNorm(8, bias=False, eps=0.1), nn.LayerNorm(8, bias=False, eps=0.1)),
        (torch.nn.LayerNorm(8, elementwise_affine=False), nn.LayerNorm(8, elementwise_affine=False)),
        (torch.nn.LayerNorm([3, 8]), nn.LayerNorm([3, 8])),
        (torch.nn.RMSNorm(8), nn.RMSNorm(8)),
        (torch.nn.RMSNorm((3, 8), eps=0.1), nn.RMSNorm((3, 8), eps=0.1)),
        (torch.nn.RMSNorm(8, elementwise_affine=False), nn.RMSNorm(8, elementwise_affine=False)),
    ]
    for theirs, ours in pairs:
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter.copy_(torch.from_numpy(normal(rng, *parameter.shape)))
            theirs, ours = hand_over(theirs, ours)
            assert_close(ours(x), theirs(torch.from_numpy(x)).numpy(), bound=2e-6, dtype=np.float32, what=repr(ours))
    theirs, ours = hand_over(torch.nn.Embedding(10, 4, padding_idx=3), nn.Embedding(10, 4, padding_idx=3))
    ids = rng.integers(0, 10, (2, 7))
    assert np.array_equal(ours(ids), theirs(torch.from_numpy(ids)).detach().numpy())


def test_the_names_and_their_order():
    for options in ({}, {"bias": False}, {"kdim": 5}, {"vdim": 5, "bias": False}, {"add_bias_kv": True}):
        hand_over(torch.nn.MultiheadAttention(12, 3, **options), nn.MultiHeadAttention(12, 3, **options))
    for bias in (True, False):
        hand_over(
            torch.nn.Transformer(12, 3, 2, 3, 20, bias=bias, batch_first=True, norm_first=True),
            nn.Transformer(12, 3, 2, 3, 20, bias=bias),
        )


def test_what_is_visible_equals_the_fast_path(rng):
    """PyTorch's fast path returns zeros for padding; what is none must be equal all the same."""
    theirs = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2)
    theirs, ours = hand_over(theirs, nn.Encoder(nn.EncoderLayer(16, 4, 32), 2))
    x, padding = normal(rng, 3, 7, 16), np.arange(7) >= np.array([[7], [4], [2]])
    with torch.inference_mode():
        want = theirs(torch.from_numpy(x), src_key_padding_mask=torch.from_numpy(padding)).numpy()
    got = ours(x, src_key_padding_mask=padding)
    assert_close(got[~padding], want[~padding], bound=2e-5)


def test_tensors_go_straight_in(rng):
    theirs = torch.nn.Transformer(8, 2, 1, 1, 16, batch_first=True, norm_first=True).eval()
    ours = nn.Transformer(8, 2, 1, 1, 16, norm_first=True)
    ours.load_state_dict(dict(theirs.named_parameters()))  # parameters, with their gradients
    src, tgt = torch.from_numpy(normal(rng, 2, 5, 8)), torch.from_numpy(normal(rng, 2, 4, 8)).requires_grad_()
    mask = torch.nn.Transformer.generate_square_subsequent_mask(4)
    with torch.no_grad():
        assert_close(ours(src, tgt, tgt_mask=mask), theirs(src, tgt, tgt_mask=mask).numpy(), bound=2e-5)
    layer, ones = nn.Linear(8, 3), np.ones((2, 4, 3), np.float32)
    for residual in (torch.ones(2, 4, 3, requires_grad=True), torch.ones(2, 4, 3, dtype=torch.bfloat16)):
        assert_same_bits(layer(tgt, residual=residual), layer(tgt, residual=ones))


def test_bfloat16_and_half_weights_are_widened(rng):
    for dtype in (torch.bfloat16, torch.float16):
        theirs, ours = torch.nn.Linear(4, 3).to(dtype), nn.Linear(4, 3)
        ours.load_state_dict(theirs.state_dict())
        assert np.array_equal(ours.weight, theirs.weight.detach().float().numpy())


def test_fresh_weights_are_distributed_like_pytorchs():
    torch.manual_seed(0)
    pairs = [
        (torch.nn.Linear(90, 80), nn.Linear(90, 80)),
        (torch.nn.Embedding(90, 80, padding_idx=2), nn.Embedding(90, 80, padding_idx=2)),
        (torch.nn.MultiheadAttention(80, 4, add_bias_kv=True), nn.MultiHeadAttention(80, 4, add_bias_kv=True)),
        (torch.nn.MultiheadAttention(80, 4, kdim=70), nn.MultiHeadAttention(80, 4, kdim=70)),
        (torch.nn.Transformer(80, 4, 1, 1, 90, norm_first=True), nn.Transformer(80, 4, 1, 1, 90)),
    ]
    for theirs, ours in pairs:
        found = ours.state_dict()
        for name, value in theirs.state_dict().items():
            want = value.numpy()
            sampled = 6 * want.std() / np.sqrt(want.size)
            assert abs(found[name].mean() - want.mean()) <= 2 * sampled, name
            assert abs(found[name].std() - want.std()) <= sampled, name
            if want.size > 5000 and "embed" not in name and theirs.__class__ is not torch.nn.Embedding:
                assert abs(np.abs(found[name]).max() - np.abs(want).max()) <= 0.01 * np.abs(want).max(), name
