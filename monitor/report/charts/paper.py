"""The paper that charts are drawn on: one style, colours that everybody can tell apart, and the
same bytes for the same data.

Matplotlib is imported where something is drawn, never its `pyplot`, which keeps figures in one
place for all threads.
"""

from __future__ import annotations

import csv
import io
import logging
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 6.4  # inches: a column and a half of a journal
PNG_DPI = 200
LONGEST_NAME = 26  # letters of a name in a chart

# Okabe & Ito 2008, "Color Universal Design"; without its yellow, which is lost on white paper
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
OTHERS = "#9A9A9A"
INK, QUIET, FAINT = "#1A1A1A", "#555555", "#D9D9D9"
LINES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.2)), (0, (7, 2, 1.5, 2)))
"""Line styles that tell curves apart where a copy has no colours."""

HATCHES = ("", "////", "", "xxxx", "", "\\\\\\\\")

_STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 9.5,
    "text.parse_math": False,  # a name with two dollars is no formula
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.formatter.use_mathtext": False,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # text stays text: small files, names that can be found and copied
    "svg.hashsalt": "trapwatch",
}
_ONE_AT_A_TIME = threading.Lock()
"""Matplotlib's settings and font cache are those of the process."""

Row = Sequence[str | int | float | None]


class Chart(Protocol):
    """Numbers that can be drawn, told in a sentence, and listed."""

    title: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]

    @property
    def height(self) -> float:
        """In inches."""
        ...

    @property
    def alt(self) -> str:
        """What the chart shows, for those who do not see it."""
        ...

    def rows(self) -> Iterable[Row]:
        """The numbers, in the order of `columns`."""
        ...

    def draw(self, figure: Figure) -> None:
        """Draw on an empty figure."""
        ...


def svg(chart: Chart) -> bytes:
    """The chart as SVG: text as text, no scripts, nothing from elsewhere."""
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    drawn = _saved(chart, format="svg", metadata=nothing).decode()
    start = drawn.index("<svg ")
    end = drawn.index(">", start) + 1  # what is before are links to the format's description
    title = f"\n <title>{escape(plain(chart.alt, 1000))}</title>"
    return (drawn[start:end] + title + drawn[end:]).encode()


def png(chart: Chart) -> bytes:
    """The chart as PNG, 200 dots an inch."""
    return _saved(chart, format="png", dpi=PNG_DPI, metadata={"Software": None})


def table(chart: Chart) -> bytes:
    """The chart's numbers as UTF-8 CSV."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(chart.columns)
    writer.writerows(chart.rows())
    return stream.getvalue().encode("utf-8", "backslashreplace")


def plain(name: str, longest: int = LONGEST_NAME) -> str:
    """A name as a chart shows it: only printable letters (XML knows no others), not too long."""
    text = "".join(letter if letter.isprintable() else "�" for letter in name)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def say(figure: Figure, words: str) -> None:
    """Write words in the place of a chart."""
    figure.text(0.5, 0.5, words, ha="center", va="center", color=QUIET, wrap=True, fontsize=11)


def legend(axes: Axes, handles: Sequence[Any], names: Sequence[str], **options: Any) -> None:
    """A legend with any names: Matplotlib before 3.10 leaves out those that begin with `_`."""
    outside = str(options.get("loc", "")).startswith("outside")
    owner: Any = axes.get_figure() if outside else axes
    drawn = owner.legend(handles, ["?"] * len(names), handlelength=2.4, **options)
    for text, name in zip(drawn.get_texts(), names, strict=True):
        text.set_text(name)


def whole_numbers(axis: Any) -> None:
    """Ticks of counts: no halves, thousands set apart."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 detection`, `1,214 detections`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _saved(chart: Chart, **options: Any) -> bytes:
    from matplotlib.figure import Figure

    stream = io.BytesIO()
    with _drawing():
        figure = Figure(figsize=(WIDTH, chart.height), layout="constrained")
        chart.draw(figure)
        figure.savefig(stream, **options)
    return stream.getvalue()


@contextmanager
def _drawing() -> Iterator[None]:
    """Our style, for one chart at a time."""
    from matplotlib import rc_context

    # a letter that no font has is drawn as a box in PNG: that is all there is to say
    style: Any = _STYLE
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    with _ONE_AT_A_TIME, rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield
