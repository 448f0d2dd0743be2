"""Putting a backup in the place of the log: the old log or the new one, at every instant."""

from __future__ import annotations

import logging
import os
import re
import shutil
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from monitor.log.backup import SIDE_FILES, IsEnding, copy_log, remove_partial, stamp, sweep, verify
from monitor.log.backup_facts import (
    BackupError,
    BackupFacts,
    NoRoom,
    NotSound,
    connect,
    facts_of,
    is_for_want_of_room,
    reason,
)
from monitor.log.engine import HEAD, LogError, choose_sqlite, is_damage, migrate, open_engine
from monitor.log.integrity import header_faults, header_of
from monitor.log.media_ids import MediaIdQueries
from monitor.log.species_log import SpeciesLog
from monitor.system.files import sync

logger = logging.getLogger(__name__)


SPARE_BYTES = 2_000_000
"""Room that a log needs beside its file to be opened."""
ASIDES_KEPT = 2
ASIDE = r"\.((?:damaged|replaced)-[0-9TZ-]+)(?:-backup)?(?:-wal|-shm|-journal)?"


def restore_backup(
    backup: Path, log: Path, now: datetime, is_ending: IsEnding = lambda: False
) -> Path | None:
    """Put what a backup holds in the place of the log. The log that was there is set aside.

    Call it only as the owner of the log (see `monitor.system.locks`). Killed at any moment it
    leaves the old log or the new one; called again it begins anew.

    Returns:
        where the old log lies now; None if there was none.

    Raises:
        BackupError: the backup is not sound or of a newer program; another process has the log
            open. The log is then as it was.
        NoRoom: the disk has no room for it; the log is as it was.
    """
    if log.exists() and backup.samefile(log):
        raise BackupError(f"{backup} is the log itself; name a backup: trapwatch backup --list")
    facts = facts_of(backup)
    if facts.revision > HEAD:
        raise BackupError(
            f"{backup} was written by a newer trapwatch than this one (its tables stand at "
            f"{facts.revision}, here at {HEAD}); upgrade trapwatch"
        )
    partial = log.with_name(f".{log.name}.{os.getpid()}.partial")
    needed = facts.size_bytes * (1 if facts.revision == HEAD else 2) + SPARE_BYTES
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        sweep(log.parent)
        if (free := shutil.disk_usage(log.parent).free) < needed:
            raise NoRoom(_room_words(backup, log, needed, free), needed)
        copy_log(backup, partial, 0, is_ending, read_only=True)
        if facts.revision != HEAD:
            migrate(partial)
            _make_single(partial)
        verify(partial, backup, is_ending)
        _skip_media_ids(partial, now)
        sync(partial)
        return put_in_place(partial, log, now)
    except (OSError, LogError) as error:
        if is_for_want_of_room(error):
            free = shutil.disk_usage(log.parent).free
            raise NoRoom(_room_words(backup, log, needed, free), needed) from error
        if isinstance(error, LogError):
            raise
        raise BackupError(f"{log} cannot be restored: {error.strerror}") from error
    finally:
        remove_partial(partial)


def _room_words(backup: Path, log: Path, needed: int, free: int) -> str:
    return (
        f"{log.parent} has {free / 1e6:,.1f} MB free, and {needed / 1e6:,.1f} are needed to put "
        f"the backup {backup} in the place of the log; free some space"
    )


def _skip_media_ids(partial: Path, now: datetime) -> None:
    """Which ids were given since the backup was made, nobody knows."""
    engine = open_engine(partial)
    try:
        MediaIdQueries(engine).skip_media_ids(0, now)
    finally:
        engine.dispose()
    _make_single(partial)


def try_out(facts: BackupFacts, now: datetime, is_ending: IsEnding) -> None:
    """Restore a backup that was just written into a file beside it, as `trapwatch restore` does,
    open it as a log and compare what it holds. One that does not stand that is deleted.

    Raises:
        BackupError: as above.
    """
    scratch = facts.path.with_name(f".trial.{os.getpid()}.partial")
    try:
        restore_backup(facts.path, scratch, now, is_ending)
        with SpeciesLog(scratch) as log:
            media = log.counts()["media"]
        found = facts_of(scratch)
        same = replace(found, path=facts.path, number=facts.number, size_bytes=facts.size_bytes)
        if same != facts or media != facts.media:
            raise NotSound(f"{facts.path} restored holds something else than the log")
    except NoRoom as error:
        logger.warning("%s was read back, but not restored on trial: %s", facts.path, error)
    except BaseException:
        facts.path.unlink(missing_ok=True)
        raise
    finally:
        remove_partial(scratch)


def set_aside(log: Path, aside: Path) -> None:
    """Give a log and its side files another name; the log itself comes last."""
    for old, new in zip(log_files(log), log_files(aside), strict=True):
        if old.exists():
            os.rename(old, new)
    sync(log.parent)


def log_files(log: Path) -> list[Path]:
    """The files of a log in the order in which they are to be moved: the log itself last, for what
    is left without its write-ahead log is noticed, and the reverse would be mixed up."""
    return [Path(f"{log}{suffix}") for suffix in (*SIDE_FILES, "")]


def drop_older_asides(log: Path, kept: Path | None) -> None:
    """Of logs that were set aside, each as large as the log, the newest two of a kind stay.

    Args:
        kept: the one that was set aside just now; it stays whatever the clock says.
    """
    pattern = re.compile(re.escape(log.name) + ASIDE)
    for kind in ("damaged", "replaced"):
        groups: dict[str, list[Path]] = {}
        for path in log.parent.glob(f"{log.name}.{kind}-*"):
            if match := pattern.fullmatch(path.name):
                groups.setdefault(match[1], []).append(path)
        age = {name: max(p.stat().st_ctime for p in paths) for name, paths in groups.items()}
        last = kept.name.removeprefix(f"{log.name}.") if kept is not None else ""
        newest = sorted(groups, key=lambda name: (name == last, age[name]), reverse=True)
        for name in newest[ASIDES_KEPT:]:
            for path in groups[name]:
                path.unlink(missing_ok=True)


def put_in_place(partial: Path, log: Path, now: datetime) -> Path | None:
    """Put `partial` in the place of the log in one step, the old one kept under another name.

    Side files go first: a write-ahead log beside a log that is not its own would be mixed into it.
    The old log keeps its name until the very step that gives it to the new one.

    Raises:
        BackupError: another process has the log open.
        OSError: a file cannot be renamed.
    """
    log = Path(os.path.realpath(log))  # a link stays a link
    _forget_unfinished(log)
    there = log.exists()
    if there and not header_faults(header_of(log)):
        _make_single(log)  # of a file that SQLite does not know it deletes the write-ahead log
    aside = name_aside(log, now)
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


def name_aside(log: Path, now: datetime) -> Path:
    """Return a free name under which a log that is replaced is kept."""
    base, count = f"{log.name}.replaced-{stamp(now)}", 1
    path = log.with_name(base)
    while any(Path(f"{path}{suffix}").exists() for suffix in ("", *SIDE_FILES)):
        count += 1
        path = log.with_name(f"{base}-{count}")
    return path
