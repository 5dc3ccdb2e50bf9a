"""Results as a picture: one small chart a case, each with its own time axis, since cases differ a thousandfold."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from .report import about, rivals_of, seconds

_FORMATS = (".png", ".svg", ".pdf")
_OWN_COLOUR = "#1f6feb"
_PEER_COLOURS = ("#8c959f", "#d4a72c", "#a475f9", "#2da44e")
_COLUMNS = 2


def check(file: Path) -> None:
    """Raises now what `draw` would raise in the end: no matplotlib, an unknown kind of file, no such folder."""
    if file.suffix not in _FORMATS:
        raise ValueError(f"--plot is {str(file)!r}, expected a file ending in {', '.join(_FORMATS)}")
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f"--plot: there is no folder {file.absolute().parent}")
    _figure_module()


def _figure_module() -> Any:
    try:
        return import_module("matplotlib.figure")
    except ImportError as error:
        raise ImportError('a plot needs matplotlib: pip install "tfcore[plot]"') from error


def draw(results: Mapping[str, Any], file: Path) -> None:
    """Writes the picture: horizontal bars, a rival each, as long as its median time."""
    cases, peers = results["cases"], [name for name in rivals_of(results) if name != "tfcore"]
    colours = {"tfcore": _OWN_COLOUR}
    colours |= {name: _PEER_COLOURS[i % len(_PEER_COLOURS)] for i, name in enumerate(peers)}
    rows = -(-len(cases) // _COLUMNS)
    figure = _figure_module().Figure(figsize=(12, 1.15 * rows + 1.5), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).flat
    for case, chart in zip(cases, axes, strict=False):
        _draw_case(chart, case, colours)
        chart.set_ylim(len(colours) - 0.5, -0.5)  # bars of one height, the first on top
    for chart in list(figure.axes)[len(cases) :]:
        chart.axis("off")
    figure.suptitle("Median time of a call: shorter is better", fontsize=14, fontweight="bold")
    figure.supxlabel("\n".join(about(results)), fontsize=8, color="#57606a")
    figure.savefig(file, dpi=150)


def _draw_case(chart: Any, case: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    names = list(case["rivals"])
    times = [case["rivals"][name]["median_s"] for name in names]
    bars = chart.barh(names, times, color=[colours[name] for name in names], height=0.75)
    own = case["rivals"]["tfcore"]["median_s"]
    labels = [
        seconds(t) if name == "tfcore" else f"{seconds(t)}  ({t / own:.2f}x)"
        for name, t in zip(names, times, strict=True)
    ]
    chart.bar_label(bars, labels=labels, padding=4, fontsize=9)
    chart.set_title(case["name"], loc="left", fontsize=10)
    chart.set_xlim(0, 1.3 * max(times))  # room for the labels
    chart.set_xticks([])
    chart.tick_params(left=False)
    for side in ("top", "right", "bottom"):
        chart.spines[side].set_visible(False)
