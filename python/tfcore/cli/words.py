"""The library's words in those of the command line."""

from __future__ import annotations

import argparse
import re

_OPTIONS = {"address": "scheduler", "kind": "format", "stop_strings": "stop"}  # what is called otherwise here


def in_options(message: str, options: argparse.Namespace) -> str:
    """The message with the command's options for the library's arguments.

    >>> in_options('c.doc: expected a name that ends in .txt, or kind="txt"', argparse.Namespace(format=None))
    'c.doc: expected a name that ends in .txt, or --format txt'
    >>> in_options("top_k is -1, expected a non-negative integer", argparse.Namespace(top_k=-1))
    '--top-k is -1, expected a non-negative integer'
    """

    def option(found: re.Match[str]) -> str:
        name, value = _OPTIONS.get(found[1], found[1]), found[2]
        if name not in options:
            return found[0]
        return f"{flag(name)} {value}" if value else flag(name)

    message = re.sub(r"^([a-z_]+)()(?= is )", option, message)
    return re.sub(r'\b([a-z_]+)=(?:True|"(\w+)")', option, message)


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")
