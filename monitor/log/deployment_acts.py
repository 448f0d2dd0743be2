"""What people say of deployments: their period, their camera's clock, when they did not watch.

Each is an act with all that it says in its details, so that the journal can say it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert, select, update

from monitor.core.domain import iso_local, iso_utc
from monitor.core.silence import Outage, OutageState, Reason
from monitor.log.clock_corrections import (
    KIND,
    UNDO_KIND,
    Correction,
    clock_of,
    corrections_of,
    keep_corrections,
    new_key,
    replay_correction,
    shift_of,
)
from monitor.log.connection import LogPart, deployment_id, inserted_id, new_act
from monitor.log.effort import outages_of
from monitor.log.engine import LogError
from monitor.log.tables import Deployment, Media
from monitor.log.tables import Outage as OutageRow
from monitor.log.timeline import shift_clock

PERIOD_KIND, OUTAGE_KIND = "deployment-period", "outage"
DEPLOYMENT_KINDS = (PERIOD_KIND, OUTAGE_KIND, KIND, UNDO_KIND)
"""Kinds of act that this page writes."""
SHOWN_FRAMES = 5
UNCHANGED: Any = object()
"""In the place of a value: leave it as it is."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One frame before and after a correction, by the camera's wall clock."""

    path: str
    camera_wrote: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Shifted:
    """What a correction comes to.

    Attributes:
        media: how many frames are shown at another time.
        examples: the first and the last few of them.
    """

    media: int
    examples: tuple[Moved, ...]


class DeploymentActs(LogPart):
    """What people say of deployments."""

    def set_period(
        self,
        deployment: str,
        start: datetime | None,
        end: datetime | None,
        by: str,
        how: str,
        now: datetime,
    ) -> None:
        """Say when a deployment started and ended; None: nobody knows, or it has not ended.

        Raises:
            LogError: there is no such deployment, or it would end before it starts.
        """
        if start is not None and end is not None and end <= start:
            raise LogError(f"it would end ({iso_utc(end)}) before it starts ({iso_utc(start)})")
        values = {
            "start_at": iso_utc(start) if start is not None else None,
            "end_at": iso_utc(end) if end is not None else None,
        }
        with self._write() as connection:
            number = _known(connection, deployment)
            details = {"deployment": deployment, **values}
            new_act(connection, PERIOD_KIND, by, how, now, details=details)
            this = update(Deployment).where(Deployment.id == number)
            connection.execute(this.values(**values))

    def say_outage(self, outage: Outage, how: str) -> Outage:
        """Say that a camera did not watch (`outage.id` is not looked at).

        Raises:
            LogError: there is no such deployment, or it would end before it starts.
        """
        with self._write() as connection:
            _known(connection, outage.deployment)
            return _say(connection, outage, how)

    def judge_outage(
        self,
        outage_id: int,
        state: OutageState,
        by: str,
        how: str,
        now: datetime,
        *,
        start: datetime = UNCHANGED,
        end: datetime | None = UNCHANGED,
        reason: Reason | None = UNCHANGED,
        note: str | None = UNCHANGED,
    ) -> Outage:
        """Confirm an outage, correct it, or dismiss it: the camera watched. What is left out
        stays as it was.

        Raises:
            LogError: there is no such outage, or it would end before it starts.
        """
        with self._write() as connection:
            known = next((o for o in outages_of(connection) if o.id == outage_id), None)
            if known is None:
                raise LogError(
                    f"there is no outage {outage_id}; see: trapwatch deployments outage list"
                )
            said = Outage(
                known.id,
                known.deployment,
                known.start if start is UNCHANGED else start,
                known.end if end is UNCHANGED else end,
                state,
                known.reason if reason is UNCHANGED else reason,
                known.note if note is UNCHANGED else note,
                by,
                now,
            )
            return _say(connection, said, how, before=known)

    def correct_clock(
        self,
        deployment: str,
        by: timedelta,
        who: str,
        how: str,
        now: datetime,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        dry: bool = False,
    ) -> Shifted:
        """Show frames of a camera with a wrong clock at other times. What the camera wrote stays,
        and events are cut anew.

        Args:
            by: to the future where positive.
            since, until: only frames that are shown at such a time now, by the camera's wall
                clock (naive); `until` is exclusive.
            dry: only tell what would come of it.

        Raises:
            LogError: there is no such deployment, or a time would leave the years 1-9999.
        """
        said = Correction(
            new_key(),
            by.total_seconds(),
            iso_local(since) if since is not None else None,
            iso_local(until) if until is not None else None,
        )
        if dry:
            with self._read() as connection:
                return _preview(connection, _known(connection, deployment), said)
        with self._write() as connection:
            number = _known(connection, deployment)
            outcome = _preview(connection, number, said)
            details = {"deployment": deployment, **asdict(said)}
            new_act(connection, KIND, who, how, now, details=details)
            corrections = [*corrections_of(connection, deployment), said]
            keep_corrections(connection, deployment, corrections, now)
            shift_clock(connection, number)
        return outcome

    def undo_clock(self, deployment: str, who: str, how: str, now: datetime) -> Correction:
        """Take back the last correction of a camera's clock, as one more act.

        Raises:
            LogError: there is no such deployment, or nobody corrected its clock.
        """
        with self._write() as connection:
            number = _known(connection, deployment)
            corrections = corrections_of(connection, deployment)
            if not corrections:
                raise LogError(f"nobody corrected the clock of {deployment} with shift-time")
            last = corrections[-1]
            details = {"deployment": deployment, "key": last.key}
            new_act(connection, UNDO_KIND, who, how, now, details=details)
            keep_corrections(connection, deployment, corrections[:-1], now)
            shift_clock(connection, number)
        return last


def replay_deployment_act(
    connection: Connection, kind: str, details: Mapping[str, Any], by: str, at: str
) -> None:
    """What an act of this page changes besides being recorded: for the journal, which writes acts
    again after a log broke. Doing it twice is as once."""
    number = deployment_id(connection, str(details["deployment"]))
    if kind == PERIOD_KIND:
        values = {"start_at": details["start_at"], "end_at": details["end_at"]}
        connection.execute(update(Deployment).where(Deployment.id == number).values(**values))
    elif kind == OUTAGE_KIND:
        _write_outage(connection, number, details, by, at)
    elif replay_correction(connection, kind, details, at) is not None:
        shift_clock(connection, number)


def _known(connection: Connection, deployment: str) -> int:
    found = connection.execute(select(Deployment.id).where(Deployment.name == deployment)).scalar()
    if found is None:
        raise LogError(f"there is no deployment '{deployment}'; see: trapwatch deployments list")
    return int(found)


def _say(
    connection: Connection, outage: Outage, how: str, *, before: Outage | None = None
) -> Outage:
    if outage.end is not None and outage.end <= outage.start:
        raise LogError(
            f"the outage would end ({iso_utc(outage.end)}) before it starts "
            f"({iso_utc(outage.start)})"
        )
    assert outage.by is not None, "a person says it"
    details = {
        "deployment": outage.deployment,
        "start_at": iso_utc(outage.start),
        "end_at": iso_utc(outage.end) if outage.end is not None else None,
        "state": outage.state.value,
        "reason": outage.reason.value if outage.reason is not None else None,
        "note": outage.note,
        "was_from": iso_utc(before.start) if before is not None else None,
    }
    new_act(connection, OUTAGE_KIND, outage.by, how, outage.said_at, details=details)
    number = _known(connection, outage.deployment)
    written = _write_outage(connection, number, details, outage.by, iso_utc(outage.said_at))
    return next(o for o in outages_of(connection, outage.deployment) if o.id == written)


def _write_outage(
    connection: Connection, number: int, details: Mapping[str, Any], by: str, at: str
) -> int:
    """The outage that began at `was_from` becomes this one; without one it is new."""
    names = ("start_at", "end_at", "state", "reason", "note")
    values = {name: details[name] for name in names} | {"by": by, "said_at": at}
    was_from = details["was_from"] or details["start_at"]
    there = connection.execute(
        select(OutageRow.id).where(
            OutageRow.deployment_id == number, OutageRow.start_at == was_from
        )
    ).scalar()
    if there is not None:
        connection.execute(update(OutageRow).where(OutageRow.id == there).values(**values))
        return int(there)
    return inserted_id(connection.execute(insert(OutageRow).values(deployment_id=number, **values)))


def _preview(connection: Connection, number: int, said: Correction) -> Shifted:
    """How frames are shown with one correction more. Raises LogError where time would end."""
    clock = clock_of(connection, number)
    query = (
        select(Media.path, Media.captured_wall)
        .where(Media.deployment_id == number)
        .order_by(Media.captured_at, Media.id)
    )
    count, first, last = 0, list[Moved](), list[Moved]()
    for row in connection.execute(query):
        wall = datetime.fromisoformat(row.captured_wall)
        before = wall + timedelta(seconds=shift_of(wall, clock.base_seconds, clock.corrections))
        try:
            after = said.moved(before)
        except OverflowError:
            raise LogError(
                f"{row.path} would be moved from {iso_local(before)} out of the calendar "
                "(years 1 to 9999)"
            ) from None
        if after == before:
            continue
        count += 1
        moved = Moved(row.path, iso_local(wall), iso_local(before), iso_local(after))
        if len(first) < SHOWN_FRAMES:
            first.append(moved)
        else:
            last = [*last[-1:], moved]
    return Shifted(count, (*first, *last))
