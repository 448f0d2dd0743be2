"""Plots of the benchmarks: small SVG files that are the same bytes for the same figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import short

WIDTH_INCHES = 7.2
COLOURS = ("#8c8c8c", "#2a6f4e", "#c8a13a", "#3b6ea5", "#a5483b")
STYLE = {
    "svg.hashsalt": "trapwatch",
    "svg.fonttype": "none",
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
}


def write_svg(path: Path, title: str, draw: Callable[[Any], None], height: float = 2.6) -> None:
    """Draw and write one plot.

    Args:
        draw: is given the axes.
        height: inches.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context(STYLE):
        figure, axes = pyplot.subplots(figsize=(WIDTH_INCHES, height), layout="constrained")
        axes.set_title(title, loc="left")
        draw(axes)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)


def bars(axes: Any, rows: Sequence[tuple[str, Any]], unit: str) -> None:
    """Horizontal bars of (name, Spread), first one on top; whiskers are the rounds' range."""
    for place, (_, spread) in enumerate(rows):
        colour = COLOURS[place % len(COLOURS)]
        whiskers = [[spread.median - spread.low], [spread.high - spread.median]]
        axes.barh(place, spread.median, xerr=whiskers, color=colour, height=0.6, capsize=3)
        axes.annotate(
            short(spread.median),
            (spread.high, place),
            (5, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.set_xlabel(unit)
    axes.grid(axis="x")


def growth(axes: Any, lines: dict[str, tuple[Sequence[float], Sequence[float]]]) -> None:
    """Name -> (sizes, costs), on logarithmic axes: a straight line's slope is its exponent."""
    for place, (name, (sizes, costs)) in enumerate(lines.items()):
        axes.plot(sizes, costs, "o-", color=COLOURS[(place + 1) % len(COLOURS)], label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.grid(which="both")
    axes.legend(frameon=False)
