"""How parts are handed out and progress is told, without a cluster."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from bulk_cases import command, job, left, sentences, write_corpus
from checkpoints import write_bert
from tfcore.bulk import engines, progress
from tfcore.bulk.progress import State, describe
from tfcore.bulk.recipe import Recipe, checkpoint_fingerprint, embed

TEXTS = sentences(50)


# ---- a cluster


class Cluster:
    """One that finishes the newest part first, and one at a time."""

    def __init__(self, spoil=lambda embedded: embedded):
        self.spoil = spoil
        self.most = self.closed = 0

    def width(self):
        return 3

    def submit(self, recipe, texts):
        return (recipe, tuple(texts), object())

    def wait(self, handles):
        self.most = max(self.most, len(handles))
        return handles[-1:]

    def result(self, handle):
        return self.spoil(embed(handle[0], list(handle[1])))

    def close(self):
        self.closed += 1


@pytest.fixture
def cluster(monkeypatch):
    made = Cluster()
    monkeypatch.setattr(engines, "_cluster", lambda engine, address, workers: made)
    return made


def test_parts_come_back_in_any_order(tmp_path, model, cluster):
    corpus = write_corpus(tmp_path / "c.txt", TEXTS)
    job(corpus, tmp_path / "one.npy", model, part_rows=4).run()
    assert cluster.closed == 0
    job(corpus, tmp_path / "many.npy", model, part_rows=4, engine="dask").run()
    assert (cluster.most, cluster.closed) == (3, 1)
    assert (tmp_path / "one.npy").read_bytes() == (tmp_path / "many.npy").read_bytes()


def test_a_worker_with_another_checkpoint(tmp_path, model, cluster):
    cluster.spoil = lambda embedded: embedded._replace(checkpoint="another")
    corpus = write_corpus(tmp_path / "c.txt", TEXTS)
    with pytest.raises(ValueError, match=r"a worker's files of .*bert differ from those on this machine"):
        job(corpus, tmp_path / "v.npy", model, engine="ray").run()
    assert cluster.closed == 1
    assert left(tmp_path) == ["c.txt"]


def test_a_lost_cluster_loses_no_parts(tmp_path, model, cluster):
    calls = []

    def spoil(embedded):
        calls.append(embedded)
        if len(calls) == 4:
            raise ConnectionError("the cluster has gone")
        return embedded

    cluster.spoil = spoil
    corpus = write_corpus(tmp_path / "c.txt", TEXTS)
    with pytest.raises(ConnectionError, match="has gone"):
        job(corpus, tmp_path / "v.npy", model, part_rows=4, engine="dask").run()
    assert job(corpus, tmp_path / "v.npy", model, part_rows=4).run().earlier == 12
    job(corpus, tmp_path / "w.npy", model, part_rows=4).run()
    assert (tmp_path / "v.npy").read_bytes() == (tmp_path / "w.npy").read_bytes()


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("distributed", ["--engine", "dask"], "dask"),
        ("ray", ["--engine", "ray"], "ray"),
        ("pyarrow", ["--output", "v.parquet"], "parquet"),
    ],
)
def test_an_extra_is_missing(tmp_path, model, monkeypatch, capsys, module, arguments, extra):
    from tfcore.cli import main

    write_corpus(tmp_path / "c.txt", TEXTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    start = ["embed", "--model", str(model), "--input", "c.txt", "--output", "v.npy"]
    assert main([*start, *arguments]) == 2
    told = capsys.readouterr().err
    assert f'pip install "tfcore[{extra}]"' in told
    assert f"needs {module}" in told
    assert left(tmp_path) == ["c.txt"]


# ---- the model in a worker


def test_a_model_is_opened_once_and_again_when_its_files_change(tmp_path):
    from checkpoints import CONFIG, bert_tensors

    folder = write_bert(tmp_path / "bert")
    first = embed(Recipe(str(folder)), ["the"])
    recipe = Recipe(str(folder), checkpoint=first.checkpoint)
    (folder / "config.json").rename(folder / ".config.json")  # nobody looks while the model is open
    assert np.array_equal(embed(recipe, ["the"]).vectors, first.vectors)
    (folder / ".config.json").rename(folder / "config.json")
    write_bert(folder, CONFIG, bert_tensors(seed=5))
    now = checkpoint_fingerprint(folder)
    assert now != first.checkpoint
    second = embed(recipe._replace(checkpoint=now), ["the"])
    assert second.checkpoint == now
    assert not np.array_equal(second.vectors, first.vectors)


def test_a_checkpoint_is_known_by_its_files(tmp_path):
    one, two = write_bert(tmp_path / "one"), write_bert(tmp_path / "two")
    assert checkpoint_fingerprint(one) == checkpoint_fingerprint(two)
    (two / ".cache").mkdir()
    (two / ".cache" / "x").write_text("of no account")
    assert checkpoint_fingerprint(one) == checkpoint_fingerprint(two)
    with (two / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    assert checkpoint_fingerprint(one) != checkpoint_fingerprint(two)


# ---- progress


def test_the_words_of_progress():
    assert describe(State(50, 50, 0.25), 10, 0) == "50 rows, 25%, 5.0 rows/s, 0:30 left"
    assert describe(State(150, 50, 0.75), 3600, 0.5) == "150 rows, 75%, 0.0 rows/s, 1:00:00 left"
    assert describe(State(50, 50, None), 10, 0) == "50 rows, 5.0 rows/s"
    assert describe(State(50, 0, 0.5), 0, 0.5) == "50 rows, 50%, 0.0 rows/s"


def test_lines_of_progress(tmp_path, model, monkeypatch, capsys):
    corpus = write_corpus(tmp_path / "c.txt", TEXTS)
    job(corpus, tmp_path / "a.npy", model, quiet=False).run()
    assert capsys.readouterr().err == "", "the work is over before it is time for a line"
    monkeypatch.setattr(progress, "_EVERY", 0)
    job(corpus, tmp_path / "b.npy", model, quiet=False).run()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("16 rows, ")
    assert lines[0].endswith(" left")
    assert lines[3].startswith("50 rows, 100%, ")
    job(corpus, tmp_path / "c.npy", model, quiet=True).run()
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(tmp_path, model):
    pty = pytest.importorskip("pty")
    pytest.importorskip("rich")
    import os

    corpus = write_corpus(tmp_path / "c.txt", TEXTS)
    terminal, end = pty.openpty()
    arguments = ["--input", corpus, "--output", tmp_path / "v.npy", "--part-rows", 5]
    with subprocess.Popen(command(*arguments, model=model), stderr=end) as process:
        os.close(end)
        seen = b""
        while chunk := _read(terminal):
            seen += chunk
    os.close(terminal)
    assert process.returncode == 0
    assert "━".encode() in seen
    assert b"50 rows, 100%" in seen
    assert b"v.npy: 50 rows" in seen


def _read(terminal):
    import os

    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux's way to say that the other end is closed
        return b""
