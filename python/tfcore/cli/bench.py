"""`tfcore bench`: the side-by-side table."""

from __future__ import annotations

import argparse
from typing import Any


def add_bench(commands: Any) -> None:
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


def _bench(options: argparse.Namespace) -> None:
    from .. import bench

    bench.main(options)
