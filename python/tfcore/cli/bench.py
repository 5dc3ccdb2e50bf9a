"""`tfcore bench`: the side-by-side table."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
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
    bench.add_argument("--plot", type=Path, metavar="FILE", help="draw the table as a picture")
    bench.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> None:
    """Measures, then prints a table or JSON, and draws. Ctrl-C ends it early, with what is done by then."""
    from .. import bench
    from ..bench import plot, progress, scaling

    cases = bench.select(options.only, everything=options.all)
    if options.plot:
        plot.check(options.plot)  # before minutes of work, not after
    steps = len(cases) + options.scaling * len(scaling.LENGTHS)
    with progress.show_progress(steps) as shown:
        results = bench.run(cases, bench.QUICK if options.quick else bench.FULL, shown, with_scaling=options.scaling)
    if options.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    else:
        bench.report.show(results)
    if options.plot and results["cases"]:
        plot.draw(results, options.plot)
        print(f"{options.plot}: written", file=sys.stderr)
    if not results["complete"]:
        raise KeyboardInterrupt
