"""Memory stays flat: no array of L times S, and nothing that grows with what was computed before."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tfcore
from checkpoints import minilm, write_bert
from children import in_a_subprocess
from gguf_files import smollm2

PEAK = """
    import re
    import numpy as np, tfcore

    def mebibytes(field):
        with open("/proc/self/status") as status:
            return int(re.search(field + r":\\s+(\\d+)", status.read())[1]) / 1024

    def peak():  # this process's own; ru_maxrss would begin at its parent's
        return mebibytes("VmHWM")

    def resident():
        return mebibytes("VmRSS")

    tfcore.set_num_threads(2)
"""


def added_by(setup, call) -> float:
    """MiB by which a call raises the peak of a fresh process, its inputs and its output being there before."""
    code = textwrap.dedent(PEAK) + textwrap.dedent(setup) + f"\nbefore = peak()\n{call}\nprint(peak() - before)"
    return float(in_a_subprocess(code))


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's own peak")

ATTENTION = """
    q, k, v = (np.ones((1, 16384, 64), np.float32) for _ in range(3))
    out = np.ones_like(q)
    tfcore.scaled_dot_product_attention(q[:, :200], k[:, :200], v[:, :200], out=out[:, :200])
"""

ONE_CALL = "tfcore.scaled_dot_product_attention(q, k, v, {} out=out)"


@linux
def test_the_measure_sees_what_is_added():
    assert 60 < added_by("x = np.ones(8)", "np.ones(2**23)") < 80


@linux
@pytest.mark.parametrize("options", ["", "is_causal=True, softcap=5.0,", "attn_mask=np.ones(16384, bool),"])
def test_long_attention_adds_little(options):
    """The weights alone would be 1024 MiB."""
    assert added_by(ATTENTION, ONE_CALL.format(options)) < 32


@linux
def test_attention_over_65536_keys_adds_little():
    """Half of 16 GiB, the causal weights would be."""
    assert added_by(ATTENTION.replace("16384", "65536"), ONE_CALL.format("is_causal=True,")) < 32


@linux
def test_products_add_their_packing_only():
    setup = """
        x, w = np.ones((4096, 1024), np.float32), np.ones((1024, 1024), np.float32)
        out, packed = np.ones_like(x), tfcore.PackedLinear(w)
        packed(x[:200], out=out[:200])
    """
    assert added_by(setup, "packed(x, out=out)") < 8
    assert added_by(setup, "tfcore.linear(x, w, out=out)") < 16


@linux
def test_many_shapes_leave_nothing_behind():
    setup = """
        def calls(n):
            for i in range(n):
                x = np.ones((20 + i % 150, 64 + i % 7 * 16), np.float32)
                tfcore.self_attention(x, x, x)
                tfcore.linear(x, x)
                tfcore.layer_norm(x)
                tfcore.softmax(x, 0)
                tfcore.rotary_embedding(x, rotary_dim=32)
                try:
                    tfcore.matmul(x, x[:3, :3])
                except ValueError:
                    pass
        calls(150)
    """
    assert added_by(setup, "calls(900)") < 4


@linux
def test_weights_take_their_size_and_go_with_their_owner():
    """Weights of 4 MiB and of 2.4, which huge pages do not divide; 80 pieces of the latter."""
    setup = """
        w = np.ones((1024, 1024), np.float32)
        odd = np.ones((384, 1600), np.float32)
        tfcore.PackedLinear(w[:200, :200])
    """
    assert 3.5 < added_by(setup, "packed = tfcore.PackedLinear(w)") < 5.5
    assert added_by(setup, "for _ in range(80): tfcore.PackedLinear(odd)") < 8
    assert added_by(setup, "packed = [tfcore.PackedLinear(odd) for _ in range(8)]") < 8 * 2.4 + 3


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").is_dir(), reason="this system has no huge pages")
def test_weights_ask_for_huge_pages():
    code = """
        def advised():  # KiB of mappings that wish for huge pages
            with open("/proc/self/smaps") as lines:
                sizes = re.findall(r"Size:\\s+(\\d+) kB\\n(?:(?!Size:).*\\n)*?VmFlags:.* hg", "".join(lines))
            return sum(map(int, sizes))

        w = np.ones((1024, 1024), np.float32)
        before = advised()
        packed = tfcore.PackedLinear(w)
        print(advised() - before)
    """
    assert int(in_a_subprocess(textwrap.dedent(PEAK) + textwrap.dedent(code))) == 4096


@linux
def test_a_models_weights_take_their_size_and_go_with_it():
    """42 MB of layers; what else a model holds, its words' vectors, is 47."""
    code = f"""
        import gc
        model = tfcore.AutoModel.from_pretrained({str(minilm())!r})
        model(np.ones((1, 8), np.int64))
        held = resident()
        assert held - before < 42 + 47 + 30, held - before
        del model
        gc.collect()
        assert held - resident() > 40, held - resident()
        print("done")
    """
    before = textwrap.dedent(PEAK) + "import tfcore.models, tokenizers\nbefore = resident()\n"
    assert in_a_subprocess(before + textwrap.dedent(code)) == "done\n"


@linux
def test_weights_of_4_and_8_bits_stay_about_as_small_as_in_their_file():
    """SmolLM2 of 135 million numbers: 98 MB in its file, 538 in float32."""
    code = f"""
        model = tfcore.AutoModelForCausalLM.from_pretrained({str(smollm2())!r})
        model(np.ones((1, 8), np.int64))
        held = resident()
        assert held - before < 98 * 1.25 + 30, held - before
        print("done")
    """
    before = textwrap.dedent(PEAK) + "import tfcore.models, tokenizers\nbefore = resident()\n"
    assert in_a_subprocess(before + textwrap.dedent(code)) == "done\n"


@linux
def test_thousands_of_texts_leave_nothing_behind(tmp_path):
    """What the process holds, not its peak; 4000 vectors of the model would be 0.5 MiB, their hidden states 4."""
    setup = f"""
        def encode(first):
            for start in range(first, first + 500, 100):
                encoder.encode([f"the cat {{row}} " * (1 + row % 9) for row in range(start, start + 100)])

        encoder = tfcore.SentenceEncoder({str(write_bert(tmp_path / "model"))!r})
        for first in range(0, 1500, 500):
            encode(first)
        peak = resident  # so that what is held is compared
    """
    call = "for first in range(1500, 7500, 500): encode(first)"
    assert added_by(setup, call) < 2


LARGE_RESULTS = """
    peak = resident  # what is held is compared
    tfcore.positional_encoding(8, 8)
"""


@linux
def test_one_large_result_stays_and_no_more():
    """32 MiB are mapped by malloc anew each time; one piece up to 64 MiB is kept, whatever was there before it."""
    assert 30 < added_by(LARGE_RESULTS, "tfcore.positional_encoding(8192, 512)") < 36
    assert added_by(LARGE_RESULTS, "[tfcore.positional_encoding(rows, 512) for rows in range(8192, 16000, 999)]") < 68
    assert added_by(LARGE_RESULTS, "tfcore.positional_encoding(20000, 512)") < 4


def test_a_large_result_is_an_array_like_any_other():
    """Kept storage comes back with what was in it: nothing of that may show, and the array owns and resizes it."""
    first = tfcore.positional_encoding(8192, 512)
    want = first.copy()
    assert first.flags.owndata
    assert first.ctypes.data % 64 == 0
    other = tfcore.positional_encoding(8192, 512, offset=3)
    np.testing.assert_array_equal(first, want)
    del first
    again = tfcore.positional_encoding(8192, 512)
    np.testing.assert_array_equal(again, want)
    np.testing.assert_array_equal(other[:-3], want[3:])
    again.resize((9000, 512), refcheck=False)
    np.testing.assert_array_equal(again[:8192], want)
    again.resize((10, 512), refcheck=False)
    np.testing.assert_array_equal(again, want[:10])
