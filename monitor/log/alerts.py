"""Alerts and their way to people: the outbox. Addresses are not here, only names of channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from monitor.core.domain import iso_utc, parse_iso_utc
from monitor.log.connection import LogPart, inserted_id, put_state
from monitor.log.tables import Alert, Delivery, Media

WAITING, SENT, FAILED = "waiting", "sent", "failed"
"""The states of a delivery; `failed` is one that was given up."""
LONGEST_PAUSE = timedelta(hours=6)
"""No delivery waits longer for its next try: one that seems to is of before the clock was set."""
PAGE = 500
HEAVY = ("station", "restored", "silent")
"""Kinds that say how the station is: dropped last where too many wait."""


@dataclass(frozen=True, slots=True)
class NewAlert:
    """Something people should be told.

    Attributes:
        kind: what sort of thing, one word.
        key: what it is about, so that the same is not told twice within its cool-down.
        subject, body: in plain words.
        media_id: the frame that is shown with it.
    """

    kind: str
    key: str
    subject: str
    body: str
    media_id: int | None = None


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """One alert that is to be sent over one channel now. `attempts`: so many failed before."""

    alert_id: int
    channel: str
    attempts: int
    at: datetime
    alert: NewAlert


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """Where an alert is on one channel. `problem`: why the last try failed."""

    channel: str
    state: str
    attempts: int
    next_try_at: str
    sent_at: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class AlertRow:
    """An alert as people look it up, with its ways."""

    id: int
    at: str
    kind: str
    key: str
    subject: str
    body: str
    media_id: int | None
    deliveries: tuple[DeliveryRow, ...]


class AlertQueries(LogPart):
    """What was told, and what is on its way."""

    def add_alert(
        self,
        kind: str,
        key: str,
        subject: str,
        body: str,
        channels: Sequence[str],
        now: datetime,
        media_id: int | None = None,
    ) -> int:
        """Put an alert into the outbox, to be sent over each of these channels."""
        with self._write() as connection:
            alert = NewAlert(kind, key, subject, body, media_id)
            return _add(connection, alert, channels, now)

    def add_alerts(
        self,
        alerts: Sequence[NewAlert],
        channels: Sequence[str],
        now: datetime,
        state_key: str,
        state: Mapping[str, Any],
    ) -> None:
        """The same for several, and how far one has looked: both or neither."""
        with self._write() as connection:
            for alert in alerts:
                _add(connection, alert, channels, now)
            put_state(connection, state_key, dict(state), now)

    def last_alert_at(self, kind: str, key: str) -> datetime | None:
        """When the same was told last."""
        query = select(func.max(Alert.at)).where(Alert.kind == kind, Alert.key == key)
        with self._read() as connection:
            found = connection.execute(query).scalar()
        return parse_iso_utc(found) if found is not None else None

    def was_told_of_event(self, kind: str, key: str, event_id: int) -> bool:
        """True if an alert of this kind and key showed a frame of this event."""
        query = (
            select(Alert.id)
            .join(Media, Media.id == Alert.media_id)
            .where(Alert.kind == kind, Alert.key == key, Media.event_id == event_id)
        )
        with self._read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def deliveries_due(
        self, now: datetime, limit: int, channel: str | None = None
    ) -> list[DueDelivery]:
        """What is to be sent now, the oldest first.

        Args:
            channel: over this one alone.
        """
        query = (
            select(Delivery.channel, Delivery.attempts, Alert.__table__)
            .join(Alert, Alert.id == Delivery.alert_id)
            .where(*_is_due(now))
            .order_by(Alert.id, Delivery.channel)
            .limit(limit)
        )
        if channel is not None:
            query = query.where(Delivery.channel == channel)
        with self._read() as connection:
            return [_due(row) for row in connection.execute(query)]

    def channels_due(self, now: datetime) -> list[str]:
        """The channels over which something is to be sent now."""
        query = select(Delivery.channel).where(*_is_due(now)).distinct()
        with self._read() as connection:
            return sorted(connection.execute(query).scalars())

    def wake_deliveries(self, channel: str, now: datetime) -> None:
        """This channel works again: what waits for its next try need not wait any more."""
        statement = (
            update(Delivery)
            .where(Delivery.channel == channel, Delivery.state == WAITING)
            .values(next_try_at=iso_utc(now))
        )
        with self._write() as connection:
            connection.execute(statement)

    def delivered(self, alert_id: int, channel: str, now: datetime) -> None:
        """It was sent over this channel."""
        values = {"state": SENT, "sent_at": iso_utc(now), "problem": None}
        self._note(alert_id, channel, values)

    def delivery_failed(
        self,
        alert_id: int,
        channel: str,
        problem: str,
        next_try_at: datetime,
        attempts: int | None = None,
    ) -> None:
        """It could not be sent, and is tried again.

        Args:
            attempts: how many tries count by now; None: one more than before.
        """
        values: dict[str, Any] = {"problem": problem, "next_try_at": iso_utc(next_try_at)}
        self._note(alert_id, channel, values | ({"attempts": attempts} if attempts else {}))

    def give_up(self, alert_id: int, channel: str, problem: str) -> None:
        """It could not be sent, and is not tried again."""
        self._note(alert_id, channel, {"state": FAILED, "problem": problem})

    def drop_waiting(self, channel: str, most: int, problem: str, page: int = PAGE) -> int:
        """Give up what waits for a channel beyond `most`, at most `page` at once: the oldest, and
        those of HEAVY last. How many were given up."""
        waits = (Delivery.channel == channel, Delivery.state == WAITING)
        count = select(func.count()).select_from(Delivery).where(*waits)
        with self._read() as connection:
            if connection.execute(count).scalar_one() <= most:
                return 0
        with self._write() as connection:
            beyond = min(page, max(0, connection.execute(count).scalar_one() - most))
            query = select(Alert.id).join(Delivery, Delivery.alert_id == Alert.id).where(*waits)
            query = query.order_by(Alert.kind.in_(HEAVY), Alert.id).limit(beyond)
            ids = list(connection.execute(query).scalars())
            these = update(Delivery).where(*waits, Delivery.alert_id.in_(ids))
            connection.execute(these.values(state=FAILED, problem=problem))
        return len(ids)

    def deliveries(self) -> dict[str, int]:
        """State -> deliveries: waiting, sent, failed (which were given up)."""
        query = select(Delivery.state, func.count()).group_by(Delivery.state)
        counts = dict.fromkeys((WAITING, SENT, FAILED), 0)
        with self._read() as connection:
            return counts | {row[0]: row[1] for row in connection.execute(query)}

    def alerts(self, limit: int) -> list[AlertRow]:
        """The last alerts, the newest first."""
        newest = select(Alert.__table__).order_by(Alert.id.desc()).limit(limit)
        with self._read() as connection:
            rows = list(connection.execute(newest))
            ids = [row.id for row in rows]
            ways: dict[int, list[DeliveryRow]] = {number: [] for number in ids}
            query = select(Delivery.__table__).where(Delivery.alert_id.in_(ids))
            for row in connection.execute(query.order_by(Delivery.channel)):
                facts = row._asdict()
                ways[facts.pop("alert_id")].append(DeliveryRow(**facts))
        return [AlertRow(**row._asdict(), deliveries=tuple(ways[row.id])) for row in rows]

    def drop_old_alerts(self, before: datetime, page: int = PAGE) -> int:
        """Forget alerts from before a moment that wait for nothing; at most `page` of them."""
        waits = select(Delivery.alert_id).where(Delivery.state == WAITING)
        old = (
            select(Alert.id)
            .where(Alert.at < iso_utc(before), Alert.id.not_in(waits))
            .order_by(Alert.id)
            .limit(page)
        )
        with self._write() as connection:
            ids = list(connection.execute(old).scalars())
            connection.execute(delete(Delivery).where(Delivery.alert_id.in_(ids)))
            connection.execute(delete(Alert).where(Alert.id.in_(ids)))
        return len(ids)

    def _note(self, alert_id: int, channel: str, values: Mapping[str, Any]) -> None:
        """What came of one more attempt, if it still waits."""
        statement = (
            update(Delivery)
            .where(
                Delivery.alert_id == alert_id,
                Delivery.channel == channel,
                Delivery.state == WAITING,
            )
            .values({"attempts": Delivery.attempts + 1, **values})
        )
        with self._write() as connection:
            connection.execute(statement)


def _is_due(now: datetime) -> tuple[Any, Any]:
    """Also what seems to wait for longer than anything does: the clock was set back since."""
    late = Delivery.next_try_at > iso_utc(now + LONGEST_PAUSE)
    return Delivery.state == WAITING, or_(Delivery.next_try_at <= iso_utc(now), late)


def _add(connection: Connection, alert: NewAlert, channels: Sequence[str], now: datetime) -> int:
    facts = {name: getattr(alert, name) for name in ("kind", "key", "subject", "body", "media_id")}
    alert_id = inserted_id(connection.execute(insert(Alert).values(at=iso_utc(now), **facts)))
    way = {"alert_id": alert_id, "state": WAITING, "attempts": 0, "next_try_at": iso_utc(now)}
    for channel in channels:
        connection.execute(insert(Delivery).values(channel=channel, **way))
    return alert_id


def _due(row: Any) -> DueDelivery:
    alert = NewAlert(row.kind, row.key, row.subject, row.body, row.media_id)
    return DueDelivery(row.id, row.channel, row.attempts, parse_iso_utc(row.at), alert)
