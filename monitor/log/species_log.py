"""The species log: the only door to the database. Callers see values, never sessions or SQL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy.exc import TimeoutError

from monitor.core.config import sqlite_path
from monitor.core.domain import utc_now
from monitor.log.act_records import ActQueries
from monitor.log.alerts import AlertQueries
from monitor.log.backup import IsEnding, copy_pages, stamp, write_backup
from monitor.log.browse import BrowseQueries
from monitor.log.clock_evidence import WrittenQueries
from monitor.log.crashing_files import PoisonQueries
from monitor.log.deployment_acts import DeploymentActs
from monitor.log.detections import DetectionQueries
from monitor.log.effort import EffortQueries
from monitor.log.engine import BUSY_SECONDS, LogError, files_of, open_migrated, refuse_if_replaced
from monitor.log.figures import FigureQueries
from monitor.log.labels import LabelQueries
from monitor.log.learning import LearningQueries, StatusQueries
from monitor.log.media import MediaQueries
from monitor.log.media_ids import MediaIdQueries
from monitor.log.news import NewsQueries
from monitor.log.predictions import PredictionQueries
from monitor.log.reference import ReferenceQueries
from monitor.log.replaying import ReplayQueries
from monitor.log.reviewing import ReviewQueries
from monitor.log.runs import RunQueries
from monitor.log.species_list import SpeciesQueries
from monitor.log.today import TodayQueries
from monitor.log.versions import VersionQueries

EMPTYING_MS = 200


class SpeciesLog(
    MediaQueries,
    PredictionQueries,
    BrowseQueries,
    LabelQueries,
    ReferenceQueries,
    ReviewQueries,
    SpeciesQueries,
    VersionQueries,
    RunQueries,
    DetectionQueries,
    LearningQueries,
    StatusQueries,
    TodayQueries,
    EffortQueries,
    DeploymentActs,
    WrittenQueries,
    PoisonQueries,
    FigureQueries,
    ActQueries,
    MediaIdQueries,
    ReplayQueries,
    AlertQueries,
    NewsQueries,
):
    """One station's log. Safe to share between threads."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open the log at `path`; `create` makes it, and brings an older one up to date.

        Raises:
            LogError: it is not there, not a log, newer than this program, or on a network share.
        """
        super().__init__(open_migrated(path, create=create))
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection; no file of ours stays beside a log that is another one."""
        with suppress(OSError):
            self.set_side_files_aside()
        self._engine.dispose()

    def replaced(self) -> str | None:
        """Say which file of the log was deleted or replaced since it was opened; None: none was.
        If one was, every other method raises LogReplaced."""
        return files_of(self._engine).replaced()

    def copy_what_is_open(self, target: Path, is_ending: IsEnding) -> None:
        """Copy the files that this log has open into `target`, whatever lies at its path now.

        Raises:
            LogReplaced: every connection is in use at this moment.
            BackupError: the copy cannot be written.
        """
        with self._driver() as connection:
            copy_pages(connection, self.path, target, 0, is_ending)

    def size_of_what_is_open(self) -> tuple[int, int]:
        """Return how many media, and how many bytes, are in the files that this log has open.

        Raises:
            LogReplaced: every connection is in use at this moment.
        """
        questions = (
            "SELECT count(*) FROM media",
            "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
        )
        with self._driver() as connection:
            media, size = (int(connection.execute(sql).fetchone()[0]) for sql in questions)
        return media, size

    def set_side_files_aside(self) -> None:
        """Give our -wal and -shm another name, where they lie beside a log that is not ours.

        Raises:
            OSError: they cannot be renamed.
        """
        files = files_of(self._engine)
        for path in files.side_files_of_another_log():
            suffix = path.name.removeprefix(files.log.name)
            aside = f"{files.log.name}.replaced-{stamp(utc_now())}-{os.getpid()}{suffix}"
            os.rename(path, path.with_name(aside))

    def checkpoint(self) -> None:
        """Write the WAL back into the database file and empty it, if nobody reads just then:
        while it waits for a reader, as a backup is one, nobody could write."""
        refuse_if_replaced(self._engine)
        with self._driver() as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            connection.execute(f"PRAGMA busy_timeout={EMPTYING_MS}")
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                connection.execute(f"PRAGMA busy_timeout={1000 * BUSY_SECONDS:.0f}")

    def check(self) -> list[str]:
        """What SQLite finds wrong with the file; empty when it is sound."""
        with self._read() as connection:
            rows = connection.exec_driver_sql("PRAGMA quick_check(20)").scalars().all()
        return [row for row in rows if row != "ok"]

    def backup(self, target: Path) -> None:
        """Copy the log, as it is at one moment, into the file `target`: see `write_backup`."""
        write_backup(self.path, target)

    @contextmanager
    def _driver(self) -> Iterator[Any]:
        """The connection below SQLAlchemy, outside any transaction."""
        try:
            opened = self._engine.connect()
        except TimeoutError as error:
            raise LogError(f"the log {self.path}: all connections are in use") from error
        with opened as connection:
            driver = connection.connection.driver_connection
            try:
                yield driver
            except connection.dialect.loaded_dbapi.Error as error:
                raise self._told(error) from error


def open_log(url: str, *, create: bool = False) -> SpeciesLog:
    """Open the log that `database.url` names."""
    return SpeciesLog(sqlite_path(url), create=create)
