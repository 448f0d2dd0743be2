"""Reviewing in the log: who looks at which event, flags, shown persons, where people disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, delete, exists, func, select
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.orm import aliased

from monitor.core.domain import MediaStatus, iso_utc
from monitor.log.connection import LogPart, new_act
from monitor.log.filters import aside
from monitor.log.reference import must_be_there
from monitor.log.tables import Act, Flag, Label, Lease, Media, Observation, Species


@dataclass(frozen=True, slots=True)
class Statement:
    """What one person said of one media, most recently: species as they are called today."""

    media_id: int
    by: str
    at: str
    species: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a media stands that may be handed to a reviewer.

    Attributes:
        held_by: who leased its event; None while it is free.
    """

    media_id: int
    event_id: int
    deployment_id: int
    labelled: bool
    rejected: bool
    held_by: str | None


LONGEST_LEASE = timedelta(hours=1)
"""A lease that would last longer is from before the clock was set back, and has ended."""


def _lasts(now: datetime) -> ColumnElement[bool]:
    """True of leases that have not ended."""
    return (Lease.until_at > iso_utc(now)) & (Lease.until_at <= iso_utc(now + LONGEST_LEASE))


class ReviewQueries(LogPart):
    """What several people at one log need, so that they do not get in each other's way."""

    def lease(
        self, event_ids: Sequence[int], by: str, most: int, now: datetime, time: timedelta
    ) -> list[int]:
        """Take events to look at: nobody else gets them until `time` from now.

        Args:
            event_ids: wanted, the best first; those `by` holds already are renewed.
            most: take at most so many.

        Returns:
            the events that `by` now holds, in the order of `event_ids`.
        """
        with self._write() as connection:
            connection.execute(delete(Lease).where(~_lasts(now)))
            rows = connection.execute(
                select(Lease.event_id).where(Lease.event_id.in_(event_ids), Lease.by != by)
            )
            taken = set(rows.scalars())
            mine = [event for event in dict.fromkeys(event_ids) if event not in taken][:most]
            if mine:
                until = iso_utc(now + time)
                statement = upsert(Lease).values(
                    [{"event_id": event, "by": by, "until_at": until} for event in mine]
                )
                connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=["event_id"], set_={"until_at": until}
                    )
                )
        return mine

    def release(self, event_ids: Sequence[int], by: str) -> None:
        """Give back events that `by` will not look at."""
        if event_ids:
            with self._write() as connection:
                connection.execute(
                    delete(Lease).where(Lease.event_id.in_(event_ids), Lease.by == by)
                )

    def standing(self, media_ids: Sequence[int], now: datetime) -> dict[int, Standing]:
        """Where these media stand (at most a few hundred at a time); unknown ones left out."""
        event = func.coalesce(Media.event_id, Media.id)  # an event is named by its first frame
        query = (
            select(
                Media.id,
                event.label("event"),
                Media.deployment_id,
                Media.label_id,
                Media.status,
                Lease.by,
            )
            .outerjoin(Lease, (Lease.event_id == event) & _lasts(now))
            .where(Media.id.in_(media_ids))
        )
        with self._read() as connection:
            return {
                row.id: Standing(
                    row.id,
                    row.event,
                    row.deployment_id,
                    row.label_id is not None,
                    row.status == MediaStatus.REJECTED,
                    row.by,
                )
                for row in connection.execute(query)
            }

    def flag(self, media_id: int, flagged: bool, by: str, how: str, now: datetime) -> None:
        """Mark a media for a second look, or take the mark away; both are recorded.

        Raises:
            NoSuchMedia: there is no such media.
        """
        with self._write() as connection:
            must_be_there(connection, [media_id])
            is_flagged = connection.execute(select(exists().where(Flag.media_id == media_id)))
            if is_flagged.scalar_one() == flagged:
                return
            kind = "flag" if flagged else "unflag"
            act = new_act(connection, kind, by, how, now, details={"media": media_id})
            if flagged:
                connection.execute(upsert(Flag).values(media_id=media_id, act_id=act))
            else:
                connection.execute(delete(Flag).where(Flag.media_id == media_id))

    def flagged(self, media_ids: Sequence[int] | None = None, limit: int = 1000) -> list[int]:
        """The flagged media (of these, or of all), the latest flag first."""
        query = select(Flag.media_id).order_by(Flag.act_id.desc()).limit(limit)
        if media_ids is not None:
            query = query.where(Flag.media_id.in_(media_ids))
        with self._read() as connection:
            return list(connection.execute(query).scalars())

    def reveal(self, media_id: int, by: str, how: str, now: datetime) -> None:
        """Record that `by` had a hidden frame (of a person, a vehicle) shown.

        Raises:
            NoSuchMedia: there is no such media.
        """
        with self._write() as connection:
            must_be_there(connection, [media_id])
            new_act(connection, "reveal", by, how, now, details={"media": media_id})

    def statements(self, media_ids: Sequence[int]) -> dict[int, list[Statement]]:
        """What each person said last of these media, the newest statement first.

        Labels that were withdrawn are left out.
        """
        with self._read() as connection:
            return _statements(connection, media_ids)

    def disagreements(self, limit: int) -> list[int]:
        """Media of which the last word differs from the last word of somebody else, newest first.

        It ends when somebody else confirms the last word: two of three are enough.
        """
        several = (  # from an index alone; withdrawn labels are left out by _statements
            select(Label.media_id)
            .group_by(Label.media_id)
            .having(func.count() > 1)
            .order_by(func.max(Label.id).desc())
        )
        found: list[int] = []
        with self._read() as connection:
            media_ids = list(connection.execute(several).scalars())
            for start in range(0, len(media_ids), 500):
                part = media_ids[start : start + 500]
                said = _statements(connection, part)
                found += [media_id for media_id in part if disagree(said.get(media_id, []))]
                if len(found) >= limit:
                    break
        return found[:limit]


def disagree(statements: Sequence[Statement]) -> bool:
    """True if the last word of all (the first of these) is what nobody else said last.

    Args:
        statements: the last word of each person, the newest first.
    """
    if len(statements) < 2:
        return False
    last = set(statements[0].species)
    return all(set(other.species) != last for other in statements[1:])


def _statements(connection: Connection, media_ids: Sequence[int]) -> dict[int, list[Statement]]:
    withdrawal = aliased(Label)
    meant = aliased(Species)
    query = (
        select(Label.id, Label.media_id, Act.by, Act.at, meant.name)
        .join(Act, Act.id == Label.act_id)
        .join(Observation, Observation.label_id == Label.id)
        .join(Species, Species.id == Observation.species_id)
        .join(meant, meant.id == func.coalesce(Species.merged_into, Species.id))
        .where(
            Label.media_id.in_(media_ids),
            aside(Label.withdraws_id).is_(None),  # true of nearly all: its index leads nowhere
            ~exists().where(withdrawal.withdraws_id == Label.id),
        )
        .order_by(Label.id.desc(), Observation.position)
    )
    labels: dict[int, Statement] = {}
    for row in connection.execute(query):
        so_far = labels[row.id].species if row.id in labels else ()
        labels[row.id] = Statement(row.media_id, row.by, row.at, (*so_far, row.name))
    said: dict[int, list[Statement]] = {}
    for statement in labels.values():
        of_media = said.setdefault(statement.media_id, [])
        if all(statement.by != other.by for other in of_media):
            of_media.append(statement)
    return said
