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
