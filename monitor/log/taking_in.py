"""From a file that was read to its rows: `media` for new content, `file` for its path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from monitor.core.domain import FileStamp, MediaStatus, Metadata, iso_utc, shown_path
from monitor.log.clock_corrections import Clock, clock_of, shift_of
from monitor.log.connection import deployment_id, inserted_id
from monitor.log.tables import File, Media
from monitor.log.timeline import event_for, shown_times


@dataclass(frozen=True, slots=True)
class IntakeItem:
    """One settled file that was read: what becomes a media row (or one more path of one)."""

    path: bytes
    stamp: FileStamp
    sha256: str
    deployment: str
    metadata: Metadata
    rejected_reason: str | None = None


# Built once: building a statement costs more than SQLite takes to run it.
_INSERT = insert(Media)
_NAME_EVENT = update(Media).where(Media.id == bindparam("m")).values(event_id=Media.id)
_REMEMBER = upsert(File)
_REMEMBER = _REMEMBER.on_conflict_do_update(
    index_elements=["path_bytes"],
    set_={
        name: _REMEMBER.excluded[name]
        for name in ("path", "size", "mtime_ns", "media_id", "problem")
    },
)


def insert_media(
    connection: Connection,
    item: IntakeItem,
    now: datetime,
    event_gap: timedelta,
    clocks: dict[str, Clock],
) -> int:
    """A row for content that is new; `clocks` remembers each deployment's row and corrections."""
    if item.deployment not in clocks:
        number = deployment_id(connection, item.deployment)
        clocks[item.deployment] = clock_of(connection, number)
    clock = clocks[item.deployment]
    number, captured = clock.deployment_id, item.metadata.captured
    shift = shift_of(captured.local, clock.base_seconds, clock.corrections)
    local, at = shown_times(captured.local, captured.utc_offset, shift)
    values = {
        "sha256": item.sha256,
        "path": shown_path(item.path),
        "size": item.stamp.size,
        "width": item.metadata.width,
        "height": item.metadata.height,
        "status": MediaStatus.REJECTED if item.rejected_reason else MediaStatus.PENDING,
        "rejected_reason": item.rejected_reason,
        "deployment_id": number,
        "captured_wall": captured.local.isoformat(),
        "utc_offset_seconds": int(captured.utc_offset.total_seconds()),
        "captured_at_source": captured.source,
        "utc_offset_source": captured.offset_source,
        "captured_at": at,
        "captured_local": local,
        "camera_make": item.metadata.make,
        "camera_model": item.metadata.model,
        "camera_serial": item.metadata.serial,
        "temperature_celsius": item.metadata.temperature_celsius,
        "taken_in_at": iso_utc(now),
    }
    event = event_for(connection, number, at, event_gap)
    media_id = inserted_id(connection.execute(_INSERT, {**values, "event_id": event}))
    if event is None:  # the first of an event names it
        connection.execute(_NAME_EVENT, {"m": media_id})
    return media_id


def known_contents(connection: Connection, sha256s: Sequence[str]) -> dict[str, int]:
    """SHA-256 -> media id of those that were taken in before."""
    query = select(Media.sha256, Media.id).where(Media.sha256.in_(sha256s))
    return {row.sha256: row.id for row in connection.execute(query)}


def file_row(
    path: bytes, stamp: FileStamp, media_id: int | None, problem: str | None = None
) -> dict[str, Any]:
    """What the log remembers of a path."""
    return {
        "path_bytes": path,
        "path": shown_path(path),
        "size": stamp.size,
        "mtime_ns": stamp.mtime_ns,
        "media_id": media_id,
        "problem": problem,
    }


def remember_files(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Paths and what they hold; media whose file had been missing are pending again."""
    connection.execute(_REMEMBER, rows)
    found = [row["media_id"] for row in rows if row["media_id"] is not None]
    connection.execute(
        update(Media)
        .where(Media.id.in_(found), Media.absent_since.is_not(None))
        .values(absent_since=None)
    )
