"""Putting a backup in the place of the log: the old log or the new one, at every instant."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import datetime
from pathlib import Path

from monitor.durable import sync
from monitor.log.backup import (
    SIDE_FILES,
    BackupError,
    connect,
    copy_log,
    facts_of,
    reason,
    remove_partial,
    stamp,
    sweep,
    verify,
)
from monitor.log.engine import HEAD, choose_sqlite, is_damage, migrate
from monitor.log.integrity import HEADER_BYTES, header_faults


def restore_backup(backup: Path, log: Path, now: datetime) -> Path | None:
    """Put what a backup holds in the place of the log. The log that was there is set aside.

    Call it only as the owner of the log (see `monitor.locks`). Killed at any moment it leaves the
    old log or the new one; called again it begins anew.

    Returns:
        where the old log lies now; None if there was none.

    Raises:
        BackupError: the backup is not sound or of a newer program; another process has the log
            open; the disk is full. The log is then as it was.
    """
    facts = facts_of(backup)
    if facts.revision > HEAD:
        raise BackupError(
            f"{backup} was written by a newer trapwatch than this one (its tables stand at "
            f"{facts.revision}, here at {HEAD}); upgrade trapwatch"
        )
    partial = log.with_name(f".{log.name}.{os.getpid()}.partial")
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        sweep(log.parent)
        copy_log(backup, partial, 0, lambda: False, read_only=True)
        if facts.revision != HEAD:
            migrate(partial)
            _make_single(partial)
        verify(partial, backup, lambda: False)
        sync(partial)
        return _swap(partial, log, now)
    except OSError as error:
        raise BackupError(f"{log} cannot be restored: {error.strerror}") from error
    finally:
        remove_partial(partial)


def _swap(partial: Path, log: Path, now: datetime) -> Path | None:
    """Put `partial` in the place of the log in one step, the old one kept under another name.

    Side files go first: a write-ahead log beside a log that is not its own would be mixed into it.
    The old log keeps its name until the very step that gives it to the new one.
    """
    _forget_unfinished(log)
    there = log.exists()
    if there:
        _make_single(log)
    aside = _free_name(log, now)
    for suffix in SIDE_FILES:
        side = Path(f"{log}{suffix}")
        if side.exists():
            os.rename(side, f"{aside}{suffix}")
    if there:
        try:
            os.link(log, aside)
        except OSError:  # a file system without links: for a moment there is no log
            os.rename(log, aside)
        sync(log.parent)
    os.replace(partial, log)
    sync(log.parent)
    return aside if there else None


def _make_single(log: Path) -> None:
    """Bring what lies in the write-ahead log into the file itself, where the file is sound enough.

    Raises:
        BackupError: another process has the log open.
    """
    module = choose_sqlite().module
    with open(log, "rb") as file:
        header = file.read(HEADER_BYTES)
    if header_faults(header):
        return  # SQLite deletes the write-ahead log of a file that it does not know
    try:
        with closing(connect(log, "mode=rw")) as connection:
            connection.execute("PRAGMA busy_timeout=2000")
            connection.execute("PRAGMA journal_mode=DELETE").fetchone()
    except (module.Error, UnicodeDecodeError) as error:
        if "locked" in str(error):
            raise BackupError(
                f"another trapwatch command has {log} open; end it, then try again"
            ) from error
        if not is_damage(error):
            raise BackupError(f"{log} cannot be set aside: {reason(error)}") from error


def _forget_unfinished(log: Path) -> None:
    """Second names of the log itself, from a restoring that was killed half-way."""
    for path in log.parent.glob(f"{log.name}.replaced-*"):
        if log.exists() and path.samefile(log):
            path.unlink()


def _free_name(log: Path, now: datetime) -> Path:
    base, count = f"{log.name}.replaced-{stamp(now)}", 1
    path = log.with_name(base)
    while any(Path(f"{path}{suffix}").exists() for suffix in ("", *SIDE_FILES)):
        count += 1
        path = log.with_name(f"{base}-{count}")
    return path
