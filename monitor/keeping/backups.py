"""The backups of a station: when one is due, where it goes, which are kept.

No clock is trusted with what cannot be made anew: it may stand in 1970 at every start, or jump.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from monitor.clocks import RELEASED_AT
from monitor.config import Settings, sqlite_path
from monitor.config.station import Backup as Rules
from monitor.domain import iso_utc, parse_iso_utc
from monitor.log.backup import (
    NAME,
    BackupError,
    BackupFacts,
    backups_in,
    next_number,
    number_of,
    stamp,
    sweep,
    verify_backup,
    write_backup,
)
from monitor.log.engine import HEAD
from monitor.log.upgrading import BEFORE, FOLDER

logger = logging.getLogger(__name__)

STATE = "backup"
LOOK_SECONDS = 600.0
"""So often it is asked whether a backup is due."""
FEWEST_LOOKS = 3
"""Between two backups, whatever the clock says."""
LONGEST_PAUSE_LOOKS = 36
"""After failures: six hours of running."""
ALWAYS_KEPT = 3
"""The newest, whatever their names say of their day."""
ROOM = 2
"""So many times the size of the log must be free."""
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Last:
    """What is known of the last backup.

    Attributes:
        since: when it was made, or from when the clock is counted anew; None: there is none yet.
        looks: how often it was asked since then whether one is due: time that no clock can change.
        failures: tries since then that failed, and `waited` looks since the last of them.
    """

    since: datetime | None = None
    looks: int = 0
    failures: int = 0
    waited: int = 0


def due(last: Last, now: datetime, every: timedelta) -> bool:
    """Whether a backup is to be made now.

    The clock decides; one that stands still or was set back is overruled after as many looks as
    belong to `every`, and one that jumps forward cannot make more than one backup for each
    `FEWEST_LOOKS`.
    """
    if last.failures and last.waited < min(2**last.failures, LONGEST_PAUSE_LOOKS):
        return False
    if last.since is None:
        return True
    if last.looks * LOOK_SECONDS >= every.total_seconds():
        return True
    return last.looks >= FEWEST_LOOKS and now - last.since >= every


def looked(last: Last, now: datetime) -> Last:
    """The same one look later. A backup of the future was made under a wrong clock: once the clock
    may be right again, it is counted from now, not from when that future comes."""
    is_future = last.since is not None and RELEASED_AT <= now < last.since
    since = now if is_future else last.since
    return Last(since, last.looks + 1, last.failures, last.waited + 1)


def to_drop(backups: Iterable[tuple[int, str]], keep_daily: int, keep_weekly: int) -> list[str]:
    """Names of backups that are no longer kept.

    Days and weeks are counted by those that have a backup, in the order of writing and without any
    clock: a station that was off for a month loses none, a wrong date pushes out one day at most.

    Args:
        backups: (place in the order of writing, name); names that are none of ours are left alone.
    """
    days: set[date] = set()
    weeks: set[tuple[int, int]] = set()
    drop: list[str] = []
    ours = [(number, name) for number, name in backups if _day_of(name) is not None]
    for place, (_, name) in enumerate(sorted(ours, reverse=True)):
        day = _day_of(name)
        assert day is not None, "filtered above"
        week = day.isocalendar()[:2]
        is_new_day = day not in days and len(days) < keep_daily
        is_new_week = week not in weeks and len(weeks) < keep_weekly
        if is_new_day:
            days.add(day)
        if is_new_week:
            weeks.add(week)
        if not (is_new_day or is_new_week or place < ALWAYS_KEPT):
            drop.append(name)
    return drop


def _day_of(name: str) -> date | None:
    """The day that the name of a scheduled backup says; None for any other file."""
    match = NAME.fullmatch(name)
    if match is None or BEFORE.fullmatch(name):
        return None
    try:
        return datetime.strptime(match[1], "%Y-%m-%dT%H%MZ").date()
    except ValueError:
        return None


def folders_of(settings: Settings) -> list[Path]:
    """Where backups lie: the folder, the second folder, and where upgrades leave theirs."""
    beside = settings.data_directory / FOLDER
    found = [folder_of(settings), settings.backup.second_folder, beside]
    return list(dict.fromkeys(folder for folder in found if folder is not None))


def folder_of(settings: Settings) -> Path:
    """Where backups are written first."""
    return settings.backup.folder or settings.data_directory / FOLDER


def newest_good(folders: Sequence[Path]) -> Path | None:
    """The last written backup of these folders that is whole and that this program can restore."""
    for path in backups_in(*folders):
        try:
            facts = verify_backup(path)
        except BackupError as error:
            logger.warning("passed over: %s", error)
            continue
        if facts.revision <= HEAD:
            return path
        logger.warning("passed over: %s was written by a newer trapwatch", path)
    return None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a backup came to.

    Attributes:
        second_problem: why there is none in the second folder; None: there is, or none is wanted.
    """

    facts: BackupFacts
    second_problem: str | None


def back_up(
    settings: Settings, now: datetime, is_ending: Callable[[], bool] = lambda: False
) -> Outcome:
    """Write a backup, copy it to the second folder, and drop what is no longer kept.

    Raises:
        BackupError: no backup was written, with the reason; older ones are all still there.
    """
    rules, log, folder = settings.backup, sqlite_path(settings.database.url), folder_of(settings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        if (problem := too_little_room(log, folder)) is not None:
            raise BackupError(problem)
        number = next_number(*folders_of(settings))
        facts = write_backup(
            log, _free_name(folder, stamp(now)), number=number, is_ending=is_ending
        )
        _rotate(folder, rules)
    except OSError as error:
        raise BackupError(f"no backup can be kept in {folder}: {error.strerror}") from error
    second = rules.second_folder
    return Outcome(facts, None if second is None else _copy_on(facts, second, rules, is_ending))


def too_little_room(log: Path, folder: Path) -> str | None:
    """Why a backup must not be tried; None if there is room enough."""
    files = [log, Path(f"{log}-wal")]
    needed = ROOM * sum(file.stat().st_size for file in files if file.exists())
    free = shutil.disk_usage(folder).free
    if free >= needed:
        return None
    return (
        f"{folder} has {free // MEGABYTE:,} MB free, and {-(-needed // MEGABYTE):,} are needed "
        "(twice the log); move older backups or frames to another disk"
    )


def _copy_on(
    facts: BackupFacts, second: Path, rules: Rules, is_ending: Callable[[], bool]
) -> str | None:
    """Copy a backup to the other disk; returns why that was not possible."""
    try:
        if not second.is_dir():
            return f"{second} is not there: is the disk mounted?"
        if second.stat().st_dev == facts.path.stat().st_dev:
            return f"{second} lies on the same disk as the first backup: is the other one mounted?"
        sweep(second)
        target = second / facts.path.name
        write_backup(facts.path, target, number=facts.number, replace=True, is_ending=is_ending)
        _rotate(second, rules)
    except (BackupError, OSError) as error:
        return str(error)
    return None


def _rotate(folder: Path, rules: Rules) -> None:
    found = [(number_of(path), path.name) for path in backups_in(folder)]
    for name in to_drop(found, rules.keep_daily, rules.keep_weekly):
        (folder / name).unlink(missing_ok=True)


def _free_name(folder: Path, at: str) -> Path:
    """A clock that was set back may say the same minute twice."""
    path, count = folder / f"trapwatch-{at}.db", 1
    while path.exists():
        count += 1
        path = folder / f"trapwatch-{at}-{count}.db"
    return path


def last_of(told: Mapping[str, Any]) -> Last:
    """What the log's state says of the last backup."""
    since = told.get("since")
    counts = [int(told.get(name, 0)) for name in ("looks", "failures", "waited")]
    return Last(parse_iso_utc(since) if since else None, *counts)


def facts_of_last(last: Last) -> dict[str, Any]:
    """The inverse of `last_of`."""
    counts = {"looks": last.looks, "failures": last.failures, "waited": last.waited}
    return {"since": iso_utc(last.since) if last.since else None} | counts


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
