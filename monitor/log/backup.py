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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from monitor.log.backup_facts import (
    BackupError,
    BackupFacts,
    BackupStopped,
    NoRoom,
    NotSound,
    connect,
    facts_of,
    is_for_want_of_room,
    open_read_only,
    reason,
)
from monitor.log.engine import choose_sqlite
from monitor.log.integrity import faults_in, header_faults, header_of_backup
from monitor.log.recovery_note import why_missing
from monitor.system.files import sync

PAGES = 1024
"""So many pages (4 MB) are copied at once; then the disk is somebody else's for a moment."""
PAUSE_SECONDS = 0.005
OPCODES = 200_000
"""So often (some milliseconds) a check asks whether it is to end."""
MODE = 0o640
SIDE_FILES = ("-wal", "-shm", "-journal")
PARTIAL = re.compile(r"\..+\.([0-9]+)\.partial(?:-wal|-shm|-journal)?")

IsEnding = Callable[[], bool]


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
    if not log.exists():
        raise BackupError(why_missing(log))
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        copy_log(log, partial, number, is_ending)
        verify(partial, target, is_ending)
        sync(partial)
        if not replace and target.exists():  # another station may write there, too
            raise BackupError(f"{target} exists already; name a new file")
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
    try:
        opened = open_read_only(source) if read_only else connect(source, "mode=rw")
        with closing(opened) as origin:
            copy_pages(origin, source, target, number, is_ending)
    except choose_sqlite().module.Error as error:
        raise BackupError(f"{source} cannot be copied: {reason(error)}") from error


def copy_pages(origin: Any, source: Path, target: Path, number: int, is_ending: IsEnding) -> None:
    """As `copy_log`, from an open connection of the database driver.

    Args:
        source: what it reads from, for messages.
    """
    remove_partial(target)
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, MODE))
    module = choose_sqlite().module

    def between(status: int, remaining: int, total: int) -> None:
        if is_ending():
            raise BackupStopped("the program ends; the backup is made the next time")
        time.sleep(PAUSE_SECONDS)

    try:
        with closing(connect(target, "mode=rw")) as copy:
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
        kind = NoRoom if is_for_want_of_room(error) else BackupError
        raise kind(f"{source} cannot be copied: {reason(error)}") from error


def verify(path: Path, shown: Path, is_ending: IsEnding) -> None:
    """Read all of `path`, which people know as `shown`. Raises BackupError."""
    module = choose_sqlite().module
    try:
        faults = header_faults(header_of_backup(path))
        if not faults:
            with closing(open_read_only(path)) as connection:
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
