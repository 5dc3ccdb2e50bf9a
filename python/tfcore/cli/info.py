"""`tfcore info`: what is installed, on what machine."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .. import runtime


def add_info(commands: Any) -> None:
    info = commands.add_parser("info", help="version, CPU, instruction sets and threads")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=_info)


def _info(options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(runtime.config(), indent=2))
    else:
        runtime.show_config()
