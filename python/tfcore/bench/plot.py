"""Results as pictures: speed case by case against what the machine can do, and growth with the number of keys.

Colours are those of Okabe & Ito, told apart by all eyes; each rival has its own marker besides. A picture of the same
results is the same file, byte for byte.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..extras import extra
from .report import Results, about, rivals_of, seconds, size, three_digits

__all__ = ["check", "draw", "draw_all"]

_FORMATS = (".png", ".svg", ".pdf")
_STYLE = {  # rival → colour, marker
    "tfcore": ("#0072b2", "o"),
    "numpy": ("#7f7f7f", "s"),
    "torch": ("#d55e00", "^"),
    "onnxruntime": ("#009e73", "D"),
    "openvino": ("#cc79a7", "v"),
    "ctranslate2": ("#e69f00", "P"),
    "llama.cpp": ("#56b4e9", "X"),
    "sentence-transformers": ("#000000", "*"),
}
_UNKNOWN = ("#f0e442", "p")
_INK, _FAINT, _GRID = "#24292f", "#57606a", "#d8dee4"
_ROW_INCHES, _WIDTH_INCHES = 0.27, 8.5
_CHART_POINTS = 205  # the height of a chart of growth
_SETTINGS = {
    "svg.fonttype": "none",  # text stays text: small, sharp, searchable
    "svg.hashsalt": "tfcore",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _FAINT,
    "xtick.color": _FAINT,
    "ytick.color": _INK,
}


def check(file: Path) -> None:
    """Raises now what `draw` would raise in the end: no matplotlib, an unknown kind of file, no such folder, no right
    to write."""
    if file.suffix.lower() not in _FORMATS:
        raise ValueError(f"{file}: expected a name that ends in {', '.join(_FORMATS)}")
    if file.is_dir():
        raise IsADirectoryError(f"{file}: is a folder, expected a file to write")
    folder = file.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{file}: there is no folder {folder} to write to")
    if not os.access(file if file.exists() else folder, os.W_OK):
        raise PermissionError(f"{file}: may not be written")
    _import("matplotlib.figure")


def _import(module: str) -> Any:
    return extra(module, "plot", "a plot")


@contextmanager
def _figure(file: Path, height: float) -> Iterator[Any]:
    """A figure, written to `file` in the end."""
    with _import("matplotlib").rc_context(_SETTINGS):
        figure = _import("matplotlib.figure").Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
        yield figure
        figure.savefig(file, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)


def draw_all(results: Results, folder: Path) -> list[Path]:
    """A picture for each group of cases, and `scaling.svg` if that was measured. Returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for group, cases in _groups(results).items():
        files.append(folder / f"{group}.svg")
        draw({**results, "cases": cases}, files[-1])
    if results.get("scaling"):
        files.append(folder / "scaling.svg")
        _draw_scaling(results, files[-1])
    return files


def _groups(results: Results) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for case in results["cases"]:
        groups.setdefault(case["group"], []).append(case)
    return groups


# --- speed -----------------------------------------------------------------------------------------------------------


def draw(results: Results, file: Path) -> None:
    """Writes one picture: a chart for each group of cases, a row for each case, a marker for each rival's speed."""
    groups = _groups(results)
    rows = [len(cases) + 1.6 for cases in groups.values()]
    with _figure(file, _ROW_INCHES * sum(rows) + 1.3) as figure:
        charts = figure.subplots(len(groups), 1, squeeze=False, gridspec_kw={"height_ratios": rows})[:, 0]
        for chart, cases in zip(charts, groups.values(), strict=True):
            _draw_group(chart, cases)
        _name_rivals(figure, rivals_of(results), any(case["limit_rate"] for case in results["cases"]))
        figure.supxlabel("\n".join(about(results)[:2]), fontsize=7, color=_FAINT)


def _draw_group(chart: Any, cases: list[Mapping[str, Any]]) -> None:
    fastest = max(max(rates.values()) for rates in map(_rates, cases))
    right = 1.03 * max([fastest, *[case["limit_rate"] or 0.0 for case in cases]])
    for row, case in enumerate(cases):
        rates, limit = _rates(case), case["limit_rate"]
        chart.plot([min(rates.values()), max(rates.values())], [row, row], color=_GRID, linewidth=1.5, zorder=1)
        for name, rate in reversed(rates.items()):  # tfcore on top
            colour, marker = _STYLE.get(name, _UNKNOWN)
            chart.plot(rate, row, marker, color=colour, markersize=_marker_size(name), zorder=3)
        if limit:
            chart.plot([limit, limit], [row - 0.5, row + 0.5], color=_INK, linewidth=1.2, zorder=2)
        note = "" if case["ratio"] is None else f"{three_digits(case['ratio'])}x"
        chart.text(1.01, row, note, transform=chart.get_yaxis_transform(), va="center", color=_STYLE["tfcore"][0])
    chart.set_yticks(range(len(cases)), [case["name"] for case in cases])
    chart.set_ylim(len(cases) - 0.4, -0.6)
    chart.set_xlim(0, right)
    chart.set_xlabel(cases[0]["rate_unit"], loc="right", fontsize=8, labelpad=1)
    _tidy(chart, "x")


def _rates(case: Mapping[str, Any]) -> dict[str, float]:
    return {name: rival["rate"] for name, rival in case["rivals"].items()}


def _marker_size(name: str) -> float:
    return 8 if name == "tfcore" else 5.5


def _name_rivals(figure: Any, rivals: list[str], with_limit: bool) -> None:
    line = _import("matplotlib.lines").Line2D
    handles = []
    for name in rivals:
        colour, marker = _STYLE.get(name, _UNKNOWN)
        handles.append(
            line([], [], color=colour, marker=marker, linestyle="", markersize=_marker_size(name), label=name)
        )
    if with_limit:
        limit = {"color": _INK, "marker": "|", "markersize": 11, "markeredgewidth": 1.2, "linestyle": ""}
        handles.append(line([], [], **limit, label="the machine's limit"))
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), frameon=False, labelcolor="linecolor",
                  handletextpad=0.2, columnspacing=1.2)  # fmt: skip
    figure.get_layout_engine().set(h_pad=0.03)


def _tidy(chart: Any, grid_axis: str) -> None:
    chart.grid(axis=grid_axis, color=_GRID, linewidth=0.6)
    chart.set_axisbelow(True)
    chart.tick_params(length=0)
    for side in ("top", "right", "left" if grid_axis == "x" else "bottom"):
        chart.spines[side].set_visible(False)


# --- growth ----------------------------------------------------------------------------------------------------------


def _draw_scaling(results: Results, file: Path) -> None:
    """Time and memory of one head over the number of keys."""
    lengths = results["scaling"]
    with _figure(file, 3.9) as figure:
        times, memory = figure.subplots(1, 2)
        _draw_growth(times, "Time of a call", lengths, "seconds", seconds)
        _draw_growth(memory, "Memory added by a call", lengths, "added_bytes", size)
        figure.supxlabel("\n".join(about(results)[:2]), fontsize=7, color=_FAINT)


def _draw_growth(
    chart: Any, title: str, lengths: list[Mapping[str, Any]], quantity: str, label: Callable[[float], str]
) -> None:
    keys = [at["length"] for at in lengths]
    ends: dict[str, tuple[int, float]] = {}
    for name in dict.fromkeys(name for at in lengths for name in at[quantity]):
        colour, marker = _STYLE.get(name, _UNKNOWN)
        points = [(at["length"], at[quantity][name]) for at in lengths if name in at[quantity]]
        chart.plot(*zip(*points, strict=True), marker=marker, color=colour, markersize=4.5, zorder=3 - len(ends) / 10)
        ends[name] = points[-1]
    chart.set_xscale("log", base=2)
    chart.set_yscale("log")
    chart.set_xticks(keys, [str(k) for k in keys], fontsize=8)
    chart.minorticks_off()
    chart.set_xlim(keys[0] * 0.85, keys[-1] * 1.15)
    chart.yaxis.set_major_formatter(lambda value, _: re.sub(r"\.0+ ", " ", label(value)))
    _label_ends(chart, ends, label)
    chart.set_title(title, loc="left", fontsize=10, fontweight="bold")
    chart.set_xlabel("keys and queries, one head of 64 columns, float32")
    _tidy(chart, "y")


def _label_ends(chart: Any, ends: Mapping[str, tuple[int, float]], label: Callable[[float], str]) -> None:
    """Names each line where it ends, one name above the other where lines meet."""
    low, high = (math.log(limit) for limit in chart.get_ylim())
    above = -math.inf
    for name, (x, y) in sorted(ends.items(), key=lambda end: end[1][1]):
        at = (math.log(y) - low) / (high - low) * _CHART_POINTS
        place = max(at, above + 11)
        above = place
        chart.annotate(f"{name}, {label(y)}", (x, y), (8, place - at), textcoords="offset points", va="center",
                       color=_STYLE.get(name, _UNKNOWN)[0])  # fmt: skip
