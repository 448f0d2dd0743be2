"""Files in whose reading the program died, so that they are looked at with care, or not again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, case, delete, select
from sqlalchemy.dialects.sqlite import insert as upsert

from monitor.core.domain import FileStamp, iso_utc
from monitor.log.connection import LogPart
from monitor.log.station_tables import PoisonFile

CONDEMNED = 2
"""Deaths from which on a file is not read again as it is."""


@dataclass(frozen=True, slots=True)
class DeadlyFile:
    """A file that was being read when the program died, `deaths` times with this very stamp."""

    path: bytes
    stamp: FileStamp
    deaths: int


class PoisonQueries(LogPart):
    """What is remembered of files that ended the program, or may have."""

    def deadly_files(self) -> list[DeadlyFile]:
        """All that were ever under suspicion and not cleared of it."""
        with self._read() as connection:
            return [
                DeadlyFile(row.path_bytes, FileStamp(row.size, row.mtime_ns), row.deaths)
                for row in connection.execute(select(PoisonFile.__table__))
            ]

    def is_set_aside(self, paths: Sequence[bytes]) -> bool:
        """Whether a file at one of these paths ended the program, and again in its trial."""
        query = select(PoisonFile.path_bytes).where(
            PoisonFile.path_bytes.in_(paths), PoisonFile.deaths >= CONDEMNED
        )
        with self._read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def count_death(self, path: bytes, stamp: FileStamp, now: datetime) -> None:
        """The program died while it read this file; of other bytes than before it is the first
        time."""
        table = PoisonFile.__table__.c
        values = {"size": stamp.size, "mtime_ns": stamp.mtime_ns, "last_at": iso_utc(now)}
        row = upsert(PoisonFile).values(path_bytes=path, deaths=1, **values)
        is_same = and_(table.size == stamp.size, table.mtime_ns == stamp.mtime_ns)
        deaths = case((is_same, table.deaths + 1), else_=1)
        with self._write() as connection:
            connection.execute(
                row.on_conflict_do_update(
                    index_elements=["path_bytes"], set_={"deaths": deaths, **values}
                )
            )

    def clear_of_suspicion(self, paths: Sequence[bytes]) -> None:
        """These were read without harm, or hold other bytes now."""
        with self._write() as connection:
            connection.execute(delete(PoisonFile).where(PoisonFile.path_bytes.in_(paths)))
