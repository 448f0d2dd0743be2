"""For how long a camera really watched. What was not watched is never counted as nothing seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from monitor.core.silence import Captures, Outage, OutageState, Silence, clock_doubt
from monitor.core.spans import Span, days_of, without


@dataclass(frozen=True, slots=True)
class Effort:
    """For how long one camera watched within a period.

    Attributes:
        since, until: the part of the period in which the camera was out.
        watched: when it watched; outages, confirmed or only proposed, are left out.
        outage_days: how much was left out.
        doubt: why its clock is not to be believed, and this count with it; None: nothing known.
    """

    deployment: str
    since: datetime
    until: datetime
    watched: tuple[Span, ...]
    outage_days: float
    doubt: str | None = None

    @property
    def watched_days(self) -> float:
        """Camera-days."""
        return days_of(self.watched)


def effort_of(
    captures: Captures,
    outages: Sequence[Outage],
    now: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
    unspoken: Sequence[Silence] = (),
) -> Effort:
    """How long a camera watched: from its start to its end, without outages, and without silences
    that nobody has spoken of yet.

    Where nobody said when it started or ended, it counts from its first frame and until its last
    one: of the time after that nothing is known until the next frame comes. A dismissed silence
    is known: a person said that the camera watched.
    """
    begins = captures.start if captures.start is not None else captures.first
    vouched = [
        min(outage.end if outage.end is not None else outage.said_at, now)
        for outage in outages
        if outage.state is OutageState.DISMISSED
    ]
    seen = max([captures.last, *vouched])
    ends = captures.end if captures.end is not None and captures.end <= now else seen
    if captures.end is not None:
        ends = min(ends, captures.end)
    begins = max(begins, since) if since is not None else begins
    ends = max(begins, min(ends, until) if until is not None else ends)
    period = [Span(begins, ends)]
    holes = [o.until(max(now, ends)) for o in outages if o.state is not OutageState.DISMISSED]
    holes += [Span(s.start, s.end if s.end is not None else max(now, s.start)) for s in unspoken]
    watched = without(period, holes)
    left_out = days_of(period) - days_of(watched)
    doubt = clock_doubt(captures, now)
    return Effort(captures.deployment, begins, ends, watched, left_out, doubt)


def per_hundred_days(sightings: int, watched_days: float) -> float | None:
    """Sightings per 100 camera-days; None where nothing was watched: that is not zero."""
    return 100 * sightings / watched_days if watched_days > 0 else None
