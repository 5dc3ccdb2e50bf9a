"""`tfcore generate`: a text and its continuation."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..carried import SMOLLM2, smollm2_file
from .default_models import named_or

_NEW_TOKENS = 256
_DRAWS = ("temperature", "top_k", "top_p", "min_p", "seed")  # what asks for tokens to be drawn


def add_generate(commands: Any) -> None:
    generate = commands.add_parser(
        "generate",
        help="a text and its continuation",
        description="Continues a text, and prints it as it comes. It ends where the model ends it, or with Ctrl-C.",
    )
    generate.add_argument("prompt", metavar="PROMPT", help="the text to continue, or with --chat what to answer to")
    generate.add_argument(
        "--model",
        metavar="NAME",
        help=f"a checkpoint folder, GGUF file or hub name (default: the package {SMOLLM2})",
    )
    generate.add_argument(
        "--chat", action="store_true", help="use the model's chat template, and print the answer alone"
    )
    generate.add_argument("--system", metavar="TEXT", help="with --chat: what the model is to be")
    generate.add_argument(
        "--max-new-tokens",
        type=int,
        metavar="N",
        help=f"write at most N tokens (default: {_NEW_TOKENS}, or as many as the model has positions for)",
    )
    generate.add_argument(
        "--stop", action="append", metavar="TEXT", help="end with this text; may be given several times"
    )
    generate.add_argument(
        "--repetition-penalty", type=float, metavar="X", help="over 1: say less that was said already"
    )
    _add_drawing(
        generate.add_argument_group(
            "drawing",
            "Without these options the most probable token is always taken, so that the same prompt gives the same "
            "text. Any of them draws tokens by their probability instead.",
        )
    )
    generate.set_defaults(run=_generate)


def _add_drawing(draws: argparse._ArgumentGroup) -> None:
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


def _generate(options: argparse.Namespace) -> None:
    from ..generation import GenerationOptions
    from ..models import AutoModelForCausalLM, AutoTokenizer, TextStream

    settings = _settings(options)
    GenerationOptions(**settings)  # refuses what is out of range before a model is fetched
    name = named_or(options.model, smollm2_file)
    tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModelForCausalLM.from_pretrained(name)
    ids = _chat_ids(tokenizer, options) if options.chat else tokenizer.encode(options.prompt)
    settings.setdefault("max_new_tokens", _room(model, ids))
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
    drawing, others = (
        {name: getattr(options, name) for name in names if getattr(options, name) is not None}
        for names in (_DRAWS, ("max_new_tokens", "repetition_penalty"))
    )
    draws = bool(drawing) and drawing.get("temperature") != 0
    return {"stop_strings": options.stop, "do_sample": draws, **drawing, **others}


def _room(model: Any, ids: list[int]) -> int:
    """How many tokens to write where the command line does not say."""
    positions: int | None = model.max_length
    if positions is None:
        return _NEW_TOKENS
    if len(ids) >= positions:
        raise ValueError(f"PROMPT has {len(ids)} tokens, and the model has {positions} positions")
    return min(_NEW_TOKENS, positions - len(ids))


def _chat_ids(tokenizer: Any, options: argparse.Namespace) -> list[int]:
    system = [{"role": "system", "content": options.system}] if options.system is not None else []
    messages = [*system, {"role": "user", "content": options.prompt}]
    ids: list[int] = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    return ids


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
