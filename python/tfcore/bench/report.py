"""Results as a table: coloured on a terminal, plain in a pipe, Markdown in a README."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

Results = Mapping[str, Any]

HINT = 'for a progress bar and a coloured table: pip install "tfcore[bench]"'


def rivals_of(results: Results) -> list[str]:
    """tfcore and its peers, in the order they first appear."""
    return list(dict.fromkeys(name for case in results["cases"] for name in case["rivals"]))


def table(results: Results) -> tuple[list[str], list[list[str]]]:
    """The header and the rows, as text: median times, tfcore's rate, and how many times slower the best peer is."""
    rivals = rivals_of(results)
    header = ["case", *rivals, "rate", "ratio"]
    return header, [_row(case, rivals) for case in results["cases"]]


def _row(case: Mapping[str, Any], rivals: list[str]) -> list[str]:
    times = [seconds(case["rivals"][name]["median_s"]) if name in case["rivals"] else "-" for name in rivals]
    rate = f"{three_digits(case['rivals']['tfcore']['rate'])} {case['rate_unit']}"
    return [case["name"], *times, rate, "-" if case["ratio"] is None else f"{three_digits(case['ratio'])}x"]


def seconds(value: float) -> str:
    """
    >>> seconds(0.00123456), seconds(1.5e-6), seconds(12.0)
    ('1.23 ms', '1.50 µs', '12.0 s')
    """
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if value >= 0.9995 * size:
            return f"{three_digits(value / size)} {unit}"
    return f"{three_digits(value / 1e-6)} µs"


def three_digits(value: float) -> str:
    """
    >>> three_digits(1.2345), three_digits(99.96), three_digits(1234.5)
    ('1.23', '100', '1234')
    """
    for limit, places in ((9.995, 2), (99.95, 1)):
        if value < limit:
            return f"{value:.{places}f}"
    return f"{value:.0f}"


def about(results: Results) -> list[str]:
    """What must be said beside the numbers, a line each."""
    machine, threads = results["machine"], results["threads"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    counts = set(threads.values())
    same = (
        f"threads: {counts.pop()} for all"
        if len(counts) == 1
        else f"threads: {_pairs(threads)}, NOT the same: set OPENBLAS_NUM_THREADS={threads['tfcore']}"
    )
    lines = [
        f"{machine['cpu']}, {machine['isa']}; {same}",
        f"tfcore {results['tfcore']}, {versions}",
        "times are medians, rate is tfcore's, ratio is the best peer's time over tfcore's",
        "every result is verified against float64 before it is timed; torch runs encoders through Transformers",
    ]
    lines += [f"left out: {name} ({reason})" for name, reason in results["left_out"].items()]
    return lines if results["complete"] else [*lines, "interrupted: the cases after these were not measured"]


def _pairs(threads: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in threads.items())


def text(results: Results) -> str:
    """The table in plain text."""
    header, rows = table(results)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, *rows):
        first, *others = (
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], "", *about(results)])


def markdown(results: Results) -> str:
    """The table for a README."""
    header, rows = table(results)
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + ["", "; ".join(about(results)) + "."])


def show(results: Results) -> None:
    """Prints the table, with colours if `rich` is installed and somebody is looking."""
    try:
        rich_console, rich_table = import_module("rich.console"), import_module("rich.table")
    except ImportError:
        print(text(results))
        return
    if not sys.stdout.isatty():
        print(text(results))
        return
    header, rows = table(results)
    shown = rich_table.Table(box=import_module("rich.box").SIMPLE_HEAD, pad_edge=False)
    for name in header:
        shown.add_column(name, justify="left" if name == "case" else "right", style="bold" if name == "tfcore" else "")
    for row, case in zip(rows, results["cases"], strict=True):
        colour = "" if case["ratio"] is None else "green" if case["ratio"] >= 1 else "red"
        shown.add_row(*row[:-1], f"[{colour}]{row[-1]}[/]" if colour else row[-1])
    console = rich_console.Console(highlight=False)
    console.print(shown)
    for line in about(results):
        console.print(line, style="dim", markup=False)
