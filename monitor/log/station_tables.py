"""Tables of what a station does for itself: tells people, counts what was not watched, remembers
files that ended it."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from monitor.log.base import Base


class Alert(Base):
    """Something people should be told. `key` names what it is about (a species at a place, a
    camera, the disk), so that the same is not told twice within its cool-down."""

    __tablename__ = "alert"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[str]
    kind: Mapped[str]
    key: Mapped[str]
    subject: Mapped[str]
    body: Mapped[str]
    media_id: Mapped[int | None] = mapped_column(ForeignKey("media.id"))
    __table_args__ = (Index("alert_by_key", "kind", "key", "at"), {"sqlite_autoincrement": True})


class Delivery(Base):
    """An alert on its way over one channel: the outbox. `channel` is its name, without secrets."""

    __tablename__ = "delivery"
    alert_id: Mapped[int] = mapped_column(ForeignKey("alert.id"), primary_key=True)
    channel: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    attempts: Mapped[int]
    next_try_at: Mapped[str]
    sent_at: Mapped[str | None]
    problem: Mapped[str | None]
    __table_args__ = (
        Index("delivery_waiting", "next_try_at", sqlite_where=text("state = 'waiting'")),
        {"sqlite_with_rowid": False},
    )


class Outage(Base):
    """A time in which a deployment did not watch, which is never counted as nothing seen.

    Proposed by the station when a camera falls silent (`by` is null), or said by a person; `end_at`
    is null while it lasts.
    """

    __tablename__ = "outage"
    id: Mapped[int] = mapped_column(primary_key=True)
    deployment_id: Mapped[int] = mapped_column(ForeignKey("deployment.id"))
    start_at: Mapped[str]
    end_at: Mapped[str | None]
    state: Mapped[str]
    reason: Mapped[str | None]
    note: Mapped[str | None]
    by: Mapped[str | None]
    said_at: Mapped[str]
    __table_args__ = (
        Index("outage_by_deployment", "deployment_id", "start_at"),
        {"sqlite_autoincrement": True},
    )


class PoisonFile(Base):
    """A file in whose reading the process died: `deaths` times, with this size and this mtime."""

    __tablename__ = "poison_file"
    path_bytes: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    mtime_ns: Mapped[int] = mapped_column(BigInteger)
    deaths: Mapped[int]
    last_at: Mapped[str]
    __table_args__ = ({"sqlite_with_rowid": False},)
