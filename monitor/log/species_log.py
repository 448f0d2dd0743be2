"""The species log: the only door to the database. Callers see values, never sessions or SQL."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from monitor.config import sqlite_path
from monitor.log.engine import LogError, open_migrated
from monitor.log.labels import LabelQueries
from monitor.log.learning import LearningQueries, StatusQueries
from monitor.log.media import MediaQueries
from monitor.log.predictions import PredictionQueries
from monitor.log.sightings import SightingQueries
from monitor.log.species import SpeciesQueries
from monitor.log.versions import RunQueries, VersionQueries


class SpeciesLog(
    MediaQueries,
    PredictionQueries,
    SightingQueries,
    LabelQueries,
    SpeciesQueries,
    VersionQueries,
    RunQueries,
    LearningQueries,
    StatusQueries,
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
        with self._engine.connect() as connection:
            connection.connection.driver_connection.execute(  # type: ignore[union-attr]
                "PRAGMA wal_checkpoint(TRUNCATE)"
            ).fetchall()

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
        partial.unlink(missing_ok=True)
        try:
            with self._engine.connect() as connection:
                source = connection.connection.driver_connection
                copy = type(source)(os.fspath(partial))  # type: ignore[misc]
                source.backup(copy)  # type: ignore[union-attr]
                copy.execute("PRAGMA journal_mode=DELETE")
                copy.close()
            with open(partial, "rb") as written:
                os.fsync(written.fileno())
            os.replace(partial, target)
        except OSError as error:
            raise LogError(f"{target} cannot be written: {error.strerror}") from error


def open_log(url: str, *, create: bool = False) -> SpeciesLog:
    """Open the log that `database.url` names."""
    return SpeciesLog(sqlite_path(url), create=create)
