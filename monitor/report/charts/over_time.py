"""Detections over time: how many a day, a week, a month or a year, by species."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from monitor.log.detected import Detections, Integers
from monitor.report.charts.choice import top_species
from monitor.report.charts.paper import (
    COLOURS,
    HATCHES,
    OTHERS,
    Row,
    counted,
    legend,
    plain,
    say,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_DAYS, MOST_WEEKS, MOST_MONTHS = 45, 60, 72
"""Longer than that, and the next longer unit is drawn."""

OTHER_SPECIES = "other species"
EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True, eq=False)
class OverTime:
    """How often each species was detected in each unit of time.

    Attributes:
        unit: day, week (from Monday), month or year, by the cameras' clocks.
        starts: first days of the units that lie between the first and the last detection.
        ends: the days after their last ones.
        species: the most detected first; the rest together at the end.
        counts: (species, units).
    """

    height: ClassVar[float] = 3.6
    title: ClassVar[str] = "Detections over time"
    columns: ClassVar[tuple[str, ...]] = ("from", "species", "detections")
    unit: str
    starts: tuple[date, ...]
    ends: tuple[date, ...]
    species: tuple[str, ...]
    counts: Integers

    @property
    def alt(self) -> str:
        if not self.starts:
            return "No detections in this period."
        totals = self.counts.sum(axis=0)
        most = int(totals.argmax())
        parts = ", ".join(
            f"{name} {row.sum():,}" for name, row in zip(self.species, self.counts, strict=True)
        )
        when = f"{self.starts[most]}"
        when = f"on {when}" if self.unit == "day" else f"in the {self.unit} from {when}"
        return (
            f"{counted(int(totals.sum()), 'detection')} by {self.unit} from {self.starts[0]} to "
            f"{self.ends[-1] - timedelta(days=1)}: {parts}. Most {when} ({totals[most]:,})."
        )

    def rows(self) -> Iterator[Row]:
        for place, start in enumerate(self.starts):
            for name, row in zip(self.species, self.counts, strict=True):
                yield start.isoformat(), name, int(row[place])

    def draw(self, figure: Figure) -> None:
        from matplotlib import dates

        if not self.starts:
            say(figure, self.alt)
            return
        axes = figure.add_subplot()
        left = np.array([(start - EPOCH).days for start in self.starts], float)
        width = np.array([(end - EPOCH).days for end in self.ends], float) - left
        if self.unit == "day":
            left -= 0.5  # a day's bar stands over its tick; longer ones begin there
        below = np.zeros(len(left))
        handles = []
        for place, (name, row) in enumerate(zip(self.species, self.counts, strict=True)):
            some = row > 0
            others = name == OTHER_SPECIES
            handles.append(
                axes.bar(
                    left[some] + width[some] / 2,
                    row[some],
                    width[some] * 0.86,
                    below[some],
                    color=OTHERS if others else COLOURS[place],
                    hatch="" if others else HATCHES[place],
                    edgecolor="white",
                    linewidth=0.3,
                )
            )
            below += row
        calendar: Any = dates
        locator = calendar.AutoDateLocator(minticks=3, maxticks=9)
        axes.xaxis_date()
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(calendar.ConciseDateFormatter(locator, show_offset=False))
        axes.set_xlim(left[0], left[-1] + width[-1])
        axes.set_ylabel(f"detections per {self.unit}")
        axes.set_xlabel(f"{self.starts[0]} to {self.ends[-1] - timedelta(days=1)}")
        axes.grid(axis="y")
        whole_numbers(axes.yaxis)
        names = [plain(name) for name in self.species]
        legend(axes, handles, names, loc="outside upper left", ncols=4, fontsize=8.5)


def over_time(detections: Detections, species: Sequence[str] = ()) -> OverTime:
    """Count detections by time.

    Args:
        species: only these; left out, all.
    """
    shown = detections.of(species) if species else detections.animals()
    if not len(shown):
        return OverTime("day", (), (), (), np.zeros((0, 0), np.int64))
    unit, places, starts = _units(shown.days)
    names = top_species(shown, len(COLOURS))
    counts = np.zeros((len(names) + 1, len(starts) - 1), np.int64)
    row_of = np.full(len(shown.species), len(names))
    row_of[[shown.species.index(name) for name in names]] = np.arange(len(names))
    np.add.at(counts, (row_of[shown.species_code], places), 1)
    if counts[-1].any():
        names = (*names, OTHER_SPECIES)
    days = [EPOCH + timedelta(days=int(day)) for day in starts]
    return OverTime(unit, tuple(days[:-1]), tuple(days[1:]), names, counts[: len(names)])


def _units(days: Integers) -> tuple[str, Integers, Integers]:
    """The unit for these days, the place of each day, and where the units start (and the last
    ends)."""
    first, last = int(days.min()), int(days.max())
    span = last - first + 1
    if span <= MOST_DAYS:
        return "day", days - first, np.arange(first, last + 2)
    if span <= MOST_WEEKS * 7:
        weeks = (days + 3) // 7  # 1970 began on a Thursday
        starts = np.arange(weeks.min(), weeks.max() + 2) * 7 - 3
        return "week", weeks - weeks.min(), starts
    unit, code = ("month", "M") if span <= MOST_MONTHS * 30.44 else ("year", "Y")
    at = days.astype("datetime64[D]").astype(f"datetime64[{code}]").astype(np.int64)
    edges = np.arange(at.min(), at.max() + 2).astype(f"datetime64[{code}]")
    starts = edges.astype("datetime64[D]").astype(np.int64)
    return unit, at - at.min(), starts
