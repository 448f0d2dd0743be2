"""Media and files in the log: taking in, what is pending, what was classified."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from monitor.core.domain import FileStamp, MediaStatus, Prediction, iso_utc
from monitor.log.clock_corrections import Clock
from monitor.log.connection import LogPart, deployment_id
from monitor.log.predictions import record_predictions
from monitor.log.tables import Deployment, File, Media
from monitor.log.taking_in import IntakeItem, file_row, insert_media, known_contents, remember_files
from monitor.log.timeline import regroup, shift_clock


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What the log remembers of one path. `waiting`: its media is pending but was not found."""

    stamp: FileStamp
    media_id: int | None
    waiting: bool


@dataclass(frozen=True, slots=True)
class PendingMedia:
    """A media that waits for the classifier, with every path its bytes were seen under."""

    media_id: int
    sha256: str
    deployment: str
    captured_at: str
    paths: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What one batch came to: read frames, refused ones (with the reason), files not found."""

    classified: tuple[int, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    rejected: tuple[tuple[int, str], ...] = ()
    absent: tuple[int, ...] = ()
    version: str | None = field(default=None)


_PENDING = select(Media.id, Media.sha256, Media.captured_at, Deployment.name).join(
    Deployment, Deployment.id == Media.deployment_id
)


class MediaQueries(LogPart):
    """Everything the way from a file to a classified media needs of the log."""

    def known_files(self, paths: Sequence[bytes]) -> dict[bytes, KnownFile]:
        """What is remembered of each of `paths` (at most a few hundred at a time)."""
        query = (
            select(File, Media.absent_since)
            .outerjoin(Media, Media.id == File.media_id)
            .where(File.path_bytes.in_(paths))
        )
        with self._read() as connection:
            return {
                row.path_bytes: KnownFile(
                    FileStamp(row.size, row.mtime_ns), row.media_id, row.absent_since is not None
                )
                for row in connection.execute(query)
            }

    def take_in(
        self, items: Iterable[IntakeItem], now: datetime, event_gap: timedelta
    ) -> list[tuple[int, bool]]:
        """One row in `media` for every new content, one in `file` for every path.

        Returns:
            (media id, whether it is new) for each item, in order.
        """
        items, outcome = list(items), []
        if not items:
            return []
        with self._write() as connection:
            clocks: dict[str, Clock] = {}
            known = known_contents(connection, [item.sha256 for item in items])
            for item in items:
                is_new = item.sha256 not in known
                if is_new:
                    media_id = insert_media(connection, item, now, event_gap, clocks)
                    known[item.sha256] = media_id
                outcome.append((known[item.sha256], is_new))
            remember_files(
                connection,
                [
                    file_row(item.path, item.stamp, media_id)
                    for item, (media_id, _) in zip(items, outcome, strict=True)
                ],
            )
        return outcome

    def note_unreadable(self, path: bytes, stamp: FileStamp, problem: str) -> None:
        """Remember that a settled file could not be read; it is tried again at each reconcile."""
        with self._write() as connection:
            remember_files(connection, [file_row(path, stamp, None, problem)])

    def unreadable_paths(self) -> list[bytes]:
        """Files that could not be read so far."""
        with self._read() as connection:
            query = select(File.path_bytes).where(File.problem.is_not(None))
            return list(connection.execute(query).scalars())

    def forget_unreadable(self, paths: Sequence[bytes]) -> None:
        """These unreadable files are gone: nothing was taken in of them."""
        if paths:
            with self._write() as connection:
                connection.execute(
                    delete(File).where(File.path_bytes.in_(paths), File.media_id.is_(None))
                )

    def mark_found(self, media_ids: Sequence[int]) -> None:
        """The files of these waiting media are there again: classify them."""
        with self._write() as connection:
            connection.execute(
                update(Media).where(Media.id.in_(media_ids)).values(absent_since=None)
            )

    def pending(self, limit: int) -> list[PendingMedia]:
        """The newest media that wait for the classifier, newest first."""
        newest = (
            _PENDING.where(Media.status == "pending", Media.absent_since.is_(None))
            .order_by(Media.captured_at.desc(), Media.id.desc())
            .limit(limit)
        )
        with self._read() as connection:
            return _with_paths(connection, connection.execute(newest).all())

    def find_media(self, media_ids: Sequence[int]) -> list[PendingMedia]:
        """The same facts for given media, whatever their status."""
        query = _PENDING.where(Media.id.in_(media_ids))
        with self._read() as connection:
            return _with_paths(connection, connection.execute(query).all())

    def record(self, batch: BatchResult, now: datetime) -> None:
        """Write what one batch came to, in one transaction."""
        with self._write() as connection:
            _set_status(connection, batch, now)
            if batch.absent:
                connection.execute(
                    update(Media)
                    .where(Media.id.in_(batch.absent))
                    .values(absent_since=iso_utc(now))
                )
            if batch.version is not None:
                record_predictions(connection, batch.version, batch.predictions, now)

    def set_deployments(self, rows: Sequence[dict[str, Any]]) -> None:
        """Take over the station's deployment list; a changed clock correction moves what is shown.

        What people said of a clock (`correct_clock`) counts besides, and stays.

        Args:
            rows: `name` and any of latitude, longitude, start_at, end_at, clock_shift_seconds.
        """
        with self._write() as connection:
            for row in rows:
                number = deployment_id(connection, row["name"])
                before = connection.execute(
                    select(Deployment.clock_shift_seconds).where(Deployment.id == number)
                ).scalar_one()
                connection.execute(update(Deployment).where(Deployment.id == number).values(**row))
                if row.get("clock_shift_seconds", before) != before:
                    shift_clock(connection, number)

    def regroup_events(self, event_gap: timedelta) -> None:
        """Cut the events anew: needed only when the gap in the config has changed."""
        with self._write() as connection:
            regroup(connection, event_gap)


def _with_paths(connection: Connection, rows: Sequence[Any]) -> list[PendingMedia]:
    """Rows of `_PENDING`, each with every path its bytes were seen under."""
    paths = _paths_of(connection, [row.id for row in rows])
    return [
        PendingMedia(row.id, row.sha256, row.name, row.captured_at, paths.get(row.id, ()))
        for row in rows
    ]


def _paths_of(connection: Connection, media_ids: Sequence[int]) -> dict[int, tuple[bytes, ...]]:
    found: dict[int, tuple[bytes, ...]] = {}
    query = select(File.media_id, File.path_bytes).where(File.media_id.in_(media_ids))
    for row in connection.execute(query):
        found[row.media_id] = (*found.get(row.media_id, ()), row.path_bytes)
    return found


def _set_status(connection: Connection, batch: BatchResult, now: datetime) -> None:
    if batch.classified:
        connection.execute(
            update(Media)
            .where(Media.id.in_(batch.classified))
            .values(status=MediaStatus.CLASSIFIED, classified_at=iso_utc(now))
        )
    if batch.rejected:
        connection.execute(
            update(Media)
            .where(Media.id == bindparam("m"))
            .values(status=MediaStatus.REJECTED, rejected_reason=bindparam("why")),
            [{"m": media_id, "why": why} for media_id, why in batch.rejected],
        )
