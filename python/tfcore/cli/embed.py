"""`tfcore embed`: the embeddings of texts on the command line, or of a corpus."""

from __future__ import annotations

import argparse
import codecs
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..carried import MINILM, minilm_folder
from ..scalars import shown
from .default_models import named_or
from .words import flag

_Matrix = npt.NDArray[np.float32]


def add_embed(commands: Any) -> None:
    embed = commands.add_parser(
        "embed",
        help="the embeddings of texts, or of a corpus",
        description="Computes one vector a text, pooled and normalised as the checkpoint's own files say.",
        epilog="A corpus is read in bounded memory. A job that was killed goes on where it was when it is run again.",
    )
    embed.add_argument("texts", nargs="*", metavar="TEXT", help="a text to embed")
    embed.add_argument(
        "--model", metavar="NAME", help=f"a checkpoint folder or hub name (default: the package {MINILM})"
    )
    embed.add_argument("--json", action="store_true", help="print JSON, with all numbers")
    embed.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write the vectors: .npy, (texts, dim) float32; of a corpus also .parquet",
    )
    embed.add_argument("--force", action="store_true", help="begin anew, over an existing output or an unfinished job")
    embed.add_argument(
        "--batch-size", type=_positive, metavar="N", help="texts at a time (default: the encoder's choice)"
    )
    embed.add_argument("--prompt", metavar="TEXT", help="put before each text (default: the checkpoint's)")
    embed.add_argument("--normalize", action="store_true", help="vectors of length 1, also where the model has others")
    embed.add_argument("--truncate-dim", type=_positive, metavar="N", help="keep the first N dimensions")
    _add_corpus(embed.add_argument_group("a corpus"))
    embed.set_defaults(run=lambda options: _embed(embed, options))


def _add_corpus(corpus: argparse._ArgumentGroup) -> None:
    corpus.add_argument(
        "--input",
        metavar="FILE",
        help="texts from .txt (a line each), .jsonl, .csv and .tsv (a header first), .parquet; -: standard input",
    )
    corpus.add_argument("--format", choices=("txt", "jsonl", "csv", "tsv", "parquet"), help="default: the name's end")
    corpus.add_argument(
        "--field",
        "--column",
        metavar="NAME",
        help='the member or column with the text (default: the only one, or "text")',
    )
    corpus.add_argument(
        "--on-error",
        choices=("fail", "skip"),
        help="a bad row ends the job (default), or is reported: NaN in .npy, left out of .parquet",
    )
    corpus.add_argument(
        "--part-rows", type=_positive, metavar="N", help="rows from one saving to the next (default: 1024)"
    )
    corpus.add_argument("--quiet", action="store_true", help="neither progress nor counts")
    corpus.add_argument("--engine", choices=("local", "dask", "ray"), help="where to compute (default: local)")
    corpus.add_argument(
        "--scheduler",
        "--address",
        metavar="ADDRESS",
        help="of a running cluster of the engine (default: one made here)",
    )
    corpus.add_argument(
        "--workers", type=_positive, metavar="N", help="processes of a cluster made here (default: one a CPU)"
    )


def _positive(text: str) -> int:
    try:
        if (value := int(text)) > 0:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{shown(text)} is no positive integer")


_CORPUS_ONLY = ("format", "field", "on_error", "part_rows", "quiet", "engine", "scheduler", "workers")


def _embed(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.input is None:
        _check_texts(parser, options)
        _embed_texts(options)
        return 0
    _check_corpus(parser, options)
    return _embed_corpus(options)


def _check_texts(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if not options.texts:
        parser.error("give a TEXT, or --input FILE")
    for name in _CORPUS_ONLY:
        if getattr(options, name):
            parser.error(f"argument {flag(name)}: only with --input")
    if options.output is None:
        if options.force:
            parser.error("argument --force: only with --output")
        return
    if options.output.suffix != ".npy":
        parser.error(f"argument --output: {str(options.output)!r} does not end in .npy")
    if not options.output.parent.is_dir():
        raise FileNotFoundError(f"{options.output}: there is no folder {options.output.parent} to write to")
    if options.output.is_dir():
        raise IsADirectoryError(f"{options.output}: is a folder, expected a file to write")
    if options.output.exists() and not options.force:
        raise FileExistsError(f"{options.output}: is there already; --force writes it anew")


def _check_corpus(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.texts:
        parser.error("give either a TEXT or --input, not both")
    if options.json:
        parser.error("argument --json: not with --input")
    if options.output is None:
        parser.error("--input needs --output")
    if options.engine not in ("dask", "ray"):
        for name in ("scheduler", "workers"):
            if getattr(options, name):
                parser.error(f"argument {flag(name)}: only with --engine dask or ray")
    elif options.scheduler and options.workers:
        parser.error("argument --workers: not with the address of a running cluster")


# ---- a corpus


def _embed_corpus(options: argparse.Namespace) -> int:
    from ..bulk import Corpus, Job, Recipe, Stopped

    job = Job(
        Corpus(options.input, options.format, options.field),
        options.output,
        Recipe(_model(options), options.batch_size, options.prompt, options.normalize, options.truncate_dim),
        address=options.scheduler,
        force=options.force,
        quiet=options.quiet,
        report=_tell,
        **_given(options, "on_error", "part_rows", "engine", "workers"),
    )
    if not options.quiet and job.engine != "local" and job.address is None:
        _tell(f"no address was given: {job.engine} runs on this machine, for this job alone")
    try:
        outcome = job.run()
    except Stopped as stopped:
        again = "the same command, without --force," if options.force else "the same command"
        done = f"what is done is kept: {again} goes on from there" if stopped.kept else "nothing is done yet"
        _tell(f"tfcore: stopped; {done}")
        return 128 + stopped.signal
    if not options.quiet:
        _tell(f"{options.output}: {outcome}")
    return 0


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options among `names` that have no default here, where they were given."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _model(options: argparse.Namespace) -> str:
    return named_or(options.model, minilm_folder)


# ---- texts


def _embed_texts(options: argparse.Namespace) -> None:
    from ..bulk.store import followed, replacing
    from ..embedding import SentenceEncoder

    encoder = SentenceEncoder(_model(options))
    settings = _given(options, "batch_size", "prompt", "truncate_dim")
    vectors = encoder.encode(options.texts, normalize_embeddings=options.normalize, **settings)
    if options.output:
        with replacing(followed(options.output)) as file:
            np.save(file, vectors)
        _tell(f"{options.output}: {vectors.shape[0]} x {vectors.shape[1]} float32")
    similarity = encoder.similarity(vectors, vectors)
    if options.json:
        print(_embed_json(_model(options), options.texts, vectors, similarity))
    elif not options.output:
        print(_embed_text(options.texts, vectors, similarity))


def _embed_json(model: str, texts: list[str], vectors: _Matrix, similarity: _Matrix) -> str:
    embeddings = [
        {"text": text, "embedding": [float(value) for value in vector.tolist()]}
        for text, vector in zip(texts, vectors, strict=True)
    ]
    return json.dumps(
        {"model": model, "dim": vectors.shape[1], "embeddings": embeddings, "similarity": similarity.tolist()},
        ensure_ascii=codecs.lookup(sys.stdout.encoding or "ascii").name != "utf-8",
    )


def _embed_text(texts: list[str], vectors: _Matrix, similarity: _Matrix, shown: int = 6) -> str:
    lines = []
    for number, (text, vector) in enumerate(zip(texts, vectors, strict=True), 1):
        first = " ".join(f"{value:+.4f}" for value in vector[:shown])
        more = "" if len(vector) <= shown else f" … {len(vector)} values"
        lines += [f"[{number}] {text}", f"    {first}{more}, length {np.linalg.norm(vector):.4f}"]
    if len(texts) > 1:
        lines += ["", "similarity", *_matrix(similarity)]
    return "\n".join(lines)


def _matrix(similarity: _Matrix) -> list[str]:
    numbers = range(1, len(similarity) + 1)
    header = "    " + "".join(f"{f'[{n}]':>8}" for n in numbers)
    return [header] + [
        f"{f'[{n}]':<4}" + "".join(f"{value:8.4f}" for value in row) for n, row in zip(numbers, similarity, strict=True)
    ]
