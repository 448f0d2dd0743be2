"""The species log: the only door to the database. Callers see values, never sessions or SQL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from monitor.config import sqlite_path
from monitor.durable import sync
from monitor.log.browse import BrowseQueries
from monitor.log.detections import DetectionQueries
from monitor.log.engine import LogError, in_words, open_migrated
from monitor.log.labels import LabelQueries
from monitor.log.learning import LearningQueries, StatusQueries
from monitor.log.media import MediaQueries
from monitor.log.predictions import PredictionQueries
from monitor.log.reference import ReferenceQueries
from monitor.log.reviewing import ReviewQueries
from monitor.log.runs import RunQueries
from monitor.log.species_list import SpeciesQueries
from monitor.log.today import TodayQueries
from monitor.log.versions import VersionQueries


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
        """Close every connection."""
        self._engine.dispose()

    def checkpoint(self) -> None:
        """Write the WAL back into the database file and empty it."""
        with self._driver() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def check(self) -> list[str]:
        """What SQLite finds wrong with the file; empty when it is sound."""
        with self._read() as connection:
            rows = connection.exec_driver_sql("PRAGMA quick_check(20)").scalars().all()
        return [row for row in rows if row != "ok"]

    def backup(self, target: Path) -> None:
        """Copy the log, as it is at one moment, into the file `target` (SQLite backup API).

        Raises:
            LogError: `target` exists or cannot be written.
        """
        if target.exists():
            raise LogError(f"{target} exists already; name a new file")
        partial = target.with_name(f".{target.name}.partial")
        try:
            partial.touch()
            with self._driver() as source:
                copy = type(source)(os.fspath(partial))
                try:
                    source.backup(copy)
                    copy.execute("PRAGMA journal_mode=DELETE")
                finally:
                    copy.close()
            sync(partial)
            os.replace(partial, target)
            sync(target.parent)
        except (OSError, LogError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise LogError(f"{target} cannot be written: {reason}") from error
        finally:
            partial.unlink(missing_ok=True)

    @contextmanager
    def _driver(self) -> Iterator[Any]:
        """The connection below SQLAlchemy, outside any transaction."""
        with self._engine.connect() as connection:
            driver = connection.connection.driver_connection
            try:
                yield driver
            except connection.dialect.loaded_dbapi.Error as error:
                raise LogError(f"the log {self.path}: {in_words(error)}") from error


def open_log(url: str, *, create: bool = False) -> SpeciesLog:
    """Open the log that `database.url` names."""
    return SpeciesLog(sqlite_path(url), create=create)
