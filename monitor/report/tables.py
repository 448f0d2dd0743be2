"""The tables of the report, from detections."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from monitor.core.domain import BLANK, UNKNOWN
from monitor.log.detected import NOTHING_SAID, Detections
from monitor.report.charts.choice import effort, top_species

EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class CameIn:
    """What came in: frames, events, and what was seen in those events."""

    frames: int
    events: int
    with_animals: int
    blank: int
    unknown: int
    not_looked_at: int
    camera_days: int


@dataclass(frozen=True, slots=True)
class SpeciesLine:
    """One species: its detections, the frames of their events, where, when, said by whom."""

    name: str
    scientific_name: str | None
    events: int
    frames: int
    deployments: int
    largest: int | None  # animals together, as a person counted
    first: date
    last: date
    labelled_share: float


@dataclass(frozen=True, slots=True)
class DeploymentLine:
    """One deployment: what it took, for how long it was at work, when it was last heard of."""

    name: str
    frames: int
    events: int
    species: int
    camera_days: int
    last_frame: str | None
    silent: bool


def came_in(shown: Detections) -> CameIn:
    """Counts of everything in the period; events of private species count nowhere."""
    seen = shown.take(shown.frames > 0)

    def events(part: Detections) -> int:
        return int(part.first_of_event.sum())

    return CameIn(
        frames=int(seen.frames[seen.first_of_event].sum()),
        events=events(seen),
        with_animals=events(seen.animals()),
        blank=events(seen.of([BLANK])),
        unknown=events(seen.of([UNKNOWN])),
        not_looked_at=events(seen.take(seen.species_code == NOTHING_SAID)),
        camera_days=effort(shown).camera_days,
    )


def species_lines(
    shown: Detections, scientific_names: Mapping[str, str | None]
) -> list[SpeciesLine]:
    """Every species that was seen, the most frequent first."""
    animals = shown.animals()
    return [
        _species_line(animals.of([name]), name, scientific_names.get(name))
        for name in top_species(animals, len(animals.species))
    ]


def _species_line(rows: Detections, name: str, scientific_name: str | None) -> SpeciesLine:
    return SpeciesLine(
        name,
        scientific_name,
        len(rows),
        int(rows.frames.sum()),
        len(np.unique(rows.deployment_code)),
        int(rows.count.max()) or None,
        _day(int(rows.days.min())),
        _day(int(rows.days.max())),
        float(rows.labelled.mean()),
    )


def deployment_lines(shown: Detections, silent: Collection[str]) -> list[DeploymentLine]:
    """Every deployment, by name.

    Args:
        silent: names of those that sent nothing for longer than they are used to.
    """
    seen, work = shown.take(shown.frames > 0), effort(shown)
    many = len(shown.places)
    animals = seen.animals()
    firsts, animal_firsts = seen.first_of_event, animals.first_of_event
    frames = np.bincount(seen.deployment_code[firsts], seen.frames[firsts], many)
    events = np.bincount(animals.deployment_code[animal_firsts], minlength=many)
    days = np.bincount(work.deployment, work.last - work.first + 1, many)
    last = np.full(many, np.iinfo(np.int64).min)
    np.maximum.at(last, shown.deployment_code, shown.last_local_minutes)
    lines = [
        DeploymentLine(
            place.name,
            int(frames[code]),
            int(events[code]),
            len(np.unique(animals.species_code[animals.deployment_code == code])),
            int(days[code]),
            _minute(int(last[code])) if days[code] else None,
            place.name in silent,
        )
        for code, place in enumerate(shown.places)
    ]
    return sorted(lines, key=lambda line: line.name)


def period_words(
    shown: Detections, since: datetime | None, until: datetime | None, zone: ZoneInfo
) -> str:
    """The period in words: as it was asked for, else from the first to the last event."""
    first = since.astimezone(zone).date() if since else None
    last = (until.astimezone(zone) - timedelta(microseconds=1)).date() if until else None
    if len(shown):
        first = first or _day(int(shown.days.min()))
        last = last or _day(int(shown.days.max()))
    if first and last:
        return f"{first} to {last}"
    return f"from {first}" if first else f"until {last}" if last else "no frames yet"


def _day(days: int) -> date:
    return (EPOCH + timedelta(days=days)).date()


def _minute(minutes: int) -> str:
    return (EPOCH + timedelta(minutes=minutes)).isoformat(" ", "minutes")
