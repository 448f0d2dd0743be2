"""How the models got on: what each version reached on media that it never trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from monitor.core.domain import ModelState
from monitor.log.versions import VersionRow
from monitor.report.charts.paper import COLOURS, QUIET, Row, counted, legend, plain, say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_TICKS = 12


@dataclass(frozen=True, slots=True)
class VersionPoint:
    """One version. Figures are shares (0-1); None where it has none."""

    name: str
    created_at: str
    state: ModelState
    went_live: bool
    accuracy: float | None
    macro_recall: float | None
    held_out_media: int | None
    train_media: int | None


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """All versions, oldest first."""

    height: ClassVar[float] = 3.4
    title: ClassVar[str] = "What the models have learnt"
    columns: ClassVar[tuple[str, ...]] = (
        "version",
        "created_at",
        "state",
        "went_live",
        "accuracy",
        "mean_recall_per_species",
        "held_out_media",
        "train_media",
    )
    points: tuple[VersionPoint, ...]

    @property
    def alt(self) -> str:
        if not self.points:
            return "No model was trained yet."
        live = next((p for p in self.points if p.state is ModelState.LIVE), None)
        words = counted(len(self.points), "model version") + ". "
        if live is None:
            return words + "None is live."
        return words + (
            f"{plain(live.name)} is live: accuracy {_share(live.accuracy)}, mean recall per "
            f"species {_share(live.macro_recall)} on media that it never trained on."
        )

    def rows(self) -> Iterator[Row]:
        for p in self.points:
            figures = (p.accuracy, p.macro_recall, p.held_out_media, p.train_media)
            yield p.name, p.created_at, p.state.value, int(p.went_live), *figures

    def draw(self, figure: Figure) -> None:
        if not self.points:
            say(figure, self.alt)
            return
        axes = figure.add_subplot()
        places = np.arange(len(self.points))
        went_live = np.array([point.went_live for point in self.points])
        handles: list[Any] = []
        for place, (name, marker) in enumerate((("macro_recall", "o"), ("accuracy", "s"))):
            values = [getattr(point, name) for point in self.points]
            shares = np.array([np.nan if v is None else v for v in values], float)
            size = 5.0 + 2.5 * place  # one within the other where both are the same
            style: dict[str, Any] = {"markersize": size, "zorder": 4 - place}
            style |= {"color": COLOURS[place], "linestyle": "none", "marker": marker}
            live_line = np.where(went_live, shares, np.nan)
            known = np.isfinite(live_line)
            axes.plot(places[known], live_line[known], color=COLOURS[place], linewidth=1.6)
            handles += axes.plot(places[went_live], shares[went_live], **style)
            axes.plot(places[~went_live], shares[~went_live], fillstyle="none", **style)
        for place, point in enumerate(self.points):
            if point.state is ModelState.LIVE:
                axes.axvline(place, color=QUIET, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
                at = axes.get_xaxis_transform()
                axes.text(place, 1.01, "live", transform=at, ha="center", va="bottom",
                          color=QUIET, fontsize=8)  # fmt: skip
        step = -(-len(self.points) // MOST_TICKS)
        words = [f"{plain(p.name, 12)}\n{p.created_at[:10]}" for p in self.points[::step]]
        axes.set_xticks(places[::step], words, fontsize=7.5)
        axes.set_xlim(-0.6, len(self.points) - 0.4)
        axes.set_ylim(0, 1.03)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.set_ylabel("on held-out media")
        axes.grid(axis="y")
        names = ["mean recall per species", "accuracy"]
        legend(axes, handles, names, loc="outside upper left", ncols=2, fontsize=8.5,
               title="hollow: never went live", title_fontsize=8, alignment="left")  # fmt: skip


def learning_curve(versions: Sequence[VersionRow]) -> LearningCurve:
    """The figures of all versions.

    Args:
        versions: in any order.
    """
    return LearningCurve(tuple(_point(row) for row in sorted(versions, key=lambda row: row.id)))


def _point(row: VersionRow) -> VersionPoint:
    held_out = row.figures.get("held_out") or {}
    return VersionPoint(
        row.name,
        row.created_at,
        row.state,
        row.went_live_at is not None,
        held_out.get("accuracy"),
        held_out.get("macro_recall"),
        held_out.get("media"),
        row.figures.get("train_media"),
    )


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0%}"
