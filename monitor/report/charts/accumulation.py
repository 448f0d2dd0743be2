"""Species accumulation: how many species so much work of the cameras finds.

The expected curve over camera-days drawn in any order, and its 95 % band: Mao Tau of Colwell, Mao
& Chang 2004, "Interpolating, extrapolating, and comparing incidence-based species accumulation
curves", Ecology 85, equations 5 and 6.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from monitor.log.detected import Detections, Integers
from monitor.report.charts.choice import Effort, different_pairs, effort
from monitor.report.charts.paper import COLOURS, INK, Row, counted, legend, say, whole_numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
POINTS = 120
_log_factorial = np.frompyfunc(lambda n: math.lgamma(n + 1), 1, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Accumulation:
    """Species against camera-days.

    Attributes:
        camera_days: where the expected curve is known, (p,).
        expected, low, high: species there, and the 95 % band, (p,).
        found_at: camera-days that had passed when each species was first seen, in order, (s,).
        estimated: how many species there may be in all (Chao 2).
    """

    height: ClassVar[float] = 3.6
    title: ClassVar[str] = "Species accumulation"
    columns: ClassVar[tuple[str, ...]] = ("camera_days", "expected", "low", "high", "observed")
    camera_days: Integers
    expected: Floats
    low: Floats
    high: Floats
    found_at: Integers
    estimated: float

    @property
    def alt(self) -> str:
        if not len(self.found_at):
            return "No detections in this period."
        found = len(self.found_at)
        return (
            f"{counted(found, 'species', 'species')} in {self.camera_days[-1]:,} camera-days; "
            f"half of the work would have found about {self._halfway():.0f}. "
            f"Chao 2 estimates {self.estimated:.0f} in all."
        )

    def _halfway(self) -> float:
        return float(np.interp(self.camera_days[-1] / 2, self.camera_days, self.expected))

    def rows(self) -> Iterator[Row]:
        observed = np.searchsorted(self.found_at, self.camera_days, side="right")
        values = zip(self.camera_days, self.expected, self.low, self.high, observed, strict=True)
        for days, expected, low, high, seen in values:
            yield int(days), round(expected, 4), round(low, 4), round(high, 4), int(seen)

    def draw(self, figure: Figure) -> None:
        if not len(self.found_at):
            say(figure, self.alt)
            return
        axes = figure.add_subplot()
        band = axes.fill_between(
            self.camera_days, self.low, self.high, color=COLOURS[0], alpha=0.18, linewidth=0
        )
        line = axes.plot(self.camera_days, self.expected, color=COLOURS[0], linewidth=1.8)[0]
        found = len(self.found_at)
        days = np.concatenate([[0], self.found_at, self.camera_days[-1:]])
        seen = np.concatenate([[0], np.arange(1, found + 1), [found]])
        steps = axes.step(days, seen, where="post", color=INK, linewidth=1, linestyle=(0, (3, 2)))[
            0
        ]
        axes.set_xlim(0, max(1, self.camera_days[-1]))
        axes.set_ylim(0, max(float(self.high.max()), found) * 1.08)
        axes.set_xlabel("camera-days")
        axes.set_ylabel("species")
        axes.grid(axis="y")
        whole_numbers(axes.xaxis)
        whole_numbers(axes.yaxis)
        names = ["expected (Mao Tau)", "95 % band", "as they were found"]
        legend(axes, [line, band, steps], names, loc="lower right", fontsize=8.5)


def accumulation(detections: Detections, species: Sequence[str] = ()) -> Accumulation:
    """Species against camera-days.

    Args:
        detections: all of the period, also those that show nothing: they tell when cameras worked.
        species: count only these; left out, all.
    """
    shown = detections.of(species) if species else detections.animals()
    work = effort(detections)
    species_here = shown.species_code * np.int64(len(shown.places)) + shown.deployment_code
    incidence = different_pairs(species_here, shown.days)[0] // max(1, len(shown.places))
    often = np.unique(incidence, return_counts=True)[1]
    samples = work.camera_days
    even, early = np.linspace(0, samples, POINTS), np.geomspace(1, max(1, samples), POINTS // 3)
    places = np.concatenate([even, early]).round().astype(np.int64)
    places = np.unique(np.minimum(places, samples))
    expected, deviation, estimated = mao_tau(often, samples, places)
    low, high = np.maximum(expected - 1.96 * deviation, 0), expected + 1.96 * deviation
    return Accumulation(places, expected, low, high, _first_seen(shown, work), estimated)


def mao_tau(often: Integers, samples: int, at: Integers) -> tuple[Floats, Floats, float]:
    """The expected number of species in `at` of the samples.

    Args:
        often: in how many samples each species was seen, (s,).
        samples: how many there are.
        at: numbers of samples, 0 to `samples`, (p,).

    Returns:
        the expectation (p,), its standard deviation (p,), and Chao 2, the estimate of all species
        that the deviation rests on.
    """
    counts, species = np.unique(often, return_counts=True)
    j, h = counts[None, :], at[:, None]
    rest = samples - h - j
    logs = _log_factorial(samples - h) + _log_factorial(samples - j)
    logs = logs - _log_factorial(np.maximum(rest, 0)) - _log_factorial(samples)
    alpha = np.where(rest >= 0, np.exp(logs.astype(np.float64)), 0.0)
    expected = ((1 - alpha) * species).sum(axis=1)
    once, twice = int((often == 1).sum()), int((often == 2).sum())
    share = (samples - 1) / samples if samples else 0.0
    pairs = once**2 / (2 * twice) if twice else once * (once - 1) / 2
    estimated = len(often) + share * pairs
    if not len(often):
        return expected, np.zeros(len(at)), estimated
    variance = ((1 - alpha) ** 2 * species).sum(axis=1) - expected**2 / estimated
    return expected, np.sqrt(np.maximum(variance, 0)), estimated


def _first_seen(shown: Detections, work: Effort) -> Integers:
    """Camera-days that had passed by the end of the day on which each species was first seen."""
    first = np.full(len(shown.species), np.iinfo(np.int64).max)
    np.minimum.at(first, shown.species_code, shown.days)
    seen = np.sort(first[np.unique(shown.species_code)])
    return np.array([work.until(int(day)) for day in seen], np.int64)
