"""A copy of the log before a newer program changes its tables: the way back to the older one."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from monitor.log.backup import stamp, sweep, verify_backup, write_backup
from monitor.log.backup_facts import (
    BackupError,
    BackupFacts,
    NotSound,
    backups_in,
    facts_of,
    next_number,
)
from monitor.log.engine import LogDamaged
from monitor.log.integrity import faults_of

FOLDER = "backups"
"""Beside the log."""
BEFORE = re.compile(r"trapwatch-before-[0-9]{4}-.+\.db")
KEPT = 2


def keep_before_upgrade(log: Path, target: str, now: datetime) -> Path:
    """Copy the log into `backups/trapwatch-before-TARGET-DATE.db` beside it.

    An upgrade that fails is tried again at every start: a copy that holds the same already is
    taken for the new one. The newest two of these copies are kept.

    Args:
        target: the revision that the log is brought to.

    Raises:
        LogDamaged: the log is damaged.
        BackupError: the copy cannot be written; the log is not to be upgraded then.
    """
    folder = log.parent / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        if (same := _same(folder, facts_of(log, is_live=True))) is not None:
            return same
        path = _free_name(folder, f"trapwatch-before-{target}-{stamp(now)}")
        write_backup(log, path, number=next_number(backups_in(folder)))
        for old in _copies(folder)[KEPT:]:
            old.unlink(missing_ok=True)
        return path
    except OSError as error:
        raise BackupError(
            f"{log} is not upgraded, for no copy of it can be written to {folder}: {error.strerror}"
        ) from error
    except BackupError as error:
        words = f"{log} is not upgraded, for it cannot be copied before: {error}"
        if isinstance(error, NotSound) and faults_of(log, depth="full"):
            raise LogDamaged(words) from error  # the log itself, not only the copy
        raise BackupError(words) from error


def _copies(folder: Path) -> list[Path]:
    return [path for path in backups_in(folder) if BEFORE.fullmatch(path.name)]


def _same(folder: Path, facts: BackupFacts) -> Path | None:
    """The newest copy, if it is sound and holds what the log holds."""
    for path in _copies(folder)[:1]:
        try:
            found = verify_backup(path)
        except BackupError:
            return None
        alike = replace(found, path=facts.path, number=facts.number, size_bytes=facts.size_bytes)
        return path if alike == facts else None
    return None


def _free_name(folder: Path, name: str) -> Path:
    """A minute may see two upgrades; a name is never used twice."""
    minute = 0
    while (path := folder / f"{name}{f'-{minute}' if minute else ''}.db").exists():
        minute += 1
    return path
