"""The command `tfcore`: `info`, `embed`, `generate` and `bench`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from .. import __version__
from .bench import add_bench
from .embed import add_embed
from .generate import add_generate
from .info import add_info
from .words import in_options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns 0; 1 after an error, told in one line; 2 for wrong usage or a missing extra; 128 + n after signal n.
    """
    _prepare_streams()
    options = _parser().parse_args(arguments)
    try:
        status = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ImportError as error:
        return _fail(error, options, 2)
    except (OSError, TypeError, ValueError) as error:
        return _fail(error, options, 1)
    else:
        return status or 0
    return 0


def _prepare_streams() -> None:
    """Output that was closed before we began, as a service manager may do, goes nowhere; what its encoding lacks is a
    question mark."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _fail(error: Exception, options: argparse.Namespace, status: int) -> int:
    print(f"tfcore: {in_options(' '.join(str(error).split()), options)}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tfcore", description="Transformers for NumPy, at the speed of the machine.")
    parser.add_argument("--version", action="version", version=f"tfcore {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (add_info, add_embed, add_generate, add_bench):
        add(commands)
    return parser
