"""The scan for independent detections, and the few frames that stand for a species."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam, func, select, text

from monitor.core.domain import iso_utc, utc_now
from monitor.log.connection import LogPart
from monitor.log.engine import LogError
from monitor.log.species import resolve, same_species
from monitor.log.tables import Media

if TYPE_CHECKING:
    from monitor.log.detected import Detections

EVENTS_A_PAGE = 20_000
"""Event ids of one read transaction: some 60 ms, so that the WAL can be emptied in between."""

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
_EVENTS_SHOWING = """
SELECT m.event_id FROM observation o JOIN label l ON l.id = o.label_id
JOIN media m ON m.id = l.media_id AND m.label_id = l.id
WHERE o.species_id IN :species AND m.status != 'rejected'
UNION SELECT m.event_id FROM prediction p JOIN media m ON m.id = p.media_id
WHERE p.current = 1 AND p.species_id IN :species AND m.label_id IS NULL AND m.status != 'rejected'
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
        from monitor.log import event_scan  # brings in numpy: commands that only look do without

        as_of = iso_utc(utc_now())
        with self._read() as connection:
            last = connection.execute(select(func.max(Media.event_id))).scalar() or 0
            names = event_scan.names_today(connection)
        pages = []
        for start in range(0, last + 1, EVENTS_A_PAGE):
            end = start + EVENTS_A_PAGE
            with self._read() as connection:
                page = event_scan.read_page(connection, start, end)
                if page.largest_species >= len(names.animal):
                    names = event_scan.names_today(connection)  # the list grew while this read
                predicted = event_scan.spoken(connection, page, names)
            pages.append(event_scan.combine(page, predicted, names))
            if not go_on(min(1.0, end / (last + 1))):
                raise ScanStopped("the scan for detections was stopped")
        with self._read() as connection:
            names, places = event_scan.names_today(connection), event_scan.places(connection)
        return event_scan.whole(as_of, names, places, pages)

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

    def events_showing(self, species: Collection[str]) -> frozenset[int]:
        """Events of which any frame shows one of these species, whatever its frames say together:
        `detections` names only what they agree on."""
        with self._read() as connection:
            values = {"species": _values(connection, species, None, None)["species"]}
            return frozenset(connection.execute(_of_species(_EVENTS_SHOWING), values).scalars())


def _of_species(query: str) -> Any:
    return text(query).bindparams(bindparam("species", expanding=True))


def _values(
    connection: Connection, species: Collection[str], since: str | None, until: str | None
) -> dict[str, Any]:
    known = {resolve(connection, name) for name in species} - {None}
    ids = [one for number in known for one in same_species(connection, number or 0)]
    return {"species": ids, "since": since or ALWAYS, "until": until or NEVER}
