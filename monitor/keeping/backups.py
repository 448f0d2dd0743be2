"""The backups of a station: where they go, whose they are, and what makes room for them."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from monitor.config import Settings, sqlite_path
from monitor.config.station import Backup as Rules
from monitor.keeping.backup_schedule import ALWAYS_KEPT, day_of, to_drop
from monitor.keeping.limited import limited
from monitor.log.backup import stamp, sweep, verify_backup, write_backup
from monitor.log.backup_facts import (
    BackupError,
    BackupFacts,
    backups_in,
    facts_of,
    next_number,
    number_of,
    station_of,
)
from monitor.log.engine import HEAD
from monitor.log.restore import try_out
from monitor.log.upgrading import FOLDER

logger = logging.getLogger(__name__)

STATE = "backup"
ROOM = 2
"""So many times the size of the log must be free."""
MEGABYTE = 1_000_000
MARGIN = 1.1
"""A backup leaves so many times `disk.stop_mb` free: it never makes the station rest."""
SECONDS, SECONDS_PER_MB = 60.0, 5.0
"""So long a step on the second disk may take; the slowest sticks write some 0.5 MB/s."""

IsEnding = Callable[[], bool]


def folder_of(settings: Settings) -> Path:
    """Where backups are written first."""
    return settings.backup.folder or settings.data_directory / FOLDER


def first_folders(settings: Settings) -> list[Path]:
    """Where backups are written first, and where upgrades leave theirs."""
    return list(dict.fromkeys((folder_of(settings), settings.data_directory / FOLDER)))


def folders_of(settings: Settings) -> list[Path]:
    """Where backups lie; the second folder, which may be on a disk that hangs, comes last."""
    second = settings.backup.second_folder
    return first_folders(settings) + ([second] if second is not None else [])


def mark_of(settings: Settings) -> str | None:
    """The mark of this station: what its log says or, where that is broken, the newest backup in
    its own folders that has one."""
    own = station_of(sqlite_path(settings.database.url))
    folders = first_folders(settings)
    return own or next((mark for p in backups_in(*folders) if (mark := station_of(p))), None)


def own_backups(settings: Settings, own: str | None) -> list[Path]:
    """The backups of the station with this mark, the last written first.

    Those that another station left, on a stick that went from one to the other, are not among them;
    those of older releases, which have no mark, are.
    """
    found = [(number_of(p), p) for p in _ours(first_folders(settings), own)]
    if (second := settings.backup.second_folder) is not None:
        try:
            found += limited(second)(lambda: [(number_of(p), p) for p in _ours([second], own)])
        except OSError as error:
            logger.warning("backups in %s are passed over: %s", second, error.strerror or error)
    return [path for _, path in sorted(found, key=lambda one: (one[0], one[1].name), reverse=True)]


def _ours(folders: Sequence[Path], own: str | None) -> list[Path]:
    ours = []
    for path in backups_in(*folders):
        mark = station_of(path)
        if mark in (own, None):
            ours.append(path)
        else:
            logger.info("%s is another station's (mark %s)", path, mark)
    return ours


def newest_good(settings: Settings, own: str | None) -> Path | None:
    """The last written backup of the station with this mark that is whole and that this program can
    restore."""
    for path in own_backups(settings, own):
        try:
            facts = _verified(path, settings)
        except (BackupError, OSError) as error:
            logger.warning("passed over: %s", error)
            continue
        if facts.revision <= HEAD:
            return path
        logger.warning("passed over: %s was written by a newer trapwatch", path)
    return None


def _verified(path: Path, settings: Settings) -> BackupFacts:
    second = settings.backup.second_folder
    if second is None or path.parent != second:
        return verify_backup(path)
    facts: BackupFacts = limited(second)(verify_backup, path, seconds=_patience(path))
    return facts


def _patience(path: Path) -> float:
    return SECONDS + SECONDS_PER_MB * path.stat().st_size / MEGABYTE


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
        ours = _ours(first_folders(settings), own)
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
    ours = [path for path in _ours([folder], own) if day_of(path.name) is not None]
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
            seconds=_patience(facts.path),
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
    number = max(facts.number, next_number(_ours([second], facts.station)))
    target = _free_name(second, facts.path.stem)  # another station may have copied this minute
    write_backup(facts.path, target, number=number, is_ending=is_ending)
    _rotate(second, rules, facts.station)
    return number


def _rotate(folder: Path, rules: Rules, own: str | None) -> None:
    found = [(number_of(path), path.name) for path in _ours([folder], own)]
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
