"""When cameras watched: their captures, their silences, and what people say of outages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, select, text, update

from monitor.core.domain import MediaStatus, iso_utc, parse_iso_utc
from monitor.core.silence import (
    Captures,
    Changes,
    Outage,
    OutageState,
    Reason,
    Rule,
    Silence,
    clock_doubt,
    never_heard,
    proposals,
    silences,
    tail_of,
)
from monitor.core.spans import Span
from monitor.log.clock_corrections import Correction, corrections_of
from monitor.log.connection import LogPart
from monitor.log.tables import Deployment, Media
from monitor.log.tables import Outage as OutageRow
from monitor.log.today import DAYS_WITH_FRAMES, HABIT_DAYS

HABIT = timedelta(days=HABIT_DAYS)


@dataclass(frozen=True, slots=True)
class DeploymentFacts:
    """One deployment, as the log knows it.

    Attributes:
        media: how many were taken in, rejected ones among them.
        captures: None while it has sent no frame that can be read and is not from the future.
        shift_seconds: the clock correction of the station's list.
        corrections: what people said further of its clock.
        outages: in the order of their start, in any state.
        unspoken: silences that the station has not proposed yet: it looks now and then.
    """

    name: str
    start: datetime | None
    end: datetime | None
    media: int
    captures: Captures | None
    shift_seconds: float
    corrections: tuple[Correction, ...]
    outages: tuple[Outage, ...]
    unspoken: tuple[Silence, ...]


class EffortQueries(LogPart):
    """What effort is reckoned from."""

    def deployment_facts(
        self, now: datetime, rule: Rule = Rule(), name: str | None = None
    ) -> list[DeploymentFacts]:
        """Every deployment (or the one of that name), by name."""
        query = select(Deployment).order_by(Deployment.name)
        if name is not None:
            query = query.where(Deployment.name == name)
        with self._read() as connection:
            return [_facts(connection, row, now, rule) for row in connection.execute(query).all()]

    def outages(self, deployment: str | None = None) -> list[Outage]:
        """Outages in any state, by deployment and start."""
        with self._read() as connection:
            return outages_of(connection, deployment)

    def propose_outages(self, now: datetime, rule: Rule = Rule()) -> tuple[int, int]:
        """Bring the station's proposals into line with what the cameras sent.

        Returns:
            (how many were proposed, how many were ended or withdrawn).
        """
        proposed = changed = 0
        with self._read() as connection:
            ids = list(
                connection.execute(select(Deployment.id).order_by(Deployment.name)).scalars()
            )
        for number in ids:  # one transaction each: intake need not wait for all of them
            with self._read() as connection:
                changes = _changes(connection, number, now, rule)
            if not (changes.propose or changes.end or changes.withdraw):
                continue
            with self._write() as connection:
                changes = _changes(connection, number, now, rule)
                for silence in changes.propose:
                    ends = iso_utc(silence.end) if silence.end is not None else None
                    values = {"start_at": iso_utc(silence.start), "end_at": ends}
                    values |= {"state": OutageState.PROPOSED, "said_at": iso_utc(now)}
                    connection.execute(insert(OutageRow).values(deployment_id=number, **values))
                for outage_id, end in changes.end.items():
                    ends = iso_utc(end) if end is not None else None
                    this = update(OutageRow).where(OutageRow.id == outage_id)
                    connection.execute(this.values(end_at=ends))
                connection.execute(delete(OutageRow).where(OutageRow.id.in_(changes.withdraw)))
            proposed += len(changes.propose)
            changed += len(changes.end) + len(changes.withdraw)
        return proposed, changed


def outages_of(connection: Connection, deployment: str | None = None) -> list[Outage]:
    """Outages of one deployment, or of all."""
    query = select(OutageRow, Deployment.name).join(
        Deployment, Deployment.id == OutageRow.deployment_id
    )
    if deployment is not None:
        query = query.where(Deployment.name == deployment)
    query = query.order_by(Deployment.name, OutageRow.start_at, OutageRow.id)
    return [outage_of(row) for row in connection.execute(query)]


def outage_of(row: Any) -> Outage:
    """A row of `outage`, with the name of its deployment."""
    return Outage(
        row.id,
        row.name,
        parse_iso_utc(row.start_at),
        parse_iso_utc(row.end_at) if row.end_at is not None else None,
        OutageState(row.state),
        Reason(row.reason) if row.reason is not None else None,
        row.note,
        row.by,
        parse_iso_utc(row.said_at),
    )


def _changes(connection: Connection, number: int, now: datetime, rule: Rule) -> Changes:
    row = connection.execute(select(Deployment).where(Deployment.id == number)).one()
    captures = _captures(connection, row, now, rule)
    return _changes_of(connection, row, captures, now, rule)


def _changes_of(
    connection: Connection, row: Any, captures: Captures | None, now: datetime, rule: Rule
) -> Changes:
    outages = outages_of(connection, row.name)
    if captures is None:
        silent = never_heard(_moment(row.start_at), _moment(row.end_at), now, rule)
        return proposals(silent, outages, is_doubted=_is_ahead(connection, row.id))
    return proposals(
        silences(captures, now, rule),
        outages,
        tail_of(captures, now),
        captures.first,
        is_doubted=clock_doubt(captures, now) is not None,
    )


def _is_ahead(connection: Connection, number: int) -> bool:
    """Whether a camera without a frame up to now has sent some from the future."""
    sent = select(Media.id).where(
        Media.deployment_id == number, Media.status != MediaStatus.REJECTED
    )
    return connection.execute(sent.limit(1)).first() is not None


def _facts(connection: Connection, row: Any, now: datetime, rule: Rule) -> DeploymentFacts:
    of_it = Media.deployment_id == row.id
    media = connection.execute(select(func.count()).select_from(Media).where(of_it)).scalar_one()
    captures = _captures(connection, row, now, rule)
    return DeploymentFacts(
        row.name,
        _moment(row.start_at),
        _moment(row.end_at),
        media,
        captures,
        row.clock_shift_seconds,
        tuple(corrections_of(connection, row.name)),
        tuple(outages_of(connection, row.name)),
        tuple(_changes_of(connection, row, captures, now, rule).propose),
    )


def _moment(written: str | None) -> datetime | None:
    return parse_iso_utc(written) if written is not None else None


def _captures(connection: Connection, row: Any, now: datetime, rule: Rule) -> Captures | None:
    first, last = _edge(connection, row.id, now), _edge(connection, row.id, now, newest=True)
    if first is None or last is None:
        return None
    gaps = _gaps(connection, row.id, first, last, rule.after)
    habits = {
        at: _days_before(connection, row.id, at) for at in [*(gap.start for gap in gaps), last]
    }
    start = _moment(row.start_at)
    is_late = start is not None and first - start > rule.after
    first_days = _days_before(connection, row.id, first + HABIT) if is_late else ()
    newest = connection.execute(_NEWEST, {"deployment": row.id}).scalar_one()
    return Captures(
        row.name,
        start,
        _moment(row.end_at),
        first,
        last,
        parse_iso_utc(newest),
        gaps,
        habits,
        first_days,
    )


_NEWEST = text("""
WITH lately AS (
    SELECT id, taken_in_at, captured_at FROM media WHERE id IN (
        SELECT id FROM media INDEXED BY media_by_deployment
        WHERE deployment_id = :deployment AND status != 'rejected' ORDER BY id DESC LIMIT 1000)
)
SELECT max(captured_at) FROM lately WHERE taken_in_at >= (
    SELECT strftime('%Y-%m-%dT%H:%M:%fZ', taken_in_at, '-1 day')
    FROM lately ORDER BY id DESC LIMIT 1)
""")
"""Of what came in last: a card is read in the order of its folders, not of its times."""


def _readable(number: int, now: datetime) -> Select[Any]:
    return select(Media.captured_at).where(
        Media.deployment_id == number,
        Media.captured_at <= iso_utc(now),
        Media.status != MediaStatus.REJECTED,
    )


def _edge(
    connection: Connection, number: int, now: datetime, *, newest: bool = False
) -> datetime | None:
    order = Media.captured_at.desc() if newest else Media.captured_at
    found = connection.execute(_readable(number, now).order_by(order).limit(1)).scalar()
    return parse_iso_utc(found) if found is not None else None


_NEXT = text("""
SELECT captured_at FROM media WHERE deployment_id = :deployment AND captured_at > :at
AND captured_at <= :last AND status != 'rejected' ORDER BY captured_at LIMIT 1
""")
_FURTHEST = text("""
SELECT captured_at FROM media WHERE deployment_id = :deployment AND captured_at > :at
AND captured_at <= :reach AND status != 'rejected' ORDER BY captured_at DESC LIMIT 1
""")


def _gaps(
    connection: Connection, number: int, first: datetime, last: datetime, longer: timedelta
) -> list[Span]:
    """Pauses between neighbouring frames that are longer than `longer`.

    Every two steps go on by more than that, each is one look into `media_by_deployment`: from a
    frame to the last one within reach; where none is, a gap begins there.
    """
    gaps, at = [], first
    while at < last:
        where: dict[str, Any] = {"deployment": number, "at": iso_utc(at)}
        reach = {"reach": iso_utc(min(at + longer, last))}
        found = connection.execute(_FURTHEST, where | reach).scalar()
        if found is None:
            found = connection.execute(_NEXT, where | {"last": iso_utc(last)}).scalar_one()
            gaps.append(Span(at, parse_iso_utc(found)))
        at = parse_iso_utc(found)
    return gaps


def _days_before(connection: Connection, number: int, at: datetime) -> Sequence[date]:
    since = date.fromordinal(max(1, at.toordinal() - HABIT_DAYS))
    where = {"deployment": number, "last": iso_utc(at), "since": since.isoformat()}
    return [date.fromisoformat(d) for d in connection.execute(DAYS_WITH_FRAMES, where).scalars()]
