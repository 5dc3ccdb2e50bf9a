"""Puts the table of a result into a README, between its two marker comments, and draws its pictures.

tfcore bench --all --scaling --json > benchmarks/results/NAME.json
python benchmarks/report.py benchmarks/results/NAME.json                  # all cases, and which targets hold
python benchmarks/report.py benchmarks/results/NAME.json README.md        # the short selection
python benchmarks/report.py benchmarks/results/NAME.json --plot docs      # a picture a group, into the folder
python benchmarks/report.py benchmarks/results/NAME.json --plot speed.png # all cases in one picture
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tfcore.bench import plot, report

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path, help="what `tfcore bench --json` printed")
    parser.add_argument("readme", type=Path, nargs="?", help="the file with the markers; without it, prints the table")
    parser.add_argument("--plot", type=Path, metavar="FOLDER or FILE")
    options = parser.parse_args(arguments)
    results = read(options.result)
    if options.plot:
        draw(results, options.plot)
    if options.readme:
        old = options.readme.read_text(encoding="utf-8")
        table = report.markdown(report.short(results))
        options.readme.write_text(between_markers(old, table), encoding="utf-8")
    elif not options.plot:
        print(report.markdown(results, targets=True))


def read(file: Path) -> report.Results:
    """The result in a file; ends the program where it is none."""
    try:
        results: report.Results = json.loads(file.read_text(encoding="utf-8"))
        report.markdown(results, targets=True)
    except OSError as error:
        raise SystemExit(f"report.py: {error}") from None
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise SystemExit(f"report.py: {file}: not what `tfcore bench --json` printed ({reason})") from None
    return results


def draw(results: report.Results, target: Path) -> None:
    if target.suffix:
        plot.check(target)
        plot.draw(results, target)
    else:
        plot.draw_all(results, target)


def between_markers(text: str, table: str) -> str:
    """`text` with `table` in the place of whatever stands between the markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"the README lacks the lines {BEGIN} and {END}, in this order")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


if __name__ == "__main__":
    main()
