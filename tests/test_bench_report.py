"""tfcore.bench: tables and pictures say what was measured."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from tfcore.bench import machine, plot, report
from tfcore.bench.progress import show_progress

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def made_up(threads: int = 2) -> dict:
    def rival(median_s, rate=1.0):
        return {"median_s": median_s, "best_decile_s": median_s, "rate": rate, "calls": 9, "max_error": 0.0}

    both = {"tfcore": rival(1.5e-6, 45.678), "numpy": rival(3e-6), "torch": rival(2.25e-6)}
    alone = {"tfcore": rival(0.25, 0.5)}
    small = {"name": "small", "group": "g", "short": True, "rivals": both, "rate_unit": "GFLOP/s"}
    large = {"name": "large", "group": "h", "short": False, "rivals": alone, "rate_unit": "GB/s"}
    at_1024 = {"length": 1024, "seconds": {"tfcore": 1e-3, "numpy": 2e-3}, "added_bytes": {"tfcore": 8e5, "numpy": 8e6}}
    at_2048 = {"length": 2048, "seconds": {"tfcore": 4e-3, "numpy": 8e-3}, "added_bytes": {"tfcore": 1e6, "numpy": 3e7}}
    return {
        **machine.describe(),
        "machine": {"cpu": "A CPU", "isa": "an ISA", "system": "Linux", "versions": {"numpy": "2.0"}},
        "threads": {"tfcore": 2, "numpy": threads},
        "limits": {"fma_float32": 60.904, "copy": 12.0},
        "cases": [
            {
                **small,
                "asides": {"done twice": {"median_s": 3e-6}},
                "best_peer": "torch",
                "ratio": 1.5,
                "limit": "fma_float32",
                "limit_rate": 60.904,
                "share": 0.75,
                "target": {"ratio": 1.2, "share": 0.8, "over": {"numpy": 1.9, "torch": 2.0}},
            },
            {
                **large,
                "asides": {},
                "best_peer": None,
                "ratio": None,
                "limit": None,
                "limit_rate": None,
                "share": None,
                "target": {"ratio": 1.0, "share": None, "over": {}},
            },
        ],
        "scaling": [at_1024, at_2048],
        "left_out": {"peer": "not installed"},
        "complete": True,
    }


def test_the_table():
    header, rows = report.table(made_up())
    assert header == ["case", "tfcore", "numpy", "torch", "rate", "of limit", "ratio"]
    assert rows == [
        ["small", "1.50 µs", "3.00 µs", "2.25 µs", "45.7 GFLOP/s", "75%", "1.50x"],
        ["· done twice", "3.00 µs", "-", "-", "-", "-", "2.00x"],
        ["large", "250 ms", "-", "-", "0.50 GB/s", "-", "-"],
    ]
    header, rows = report.table(made_up(), targets=True)
    assert [header[-1], *(row[-1] for row in rows)] == ["target", "✓ 1.20x ✗ 80% ✓ 1.90x numpy ✗ 2.00x torch", "-", "-"]
    _, rows = report.table(report.short(made_up()))
    assert [row[0] for row in rows] == ["small", "· done twice"]
    header, rows = report.growth(made_up())
    assert header == ["keys", "tfcore", "numpy", "tfcore adds", "numpy adds"]
    assert rows[1] == ["2048", "4.00 ms", "8.00 ms", "1.00 MB", "30.0 MB"]


def test_the_text():
    text = report.text(made_up())
    assert "2048  4.00 ms  8.00 ms" in text
    assert len({len(line) for line in text.splitlines()[:2]}) == 1
    for said in ("A CPU", "an ISA", "threads: 2 for all", "numpy 2.0", "left out: peer (not installed)"):
        assert said in text
    assert "measured in the same run: fma_float32 60.9 GFLOP/s, copy 12.0 GB/s" in text


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
        "before\n<!-- bench:begin -->\n| case | tfcore | numpy | torch | rate | of limit | ratio |\n| --- | ---: |"
    )
    assert "| small | 1.50 µs | 3.00 µs | 2.25 µs | 45.7 GFLOP/s | 75% | 1.50x |" in once
    assert "| large |" not in once
    assert once.endswith("<!-- bench:end -->\nafter\n")
    assert "old" not in once
    script["main"]([str(result), str(readme)])
    assert readme.read_text() == once
    script["main"]([str(result)])
    out = capsys.readouterr().out
    assert "| 1.50x | ✓ 1.20x ✗ 80% ✓ 1.90x numpy ✗ 2.00x torch |" in out
    assert "| large |" in out
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
    blue = np.abs(pixels - np.array([0x00, 0x72, 0xB2]) / 255).max(axis=-1) < 0.02
    assert blue[: height // 2, width // 2 :].any()  # tfcore's marker in either chart, one above the other
    assert blue[height // 2 :, width // 2 :].any()


def test_a_picture_for_each_group_and_one_of_growth(tmp_path):
    pytest.importorskip("matplotlib")
    script = run_path(str(BENCHMARKS / "report.py"))
    (tmp_path / "result.json").write_text(json.dumps(made_up()))
    contents = []
    for _ in range(2):
        script["main"]([str(tmp_path / "result.json"), "--plot", str(tmp_path / "pictures")])
        files = sorted((tmp_path / "pictures").iterdir())
        assert [file.name for file in files] == ["g.svg", "h.svg", "scaling.svg"]
        contents.append([file.read_text(encoding="utf-8") for file in files])
    assert contents[0] == contents[1]
    assert "1.50x" in contents[0][0]
    assert "numpy, 30.0 MB" in contents[0][2]


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"cases": null, "limits": {}}',
        b'{"cases": [{}], "limits": {}, "machine": {}}',
    ],
)
def test_what_is_no_result_is_named(tmp_path, content):
    file = tmp_path / "result.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SystemExit, match=r"report\.py: .*result\.json"):
        run_path(str(BENCHMARKS / "report.py"))["main"]([str(file)])


@pytest.mark.parametrize(
    ("file", "error"),
    [("speed.doc", ValueError), ("no_such_folder/speed.png", FileNotFoundError), ("folder.png", IsADirectoryError)],
)
def test_a_plot_that_cannot_be_written_is_refused_first(tmp_path, file, error):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(error, match=re.escape(f"{tmp_path / file}: ")):
        plot.check(tmp_path / file)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_plot_that_may_not_be_written_is_refused_first(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="may not be written"):
        plot.check(tmp_path / "speed.png")


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
