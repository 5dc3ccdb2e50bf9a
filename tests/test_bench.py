"""tfcore.bench: wrong results are caught before they are timed, rivals take turns, reports say what was measured."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import tfcore
from tfcore import bench, cli
from tfcore.bench import cases, encoder, harness, machine, plot, report
from tfcore.bench.harness import Case, Contest, Protocol, Timing, WrongResultError
from tfcore.bench.progress import show_progress

SHORT = Protocol(rounds=2, block_seconds=0.001, pause_seconds=0.001)
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
TINY = encoder.Shape("tiny", layers=2, width=32, inner=48, heads=4, positions=24, vocabulary=40)
SMALL_CASES = [
    cases.self_attention(2, 5, 16),
    cases.multi_head_attention(9, 11, 32, "float64"),
    cases.multi_head_attention(9, 9, 32, "float32"),
    cases.positional_encoding(40, 12),
    cases.attention(2, 3, 33, 40, 16),
    cases.attention(1, 2, 20, 20, 8, causal=True),
    cases.attention(1, 2, 20, 20, 8, dtype="float64"),
    cases.linear(7, 33, 20),
    cases.encode(TINY, 2, 9),
]


@pytest.fixture
def no_torch(monkeypatch):
    """As if torch were not installed, which also saves seconds of importing it."""
    monkeypatch.setitem(sys.modules, "torch", None)
    encoder.opened.cache_clear()
    yield
    encoder.opened.cache_clear()


def doubling(**rivals) -> Case:
    """A case that wants [2, 4] within 0.5."""
    calls = {"tfcore": lambda: np.array([2.0, 4.25]), **rivals}
    prepared = {name: partial(lambda call: call, call) for name, call in calls.items()}
    return Case("doubling", "sums", lambda: Contest(prepared, np.array([2.0, 4.0]), 0.5, work=2e9))


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
    want, bound = np.array([1.0, 2.0]), np.array([0.1, 1.0])
    rivals = {"a": lambda: np.array([1.0, 3.0], np.float32), "b": lambda: want}
    assert harness.verify("case", rivals, want, bound) == {"a": 1.0, "b": 0.0}


@pytest.mark.parametrize("case", SMALL_CASES, ids=lambda case: case.name)
def test_the_rivals_of_every_kind_of_case_agree(no_torch, case):
    contest, left_out = case.make(), {}
    rivals = harness.prepare(contest.rivals, left_out)
    assert "tfcore" in rivals
    assert set(left_out) <= {"torch"}
    harness.verify(case.name, rivals, contest.want, contest.bound)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("case", SMALL_CASES, ids=lambda case: case.name)
def test_torch_agrees_too(case):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    contest = case.make()
    if "torch" in contest.rivals:
        harness.verify(case.name, {"torch": contest.rivals["torch"]()}, contest.want, contest.bound)


@pytest.mark.parametrize("case", SMALL_CASES, ids=lambda case: case.name)
def test_bounds_are_tight_enough_to_catch_a_thousandth(no_torch, case):
    contest = case.make()
    result = np.asarray(contest.rivals["tfcore"]()())
    with pytest.raises(WrongResultError):
        harness.verify(case.name, {"tfcore": lambda: result * 1.001}, contest.want, contest.bound)


def test_the_encoder_in_numpy_is_an_independent_witness():
    """A change of any one tensor shows in its result, so a rival that skipped one would be caught."""
    weights, ids = encoder.random_weights(TINY), np.array([[1, 7, 3]])
    want = encoder.forward(TINY, weights, ids)
    no_effect = ("pooler.", "attention.self.key.bias")  # softmax ignores what is added to a whole row
    for name, tensor in weights.items():
        changed = encoder.forward(TINY, {**weights, name: tensor * 2}, ids)
        seen = np.abs(changed - want).max() > 2e-5
        assert seen != any(part in name for part in no_effect), name


# --- timing ----------------------------------------------------------------------------------------------------------


def test_rivals_take_turns_by_blocks(monkeypatch):
    blocks = []
    monkeypatch.setattr(harness, "_block", lambda run, calls, seconds: [float(blocks.append(run()) or 1.0)])
    rivals = {"a": lambda: "a", "b": lambda: "b", "c": lambda: "c"}
    shares = []
    timings = harness.interleave(rivals, Protocol(3, 0.0, 0.0), shares.append)
    assert "".join(blocks) == "abc" + "bca" + "cab"
    assert list(timings) == ["a", "b", "c"]
    assert sum(shares) == pytest.approx(1.0)


def test_a_block_is_a_warm_call_and_at_least_one_sample():
    calls = []
    samples = harness._block(lambda: calls.append(1), calls=5, seconds=0.0)
    assert len(samples) == 1
    assert len(calls) == 1 + 5


def test_short_calls_are_timed_several_at_once():
    assert harness._calls_a_sample(lambda: None) > 5
    assert harness._calls_a_sample(lambda: harness.time.sleep(0.002)) == 1


def test_median_and_best_decile():
    timing = Timing.of([[1.0, 1.0, 9.0], [5.0, 5.0, 5.0], [7.0, 7.0]], calls_a_sample=2)
    assert timing == Timing(median=5.0, best_decile=1.0, calls=16)


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
    contest = Contest({**contest.rivals, "peer": missing("peer")}, contest.want, contest.bound, contest.work)
    left_out: dict[str, str] = {}
    result = harness.measure(Case("doubling", "sums", lambda: contest), SHORT, left_out)
    assert list(result["rivals"]) == ["tfcore"]
    assert (result["best_peer"], result["ratio"]) == (None, None)
    assert left_out == {"peer": "No module named 'peer'"}


def test_a_case_without_tfcore_is_left_out():
    contest = Contest({"tfcore": missing("tokenizers")}, np.zeros(1), 0.0, 1.0)
    results = bench.run([Case("encoder", "models", lambda: contest), doubling()], SHORT)
    assert [case["name"] for case in results["cases"]] == ["doubling"]
    assert results["left_out"] == {"encoder": "No module named 'tokenizers'"}


# --- results ---------------------------------------------------------------------------------------------------------


def test_results_are_json_and_say_where_they_come_from(no_torch):
    results = json.loads(json.dumps(bench.run(SMALL_CASES[:2], SHORT)))
    assert set(results) == {
        "tfcore", "date", "machine", "threads", "protocol", "cases", "left_out", "complete",
    }  # fmt: skip
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
        assert set(case) == {"name", "group", "rivals", "rate_unit", "best_peer", "ratio"}
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
    results = bench.run([doubling(), Case("second", "sums", interrupt), doubling()], SHORT)
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


# --- reports ---------------------------------------------------------------------------------------------------------


def made_up(threads: int = 2) -> dict:
    def rival(median_s, rate=1.0):
        return {"median_s": median_s, "best_decile_s": median_s, "rate": rate, "calls": 9, "max_error": 0.0}

    both = {"tfcore": rival(1.5e-6, 45.678), "numpy": rival(3e-6), "torch": rival(2.25e-6)}
    alone = {"tfcore": rival(0.25, 0.5)}
    return {
        **machine.describe(),
        "machine": {"cpu": "A CPU", "isa": "an ISA", "system": "Linux", "versions": {"numpy": "2.0"}},
        "threads": {"tfcore": 2, "numpy": threads},
        "cases": [
            {"name": "small", "group": "g", "rivals": both, "rate_unit": "GFLOP/s", "best_peer": "torch", "ratio": 1.5},
            {"name": "large", "group": "g", "rivals": alone, "rate_unit": "GB/s", "best_peer": None, "ratio": None},
        ],
        "left_out": {"peer": "not installed"},
        "complete": True,
    }


def test_the_table():
    header, rows = report.table(made_up())
    assert header == ["case", "tfcore", "numpy", "torch", "rate", "ratio"]
    assert rows == [
        ["small", "1.50 µs", "3.00 µs", "2.25 µs", "45.7 GFLOP/s", "1.50x"],
        ["large", "250 ms", "-", "-", "0.50 GB/s", "-"],
    ]
    text = report.text(made_up())
    assert len({len(line) for line in text.splitlines()[:2]}) == 1
    for said in ("A CPU", "an ISA", "threads: 2 for all", "numpy 2.0", "left out: peer (not installed)"):
        assert said in text


def test_unequal_threads_are_said_loudly():
    assert "tfcore 2, numpy 8, NOT the same: set OPENBLAS_NUM_THREADS=2" in report.text(made_up(threads=8))


@pytest.mark.parametrize("columns", [80, 200])
def test_a_terminal_gets_a_coloured_table(monkeypatch, capsys, columns):
    pytest.importorskip("rich")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    report.show(made_up())
    out = capsys.readouterr().out
    for cell in ("small", "1.50 µs", "45.7 GFLOP/s", "1.50x"):
        assert cell in out


def test_markdown_goes_between_the_markers(tmp_path, capsys):
    script = run_path(str(BENCHMARKS / "report.py"))
    result, readme = tmp_path / "result.json", tmp_path / "README.md"
    result.write_text(json.dumps(made_up()))
    readme.write_text("before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nafter\n")
    script["main"]([str(result), str(readme)])
    once = readme.read_text()
    assert once.startswith(
        "before\n<!-- bench:begin -->\n| case | tfcore | numpy | torch | rate | ratio |\n| --- | ---: |"
    )
    assert "| small | 1.50 µs | 3.00 µs | 2.25 µs | 45.7 GFLOP/s | 1.50x |" in once
    assert once.endswith("<!-- bench:end -->\nafter\n")
    assert "old" not in once
    script["main"]([str(result), str(readme)])
    assert readme.read_text() == once
    script["main"]([str(result)])
    assert "| small |" in capsys.readouterr().out
    readme.write_text("no markers")
    with pytest.raises(SystemExit, match="lacks the lines"):
        script["main"]([str(result), str(readme)])


def test_the_plot_is_a_picture(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    plot.draw(made_up(), tmp_path / "speed.png")
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = image.imread(tmp_path / "speed.png")[..., :3]
    height, width, _ = pixels.shape
    assert width > height > 200
    blue = np.abs(pixels - np.array([0x1F, 0x6F, 0xEB]) / 255).max(axis=-1) < 0.02
    assert blue[:, : width // 2].any()  # tfcore's bar of either case, side by side
    assert blue[:, width // 2 :].any()


@pytest.mark.parametrize(
    ("file", "error"), [("speed.doc", ValueError), ("no_such_folder/speed.png", FileNotFoundError)]
)
def test_a_plot_that_cannot_be_written_is_refused_first(tmp_path, file, error):
    with pytest.raises(error, match="--plot"):
        plot.check(tmp_path / file)


def test_a_plot_without_matplotlib_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "tfcore\[plot\]"'):
        plot.check(tmp_path / "speed.png")


def test_without_rich_there_are_plain_lines_and_one_hint(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with show_progress(2) as progress:
        for name in ("one", "two"):
            progress.begin(name)
            progress.advance(1.0)
            progress.end()
    report.show(made_up())
    out, err = capsys.readouterr()
    assert err == f"{report.HINT}\nmeasuring one\nmeasuring two\n"
    assert out == report.text(made_up()) + "\n"


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table(no_torch, capsys):
    assert cli.main(["bench", "--quick", "--only", "self_attention"]) == 0
    out = capsys.readouterr().out
    assert "drop-in self_attention 1x64 over 5x64" in out
    assert "left out: torch" in out


def test_the_command_prints_json_and_draws(no_torch, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / "speed.png"
    assert cli.main(["bench", "--quick", "--only", "self_attention", "--json", "--plot", str(file)]) == 0
    assert len(json.loads(capsys.readouterr().out)["cases"]) == 1
    assert file.read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_is_quiet(no_torch, monkeypatch, capsys):
    monkeypatch.setattr(bench, "CASES", (doubling(), Case("second", "sums", interrupt)))
    assert cli.main(["bench", "--quick"]) == 130
    out, err = capsys.readouterr()
    assert "doubling" in out
    assert "interrupted" in out
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--only", "no such case"], "no case's name contains 'no such case'"), (["--plot", "speed.doc"], "--plot")],
)
def test_wrong_usage_is_told_in_a_line(capsys, arguments, message):
    assert cli.main(["bench", *arguments]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
