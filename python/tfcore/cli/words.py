"""The library's words in those of the command line."""

from __future__ import annotations

import argparse
import re

_OPTIONS = {"address": "scheduler", "kind": "format", "stop_strings": "stop"}  # what is called otherwise here
_ARGUMENTS = re.compile(
    r"""^(?P<first>[a-z_]+)(?=\ is\ )          # seed is -1
    | \bpass\ (?P<bare>[a-z_]+)(?=\ of\ )     # pass max_new_tokens of at most 26
    | \b(?P<set>[a-z_]+)=(?:True|"(?P<value>\w+)")""",
    re.VERBOSE,
)


def in_options(message: str, options: argparse.Namespace) -> str:
    """The message with the command's options for the library's arguments.

    >>> in_options('c.doc: expected a name that ends in .txt, or kind="txt"', argparse.Namespace(format=None))
    'c.doc: expected a name that ends in .txt, or --format txt'
    >>> in_options("seed is -1, expected a non-negative integer", argparse.Namespace(seed=-1))
    '--seed is -1, expected a non-negative integer'
    """

    def option(found: re.Match[str]) -> str:
        name = found["first"] or found["bare"] or found["set"]
        name = _OPTIONS.get(name, name)
        if name not in options:
            return found[0]
        if found["bare"]:
            return f"pass {flag(name)}"
        return f"{flag(name)} {found['value']}" if found["value"] else flag(name)

    return _ARGUMENTS.sub(option, message)


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")
