"""What came in lately: media taken in since a moment, each deployment's newest frame."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from sqlalchemy import Connection, bindparam, func, select, text

from monitor.core.domain import MediaStatus, parse_iso_utc
from monitor.log.connection import LogPart
from monitor.log.media_ids import skipped_between
from monitor.log.sightings import VIEW
from monitor.log.tables import Deployment, Media, Species

MOST_COUNTED = 10_000
"""Statuses and species are counted over the newest so many: an archive may come in within a day."""
HABIT_DAYS = 90
"""A camera's habit is read from so many days before its last frame."""


@dataclass(frozen=True, slots=True)
class TakenIn:
    """Media taken in since a moment.

    Attributes:
        media: how many there are.
        counted: over how many of them, the newest, the other figures were counted.
        by_status: status -> media.
        by_species: what their sightings say -> media, the most frequent first.
    """

    media: int
    counted: int
    by_status: dict[str, int]
    by_species: dict[str, int]


@dataclass(frozen=True, slots=True)
class LastFrame:
    """When a deployment's newest readable frame was captured; None: it never sent one.

    Attributes:
        start_at, end_at: as a person or the list says; None: nobody said.
        has_sent: whether it sent anything that can be read, be it from the future.
    """

    deployment_id: int
    deployment: str
    start_at: str | None
    end_at: str | None
    captured_at: str | None
    has_sent: bool


class TodayQueries(LogPart):
    """Figures of the dashboard; each from an index, or over a bounded number of rows."""

    def taken_in_since(self, since: str) -> TakenIn:
        """What was taken in at or after `since` (`iso_utc` text)."""
        with self._read() as connection:
            last = connection.execute(select(func.max(Media.id))).scalar() or 0
            first = _first_since(connection, last, since)
            taken_in = last - first + 1 - skipped_between(connection, first - 1, last)
            oldest = max(first, _oldest_counted(connection))
            query = (
                select(VIEW.c.status, VIEW.c.species, func.count())
                .where(VIEW.c.media_id >= oldest)
                .group_by(VIEW.c.status, VIEW.c.species)
            )
            rows = [tuple(row) for row in connection.execute(query)]
        by_status = {status.value: 0 for status in MediaStatus}
        by_species: dict[str, int] = {}
        for status, species, media in rows:
            by_status[status] += media
            if species is not None:
                by_species[species] = by_species.get(species, 0) + media
        ordered = sorted(by_species.items(), key=lambda pair: (-pair[1], pair[0]))
        return TakenIn(taken_in, sum(by_status.values()), by_status, dict(ordered))

    def newest_media(self, count: int) -> list[int]:
        """The media taken in last that can be looked at, the newest first."""
        with self._read() as connection:
            oldest = _oldest_counted(connection)
            query = (
                select(Media.id)
                .where(Media.id >= oldest, Media.status != MediaStatus.REJECTED)
                .order_by(Media.id.desc())
                .limit(count)
            )
            return list(connection.execute(query).scalars())

    def last_frames(self, now: str) -> list[LastFrame]:
        """Every deployment's newest frame; those of cameras whose clock runs ahead do not count.

        One step into `media_by_deployment` for each.
        """
        sent = select(Media.captured_at).where(
            Media.deployment_id == Deployment.id, Media.status != MediaStatus.REJECTED
        )
        newest = sent.where(Media.captured_at <= now).order_by(Media.captured_at.desc()).limit(1)
        query = select(
            Deployment.id,
            Deployment.name,
            Deployment.start_at,
            Deployment.end_at,
            newest.scalar_subquery(),
            sent.exists(),
        )
        with self._read() as connection:
            rows = connection.execute(query.order_by(Deployment.name)).all()
        return [LastFrame(*row) for row in rows]

    def days_with_frames(self, frames: Iterable[LastFrame]) -> dict[str, list[date]]:
        """The days (UTC) on which deployments captured something, of the last HABIT_DAYS before
        and including their last frame: one step into the index for each day."""
        days: dict[str, list[date]] = {}
        with self._read() as connection:
            for frame in frames:
                if frame.captured_at is None:
                    continue
                since = parse_iso_utc(frame.captured_at).date() - timedelta(days=HABIT_DAYS)
                where = {"deployment": frame.deployment_id, "last": frame.captured_at}
                rows = connection.execute(DAYS_WITH_FRAMES, where | {"since": since.isoformat()})
                days[frame.deployment] = [date.fromisoformat(day) for day in rows.scalars()]
        return days

    def species_names(self) -> list[str]:
        """What the species of the list are called, in order."""
        query = select(Species.name).where(Species.merged_into.is_(None)).order_by(Species.name)
        with self._read() as connection:
            return list(connection.execute(query).scalars())


DAYS_WITH_FRAMES = text("""
WITH RECURSIVE seen(at) AS (
    SELECT (SELECT captured_at FROM media
            WHERE deployment_id = :deployment AND captured_at BETWEEN :since AND :last
            AND status != 'rejected' ORDER BY captured_at LIMIT 1)
    UNION ALL
    SELECT (SELECT captured_at FROM media
            WHERE deployment_id = :deployment
            AND captured_at BETWEEN date(seen.at, '+1 day') AND :last
            AND status != 'rejected' ORDER BY captured_at LIMIT 1)
    FROM seen WHERE seen.at IS NOT NULL
)
SELECT substr(at, 1, 10) FROM seen WHERE at IS NOT NULL
""")


def _oldest_counted(connection: Connection) -> int:
    """The first of the newest `MOST_COUNTED` media: ids have gaps where a log was restored."""
    newest = select(Media.id).where(Media.id > 0).order_by(Media.id.desc())
    return connection.execute(newest.offset(MOST_COUNTED - 1).limit(1)).scalar() or 1


def _first_since(connection: Connection, last: int, since: str) -> int:
    """The first media of those taken in at or after `since`; `last` + 1 if there is none.

    There is no index on that time, but ids are given in its order: from the end backwards in steps
    that double, then halved; a handful of rows is read, however many came in.
    """
    low, step = last + 1, 1
    while low > 1 and _is_since(connection, max(low - step, 1), since):
        low, step = max(low - step, 1), step * 2
    before = max(low - step, 0)
    while low - before > 1:
        middle = (low + before) // 2
        if _is_since(connection, middle, since):
            low = middle
        else:
            before = middle
    return low


_AT = select(Media.taken_in_at).where(Media.id >= bindparam("id")).order_by(Media.id).limit(1)


def _is_since(connection: Connection, media_id: int, since: str) -> bool:
    at = connection.execute(_AT, {"id": media_id}).scalar()
    return at is not None and at >= since
