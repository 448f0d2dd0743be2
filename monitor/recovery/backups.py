"""The backups of a station: how they are made and copied, and what makes room for them."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from monitor.core.config import Settings, sqlite_path
from monitor.core.config.station import Backup as Rules
from monitor.log.backup import stamp, sweep, write_backup
from monitor.log.backup_facts import (
    BackupError,
    BackupFacts,
    facts_of,
    next_number,
    number_of,
)
from monitor.log.restore import try_out
from monitor.recovery.backup_places import first_folders, folder_of, ours_in, patience_for
from monitor.recovery.backup_schedule import ALWAYS_KEPT, day_of, to_drop
from monitor.system.disk import MEGABYTE
from monitor.system.limited import limited

logger = logging.getLogger(__name__)

STATE = "backup"
ROOM = 2
"""So many times the size of the log must be free."""
MARGIN = 1.1
"""A backup leaves so many times `disk.stop_mb` free: it never makes the station rest."""

IsEnding = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a backup came to.

    Attributes:
        second_problem: why there is none in the second folder; None: there is, or none is wanted.
        number: the highest that was given, here or there.
    """

    facts: BackupFacts
    second_problem: str | None
    number: int


def back_up(
    settings: Settings,
    now: datetime,
    is_ending: IsEnding = lambda: False,
    *,
    last_number: int = 0,
) -> Outcome:
    """Write a backup, try it out, copy it to the second folder, drop what is no longer kept.

    Args:
        last_number: the highest that was given so far, as far as the log knows.

    Raises:
        BackupError: no backup was written, with the reason; the newest are all still there.
    """
    rules, log, folder = settings.backup, sqlite_path(settings.database.url), folder_of(settings)
    try:
        own = facts_of(log, is_live=True).station
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        if (problem := too_little_room(settings, own)) is not None:
            raise BackupError(problem)
        ours = ours_in(first_folders(settings), own)
        facts = write_backup(
            log,
            _free_name(folder, f"trapwatch-{stamp(now)}"),
            number=max(next_number(ours), last_number + 1),
            is_ending=is_ending,
        )
        try_out(facts, now, is_ending)
        _rotate(folder, rules, own)
    except OSError as error:
        raise BackupError(f"no backup can be kept in {folder}: {error.strerror}") from error
    if rules.second_folder is None:
        return Outcome(facts, None, facts.number)
    return _to_second(facts, rules.second_folder, rules, is_ending)


def too_little_room(settings: Settings, own: str | None) -> str | None:
    """Why a backup must not be tried; None if there is room enough.

    A backup must never make the disk of the log full, by which all work would rest. Before it makes
    that low, or is not written, the oldest go, all but the newest three.
    """
    log, folder = sqlite_path(settings.database.url), folder_of(settings)
    files = [log, Path(f"{log}-wal")]
    size = sum(file.stat().st_size for file in files if file.exists())
    is_shared = folder.stat().st_dev == settings.data_directory.stat().st_dev
    reserve = settings.disk.stop_mb * MEGABYTE * MARGIN if is_shared else 0
    needed = int(ROOM * size + reserve)
    low = settings.disk.warn_mb * MEGABYTE if is_shared else 0
    free = make_room(folder, max(needed, size + low), own)
    if free >= needed:
        return None
    what = "twice the log" + (", and disk.stop_mb" if reserve else "")
    return (
        f"{folder} has {free // MEGABYTE:,} MB free, and {-(-needed // MEGABYTE):,} are needed "
        f"({what}); move older backups or frames to another disk"
    )


def make_room(folder: Path, wanted: int, own: str | None) -> int:
    """Drop the oldest scheduled backups of a folder until so many bytes are free, but never the
    newest three. Returns what is free then."""
    for path in spare(folder, own):
        if shutil.disk_usage(folder).free >= wanted:
            break
        path.unlink(missing_ok=True)
        logger.warning("%s is dropped, to make room", path)
    return shutil.disk_usage(folder).free


def spare(folder: Path, own: str | None) -> Iterator[Path]:
    """The scheduled backups of a folder beyond the newest three, the oldest first."""
    ours = [path for path in ours_in([folder], own) if day_of(path.name) is not None]
    yield from reversed(ours[ALWAYS_KEPT:])


def _to_second(facts: BackupFacts, second: Path, rules: Rules, is_ending: IsEnding) -> Outcome:
    """Copy a backup to the other disk, which may never answer."""
    is_over = threading.Event()
    try:
        number = limited(second)(
            _copy_on,
            facts,
            second,
            rules,
            lambda: is_over.is_set() or is_ending(),
            seconds=patience_for(facts.path),
            is_ending=is_ending,
        )
    except BackupError as error:
        return Outcome(facts, str(error), facts.number)
    except OSError as error:
        return Outcome(facts, f"{second}: {error.strerror or error}", facts.number)
    finally:
        is_over.set()
    return Outcome(facts, None, max(number, facts.number))


def _copy_on(facts: BackupFacts, second: Path, rules: Rules, is_ending: IsEnding) -> int:
    """Returns the number of the copy."""
    if not second.is_dir():
        raise BackupError(f"{second} is not there: is the disk mounted?")
    if second.stat().st_dev == facts.path.stat().st_dev:
        raise BackupError(
            f"{second} lies on the same disk as the first backup: is the other one mounted?"
        )
    sweep(second)
    make_room(second, facts.size_bytes, facts.station)
    number = max(facts.number, next_number(ours_in([second], facts.station)))
    target = _free_name(second, facts.path.stem)  # another station may have copied this minute
    write_backup(facts.path, target, number=number, is_ending=is_ending)
    _rotate(second, rules, facts.station)
    return number


def _rotate(folder: Path, rules: Rules, own: str | None) -> None:
    found = [(number_of(path), path.name) for path in ours_in([folder], own)]
    for name in to_drop(found, rules.keep_daily, rules.keep_weekly):
        (folder / name).unlink(missing_ok=True)


def _free_name(folder: Path, stem: str) -> Path:
    """A clock that was set back may say the same minute twice."""
    path, count = folder / f"{stem}.db", 1
    while path.exists():
        count += 1
        path = folder / f"{stem}-{count}.db"
    return path


def backup_lines(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """For people: when the log was last copied and what is wrong with that.

    Args:
        told: the log's state, and whether backups are made at all (`enabled`).
    """
    if not told["enabled"]:
        return [("backup", "none is made (backup.enabled)")]
    lines = [("backup", "none yet")]
    if told.get("at"):
        size = told["size_bytes"] / MEGABYTE
        lines = [("backup", f"{told['at']}, {size:.1f} MB: {told['path']}")]
    if told.get("problem"):
        lines.append(("backup", f"the last try failed: {told['problem']}"))
    if told.get("second_problem"):
        lines.append(("backup", f"not on the second disk: {told['second_problem']}"))
    return lines
