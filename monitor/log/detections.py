"""The scan for independent detections, and the few frames that stand for a species."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, bindparam, func, select, text

from monitor.domain import BLANK, UNKNOWN, iso_utc, utc_now
from monitor.log.connection import LogPart
from monitor.log.detected import NOTHING_SAID, Detections, Integers, Mask, Place
from monitor.log.engine import LogError
from monitor.log.species import resolve, same_species
from monitor.log.tables import Deployment, Media, Species

EVENTS_A_PAGE = 20_000
"""Event ids of one read transaction: some 60 ms, so that the WAL can be emptied in between."""

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
_LABELLED = """
SELECT m.event_id, COALESCE(s.merged_into, s.id) AS meant, count(*), COALESCE(max(o.count), 0)
FROM media m JOIN observation o ON o.label_id = m.label_id JOIN species s ON s.id = o.species_id
WHERE m.event_id >= ? AND m.event_id < ? AND m.status != 'rejected' AND m.label_id IS NOT NULL
GROUP BY m.event_id, meant
"""
# From the observations of a species to its media: those are few; `+` keeps SQLite from searching
# media by time instead, once for every observation.
_CERTAIN = """
SELECT m.id FROM observation o JOIN label l ON l.id = o.label_id
JOIN media m ON m.id = l.media_id AND m.label_id = l.id
LEFT JOIN prediction p ON p.media_id = m.id AND p.current = 1 AND p.species_id IN :species
WHERE o.species_id IN :species AND m.status != 'rejected'
    AND +m.captured_at >= :since AND +m.captured_at < :until
ORDER BY p.probability DESC, m.id DESC LIMIT :limit
"""
_LIKELY = """
SELECT p.media_id FROM prediction p JOIN media m ON m.id = p.media_id
WHERE p.current = 1 AND p.species_id IN :species AND m.label_id IS NULL AND m.status != 'rejected'
    AND p.captured_at >= :since AND p.captured_at < :until
ORDER BY p.probability DESC, p.media_id DESC LIMIT :limit
"""
_SHOWING = """
SELECT (SELECT count(DISTINCT m.id) FROM observation o JOIN label l ON l.id = o.label_id
    JOIN media m ON m.id = l.media_id AND m.label_id = l.id
    WHERE o.species_id IN :species AND m.status != 'rejected'
        AND +m.captured_at >= :since AND +m.captured_at < :until)
  + (SELECT count(*) FROM prediction p JOIN media m ON m.id = p.media_id
    WHERE p.current = 1 AND p.species_id IN :species AND m.label_id IS NULL
        AND m.status != 'rejected' AND p.captured_at >= :since AND p.captured_at < :until)
"""
ALWAYS, NEVER = "", "~"
"""Before and after every time that is `iso_utc` text."""


class ScanStopped(LogError):
    """Nobody waits for the scan any more."""


class DetectionQueries(LogPart):
    """Reading for charts and reports."""

    def detections(self, go_on: Callable[[float], bool] = lambda done: True) -> Detections:
        """Every detection of the log; rejected media are left out.

        It reads in many short transactions: an event that changes meanwhile may be seen as it was
        or as it is; two that become one may be missed or seen twice until the next scan.

        Args:
            go_on: called after each page with the share that is done; False ends the scan.

        Raises:
            ScanStopped: `go_on` said so.
        """
        as_of = iso_utc(utc_now())
        with self._read() as connection:
            last = connection.execute(select(func.max(Media.event_id))).scalar() or 0
            names = _names(connection)
        pages = []
        for start in range(0, last + 1, EVENTS_A_PAGE):
            with self._read() as connection:
                page = _read_page(connection, start)
                if page.largest_species >= len(names.animal):
                    names = _names(connection)  # the list grew while this read
            pages.append(_combine(page, names))
            if not go_on(min(1.0, (start + EVENTS_A_PAGE) / (last + 1))):
                raise ScanStopped("the scan for detections was stopped")
        with self._read() as connection:
            names, places = _names(connection), _places(connection)
        return _whole(as_of, names, places, pages)

    def most_certain(
        self, species: str, since: str | None, until: str | None, limit: int
    ) -> list[int]:
        """Media that show a species most surely: labelled ones that the model is sure of first,
        then labelled ones, then predictions by probability.

        Args:
            since, until: `iso_utc` text; `until` is exclusive.
        """
        with self._read() as connection:
            values = _values(connection, [species], since, until) | {"limit": limit}
            found: list[int] = []
            for query in (_CERTAIN, _LIKELY):
                found += connection.execute(_of_species(query), values).scalars()
        return list(dict.fromkeys(found))[:limit]

    def frames_showing(
        self, species: Collection[str], since: str | None = None, until: str | None = None
    ) -> int:
        """How many frames show one of these species, by their label or else the live model."""
        with self._read() as connection:
            values = _values(connection, species, since, until)
            return int(connection.execute(_of_species(_SHOWING), values).scalar_one())


def _of_species(query: str) -> Any:
    return text(query).bindparams(bindparam("species", expanding=True))


def _values(
    connection: Connection, species: Collection[str], since: str | None, until: str | None
) -> dict[str, Any]:
    known = {resolve(connection, name) for name in species} - {None}
    ids = [one for number in known for one in same_species(connection, number or 0)]
    return {"species": ids, "since": since or ALWAYS, "until": until or NEVER}


@dataclass(frozen=True, slots=True, eq=False)
class _Names:
    """The species list as arrays by species id."""

    name: dict[int, str]
    animal: Mask
    rank: Integers  # by name


@dataclass(frozen=True, slots=True, eq=False)
class _Page:
    """What the three queries gave: float64, one row an event, or an event and a species."""

    events: Floats
    predicted: Floats
    labelled: Floats

    @property
    def largest_species(self) -> int:
        return int(max(rows[:, 1].max(initial=0) for rows in (self.predicted, self.labelled)))


def _read_page(connection: Connection, start: int) -> _Page:
    span = (start, start + EVENTS_A_PAGE)

    def rows(query: str, columns: int) -> Floats:
        found: Sequence[Any] = connection.exec_driver_sql(query, span).cursor.fetchall()
        return np.array(found, np.float64).reshape(-1, columns)

    return _Page(rows(_EVENTS, 7), rows(_PREDICTED, 4), rows(_LABELLED, 4))


def _names(connection: Connection) -> _Names:
    """Names of today, after merges."""
    rows = connection.execute(select(Species.id, Species.name, Species.merged_into)).all()
    own = {row.id: row.name for row in rows}
    name = {row.id: own[row.merged_into or row.id] for row in rows}
    animal = np.zeros(max(name, default=0) + 1, np.bool_)
    rank = np.zeros(len(animal), np.int64)
    for place, number in enumerate(sorted(name, key=lambda number: name[number])):
        animal[number] = name[number] not in (BLANK, UNKNOWN)
        rank[number] = place
    return _Names(name, animal, rank)


def _places(connection: Connection) -> dict[int, Place]:
    rows = connection.execute(select(Deployment)).all()
    return {
        row.id: Place(row.name, row.latitude, row.longitude, row.start_at, row.end_at)
        for row in rows
    }


def _combine(page: _Page, names: _Names) -> Integers:
    """What the events of a page say: columns as in `Detections`, with ids in place of codes."""
    ids = page.events[:, 0]  # in order: the query groups by them
    by_person = page.events[:, 3] > 0
    predicted = page.predicted[~by_person[np.searchsorted(ids, page.predicted[:, 0])]]
    predicted = predicted[_best(predicted, names)]
    labelled = page.labelled
    animal = names.animal[labelled[:, 1].astype(np.int64)]
    with_animal = np.isin(labelled[:, 0], labelled[animal, 0])
    labelled = labelled[animal | (_best(labelled, names) & ~with_animal)]
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


def _best(rows: Floats, names: _Names) -> Mask:
    """True at the best statement of each event: animals first, then weight, then the later
    name."""
    species = rows[:, 1].astype(np.int64)
    order = np.lexsort((names.rank[species], rows[:, 2], names.animal[species], rows[:, 0]))
    best = np.zeros(len(rows), np.bool_)
    best[order[np.diff(rows[order, 0], append=-1) != 0]] = True
    return best


def _whole(
    as_of: str, names: _Names, places: dict[int, Place], pages: Sequence[Integers]
) -> Detections:
    """All pages as one, with codes in place of ids."""
    listed = sorted(set(names.name.values()))
    code = {name: place for place, name in enumerate(listed)}
    species = np.full(len(names.animal) + 1, NOTHING_SAID, np.int32)  # its last is NOTHING_SAID's
    for number, name in names.name.items():
        species[number] = code[name]
    deployment = np.zeros(max(places, default=0) + 1, np.int32)
    deployment[list(places)] = np.arange(len(places))
    kinds = (np.int64, np.int64, np.int64, np.int64, np.int64, np.int64, np.int32, np.int32, bool)
    parts = [[column.astype(kind) for column, kind in zip(p, kinds, strict=True)] for p in pages]
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    columns[1], columns[2] = species[columns[1]], deployment[columns[2]]
    return Detections(as_of, tuple(listed), tuple(places.values()), *columns)
