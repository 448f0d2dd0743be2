"""Detections as columns of numbers: a million images are some thirty megabytes.

A detection is one species in one event, as `monitor.core.events.summarise` sees it: labels before
predictions, blanks and unknowns only where nothing else was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt

from monitor.core.domain import BLANK, UNKNOWN

Integers = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]
NOTHING_SAID = -1
"""The species code of an event that neither a person nor a model has spoken of."""

MINUTES_A_DAY = 1440


@dataclass(frozen=True, slots=True)
class Place:
    """One deployment: where it stands and when it was out, as far as the station's list says."""

    name: str
    latitude: float | None = None
    longitude: float | None = None
    start_at: str | None = None
    end_at: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Columns of equal length, one row a detection, in the order of `event`.

    An event that nobody spoke of has one row with the species code `NOTHING_SAID`: its camera was
    at work then.

    Attributes:
        as_of: when the log was read (`iso_utc`).
        species: names as they are called today; species codes are places in it.
        places: the deployments; deployment codes are places in it.
        event: event ids.
        species_code, deployment_code: see above.
        at: start of the event, seconds since 1970 in UTC.
        local_minutes: the same by the camera's clock, minutes since 1970.
        last_local_minutes: end of the event, likewise.
        frames: of the whole event.
        count: the largest that a person gave; 0 if none did.
        labelled: True if a person said it.
    """

    as_of: str
    species: tuple[str, ...]
    places: tuple[Place, ...]
    event: Integers
    species_code: Integers
    deployment_code: Integers
    at: Integers
    local_minutes: Integers
    last_local_minutes: Integers
    frames: Integers
    count: Integers
    labelled: Mask

    def __len__(self) -> int:
        return len(self.event)

    @property
    def days(self) -> Integers:
        """Days since 1970 by the camera's clock, (n,)."""
        return self.local_minutes // MINUTES_A_DAY

    @property
    def first_of_event(self) -> Mask:
        """True at one row of every event: what sums over events goes by."""
        first: Mask = np.diff(self.event, prepend=-1) != 0
        return first

    def take(self, rows: Mask) -> Detections:
        """These rows alone."""
        columns = [f.name for f in fields(self) if f.name not in ("as_of", "species", "places")]
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})

    def animals(self) -> Detections:
        """What shows an animal: blanks, unknowns and events nobody spoke of left out."""
        return self.take(self._named(lambda name: name not in (BLANK, UNKNOWN)))

    def of(self, species: Collection[str]) -> Detections:
        """What shows one of these species (names as in `species`)."""
        return self.take(self._named(lambda name: name in species))

    def within(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        deployment: str | None = None,
    ) -> Detections:
        """Events that began at `since` or later and before `until`, at one deployment."""
        rows = np.ones(len(self), np.bool_)
        if since is not None:
            rows &= self.at >= since.timestamp()
        if until is not None:
            rows &= self.at < until.timestamp()
        if deployment is not None:
            codes = [i for i, place in enumerate(self.places) if place.name == deployment]
            rows &= np.isin(self.deployment_code, codes)
        return self.take(rows)

    def without(self, private: Collection[str]) -> Detections:
        """Nothing of species whose name in lower case is `private`, as if nobody had spoken of
        their events: what is left says only that a camera was at work."""
        hidden = self._named(lambda name: name.casefold() in private)
        blanked = replace(
            self,
            species_code=np.where(hidden, NOTHING_SAID, self.species_code),
            frames=np.where(hidden, 0, self.frames),
            count=np.where(hidden, 0, self.count),
            labelled=self.labelled & ~hidden,
        )
        others = np.isin(self.event, self.event[~hidden])
        return blanked.take(~hidden | (~others & self.first_of_event))

    def _named(self, wanted: Callable[[str], bool]) -> Mask:
        """Rows whose species has a wanted name; never those with NOTHING_SAID."""
        table = np.array([*map(wanted, self.species), False], np.bool_)
        return table[self.species_code]
