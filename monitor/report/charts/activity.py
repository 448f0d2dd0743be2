"""Activity over the day: a kernel density on the circle of 24 hours, as ecologists draw it.

Ridout & Linkie 2009, "Estimating overlap of daily activity patterns from camera trap data"; the
concentration of the kernel by the rule of Taylor 2008, "Automatic bandwidth selection for circular
density estimation", as R's package `overlap` has it (kmax 3, adjust 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from monitor.log.detected import MINUTES_A_DAY, Detections, Integers
from monitor.report.charts.choice import top_species
from monitor.report.charts.paper import COLOURS, LINES, QUIET, Row, counted, legend, plain, say
from monitor.report.charts.sun import night

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
MOST_SPECIES = 4
FEWEST = 10
"""Detections below which a curve says more than is known."""

RUG_STEP = 5  # minutes
ROW_STEP = 10  # minutes
HIGHEST_CONCENTRATION = 500.0  # of a von Mises kernel: a standard deviation of 10 minutes
_ANGLES = (np.arange(2000) + 0.5) * math.pi / 2000


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """One species over the day.

    Attributes:
        species: its name.
        minutes: detections in each minute of the day, (1440,).
        density: share of the activity per hour, at the middle of each minute, (1440,); its mean
            is 1/24. None where there are fewer than `FEWEST` detections.
    """

    species: str
    minutes: Integers
    density: Floats | None

    @property
    def detections(self) -> int:
        """How many there are."""
        return int(self.minutes.sum())

    @property
    def peak(self) -> float | None:
        """The hour (0-24) of the highest density."""
        return None if self.density is None else (int(self.density.argmax()) + 0.5) / 60


@dataclass(frozen=True, slots=True, eq=False)
class Activity:
    """The patterns of a few species.

    Attributes:
        night: hours of sunset and sunrise on the middle day; None where no place is known.
    """

    height: ClassVar[float] = 3.7
    title: ClassVar[str] = "Activity over the day"
    columns: ClassVar[tuple[str, ...]] = ("species", "hour", "density_per_hour", "detections")
    patterns: tuple[Pattern, ...]
    night: tuple[float, float] | None = None

    @property
    def alt(self) -> str:
        if not self.patterns:
            return "No detections in this period."
        return ". ".join(map(_in_words, self.patterns)) + "."

    def rows(self) -> Iterator[Row]:
        for pattern in self.patterns:
            counts = pattern.minutes.reshape(-1, ROW_STEP).sum(axis=1)
            for place, count in enumerate(counts):
                density = (
                    None
                    if pattern.density is None
                    else round(float(pattern.density.reshape(-1, ROW_STEP)[place].mean()), 6)
                )
                hour = round(place * ROW_STEP / 60, 4)
                yield pattern.species, hour, density, int(count)

    def draw(self, figure: Figure) -> None:
        if not self.patterns:
            say(figure, self.alt)
            return
        axes = figure.add_subplot()
        if self.night is not None:
            _shade(axes, *self.night)
        hours = (np.arange(MINUTES_A_DAY) + 0.5) / 60
        top = max((p.density.max() for p in self.patterns if p.density is not None), default=0.1)
        handles, names = [], []
        for place, pattern in enumerate(self.patterns):
            style = {"color": COLOURS[place], "linestyle": LINES[place], "linewidth": 1.8}
            density = pattern.density if pattern.density is not None else np.full(1440, np.nan)
            handles += axes.plot(hours, density, **style)
            names.append(f"{plain(pattern.species)} (n = {pattern.detections:,})")
            _rug(axes, pattern, COLOURS[place], -top * 0.055 * (place + 1), top * 0.04)
        axes.axhline(0, color=QUIET, linewidth=0.8)
        axes.set_xlim(0, 24)
        axes.set_ylim(-top * 0.055 * (len(self.patterns) + 0.6), top * 1.06)
        axes.set_xticks(range(0, 25, 3), [f"{hour:02d}:00" for hour in range(0, 25, 3)])
        axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= top * 1.06])
        axes.spines["bottom"].set_visible(False)
        axes.set_xlabel("time of day, by the camera's clock")
        axes.set_ylabel("activity (share per hour)")
        axes.grid(axis="y")
        legend(axes, handles, names, loc="outside upper left", ncols=2, fontsize=8.5)


def activity(detections: Detections, species: Sequence[str] = ()) -> Activity:
    """How the detections of species spread over the day.

    Args:
        species: these (the first four); left out, those with the most detections.
    """
    chosen = tuple(dict.fromkeys(species)) or top_species(detections.animals(), MOST_SPECIES)
    patterns = []
    for name in chosen[:MOST_SPECIES]:
        of_day = detections.of([name]).local_minutes % MINUTES_A_DAY
        minutes = np.bincount(of_day, minlength=MINUTES_A_DAY)
        if len(of_day):
            density = kernel_density(minutes) if len(of_day) >= FEWEST else None
            patterns.append(Pattern(name, minutes, density))
    return Activity(tuple(patterns), night(detections.of(chosen)) if patterns else None)


def kernel_density(minutes: Integers) -> Floats:
    """The density per hour at the middle of each minute, (1440,); its mean is 1/24.

    Args:
        minutes: detections in each minute of the day, (1440,), at least one.
    """
    angles = (np.arange(MINUTES_A_DAY) + 0.5) * 2 * math.pi / MINUTES_A_DAY
    nu = concentration(angles, minutes)
    kernel = np.exp(nu * (np.cos(angles - angles[0]) - 1))
    spectrum = np.fft.rfft(kernel / kernel.sum()) * np.fft.rfft(minutes / minutes.sum())
    return np.maximum(np.fft.irfft(spectrum, MINUTES_A_DAY), 0) * 60


def concentration(angles: Floats, weights: Integers) -> float:
    """The kernel's concentration for these angles (radians), each `weights` times.

    Taylor's plug-in rule for a von Mises distribution, whose own concentration is the largest of
    three estimates, from the first three trigonometric moments: so a pattern with two peaks, whose
    first moment vanishes, is not smoothed away.
    """
    share = weights / weights.sum()
    kappa = max(
        _kappa(float(abs((share * np.exp(1j * order * angles)).sum())), order)
        for order in (1, 2, 3)
    )
    if kappa <= 0:
        return 0.0
    ratio = _bessel(2, 2 * kappa) / _bessel(0, kappa) ** 2
    nu = (3 * int(weights.sum()) * kappa**2 * ratio / (4 * math.sqrt(math.pi))) ** 0.4
    return float(min(nu, HIGHEST_CONCENTRATION))


def _kappa(moment: float, order: int) -> float:
    """The concentration of a von Mises distribution with this moment, by bisection."""
    low, high = 0.0, HIGHEST_CONCENTRATION
    for _ in range(60):
        middle = (low + high) / 2
        if _bessel(order, middle) / _bessel(0, middle) < moment:
            low = middle
        else:
            high = middle
    return low if moment > 0 else 0.0


def _bessel(order: int, x: float) -> float:
    """exp(-x) I_order(x), the modified Bessel function, from its integral."""
    return float((np.exp(x * (np.cos(_ANGLES) - 1)) * np.cos(order * _ANGLES)).mean())


def _in_words(pattern: Pattern) -> str:
    name, count = plain(pattern.species), counted(pattern.detections, "detection")
    name = name[:1].upper() + name[1:]
    if pattern.peak is None:
        return f"{name}: {count}, too few for a curve"
    return f"{name}: most active around {round(pattern.peak) % 24:02d}:00, {count}"


def _shade(axes: Axes, sunset: float, sunrise: float) -> None:
    night_hours = [(sunset, 24), (0, sunrise)] if sunset > sunrise else [(sunset, sunrise)]
    for start, end in night_hours:
        axes.axvspan(start, end, color="#ECECF2", linewidth=0, zorder=0)
        if end - start > 1.5:
            place = axes.get_xaxis_transform()
            middle = (start + end) / 2
            axes.text(middle, 0.985, "night", transform=place, ha="center", va="top", color=QUIET,
                      fontsize=8)  # fmt: skip


def _rug(axes: Axes, pattern: Pattern, colour: str, low: float, tall: float) -> None:
    """One stroke for each five minutes that saw a detection, darker where there were more."""
    counts = pattern.minutes.reshape(-1, RUG_STEP).sum(axis=1)
    places = np.flatnonzero(counts)
    hours = (places + 0.5) * RUG_STEP / 60
    gap = np.full(len(hours), np.nan)  # one line for all: small files
    across = np.stack([hours, hours, gap], axis=1).ravel()
    up = np.stack([np.full(len(hours), low), np.full(len(hours), low + tall), gap], axis=1).ravel()
    axes.plot(across, up, color=colour, linewidth=0.7)
