"""Is the file of the log whole? Asked of the file itself, so that it can be asked before it is
opened as a log, whatever is broken in it."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Any, Literal

from monitor.core.domain import MediaStatus, ModelState, RunState
from monitor.log.engine import BUSY_SECONDS, HEAD, LogError, choose_sqlite, in_words, is_damage
from monitor.log.open_files import is_open_here
from monitor.log.tables import Base

Depth = Literal["schema", "quick", "full"]

HEADER_BYTES = 100
MAGIC = b"SQLite format 3" + bytes(1)
MOST_TOLD = 5
_kept_open: dict[tuple[int, int], int] = {}
"""Device and inode of a log -> its descriptor."""
_kept_lock = threading.Lock()
SMALL = ("state", "act", "species", "model_version")
"""Tables whose JSON is read while a station starts."""


def faults_of(path: Path, *, depth: Depth) -> list[str]:
    """What is wrong with the file at `path`, in words; empty if it is sound.

    Args:
        depth: `schema` looks no further than the tables there must be; `quick` goes through all
            pages (seconds for a gigabyte); `full` also compares every index with its table and
            follows every reference (minutes).

    Raises:
        OSError: the file cannot be read.
        LogError: it cannot be looked at, and no damage is the reason (a lock, a full disk).
    """
    header = header_of(path)
    if not header:
        return []  # made, but never written: a log that is new
    if faults := header_faults(header):
        return faults
    module = choose_sqlite().module
    connection = module.connect(str(path), timeout=BUSY_SECONDS, isolation_level=None)
    try:
        return faults_in(connection, depth)
    except (module.Error, UnicodeDecodeError) as error:
        if not is_damage(error):
            raise LogError(f"{path} cannot be checked: {in_words(error)}") from error
        return [str(error)]
    finally:
        connection.close()


def header_of(path: Path) -> bytes:
    """The first 100 bytes of a log that may be in use.

    The file stays open for good: to close it would take SQLite's locks on it from this whole
    process (sqlite.org/howtocorrupt.html, 2.2), and another process could then delete the
    write-ahead log under our hands. A committed label was lost by that.

    Raises:
        OSError: the file cannot be read.
    """
    found = path.stat()
    with _kept_lock:
        descriptor = _kept_open.get((found.st_dev, found.st_ino))
        if descriptor is None:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            found = os.fstat(descriptor)
            _kept_open[found.st_dev, found.st_ino] = descriptor
    return os.pread(descriptor, HEADER_BYTES, 0)


def header_of_backup(path: Path) -> bytes:
    """The first 100 bytes of a backup, or of a copy that is being written. The log itself may be
    among the backups under another name: then it is not closed.

    Raises:
        OSError: the file cannot be read.
    """
    if is_open_here(path):
        return header_of(path)
    with open(path, "rb") as file:
        return file.read(HEADER_BYTES)


def header_faults(header: bytes) -> list[str]:
    """What is impossible in the first 100 bytes of the file (sqlite.org/fileformat.html, 1.3):
    some of it SQLite does not notice, and then refuses to write."""
    size = int.from_bytes(header[16:18], "big")
    is_page = size == 1 or (512 <= size <= 32768 and size & (size - 1) == 0)
    sound = {
        "it does not begin as a database": header.startswith(MAGIC),
        "its header is cut off": len(header) == HEADER_BYTES,
        "its page size cannot be": is_page,
        "its format is unknown": header[18:19] in (bytes([1]), bytes([2]))
        and header[18:19] == header[19:20],
        "its header is changed": header[20:24] == bytes((0, 64, 32, 32)),
        "its schema format cannot be": header[44:48] == bytes((0, 0, 0, 4)),
        "its text encoding cannot be": header[56:60] == bytes((0, 0, 0, 1)),
    }
    return [fault for fault, holds in sound.items() if not holds][:1]


def faults_in(connection: Any, depth: Depth) -> list[str]:
    """As `faults_of`, asked of a connection of the database driver."""
    tables = {
        row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    }
    if not tables:
        return []
    faults, thorough = [], depth == "full"
    if depth != "schema":
        pragma = "integrity_check" if thorough else "quick_check"
        rows = connection.execute(f"PRAGMA {pragma}({MOST_TOLD})").fetchall()
        faults = [row[0] for row in rows if row[0] != "ok"]
    if thorough and not faults:
        broken = connection.execute("PRAGMA foreign_key_check").fetchmany(MOST_TOLD)
        faults += [f"a row of {row[0]} names one of {row[2]} that is not there" for row in broken]
    if not faults:
        faults = _standing(connection, tables)
    if not faults and _revision(connection) == HEAD:
        faults = _schema(connection, tables)
        for sql in () if faults else _questions(thorough=thorough):
            faults += [row[0] for row in connection.execute(sql).fetchmany(MOST_TOLD)]
    return faults[:MOST_TOLD]


def _revision(connection: Any) -> str:
    return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def _standing(connection: Any, tables: set[str]) -> list[str]:
    if "alembic_version" not in tables:
        return ["the table alembic_version is not there"]
    rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    if len(rows) != 1 or not re.fullmatch("[0-9]{4}", str(rows[0][0])):
        return ["it does not say which revision it stands at"]
    return []


def _schema(connection: Any, tables: set[str]) -> list[str]:
    """Tables and columns that must be there and are not."""
    faults = []
    for table in Base.metadata.sorted_tables:
        if table.name not in tables:
            faults.append(f"the table {table.name} is not there")
            continue
        there = {row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")}
        faults += [
            f"the column {table.name}.{column.name} is not there"
            for column in table.columns
            if column.name not in there
        ]
    return faults


def _questions(*, thorough: bool) -> list[str]:
    """Statements that answer one row, in words, for what SQLite does not look at."""
    questions = []
    for table in Base.metadata.sorted_tables:
        if not (thorough or table.name in SMALL):
            continue
        questions += [
            f"SELECT 'a row of {table.name} holds no JSON in {column.name}' FROM {table.name} "
            f"WHERE {column.name} IS NOT NULL AND NOT json_valid({column.name}) LIMIT 1"
            for column in table.columns
            if str(column.type) == "JSON"
        ]
    words = {"media.status": MediaStatus, "model_version.state": ModelState}
    words |= {"training_run.state": RunState}
    for place, known in words.items():
        table_name, _, column_name = place.partition(".")
        listed = ", ".join(f"'{word}'" for word in known)
        questions.append(
            f"SELECT '{place} is ' || quote({column_name}) FROM {table_name} "
            f"WHERE {column_name} NOT IN ({listed}) LIMIT 1"
        )
    return [*questions, *(LABELS if thorough else ())]


LABELS = (
    "SELECT 'a label has no observation' FROM label WHERE +withdraws_id IS NULL AND NOT EXISTS "
    "(SELECT 1 FROM observation WHERE label_id = label.id) LIMIT 1",
    "SELECT 'a media does not show its newest label' FROM media WHERE label_id IS NOT "
    "(SELECT max(l.id) FROM label l WHERE l.media_id = media.id AND +l.withdraws_id IS NULL "
    "AND NOT EXISTS (SELECT 1 FROM label w WHERE w.withdraws_id = l.id)) LIMIT 1",
)
