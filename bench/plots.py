"""Draws bar charts as SVG and PNG; it runs in an environment that has matplotlib, and reads them as JSON.

Each chart has a `file` without its suffix, a `title`, a `unit`, and `bars`: labels with the values of their
parts, which are stacked. Where there are no parts to stack, the scale is logarithmic.
"""

import json
import sys
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
mpl.rcParams |= {
    "svg.hashsalt": "mesa",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

from matplotlib import pyplot  # noqa: E402  # after the choice of a backend

OURS = "mesa-ws"
COLORS = ("#4c78a8", "#f58518", "#9aa5b1")
HIGHLIGHT = "#e45756"


def draw(file: str, title: str, unit: str, bars: dict[str, dict[str, float]]) -> None:
    """Draw one chart."""
    parts = list(next(iter(bars.values())))
    figure, axes = pyplot.subplots(figsize=(8, 0.9 + 0.38 * len(bars)), layout="constrained")
    before = [0.0] * len(bars)
    for part, color in zip(parts, COLORS, strict=False):
        values = [bar[part] for bar in bars.values()]
        drawn = axes.barh(list(bars), values, left=before, color=color, label=part)
        before = [start + value for start, value in zip(before, values, strict=True)]
    if len(parts) == 1:
        for bar, label in zip(drawn, bars, strict=True):
            bar.set_color(HIGHLIGHT if label.startswith(OURS) else COLORS[0])
        axes.set_xscale("log")
    else:
        axes.legend(frameon=False, loc="lower right")
    for number, total in enumerate(before):
        axes.annotate(f" {total:.3g}", (total, number), va="center")
    axes.margins(x=0.12)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.set_title(title, loc="left", fontsize=11)
    for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        figure.savefig(f"{file}.{suffix}", metadata=metadata, dpi=110)
    pyplot.close(figure)


def main(charts: list[dict[str, Any]]) -> None:
    """Draw all charts."""
    for chart in charts:
        draw(**chart)


main(json.load(sys.stdin))
