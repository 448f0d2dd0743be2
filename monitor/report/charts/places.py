"""Where things were detected: the deployments on a plain map, without tiles from anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from monitor.log.detected import Detections, Place
from monitor.report.charts.choice import different_pairs
from monitor.report.charts.paper import COLOURS, FAINT, INK, QUIET, Row, counted, plain, say

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KM_A_DEGREE = 111.32  # of latitude, and of longitude at the equator
LEAST_KM = 0.2
"""A map is at least so wide: one camera alone is a place, not a point."""

SHAPE = 0.66
"""Height of the map over its width, as the figure has room for."""

LARGEST_CIRCLE = 900.0  # square points
MOST_NAMES = 40
MOST_LISTED = 6


@dataclass(frozen=True, slots=True)
class Site:
    """One deployment and what was detected there."""

    place: Place
    detections: int
    species: int

    @property
    def on_map(self) -> bool:
        """True if it is known where it stands."""
        return self.place.latitude is not None and self.place.longitude is not None


@dataclass(frozen=True, slots=True)
class Map:
    """Deployments with what was detected, by name."""

    height: ClassVar[float] = 4.6
    title: ClassVar[str] = "Detections by deployment"
    columns: ClassVar[tuple[str, ...]] = (
        "deployment",
        "latitude",
        "longitude",
        "detections",
        "species",
    )
    sites: tuple[Site, ...]

    @property
    def has_places(self) -> bool:
        """True if there is anything to draw a map of."""
        return any(site.on_map for site in self.sites)

    @property
    def alt(self) -> str:
        if not self.sites:
            return "No deployments yet."
        total = sum(site.detections for site in self.sites)
        most = sorted(self.sites, key=lambda site: (-site.detections, site.place.name))[:3]
        parts = ", ".join(f"{plain(s.place.name)} {s.detections:,}" for s in most)
        missing = [site for site in self.sites if not site.on_map]
        lost = f" {counted(len(missing), 'deployment')} without coordinates." if missing else ""
        many = len(self.sites)
        return (
            f"{counted(total, 'detection')} at {counted(many, 'deployment')}; "
            f"{'most at ' if many > 3 else ''}{parts}.{lost}"
        )

    def rows(self) -> Iterator[Row]:
        for site in self.sites:
            place = site.place
            yield place.name, place.latitude, place.longitude, site.detections, site.species

    def draw(self, figure: Figure) -> None:
        shown = [site for site in self.sites if site.on_map]
        if not shown:
            listed = "\n".join(f"{plain(s.place.name)}: {s.detections:,}" for s in self.sites[:12])
            words = "No deployment has coordinates (set deployments.file in config.yaml)."
            say(figure, f"{words}\n\n{listed}" if self.sites else self.alt)
            return
        axes = figure.add_subplot()
        x, y, middle = _kilometres([site.place for site in shown])
        most = max(1, *(site.detections for site in shown))
        sizes = np.array([LARGEST_CIRCLE * site.detections / most for site in shown])
        half = _frame(axes, x, y)
        seen = sizes > 0
        axes.scatter(x[~seen], y[~seen], marker="x", s=22, color=QUIET, linewidths=1)
        axes.scatter(
            x[seen],
            y[seen],
            s=np.maximum(sizes[seen], 8),
            color=COLOURS[0],
            alpha=0.55,
            edgecolors=INK,
            linewidths=0.6,
        )
        _names(axes, [site.place.name for site in shown], x, y, sizes)
        _scale_bar(axes, half)
        _north(axes)
        _degrees(axes, middle)
        figure.supxlabel(self._caption(most), fontsize=8.5, color=QUIET)

    def _caption(self, most: int) -> str:
        words = f"Area of a circle: detections (largest {most:,}); ×: none."
        missing = [plain(site.place.name, 18) for site in self.sites if not site.on_map]
        if missing:
            more = f" and {len(missing) - MOST_LISTED} more" if len(missing) > MOST_LISTED else ""
            words += f"\nWithout coordinates: {', '.join(missing[:MOST_LISTED])}{more}"
        return words


def places_map(detections: Detections, species: Sequence[str] = (), only: str | None = None) -> Map:
    """What was detected where.

    Args:
        species: count only these; left out, all.
        only: this deployment alone.
    """
    shown = detections.of(species) if species else detections.animals()
    counts = np.bincount(shown.deployment_code, minlength=len(detections.places))
    cameras, _ = different_pairs(shown.deployment_code, shown.species_code)
    kinds = np.bincount(cameras, minlength=len(detections.places))
    sites = [
        Site(place, int(counts[code]), int(kinds[code]))
        for code, place in enumerate(detections.places)
        if only in (None, place.name)
    ]
    return Map(tuple(sorted(sites, key=lambda site: site.place.name)))


def _kilometres(places: Sequence[Place]) -> tuple[Any, Any, tuple[float, float]]:
    """East and north of their middle in km (equirectangular, true in the middle), and the middle
    as (longitude, latitude)."""
    latitude = np.array([place.latitude for place in places], float)
    longitude = np.array([place.longitude for place in places], float)
    # seen from the first, so that a station may lie on both sides of the date line
    longitude = longitude[0] + (longitude - longitude[0] + 180) % 360 - 180
    middle = (
        float(longitude.min() + longitude.max()) / 2,
        float(latitude.min() + latitude.max()) / 2,
    )
    shrink = max(math.cos(math.radians(middle[1])), 0.01)
    x = (longitude - middle[0]) * KM_A_DEGREE * shrink
    return x, (latitude - middle[1]) * KM_A_DEGREE, middle


def _frame(axes: Axes, x: Any, y: Any) -> float:
    """Set the limits; returns half of the width in km."""
    tall = float(abs(y).max()) * 1.2
    half_x = max(float(abs(x).max()) * 1.25, LEAST_KM / 2, tall / SHAPE)
    half_y = half_x * SHAPE
    axes.set_xlim(-half_x, half_x)
    axes.set_ylim(-half_y, half_y)
    axes.set_aspect("equal")
    for spine in axes.spines.values():
        spine.set_visible(True)
    return half_x


def _names(axes: Axes, names: Sequence[str], x: Any, y: Any, sizes: Any) -> None:
    """Write names beside their circles, where they do not lie on one another."""
    figure: Any = axes.get_figure()
    if len(names) > MOST_NAMES:
        return
    figure.draw_without_rendering()
    centres = axes.transData.transform(np.stack([x, y], axis=1))
    pixels = figure.dpi / 72
    radii = np.sqrt(np.maximum(sizes, 30) / math.pi) * pixels
    taken = [(cx - r, cy - r, cx + r, cy + r) for (cx, cy), r in zip(centres, radii, strict=True)]
    frame = axes.get_window_extent()
    for name, (cx, cy), radius in zip(names, centres, radii, strict=True):
        text, tall, gap = plain(name, 22), 10.5 * pixels, 2 * pixels
        wide = len(text) * 5.4 * pixels
        for side, left, low in (
            ("left", cx + radius + gap, cy - tall / 2),
            ("right", cx - radius - gap - wide, cy - tall / 2),
            ("center", cx - wide / 2, cy + radius + gap),
            ("center", cx - wide / 2, cy - radius - gap - tall),
        ):
            box = (left, low, left + wide, low + tall)
            inside = frame.x0 < box[0] and box[2] < frame.x1 and frame.y0 < box[1] < frame.y1 - tall
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                anchor = {"left": left, "right": left + wide, "center": left + wide / 2}[side]
                across, up = axes.transData.inverted().transform((anchor, low + tall / 2))
                axes.text(across, up, text, ha=side, va="center", fontsize=8)
                break


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _scale_bar(axes: Axes, half: float) -> None:
    wanted = half * 0.5
    power = 10.0 ** math.floor(math.log10(wanted))
    length = max(step * power for step in (1, 2, 5) if step * power <= wanted)
    left, low = 0.035, 0.045
    end = left + length / (2 * half)
    place = axes.transAxes
    axes.plot([left, end], [low, low], transform=place, color=INK, linewidth=2.2,
              solid_capstyle="butt")  # fmt: skip
    words = f"{length:g} km" if length >= 1 else f"{length * 1000:g} m"
    axes.text((left + end) / 2, low + 0.018, words, transform=place, ha="center", va="bottom",
              fontsize=8)  # fmt: skip


def _north(axes: Axes) -> None:
    axes.annotate(
        "N",
        (0.96, 0.965),
        (0.96, 0.85),
        xycoords="axes fraction",
        ha="center",
        va="top",
        fontsize=9,
        arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.2},
    )


def _degrees(axes: Axes, middle: tuple[float, float]) -> None:
    """Ticks and a faint grid at round degrees."""
    from matplotlib.ticker import MaxNLocator

    shrink = max(math.cos(math.radians(middle[1])), 0.01)
    for axis, centre, km in (
        (axes.xaxis, middle[0], KM_A_DEGREE * shrink),
        (axes.yaxis, middle[1], KM_A_DEGREE),
    ):
        low, high = axis.get_view_interval()
        ticks = MaxNLocator(4).tick_values(centre + low / km, centre + high / km)
        inside = [tick for tick in ticks if low <= (tick - centre) * km <= high]
        letters = "EW" if axis is axes.xaxis else "NS"
        digits = max(0, math.ceil(-math.log10(ticks[1] - ticks[0]) + 0.3))
        words = [
            f"{abs(at):.{digits}f}° {letters[int(at < 0)]}"
            for at in (_turned(tick) if axis is axes.xaxis else tick for tick in inside)
        ]
        axis.set_ticks([(tick - centre) * km for tick in inside], words)
        axis.set_tick_params(labelsize=8)
    axes.grid(color=FAINT)


def _turned(longitude: float) -> float:
    """A longitude from -180 to 180."""
    return (longitude + 180) % 360 - 180
