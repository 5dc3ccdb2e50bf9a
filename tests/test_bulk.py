"""`tfcore embed --input` from end to end: what it writes, what it says, what it refuses."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess

import numpy as np
import pytest
from bulk_cases import command, encoded, job, left, run, sentences, write_corpus, write_json
from checkpoints import CONFIG, bert_tensors, write_bert
from children import told
from tfcore import AutoTokenizer
from tfcore.bulk import Corpus, Job, Recipe

TEXTS = sentences(70)


@pytest.fixture(scope="module")
def want(model):
    """What one call of the encoder gives for all texts: (70, 32) float32."""
    return encoded(model, TEXTS)


def same_bits(got, want):
    assert got.dtype == np.float32
    assert got.shape == want.shape
    assert got.tobytes() == np.ascontiguousarray(want).tobytes()


# ---- what it writes


def test_the_command(tmp_path, model, want):
    write_corpus(tmp_path / "c.txt", TEXTS)
    done = run("--input", tmp_path / "c.txt", "--output", tmp_path / "v.npy", "--part-rows", 16, model=model)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    assert f"{tmp_path}/v.npy: 70 rows, 0 skipped, ".encode() in done.stderr
    assert done.stderr.endswith(b" rows/s\n")
    same_bits(np.load(tmp_path / "v.npy"), want)
    assert left(tmp_path) == ["c.txt", "v.npy"]


def test_standard_input_and_quiet(tmp_path, model, want):
    content = "\r\n".join(TEXTS).encode()
    done = run("--input", "-", "--output", tmp_path / "v.npy", "--quiet", model=model, stdin=content)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    same_bits(np.load(tmp_path / "v.npy"), want)
    rows = "".join(json.dumps({"body": text}) + "\n" for text in TEXTS).encode()
    arguments = ["--input", "-", "--output", tmp_path / "j.npy", "--format", "jsonl", "--field", "body"]
    assert run(*arguments, model=model, stdin=rows).returncode == 0
    same_bits(np.load(tmp_path / "j.npy"), want)


def corpora(folder):
    """The same texts in every format."""
    yield write_corpus(folder / "c.txt", TEXTS)
    yield write_json(folder / "c.jsonl", TEXTS)
    yield write_corpus(folder / "c.csv", ["id,text", *(f'{n},"{text}"' for n, text in enumerate(TEXTS))])
    yield write_corpus(folder / "c.tsv", ["text\tid", *(f"{text}\t{n}" for n, text in enumerate(TEXTS))])


def test_every_format(tmp_path, model, want):
    for corpus in corpora(tmp_path):
        output = corpus.with_suffix(corpus.suffix + ".npy")
        job(corpus, output, model).run()
        same_bits(np.load(output), want)


def test_parquet_in_and_out(tmp_path, model, want):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"text": TEXTS}), tmp_path / "c.parquet")
    assert job(tmp_path / "c.parquet", tmp_path / "v.parquet", model).run().rows == 70
    table = parquet.read_table(tmp_path / "v.parquet")
    assert table.column_names == ["row", "embedding"]
    assert table["row"].to_pylist() == list(range(70))
    same_bits(np.stack(table["embedding"].to_numpy()), want)
    job(tmp_path / "c.parquet", tmp_path / "v.npy", model).run()
    same_bits(np.load(tmp_path / "v.npy"), want)


@pytest.mark.parametrize("suffix", ["npy", "parquet"])
@pytest.mark.parametrize("count", [0, 1, 16, 17])
def test_few_rows(tmp_path, model, want, suffix, count):
    parquet = pytest.importorskip("pyarrow.parquet")
    output = tmp_path / f"v.{suffix}"
    outcome = job(write_corpus(tmp_path / "c.txt", TEXTS[:count]), output, model).run()
    assert (outcome.rows, outcome.dim) == (count, 32)
    if suffix == "npy":
        same_bits(np.load(output), want[:count])
    else:
        assert parquet.read_table(output)["row"].to_pylist() == list(range(count))


@pytest.mark.parametrize(
    "options", [{"prompt": "the "}, {"normalize": True}, {"truncate_dim": 5}, {"truncate_dim": 5, "normalize": True}]
)
def test_options_reach_the_encoder(tmp_path, model, want, options):
    job(write_corpus(tmp_path / "c.txt", TEXTS), tmp_path / "v.npy", model, options={**options, "batch_size": 3}).run()
    names = {"normalize": "normalize_embeddings"}
    got = np.load(tmp_path / "v.npy")
    same_bits(got, encoded(model, TEXTS, **{names.get(k, k): v for k, v in options.items()}))
    assert got.shape != want.shape or not np.array_equal(got, want)


def test_memory_does_not_grow_with_the_corpus(tmp_path, model):
    """Thirty times the rows; what they add to the process's peak is less than their vectors alone, or their texts."""
    write_corpus(tmp_path / "small.txt", ["a"] * 2_000)
    write_corpus(tmp_path / "large.txt", ["a"] * 60_000)
    code = (
        "import resource; from pathlib import Path; from tfcore.bulk import *; peaks = []\n"
        f"for name in ('small', 'large'):\n"
        f"    Job(Corpus(f'{tmp_path}/{{name}}.txt'), Path(f'{tmp_path}/{{name}}.npy'), Recipe({str(model)!r})).run()\n"
        "    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
        "print(peaks[1] - peaks[0])"
    )
    done = subprocess.run([*command()[:1], "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert int(done.stdout) << 10 <= 4 << 20  # the vectors are 7.7 MB, the texts as Python strings 4 MB


def test_truncated_texts_are_counted(tmp_path, model):
    outcome = job(write_corpus(tmp_path / "c.txt", TEXTS), tmp_path / "v.npy", model).run()
    counts = [len(ids) for ids in AutoTokenizer.from_pretrained(model)(TEXTS)["input_ids"]]
    assert outcome.truncated == sum(count > CONFIG["max_position_embeddings"] for count in counts) > 0
    assert f" {outcome.truncated} truncated" in str(outcome)


def test_the_column_is_told(tmp_path, model):
    """A file without a header has lost its first row, and whoever reads this line sees it."""
    corpus = write_corpus(tmp_path / "c.csv", ["I love cats", "Dogs bark"])
    outcome = job(corpus, tmp_path / "v.npy", model).run()
    assert str(outcome).startswith("1 rows of column 'I love cats', 0 skipped")
    assert str(job(write_corpus(tmp_path / "c.txt", TEXTS), tmp_path / "w.npy", model).run()).startswith(
        f"{len(TEXTS)} rows, "
    )


# ---- bad rows


@pytest.fixture
def broken(tmp_path):
    """70 rows, those numbered 0, 20 and 40 to 60 bad."""
    rows = [json.dumps({"text": text}) for text in TEXTS]
    for bad in BAD:
        rows[bad] = "{"
    return write_corpus(tmp_path / "c.jsonl", rows)


BAD = [0, 20, *range(40, 60)]


def test_a_bad_row_is_fatal(broken, tmp_path, model):
    message = told(run("--input", broken, "--output", tmp_path / "v.npy", model=model))
    assert f"{broken}: line 1: not JSON" in message
    assert "--on-error skip" in message
    assert left(tmp_path) == ["c.jsonl"]


def test_bad_rows_are_skipped(broken, tmp_path, model, want):
    done = run("--input", broken, "--output", tmp_path / "v.npy", "--on-error", "skip", "--part-rows", 16, model=model)
    assert done.returncode == 0
    assert "70 rows, 22 skipped" in done.stderr.decode()
    assert "line 21: not JSON" in done.stderr.decode()
    assert done.stderr.count(b"not JSON") == 20
    assert b"more bad rows are counted and not listed" in done.stderr
    expected = want.copy()
    expected[BAD] = np.nan
    got = np.load(tmp_path / "v.npy")
    assert np.array_equal(got, expected, equal_nan=True)


def test_bad_rows_are_left_out_of_parquet(broken, tmp_path, model, want):
    parquet = pytest.importorskip("pyarrow.parquet")
    job(broken, tmp_path / "v.parquet", model, on_error="skip").run()
    table = parquet.read_table(tmp_path / "v.parquet")
    good = [row for row in range(70) if row not in BAD]
    assert table["row"].to_pylist() == good
    same_bits(np.stack(table["embedding"].to_numpy()), want[good])


def test_what_is_done_before_a_bad_row_is_kept(tmp_path, model, want):
    corpus = write_json(tmp_path / "c.jsonl", TEXTS)
    corpus.write_text(corpus.read_text() + "{\n")
    with pytest.raises(ValueError, match="line 71: not JSON"):
        job(corpus, tmp_path / "v.npy", model).run()
    outcome = job(corpus, tmp_path / "v.npy", model, on_error="skip").run()
    assert (outcome.rows, outcome.skipped, outcome.earlier) == (71, 1, 64)
    same_bits(np.load(tmp_path / "v.npy")[:70], want)


def test_a_corpus_of_bad_rows(tmp_path, model):
    write_corpus(tmp_path / "c.jsonl", ["{"] * 20)
    job(tmp_path / "c.jsonl", tmp_path / "v.npy", model, on_error="skip").run()
    got = np.load(tmp_path / "v.npy")
    assert got.shape == (20, 32)
    assert np.isnan(got).all()


# ---- what it refuses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "c.txt"], "--input needs --output"),
        (["a", "--input", "c.txt", "--output", "v.npy"], "not both"),
        (["--input", "c.txt", "--output", "v.npy", "--json"], "--json: not with --input"),
        (["a", "--field", "text"], "--field: only with --input"),
        (["a", "--output", "v.parquet"], "does not end in .npy"),
        (["--input", "c.txt", "--output", "v.npy", "--part-rows", "0"], "--part-rows: '0' is no positive integer"),
        (["--input", "c.txt", "--output", "v.npy", "--on-error", "cry"], "invalid choice"),
        (["--input", "c.txt", "--output", "v.npy", "--workers", "2"], "--workers: only with --engine"),
        (
            ["--input", "c.txt", "--output", "v.npy", "--engine", "dask", "--address", "a", "--workers", "2"],
            "--workers",
        ),
    ],
)
def test_wrong_usage(capsys, arguments, message):
    from tfcore.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["embed", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "v.txt"], "v.txt: expected a name that ends in .npy, .parquet"),
        (["--output", "no/v.npy"], "v.npy: there is no folder"),
        (["--output", "/proc/v.npy"], "v.npy: there is no folder /proc to write to"),
        (["--output", "c.txt/v.npy"], "Not a directory"),
        (["--output", "v.npy", "--truncate-dim", "33"], "--truncate-dim is 33"),
        (["--output", "v.npy", "--field", "text"], "--field is 'text', but lines of text have no fields"),
        (["--output", "v.npy", "--format", "csv", "--field", "x"], "no column 'x' among '0 "),
        (["--output", "v.npy", "--model", "nowhere/at/all"], "nowhere/at/all"),
        (["--output", "v.npy", "--input", "c.doc"], "or --format txt"),
        (["--output", "v.npy", "--input", "b.txt"], "(--on-error skip goes on without such rows)"),
        (["--output", "old.npy"], "old.npy: is there already; --force writes it anew"),
    ],
)
def test_wrong_values(tmp_path, model, monkeypatch, capsys, arguments, message):
    from tfcore.cli import main

    monkeypatch.chdir(tmp_path)
    for name in ("c.txt", "c.doc", "old.npy"):
        write_corpus(tmp_path / name, TEXTS)
    (tmp_path / "b.txt").write_bytes(b"\xff")
    assert main(["embed", "--input", "c.txt", "--model", str(model), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert left(tmp_path) == ["b.txt", "c.doc", "c.txt", "old.npy"]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"on_error": "skp"}, ValueError, "on_error is 'skp', expected one of 'fail', 'skip'"),
        ({"on_error": None}, TypeError, "on_error is None"),
        ({"part_rows": 0}, ValueError, "part_rows is 0, expected a positive integer"),
        ({"part_rows": "4"}, TypeError, "part_rows is '4', expected a positive integer"),
        ({"engine": "spark"}, ValueError, "engine is 'spark', expected one of 'local', 'dask', 'ray'"),
        ({"engine": "dask", "workers": 0}, ValueError, "workers is 0, expected a positive integer"),
        ({"engine": "dask", "workers": 1.5}, TypeError, "workers is 1.5"),
        ({"engine": "dask", "address": 8786}, TypeError, "address is int, expected a string"),
        ({"address": "tcp://a:1"}, ValueError, "address is 'tcp://a:1', expected None where engine is 'local'"),
        ({"workers": 2}, ValueError, "workers is 2, expected None where engine is 'local'"),
        (
            {"engine": "ray", "address": "a:1", "workers": 2},
            ValueError,
            "workers is 2, expected None beside the address of a running cluster",
        ),
        ({"corpus": "c.txt"}, TypeError, "corpus is str, expected a Corpus"),
        ({"output": 7}, TypeError, "output is int, expected a file's name"),
        ({"recipe": "a/model"}, TypeError, "recipe is str, expected a Recipe"),
    ],
)
def test_settings_that_are_wrong(tmp_path, settings, error, message):
    corpus = Corpus(write_corpus(tmp_path / "c.txt", TEXTS))
    with pytest.raises(error, match=message):
        Job(**{"corpus": corpus, "output": "v.npy", "recipe": Recipe("a/model"), **settings})


def test_integers_of_numpy(tmp_path, model):
    corpus, output = Corpus(write_corpus(tmp_path / "c.txt", TEXTS)), tmp_path / "v.npy"
    recipe = Recipe(str(model), batch_size=np.int64(3), truncate_dim=np.int32(4))
    Job(corpus, output, recipe, part_rows=np.int64(4)).run()
    assert np.load(output).shape == (len(TEXTS), 4)


def test_names_are_strings_or_paths(tmp_path, model, want):
    corpus = write_corpus(tmp_path / "c.txt", TEXTS)
    for source, output in ((str(corpus), str(tmp_path / "s.npy")), (corpus, tmp_path / "p.npy")):
        Job(Corpus(source), output, Recipe(str(model))).run()
        same_bits(np.load(output), want)


def test_an_output_that_is_there(tmp_path, model, want):
    write_corpus(tmp_path / "c.txt", TEXTS)
    (tmp_path / "v.npy").write_text("precious")
    with pytest.raises(FileExistsError, match=r"v\.npy: is there already; force=True writes it anew"):
        job(tmp_path / "c.txt", tmp_path / "v.npy", model).run()
    assert (tmp_path / "v.npy").read_text() == "precious"
    assert left(tmp_path) == ["c.txt", "v.npy"]
    job(tmp_path / "c.txt", tmp_path / "v.npy", model, force=True).run()
    same_bits(np.load(tmp_path / "v.npy"), want)


def test_an_output_that_is_the_corpus(tmp_path, model):
    corpus = write_corpus(tmp_path / "c.parquet", TEXTS)
    pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match="is the corpus itself"):
        job(corpus, corpus, model, force=True).run()


def test_a_full_disk(tmp_path, model, want):
    """A limit on the size of files stands in for the disk's: the job ends with a sentence, and goes on later."""
    write_corpus(tmp_path / "c.txt", TEXTS)

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    arguments = ["--input", tmp_path / "c.txt", "--output", tmp_path / "v.npy", "--part-rows", 16]
    message = told(run(*arguments, model=model, preexec_fn=limit))
    assert "v.npy: not written: [Errno 27] File too large" in message
    assert "the same job, run again, goes on from there" in message
    assert left(tmp_path) == [".v.npy.tfcore", "c.txt"]
    done = run(*arguments, model=model)
    assert b"70 done earlier" in done.stderr
    same_bits(np.load(tmp_path / "v.npy"), want)


def test_a_corpus_that_changes_while_it_is_read(tmp_path, model):
    corpus = write_corpus(tmp_path / "c.txt", TEXTS)

    def append(line):
        corpus.write_bytes(corpus.read_bytes() + b"more\n")

    corpus.write_bytes(b"\xff\n" + corpus.read_bytes())
    with pytest.raises(ValueError, match="was changed while it was read"):
        job(corpus, tmp_path / "v.npy", model, on_error="skip", report=append).run()


# ---- another job


CHANGES = {
    "prompt": (lambda corpus, model: {"options": {"prompt": "a"}}, 'its prompt was null and is now "a"'),
    "truncate_dim": (lambda corpus, model: {"options": {"truncate_dim": 3}}, "its truncate_dim was null and is now 3"),
    "normalize": (lambda corpus, model: {"options": {"normalize": True}}, "its normalize was false and is now true"),
    "part_rows": (lambda corpus, model: {"part_rows": 17}, "its part rows was 16 and is now 17"),
    "longer": (lambda corpus, model: write_corpus(corpus, [*TEXTS, "more"]) and {}, "its input was"),
    "last row": (lambda corpus, model: write_corpus(corpus, [*TEXTS[:-1], TEXTS[-1][::-1]]) and {}, "its input was"),
    "model": (lambda corpus, model: write_bert(model, CONFIG, bert_tensors(seed=3)) and {}, "its model was"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_job_does_not_go_on(tmp_path, change):
    make, message = CHANGES[change]
    corpus, output, model = tmp_path / "c.txt", tmp_path / "v.npy", write_bert(tmp_path / "bert")
    interrupted(corpus, output, model)
    settings = make(corpus, model)
    with pytest.raises(ValueError, match="an unfinished run is kept") as error:
        job(corpus, output, model, **settings).run()
    assert message in str(error.value)
    assert "force=True to start anew" in str(error.value)
    job(corpus, output, model, force=True, **settings).run()
    assert len(np.load(output)) == 70 + (change == "longer")


def interrupted(corpus, output, model):
    """A job that ended at a row which was bad then, with all parts but the last done."""
    write_corpus(corpus, TEXTS)
    corpus.write_bytes(corpus.read_bytes().replace(TEXTS[-1].encode(), b"\xff" * len(TEXTS[-1].encode())))
    with pytest.raises(ValueError, match="line 70"):
        job(corpus, output, model).run()
    write_corpus(corpus, TEXTS)
    manifest = output.parent / f".{output.name}.tfcore" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["input"] = job(corpus, output, model).corpus.fingerprint()
    manifest.write_text(json.dumps(content))


def test_rows_that_changed_in_the_middle(tmp_path, model):
    """The corpus' size, beginning and end are those of the first run: the parts' own fingerprints tell."""
    corpus, output = tmp_path / "c.txt", tmp_path / "v.npy"
    long = [text * 100 for text in TEXTS]
    corpus.write_bytes("\n".join(long).encode() + b"\n\xff")
    with pytest.raises(ValueError, match="line 71"):
        job(corpus, output, model).run()
    middle = len(corpus.read_bytes()) // 2
    content = bytearray(corpus.read_bytes())
    assert len(content) > 3 << 16
    content[middle] = ord("z") if content[middle] != ord("z") else ord("y")
    corpus.write_bytes(content)
    with pytest.raises(ValueError, match=r"rows \d+ to \d+ are not those that an earlier run read"):
        job(corpus, output, model, on_error="skip").run()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_is_read_only(tmp_path, model):
    corpus = write_corpus(tmp_path / "c.txt", TEXTS)
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(PermissionError, match="tfcore"):
            job(corpus, tmp_path / "v.npy", model).run()
    finally:
        tmp_path.chmod(0o755)
