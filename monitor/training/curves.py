"""Plots of how a model came about: its training, and what every version learnt from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from monitor.report.charts.paper import COLOURS, QUIET, Row, legend, plain, say, whole_numbers
from monitor.training.plots import share_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class ByLabels:
    """What every version reached, against how much it learnt from.

    Attributes:
        points: (version, media learnt from, accuracy, mean recall), oldest first.
    """

    height: ClassVar[float] = 3.6
    title: ClassVar[str] = "What more labels have brought"
    columns: ClassVar[tuple[str, ...]] = ("version", "train_media", "accuracy", "mean_recall")
    points: tuple[tuple[str, int, float, float], ...]

    @property
    def alt(self) -> str:
        if not self.points:
            return "Nothing was held out."
        name, media, accuracy, _ = self.points[-1]
        return f"Accuracy by label count: {plain(name)} learnt from {media} media, {accuracy:.0%}."

    def rows(self) -> Iterator[Row]:
        yield from self.points

    def draw(self, figure: Figure) -> None:
        if not self.points:
            say(figure, self.alt)
            return
        axes = figure.add_subplot()
        media = [point[1] for point in self.points]
        handles = []
        for number, place in enumerate((2, 3)):
            values = [point[place] for point in self.points]
            style: dict[str, Any] = {"color": COLOURS[number], "marker": "so"[number]}
            handles += axes.plot(media, values, linestyle="none", markersize=5 + number, **style)
        name, last, accuracy, _ = self.points[-1]
        axes.annotate(plain(name, 12), (last, accuracy), (0, -14), textcoords="offset points",
                      ha="center", fontsize=8, color=QUIET)  # fmt: skip
        share_axis(axes, "on held-out media")
        axes.set_xlim(0, 1.08 * max(media))
        axes.set_xlabel("media learnt from (each version on its own held-out media)")
        whole_numbers(axes.xaxis)
        legend(axes, handles, ["accuracy", "mean recall per species"], loc="outside upper left",
               ncols=2, fontsize=8.5)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Strengths:
    """How the strength of the head's regularisation was chosen."""

    height: ClassVar[float] = 3.4
    title: ClassVar[str] = "How strongly it was held back from learning by heart"
    columns: ClassVar[tuple[str, ...]] = ("strength", "negative_log_likelihood")
    tried: tuple[tuple[float, float], ...]
    chosen: float

    @property
    def alt(self) -> str:
        return f"Cross-validation: L2 strength {self.chosen:g} is the best of {len(self.tried)}."

    def rows(self) -> Iterator[Row]:
        yield from self.tried

    def draw(self, figure: Figure) -> None:
        axes = figure.add_subplot()
        strengths, errors = zip(*self.tried, strict=True)
        axes.plot(strengths, errors, color=COLOURS[0], marker="o", markersize=5, linewidth=1.4)
        axes.axvline(self.chosen, color=QUIET, linewidth=0.9, linestyle=(0, (2, 2)), zorder=0)
        axes.text(self.chosen, 1.01, "chosen", transform=axes.get_xaxis_transform(), ha="center",
                  va="bottom", color=QUIET, fontsize=8)  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks(strengths, [f"{strength:g}" for strength in strengths])
        axes.minorticks_off()
        axes.set_xlabel("L2 strength (right: held back more)")
        axes.set_ylabel("error on folds set aside\n(negative log-likelihood)")
        axes.grid(axis="y")


@dataclass(frozen=True, slots=True)
class Epochs:
    """How fine-tuning went, epoch by epoch."""

    height: ClassVar[float] = 3.4
    title: ClassVar[str] = "How fine-tuning went"
    columns: ClassVar[tuple[str, ...]] = ("epoch", "figure", "value")
    history: tuple[dict[str, float], ...]

    @property
    def alt(self) -> str:
        first, last = self.history[0], self.history[-1]
        told = [f"{key} {first[key]:.3f} to {last[key]:.3f}" for key in first if key in last]
        return f"Training curves over {len(self.history)} epochs: {', '.join(told)}."

    def rows(self) -> Iterator[Row]:
        for epoch, figures in enumerate(self.history, start=1):
            for key, value in figures.items():
                yield epoch, key, value

    def draw(self, figure: Figure) -> None:
        axes = figure.add_subplot()
        epochs = np.arange(1, len(self.history) + 1)
        words = {
            "loss": "on what it learns from (with augmentation)",
            "aside_nll": "on media set aside",
        }
        handles = []
        for number, key in enumerate(words):
            values = np.array([row.get(key, np.nan) for row in self.history], float)
            style: dict[str, Any] = {"color": COLOURS[number], "marker": "os"[number]}
            handles += axes.plot(epochs, values, markersize=5, linewidth=1.4, **style)
        axes.set_xlabel("epoch")
        axes.set_ylabel("error (negative log-likelihood)")
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
        whole_numbers(axes.xaxis)
        legend(axes, handles, list(words.values()), loc="outside upper left", ncols=2, fontsize=8.5)
