"""Draws bar charts as SVG and PNG; it runs in an environment that has matplotlib, and reads them as JSON.

Each chart has a `file` without its suffix, a `title`, a `unit`, and `bars`: labels with the values of their
parts, which are stacked. Where there is one part alone, dots are drawn on a logarithmic scale.
"""

import json
import sys
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
mpl.rcParams |= {
    "svg.hashsalt": "mesa",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

from matplotlib import pyplot  # noqa: E402  # after the choice of a backend

OURS = "mesa-ws"
COLORS = ("#4c78a8", "#f58518", "#9aa5b1")
HIGHLIGHT = "#e45756"

FAR = 3.0
"""A bar this many times as long as the next one is cut."""


def draw(file: str, title: str, unit: str, bars: dict[str, dict[str, float]]) -> None:
    """Draw one chart."""
    figure, axes = pyplot.subplots(figsize=(8, 0.9 + 0.36 * len(bars)), layout="constrained")
    if len(next(iter(bars.values()))) == 1:
        _dots(axes, {label: next(iter(parts.values())) for label, parts in bars.items()})
    else:
        _stacks(axes, bars)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.set_title(title, loc="left", fontsize=11)
    for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        figure.savefig(f"{file}.{suffix}", metadata=metadata, dpi=110)
    pyplot.close(figure)


def _dots(axes: Any, values: dict[str, float]) -> None:
    colors = [HIGHLIGHT if label.startswith(OURS) else COLORS[0] for label in values]
    axes.scatter(list(values.values()), list(values), c=colors, s=60, zorder=2)
    axes.grid(axis="x", which="both", color="#dddddd", linewidth=0.6)
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.1)
    for label, value in values.items():
        axes.annotate(f"{value:.3g}", (value, label), (8, 0), textcoords="offset points", va="center")


def _stacks(axes: Any, bars: dict[str, dict[str, float]]) -> None:
    before = dict.fromkeys(bars, 0.0)
    for part, color in zip(next(iter(bars.values())), COLORS, strict=True):
        values = [bar[part] for bar in bars.values()]
        axes.barh(list(bars), values, left=list(before.values()), color=color, label=part)
        before = {label: before[label] + bar[part] for label, bar in bars.items()}
    *_, second, longest = sorted(before.values())
    end = 1.15 * (longest if longest < FAR * second else 1.5 * second)
    axes.set_xlim(0, end)
    for label, total in before.items():
        is_cut = total > end
        axes.annotate(
            f"{total:.3g} \N{RIGHTWARDS ARROW} " if is_cut else f" {total:.3g}",
            (min(total, end), label),
            ha="right" if is_cut else "left",
            va="center",
        )
        axes.get_yticklabels()[list(bars).index(label)].set_fontweight(
            "bold" if label.startswith(OURS) else "normal"
        )
    axes.legend(frameon=False, loc="upper right")


def main(charts: list[dict[str, Any]]) -> None:
    """Draw all charts."""
    for chart in charts:
        draw(**chart)


main(json.load(sys.stdin))
