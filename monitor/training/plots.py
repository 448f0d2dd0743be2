"""Plots of what a model does on held-out media: mistakes, how sure it may be, what it finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from monitor.report.charts.paper import COLOURS, QUIET, Row, legend, plain, say, whole_numbers
from monitor.training.evaluate import Evaluation, SpeciesFigures, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMES = 40
"""Species in one plot: more cannot be read; the most frequent ones are kept."""
PERCENT = ([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])


@dataclass(frozen=True, slots=True)
class ConfusionMatrix:
    """Which species is taken for which: shade by the share of its row, and the counts."""

    title: ClassVar[str] = "What was taken for what"
    columns: ClassVar[tuple[str, ...]] = ("people_said", "model_said", "media")
    held_out: Evaluation

    @property
    def height(self) -> float:
        return 2.2 + 0.27 * len(self._used())

    @property
    def alt(self) -> str:
        if not self.held_out.media:
            return "Nothing was held out."
        right = sum(row[i] for i, row in enumerate(self.held_out.confusion))
        return f"Confusion matrix: {right} of {self.held_out.media} held-out media named right."

    def rows(self) -> Iterator[Row]:
        names = self.held_out.names
        for i, row in enumerate(self.held_out.confusion):
            for j, count in enumerate(row):
                yield names[i], names[j], count

    def _used(self) -> list[int]:
        counts = np.array(self.held_out.confusion).reshape(len(self.held_out.names), -1)
        weight = counts.sum(axis=0) + counts.sum(axis=1)
        most = np.argsort(-weight, kind="stable")[:MOST_NAMES]
        return sorted(int(i) for i in most if weight[i])

    def draw(self, figure: Figure) -> None:
        if not (used := self._used()):
            say(figure, self.alt)
            return
        counts = np.array(self.held_out.confusion, float)[np.ix_(used, used)]
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes = figure.add_subplot()
        centres = np.arange(len(used))
        # cells and not a picture: an SVG of shapes alone
        axes.pcolormesh(centres, centres, shares, cmap="Blues", vmin=0, vmax=1, shading="nearest")
        axes.invert_yaxis()
        size = 8.5 if len(used) <= 16 else 5.5
        for i, j in np.argwhere(counts).tolist():
            ink = "white" if shares[i, j] > 0.55 else "black"
            axes.text(
                j, i, f"{counts[i, j]:.0f}", ha="center", va="center", color=ink, fontsize=size
            )
        names = [plain(self.held_out.names[i]) for i in used]
        axes.set_xticks(centres, names, rotation=90, fontsize=size)
        axes.set_yticks(centres, names, fontsize=size)
        axes.set_xlabel("the model said (shade: share of the row)")
        axes.set_ylabel("people said")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)


@dataclass(frozen=True, slots=True)
class Reliability:
    """Whether 80 % means eight in ten: the share right against the probability said."""

    height: ClassVar[float] = 4.6
    title: ClassVar[str] = "Does 80 % mean eight in ten?"
    columns: ClassVar[tuple[str, ...]] = ("mean_probability", "share_right", "media")
    held_out: Evaluation

    @property
    def alt(self) -> str:
        if self.held_out.ece is None:
            return "Nothing was held out."
        return f"Reliability diagram: calibration error {self.held_out.ece:.3f}; 0 is perfect."

    def rows(self) -> Iterator[Row]:
        for one in self.held_out.bins:
            yield one.confidence, one.accuracy, one.media

    def draw(self, figure: Figure) -> None:
        if not self.held_out.bins:
            say(figure, self.alt)
            return
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        sure = [one.confidence for one in self.held_out.bins]
        right = [one.accuracy for one in self.held_out.bins]
        media = [one.media for one in self.held_out.bins]
        ideal = upper.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
        spans = [wilson(one.accuracy, one.media) for one in self.held_out.bins]
        low, high = zip(*spans, strict=True)
        upper.vlines(sure, low, high, color=COLOURS[0], linewidth=1)
        style: dict[str, Any] = {"color": COLOURS[0], "marker": "o", "linestyle": "none"}
        line = upper.plot(sure, right, markersize=5, **style)
        share_axis(upper, "share that was right")
        names = ["as it should be", f"this model (error {self.held_out.ece:.3f})"]
        legend(upper, [*ideal, *line], names, loc="upper left", fontsize=8.5)
        lower.bar(sure, media, width=0.035, color=COLOURS[0])
        for x, count in zip(sure, media, strict=True):
            lower.text(x, count, f"{count:,}", ha="center", va="bottom", fontsize=7, color=QUIET)
        lower.set_ylabel("media")
        lower.margins(y=0.25)
        whole_numbers(lower.yaxis)
        lower.set_xlim(0, 1.03)
        lower.set_xticks(*PERCENT)
        lower.set_xlabel("probability that the model gave its answer")


@dataclass(frozen=True, slots=True)
class RecallBySpecies:
    """Of the media that show a species, the share that is found, with 95 % intervals."""

    title: ClassVar[str] = "How much of each species is found"
    columns: ClassVar[tuple[str, ...]] = ("version", "species", "recall", "low", "high", "events")
    name: str
    held_out: Evaluation
    champion: tuple[str, Evaluation] | None

    @property
    def height(self) -> float:
        return 1.7 + 0.33 * max(1, len(self._shown()))

    @property
    def alt(self) -> str:
        told = [f"{plain(row.species)} {row.recall:.0%}" for row in self._shown()[:6]]
        return (
            f"Recall by species, the weakest first: {', '.join(told)}."
            if told
            else "Nothing was held out."
        )

    def _shown(self) -> list[SpeciesFigures]:
        rows = [row for row in self.held_out.species if row.recall is not None]
        kept = sorted(rows, key=lambda row: -row.support)[:MOST_NAMES]
        return sorted(kept, key=lambda row: (row.recall or 0.0, row.species))

    def rows(self) -> Iterator[Row]:
        for name, seen in ((self.name, self.held_out), *([self.champion] if self.champion else [])):
            for row in seen.species:
                low, high = row.recall_interval or (None, None)
                yield name, row.species, row.recall, low, high, row.events

    def draw(self, figure: Figure) -> None:
        if not (shown := self._shown()):
            say(figure, self.alt)
            return
        axes = figure.add_subplot()
        places = {row.species: float(i) for i, row in enumerate(reversed(shown))}
        handles = [_recalls(axes, shown, places, 0.13 if self.champion else 0.0, 0)]
        names = [plain(self.name) + " (this)"]
        if self.champion:
            theirs = [r for r in self.champion[1].species if r.species in places]
            handles.append(_recalls(axes, theirs, places, -0.17, 1))
            names.append(plain(self.champion[0]) + " (live then)")
        words = [f"{plain(row.species)}  ({row.support}/{row.events})" for row in reversed(shown)]
        axes.set_yticks(list(places.values()), words, fontsize=8.5)
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.set_xlim(-0.01, 1.03)
        axes.set_xticks(*PERCENT)
        axes.set_xlabel("found, with 95 % interval (in brackets: held-out media/events)")
        axes.grid(axis="x")
        legend(axes, handles, names, loc="outside upper left", ncols=2, fontsize=8.5)


def _recalls(
    axes: Axes, rows: Sequence[SpeciesFigures], places: dict[str, float], shift: float, number: int
) -> Any:
    known = [row for row in rows if row.recall is not None]
    at = [places[row.species] + shift for row in known]
    spans = [row.recall_interval or (row.recall or 0.0,) * 2 for row in known]
    axes.hlines(
        at, [s[0] for s in spans], [s[1] for s in spans], color=COLOURS[number], linewidth=1.5
    )
    style: dict[str, Any] = {"color": COLOURS[number], "linestyle": "none", "marker": "os"[number]}
    return axes.plot([row.recall or 0.0 for row in known], at, markersize=5 - number, **style)[0]


def share_axis(axes: Axes, words: str) -> None:
    """An upright axis of shares, from 0 to 100 %."""
    axes.set_ylim(0, 1.03)
    axes.set_yticks(*PERCENT)
    axes.set_ylabel(words)
    axes.grid(axis="y")
