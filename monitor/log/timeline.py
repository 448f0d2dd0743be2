"""Media in time: which of them are one event, and what a clock correction changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, bindparam, select, update

from monitor.core.domain import iso_local, iso_utc, parse_iso_utc
from monitor.log.clock_corrections import clock_of, shift_of
from monitor.log.tables import Media, State

EVENT_GAP_KEY = "event_gap_seconds"
"""In the `state` table: the gap of the config that events were last cut by."""
USUAL_GAP = timedelta(minutes=30)


def joins(earlier: datetime, later: datetime, gap: timedelta) -> bool:
    """True if two neighbouring frames of one deployment belong to one event."""
    return later - earlier < gap


_NEIGHBOUR = select(Media.event_id, Media.captured_at).where(
    Media.deployment_id == bindparam("deployment")
)
_BEFORE = (
    _NEIGHBOUR.where(Media.captured_at <= bindparam("at"))
    .order_by(Media.captured_at.desc())
    .limit(1)
)
_AFTER = _NEIGHBOUR.where(Media.captured_at > bindparam("at")).order_by(Media.captured_at).limit(1)


def event_for(
    connection: Connection, deployment: int, captured_at: str, gap: timedelta
) -> int | None:
    """The event that a media falls into which is about to be inserted; None: one of its own.

    A frame between two events makes them one.
    """
    at = parse_iso_utc(captured_at)
    where = {"deployment": deployment, "at": captured_at}
    before = connection.execute(_BEFORE, where).first()
    after = connection.execute(_AFTER, where).first()
    event = None
    if before and joins(parse_iso_utc(before.captured_at), at, gap):
        event = int(before.event_id)
    if after and joins(at, parse_iso_utc(after.captured_at), gap):
        if event is None:
            return int(after.event_id)
        if event != after.event_id:
            connection.execute(
                update(Media).where(Media.event_id == after.event_id).values(event_id=event)
            )
    return event


def regroup(connection: Connection, gap: timedelta, deployment: int | None = None) -> None:
    """Cut the events anew (of one deployment alone, where it is given); only media whose event
    changes are written."""
    columns = (Media.id, Media.deployment_id, Media.captured_at, Media.event_id)
    query = select(*columns).order_by(*columns[1:3], Media.id)
    if deployment is not None:
        query = query.where(Media.deployment_id == deployment)
    changes, event, last = [], 0, None
    for row in connection.execute(query):
        moment = parse_iso_utc(row.captured_at)
        if last is None or last[0] != row.deployment_id or not joins(last[1], moment, gap):
            event = row.id
        last = (row.deployment_id, moment)
        if row.event_id != event:
            changes.append({"m": row.id, "e": event})
    if changes:
        change = update(Media).where(Media.id == bindparam("m")).values(event_id=bindparam("e"))
        connection.execute(change, changes)


def shown_times(wall: datetime, offset: timedelta, shift_seconds: float) -> tuple[str, str]:
    """(captured_local, captured_at) of a wall clock, with the clock correction applied.

    A correction that would leave the calendar (years 1-9999) is not applied.
    """
    try:
        local = wall + timedelta(seconds=shift_seconds)
        return iso_local(local), iso_utc((local - offset).replace(tzinfo=UTC))
    except OverflowError:
        return iso_local(wall), iso_utc(wall.replace(tzinfo=UTC))


def shift_clock(connection: Connection, deployment: int) -> int:
    """Show a deployment's media at the times that its corrections make; `captured_wall` stays as
    it was read. Where only some frames move, events are cut anew.

    Returns:
        how many media are shown at another time now.
    """
    clock = clock_of(connection, deployment)
    columns = (Media.id, Media.captured_wall, Media.utc_offset_seconds, Media.captured_at)
    changes, moves = [], set()
    for row in connection.execute(select(*columns).where(Media.deployment_id == deployment)):
        offset = timedelta(seconds=row.utc_offset_seconds)
        wall = datetime.fromisoformat(row.captured_wall)
        shift = shift_of(wall, clock.base_seconds, clock.corrections)
        local, at = shown_times(wall, offset, shift)
        moves.add(parse_iso_utc(at) - parse_iso_utc(row.captured_at))
        if at != row.captured_at:
            changes.append({"local": local, "at": at, "m": row.id})
    if changes:
        connection.exec_driver_sql(
            "UPDATE media SET captured_local = :local, captured_at = :at WHERE id = :m", changes
        )
        connection.exec_driver_sql(
            "UPDATE prediction SET captured_at = :at WHERE media_id = :m", changes
        )
        if len(moves) > 1:  # neighbours that move alike stay neighbours
            regroup(connection, gap_of_events(connection), deployment)
    return len(changes)


def gap_of_events(connection: Connection) -> timedelta:
    """The gap by which the events of this log were cut."""
    query = select(State.value).where(State.key == EVENT_GAP_KEY)
    known = connection.execute(query).scalar()
    return timedelta(seconds=known["seconds"]) if known else USUAL_GAP
