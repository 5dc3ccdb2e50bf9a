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


def short(results: Results) -> Results:
    """The same with no cases but those of the short selection, all where there are none of it; without growth."""
    cases = [case for case in results["cases"] if case["short"]]
    return {**results, "cases": cases or results["cases"], "scaling": []}


def table(results: Results, targets: bool = False) -> tuple[list[str], list[list[str]]]:
    """The header and the rows, as text: median times, tfcore's rate, and how many times slower the best peer is.

    Other work of tfcore that a case is compared with has a row below it. With `targets`, a column says which hold.
    """
    rivals = rivals_of(results)
    header = ["case", *rivals, "rate", "of limit", "ratio", *["target"] * targets]
    rows = []
    for case in results["cases"]:
        rows.append([*_row(case, rivals), *[_target(case)] * targets])
        rows += [_aside(case, name, header) for name in case["asides"]]
    return header, rows


def growth(results: Results) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of what `--scaling` measured: each rival's time and added memory for each length."""
    rivals = list(dict.fromkeys(name for at in results["scaling"] for name in at["seconds"]))
    header = ["keys", *rivals, *(f"{name} adds" for name in rivals)]
    rows = []
    for at in results["scaling"]:
        times = [seconds(at["seconds"][name]) if name in at["seconds"] else "-" for name in rivals]
        added = [size(at["added_bytes"][name]) if name in at["added_bytes"] else "-" for name in rivals]
        rows.append([str(at["length"]), *times, *added])
    return header, rows


def _tables(results: Results, targets: bool) -> list[tuple[list[str], list[list[str]]]]:
    return [table(results, targets)] + ([growth(results)] if results.get("scaling") else [])


def _row(case: Mapping[str, Any], rivals: list[str]) -> list[str]:
    times = [seconds(case["rivals"][name]["median_s"]) if name in case["rivals"] else "-" for name in rivals]
    rate = f"{three_digits(case['rivals']['tfcore']['rate'])} {case['rate_unit']}"
    share = "-" if case["share"] is None else f"{case['share']:.0%}"
    return [case["name"], *times, rate, share, _times(case["ratio"])]


def _aside(case: Mapping[str, Any], name: str, header: list[str]) -> list[str]:
    aside, own = case["asides"][name]["median_s"], case["rivals"]["tfcore"]["median_s"]
    cells = {"case": f"· {name}", "tfcore": seconds(aside), "ratio": _times(aside / own)}
    return [cells.get(column, "-") for column in header]


def _target(case: Mapping[str, Any]) -> str:
    """Each target, and whether it is reached."""
    wanted, times = case["target"], {name: rival["median_s"] for name, rival in case["rivals"].items()}
    pairs = [(case["ratio"], wanted["ratio"], _times(wanted["ratio"])), (case["share"], wanted["share"], "")]
    for peer, ratio in wanted.get("over", {}).items():
        reached = times[peer] / times["tfcore"] if peer in times else None
        pairs.append((reached, ratio, f"{_times(ratio)} {peer}"))
    marks = (
        f"{'✓' if reached >= target else '✗'} {text or f'{target:.0%}'}"
        for reached, target, text in pairs
        if reached is not None and target is not None
    )
    return " ".join(marks) or "-"


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{three_digits(ratio)}x"


def seconds(value: float) -> str:
    """
    >>> seconds(0.00123456), seconds(1.5e-6), seconds(12.0)
    ('1.23 ms', '1.50 µs', '12.0 s')
    """
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if value >= 0.9995 * size:
            return f"{three_digits(value / size)} {unit}"
    return f"{three_digits(value / 1e-6)} µs"


def size(count: float) -> str:
    """
    >>> size(2.5e9), size(3e6), size(4096)
    ('2.50 GB', '3.00 MB', '4.10 kB')
    """
    for whole, unit in ((1e9, "GB"), (1e6, "MB")):
        if count >= 0.9995 * whole:
            return f"{three_digits(count / whole)} {unit}"
    return f"{three_digits(count / 1e3)} kB"


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
    if results["limits"]:
        lines.append(f"limits of this machine, measured in the same run: {_limits(results['limits'])}")
    lines += [f"left out: {name} ({reason})" for name, reason in results["left_out"].items()]
    return lines if results["complete"] else [*lines, "interrupted: the cases after these were not measured"]


def _limits(limits: Mapping[str, float]) -> str:
    units = {"fma": "GFLOP/s"}
    return ", ".join(f"{name} {three_digits(rate)} {units.get(name[:3], 'GB/s')}" for name, rate in limits.items())


def _pairs(threads: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in threads.items())


def text(results: Results, targets: bool = False) -> str:
    """The tables in plain text."""
    return "\n\n".join([*(_aligned(*each) for each in _tables(results, targets)), "\n".join(about(results))])


def _aligned(header: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, *rows):
        first, *others = (
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def markdown(results: Results, targets: bool = False) -> str:
    """The tables in Markdown."""
    blocks = []
    for header, rows in _tables(results, targets):
        lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
        blocks.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
    return "\n\n".join([*blocks, "; ".join(about(results)) + "."])


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
    ratios = {case["name"]: case["ratio"] for case in results["cases"]}
    for row in rows:
        ratio = ratios.get(row[0])
        colour = "" if ratio is None else "green" if ratio >= 1 else "red"
        shown.add_row(*row[:-1], f"[{colour}]{row[-1]}[/]" if colour else row[-1])
    console = rich_console.Console(highlight=False)
    console.print(shown)
    if results.get("scaling"):
        console.print(_aligned(*growth(results)), end="\n\n", markup=False)
    for line in about(results):
        console.print(line, style="dim", markup=False)
