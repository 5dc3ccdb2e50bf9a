"""`tfcore generate`: a text and its continuation."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from .default_models import WRITING_PACKAGE, package_folder


def add_generate(commands: Any) -> None:
    generate = commands.add_parser(
        "generate",
        help="a text and its continuation",
        description="Continues a text, token by token as they come. Ctrl-C ends it.",
    )
    generate.add_argument("prompt", metavar="PROMPT", help="the text to continue, or with --chat what to answer to")
    generate.add_argument(
        "--model",
        metavar="NAME",
        help=f"a checkpoint folder, GGUF file or hub name (default: the package {WRITING_PACKAGE})",
    )
    generate.add_argument(
        "--chat", action="store_true", help="use the model's chat template, and print the answer alone"
    )
    generate.add_argument("--system", metavar="TEXT", help="with --chat: what the model is to be")
    generate.add_argument("--max-new-tokens", type=int, default=256, metavar="N", help="at most so many (default: 256)")
    generate.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="draw tokens; 0: the best (default)"
    )
    generate.add_argument("--top-k", type=int, metavar="K", help="draw from the K most probable tokens")
    generate.add_argument("--top-p", type=float, metavar="P", help="draw from the fewest tokens that hold P of all")
    generate.add_argument(
        "--min-p", type=float, metavar="P", help="draw from tokens at least P times as probable as the best"
    )
    generate.add_argument("--repetition-penalty", type=float, metavar="X", help="over 1: repeat less")
    generate.add_argument("--seed", type=int, metavar="N", help="the same draws again")
    generate.add_argument(
        "--stop", action="append", metavar="TEXT", help="end with this text; may be given several times"
    )
    generate.set_defaults(run=_generate)


def _generate(options: argparse.Namespace) -> None:
    from ..models import AutoModelForCausalLM, AutoTokenizer, TextStream

    name = options.model or next(package_folder(WRITING_PACKAGE).rglob("*.gguf"))
    tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModelForCausalLM.from_pretrained(name)
    ids = _chat_ids(tokenizer, options) if options.chat else tokenizer.encode(options.prompt)
    given = ("max_new_tokens", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
    settings = {name: getattr(options, name) for name in given if getattr(options, name) is not None}
    if options.temperature:
        settings["temperature"] = options.temperature
    text = TextStream(tokenizer)
    if not options.chat:
        _say(text.put(ids))
    try:
        for step in model.stream(
            [ids], do_sample=options.temperature > 0, stop_strings=options.stop, tokenizer=tokenizer, **settings
        ):
            _say(text.put(step.tokens))
    finally:
        _say(text.end() + "\n")


def _chat_ids(tokenizer: Any, options: argparse.Namespace) -> list[int]:
    system = [{"role": "system", "content": options.system}] if options.system else []
    messages = [*system, {"role": "user", "content": options.prompt}]
    ids: list[int] = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    return ids


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
