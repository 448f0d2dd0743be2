"""The scan for detections: pages of events read and combined as arrays of numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, select

from monitor.core.domain import BLANK, UNKNOWN
from monitor.core.events import Said, speak_together
from monitor.log.detected import NOTHING_SAID, Detections, Integers, Mask, Place
from monitor.log.tables import Deployment, Species

Floats = npt.NDArray[np.float64]

# The oldest and the newest frame bring their local time along: fixed-width UTC text comes first.
_EVENTS = """
SELECT event_id, deployment_id, frames, labelled,
    CAST(strftime('%s', substr(oldest, 1, 24)) AS INTEGER),
    CAST(strftime('%s', substr(oldest, 25)) AS INTEGER),
    CAST(strftime('%s', substr(newest, 25)) AS INTEGER)
FROM (SELECT event_id, deployment_id, count(*) AS frames, count(label_id) AS labelled,
        min(captured_at || captured_local) AS oldest, max(captured_at || captured_local) AS newest
    FROM media WHERE event_id >= ? AND event_id < ? AND status != 'rejected' GROUP BY event_id)
"""
_PREDICTED = """
SELECT m.event_id, COALESCE(s.merged_into, s.id) AS meant, sum(p.probability), 0
FROM media m JOIN prediction p ON p.media_id = m.id AND p.current = 1
JOIN species s ON s.id = p.species_id
WHERE m.event_id >= ? AND m.event_id < ? AND m.status != 'rejected' AND m.label_id IS NULL
GROUP BY m.event_id, meant
"""
_FRAMES = """
SELECT m.event_id, COALESCE(s.merged_into, s.id), p.probability, p.alternatives
FROM json_each(?) AS wanted JOIN media m ON m.event_id = wanted.value
JOIN prediction p ON p.media_id = m.id AND p.current = 1 JOIN species s ON s.id = p.species_id
WHERE m.status != 'rejected' AND m.label_id IS NULL
ORDER BY m.event_id, m.captured_at, m.id
"""
_LABELLED = """
SELECT m.event_id, COALESCE(s.merged_into, s.id) AS meant, count(*), COALESCE(max(o.count), 0)
FROM media m JOIN observation o ON o.label_id = m.label_id JOIN species s ON s.id = o.species_id
WHERE m.event_id >= ? AND m.event_id < ? AND m.status != 'rejected' AND m.label_id IS NOT NULL
GROUP BY m.event_id, meant
"""


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """The species list as arrays by species id."""

    name: dict[int, str]
    animal: Mask
    unknown: Mask
    rank: Integers  # by name


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """What the three queries gave: float64, one row an event, or an event and a species."""

    events: Floats
    predicted: Floats
    labelled: Floats

    @property
    def largest_species(self) -> int:
        """The largest species id in it."""
        return int(max(rows[:, 1].max(initial=0) for rows in (self.predicted, self.labelled)))


def read_page(connection: Connection, start: int, end: int) -> Page:
    """The events with ids from `start` to before `end`."""
    span = (start, end)

    def rows(query: str, columns: int) -> Floats:
        found: Sequence[Any] = connection.exec_driver_sql(query, span).cursor.fetchall()
        return np.array(found, np.float64).reshape(-1, columns)

    return Page(rows(_EVENTS, 7), rows(_PREDICTED, 4), rows(_LABELLED, 4))


def names_today(connection: Connection) -> Names:
    """Names of today, after merges."""
    rows = connection.execute(select(Species.id, Species.name, Species.merged_into)).all()
    own = {row.id: row.name for row in rows}
    name = {row.id: own[row.merged_into or row.id] for row in rows}
    animal = np.zeros(max(name, default=0) + 1, np.bool_)
    unknown = np.zeros_like(animal)
    rank = np.zeros(len(animal), np.int64)
    for place, number in enumerate(sorted(name, key=lambda number: name[number])):
        animal[number] = name[number] not in (BLANK, UNKNOWN)
        unknown[number] = name[number] == UNKNOWN
        rank[number] = place
    return Names(name, animal, unknown, rank)


def places(connection: Connection) -> dict[int, Place]:
    """Every deployment by its id."""
    rows = connection.execute(select(Deployment)).all()
    return {
        row.id: Place(row.name, row.latitude, row.longitude, row.start_at, row.end_at)
        for row in rows
    }


def spoken(connection: Connection, page: Page, names: Names) -> Floats:
    """Of the predicted species of each event the one that its frames say together, as
    `monitor.core.events.speak_together` has it: rows of `page.predicted`, one an event.

    Frames that show one species, beside `unknown`, need no weighing: most events are such.
    """
    by_person = page.events[:, 3] > 0
    rows = page.predicted[~by_person[np.searchsorted(page.events[:, 0], page.predicted[:, 0])]]
    known = ~names.unknown[rows[:, 1].astype(np.int64)]
    events, species = np.unique(rows[known, 0], return_counts=True)
    said = dict(_weighed(connection, events[species > 1], names))
    winner = np.array([said.get(event, kind) for event, kind in rows[:, :2].tolist()])
    only = known & (rows[:, 1] == winner)
    unsure: Mask = ~(known | np.isin(rows[:, 0], events))
    best: Floats = rows[only | unsure]
    return best


def _weighed(connection: Connection, events: Floats, names: Names) -> Iterator[tuple[float, float]]:
    """(event, species id) of events whose frames show several species."""
    wanted = (json.dumps(events.astype(int).tolist()),)
    found: Any = (
        connection.exec_driver_sql(_FRAMES, wanted).cursor.fetchall() if len(events) else []
    )
    for event, frames in groupby(found, key=itemgetter(0)):
        some = list(frames)
        numbers = {names.name[number]: number for _, number, _, _ in some}
        name, _ = speak_together([_said(names.name[row[1]], *row[2:]) for row in some])
        yield event, numbers[name]


def _said(name: str, probability: float, alternatives: str | None) -> Said:
    few = json.loads(alternatives) if alternatives else []
    return Said(name, few or ((name, probability),))


def combine(page: Page, predicted: Floats, names: Names) -> Integers:
    """What the events of a page say: columns as in `Detections`, with ids in place of codes.

    Args:
        predicted: `spoken` of the page.
    """
    ids = page.events[:, 0]  # in order: the query groups by them
    by_person = page.events[:, 3] > 0
    labelled = page.labelled
    animal = names.animal[labelled[:, 1].astype(np.int64)]
    labelled = labelled[animal | _best(labelled, names)]  # a blank is best only where no animal is
    silent = ids[~np.isin(ids, np.concatenate([predicted[:, 0], labelled[:, 0]]))]
    nothing = np.column_stack([silent, np.full((len(silent), 3), NOTHING_SAID)])
    nothing[:, 3] = 0
    said = np.concatenate([predicted, labelled, nothing])
    said = said[np.lexsort((said[:, 1], said[:, 0]))]
    event = np.searchsorted(ids, said[:, 0])
    rest = page.events[event]
    columns = (
        said[:, 0],
        said[:, 1],
        rest[:, 1],
        rest[:, 4],
        rest[:, 5] // 60,
        rest[:, 6] // 60,
        rest[:, 2],
        said[:, 3],
        by_person[event],
    )
    return np.stack(columns).astype(np.int64)


def _best(rows: Floats, names: Names) -> Mask:
    """True at the best statement of each event: animals first, then weight, then the later
    name."""
    species = rows[:, 1].astype(np.int64)
    order = np.lexsort((names.rank[species], rows[:, 2], names.animal[species], rows[:, 0]))
    best = np.zeros(len(rows), np.bool_)
    best[order[np.diff(rows[order, 0], append=-1) != 0]] = True
    return best


def whole(
    as_of: str, names: Names, sites: dict[int, Place], pages: Sequence[Integers]
) -> Detections:
    """All pages as one, with codes in place of ids."""
    listed = sorted(set(names.name.values()))
    code = {name: place for place, name in enumerate(listed)}
    species = np.full(len(names.animal) + 1, NOTHING_SAID, np.int32)  # its last is NOTHING_SAID's
    for number, name in names.name.items():
        species[number] = code[name]
    deployment = np.zeros(max(sites, default=0) + 1, np.int32)
    deployment[list(sites)] = np.arange(len(sites))
    kinds = (np.int64, np.int64, np.int64, np.int64, np.int64, np.int64, np.int32, np.int32, bool)
    parts = [[column.astype(kind) for column, kind in zip(p, kinds, strict=True)] for p in pages]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    columns[1], columns[2] = species[columns[1]], deployment[columns[2]]
    return Detections(as_of, tuple(listed), tuple(sites.values()), *columns)
