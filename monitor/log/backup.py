"""Copies of the log: written while others write, never half there, never trusted unread.

A copy is made by SQLite's backup API, page by page. `VACUUM INTO` would make a smaller file, but it
builds every index anew (minutes on a small computer) and cannot be told to stop.

The copy's `user_version` is its number in the order of writing: a clock may stand in 1970 or jump,
the number only grows.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from monitor.durable import sync
from monitor.log.engine import BUSY_SECONDS, LogError, choose_sqlite, in_words, is_damage
from monitor.log.integrity import HEADER_BYTES, MAGIC, faults_in, header_faults

PAGES = 1024
"""So many pages (4 MB) are copied at once; then the disk is somebody else's for a moment."""
PAUSE_SECONDS = 0.005
OPCODES = 200_000
"""So often (some milliseconds) a check asks whether it is to end."""
MODE = 0o640
SIDE_FILES = ("-wal", "-shm", "-journal")
MOST_BACKUPS = 10_000_000
"""A number above this is no number of a backup: a user of SQLite may have set it."""
NAME = re.compile(
    r"trapwatch-(?:before-[0-9]{4}-)?([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{4}Z)(?:-[0-9]+)?\.db"
)
"""What is kept in a folder of backups; nothing else there is ever looked at or deleted."""
PARTIAL = re.compile(r"\..+\.([0-9]+)\.partial(?:-wal|-shm|-journal)?")

IsEnding = Callable[[], bool]


class BackupError(LogError):
    """A backup cannot be written, is not sound, or cannot be restored; the message says why."""


class NotSound(BackupError):
    """What was copied or kept is no whole log."""


class BackupStopped(BackupError):
    """The program is to end; the backup is made the next time."""


@dataclass(frozen=True, slots=True)
class BackupFacts:
    """What a backup holds.

    Attributes:
        number: its place in the order of writing; 0 for one that was written by hand.
        revision: the revision of its tables.
        acts: how much people did, labels among it.
        newest_label_at: ISO 8601, UTC; None without any label.
    """

    path: Path
    number: int
    size_bytes: int
    revision: str
    media: int
    labels: int
    acts: int
    newest_label_at: str | None


def write_backup(
    log: Path,
    target: Path,
    *,
    number: int = 0,
    replace: bool = False,
    is_ending: IsEnding = lambda: False,
) -> BackupFacts:
    """Copy the log, as it is at one moment, into the file `target`, and read the copy back.

    Others read and write meanwhile (with a rollback journal, where there is no write-ahead log,
    writers wait until all is copied).

    Args:
        number: its place in the order of writing, see `next_number`.
        replace: write over a `target` that exists.

    Raises:
        BackupStopped: `is_ending` said so.
        BackupError: `target` exists or cannot be written; the disk is full; the log is damaged.
    """
    if not replace and target.exists():
        raise BackupError(f"{target} exists already; name a new file")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        copy_log(log, partial, number, is_ending)
        verify(partial, target, is_ending)
        sync(partial)
        os.replace(partial, target)
        sync(target.parent)
        return facts_of(target)
    except OSError as error:
        raise BackupError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        remove_partial(partial)


def verify_backup(path: Path, *, is_ending: IsEnding = lambda: False) -> BackupFacts:
    """Read the whole backup; it is never written to.

    Raises:
        NotSound: it is no log, or damaged; the message says how.
        BackupError: it cannot be read.
    """
    verify(path, path, is_ending)
    return facts_of(path)


def facts_of(path: Path, *, is_live: bool = False) -> BackupFacts:
    """What a backup, or a log in use, says it holds; no further look is taken.

    Raises:
        NotSound: it is damaged.
        BackupError: it cannot be read.
    """
    module = choose_sqlite().module
    try:
        opened = connect(path, "mode=rw") if is_live else _open_read_only(path)
        with closing(opened) as connection:
            one = _one(connection)
            return BackupFacts(
                path=path,
                number=number_of(path),
                size_bytes=path.stat().st_size,
                revision=str(one("SELECT version_num FROM alembic_version")),
                media=int(one("SELECT count(*) FROM media")),
                labels=int(one("SELECT count(*) FROM label WHERE withdraws_id IS NULL")),
                acts=int(one("SELECT count(*) FROM act")),
                newest_label_at=one("SELECT max(at) FROM act WHERE kind = 'label'"),
            )
    except (module.Error, OSError, UnicodeDecodeError, TypeError) as error:
        kind = NotSound if is_damage(error) else BackupError
        raise kind(f"{path} cannot be read as a log: {reason(error)}") from error


def next_number(*folders: Path) -> int:
    """One more than the highest number of the backups in these folders."""
    return 1 + max((number_of(path) for path in backups_in(*folders)), default=0)


def backups_in(*folders: Path) -> list[Path]:
    """The backups in these folders by their names, the last written first; none is opened."""
    found = []
    for folder in folders:
        with suppress(OSError):
            found += [path for path in folder.iterdir() if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: (number_of(path), path.name), reverse=True)


def number_of(path: Path) -> int:
    """The place of a backup in the order of writing, from its header; 0 if it has none."""
    try:
        with open(path, "rb") as file:
            header = file.read(HEADER_BYTES)
    except OSError:
        return 0
    number = int.from_bytes(header[60:64], "big") if header.startswith(MAGIC) else 0
    return number if number <= MOST_BACKUPS else 0


def sweep(folder: Path) -> None:
    """Delete what killed programs left half-written in a folder."""
    with suppress(OSError):
        for path in folder.iterdir():
            match = PARTIAL.fullmatch(path.name)
            if match is not None and not _is_at_work(int(match[1])):
                path.unlink(missing_ok=True)


def stamp(now: datetime) -> str:
    """A moment as it stands in the name of a backup: `2026-11-26T0215Z`; no colon, for sticks."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H%MZ")


def copy_log(
    source: Path, target: Path, number: int, is_ending: IsEnding, *, read_only: bool = False
) -> None:
    """All pages as they are at one moment, as one file without side files. Raises BackupError."""
    remove_partial(target)
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, MODE))
    module = choose_sqlite().module

    def between(status: int, remaining: int, total: int) -> None:
        if is_ending():
            raise BackupStopped("the program ends; the backup is made the next time")
        time.sleep(PAUSE_SECONDS)

    try:
        opened = _open_read_only(source) if read_only else connect(source, "mode=rw")
        with closing(opened) as origin, closing(connect(target, "mode=rw")) as copy:
            copy.execute("PRAGMA synchronous=OFF")  # synced once, when all is written
            origin.execute("BEGIN")
            origin.execute("SELECT count(*) FROM sqlite_master").fetchone()  # holds this moment:
            # a write by another connection would make the copy begin anew, again and again
            is_wal = origin.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
            origin.backup(copy, pages=PAGES if is_wal else -1, progress=between)
            origin.execute("ROLLBACK")
            copy.execute("PRAGMA journal_mode=DELETE").fetchone()
            copy.execute(f"PRAGMA user_version={number:d}")
    except (module.Error, UnicodeDecodeError) as error:
        raise BackupError(f"{source} cannot be copied: {reason(error)}") from error


def verify(path: Path, shown: Path, is_ending: IsEnding) -> None:
    """Read all of `path`, which people know as `shown`. Raises BackupError."""
    module = choose_sqlite().module
    try:
        with open(path, "rb") as file:
            header = file.read(HEADER_BYTES)
        faults = header_faults(header)
        if not faults:
            with closing(_open_read_only(path)) as connection:
                connection.set_progress_handler(lambda: int(is_ending()), OPCODES)
                faults = faults_in(connection, "full")
                if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    faults = ["there is nothing in it"]
    except OSError as error:
        raise BackupError(f"{shown} cannot be read: {error.strerror}") from error
    except (module.Error, UnicodeDecodeError) as error:
        if is_ending():
            raise BackupStopped("the program ends; the backup is made the next time") from error
        faults = [reason(error)]
    if faults:
        raise NotSound(f"{shown} is no sound log: {'; '.join(faults)}")


def connect(path: Path, how: str) -> Any:
    """A connection of the database driver; `how`: the parameters of SQLite's URI."""
    uri = f"{path.absolute().as_uri()}?{how}"
    return choose_sqlite().module.connect(
        uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def _open_read_only(path: Path) -> Any:
    """A backup is one file that nobody writes; a log that was set aside may have a journal, too."""
    journals = [Path(f"{path}{suffix}") for suffix in ("-wal", "-journal")]
    has_journal = any(journal.exists() and journal.stat().st_size for journal in journals)
    return connect(path, "mode=ro" if has_journal else "mode=ro&immutable=1")


def _one(connection: Any) -> Callable[[str], Any]:
    return lambda sql: connection.execute(sql).fetchone()[0]


def reason(error: Exception) -> str:
    """An error of the system or the database driver in words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return in_words(error)


def remove_partial(partial: Path) -> None:
    """Delete a file that was being written, and what SQLite keeps beside it."""
    for suffix in (*SIDE_FILES, ""):
        Path(f"{partial}{suffix}").unlink(missing_ok=True)


def _is_at_work(pid: int) -> bool:
    """Whether another program may still be writing; this one is not when it sweeps."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
