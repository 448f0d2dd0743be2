"""The backups of a station: where they lie, whose they are, and which is good."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from monitor.core.config import Settings, sqlite_path
from monitor.log.backup import verify_backup
from monitor.log.backup_facts import (
    BackupError,
    BackupFacts,
    backups_in,
    facts_of,
    number_of,
    station_of,
)
from monitor.log.engine import HEAD
from monitor.log.upgrading import FOLDER
from monitor.system.disk import MEGABYTE
from monitor.system.limited import Step, directly, limited

logger = logging.getLogger(__name__)

SECONDS, SECONDS_PER_MB = 60.0, 5.0
"""So long a step on the second disk may take; the slowest sticks write some 0.5 MB/s."""


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


def step_in(folder: Path, settings: Settings) -> Step:
    """How what may take long in this folder is done: with a limit of time in the second."""
    return limited(folder) if folder == settings.backup.second_folder else directly


def all_backups(settings: Settings) -> tuple[list[BackupFacts], list[str]]:
    """Every backup, whoever's, the last written first; and why some are not among them."""
    found: list[tuple[int, BackupFacts]] = []
    problems: list[str] = []
    for folder in folders_of(settings):
        try:
            facts, said = step_in(folder, settings)(_facts_in, folder)
        except OSError as error:
            facts, said = [], [f"{folder}: {error.strerror or error}"]
        found += facts
        problems += said
    found.sort(key=lambda one: (one[0], one[1].path.name), reverse=True)
    return [facts for _, facts in found], problems


def _facts_in(folder: Path) -> tuple[list[tuple[int, BackupFacts]], list[str]]:
    found, problems = [], []
    for path in backups_in(folder):
        try:
            found.append((number_of(path), facts_of(path)))
        except BackupError as error:
            problems.append(str(error))
    return found, problems


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
    found: list[tuple[int, Path]] = []
    for folder in folders_of(settings):
        try:
            step = step_in(folder, settings)
            found += step(lambda at=folder: [(number_of(p), p) for p in ours_in([at], own)])
        except OSError as error:
            logger.warning("backups in %s are passed over: %s", folder, error.strerror or error)
    return [path for _, path in sorted(found, key=lambda one: (one[0], one[1].name), reverse=True)]


def ours_in(folders: Sequence[Path], own: str | None) -> list[Path]:
    """As `own_backups`, of these folders."""
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
    step = step_in(path.parent, settings)
    facts: BackupFacts = step(verify_backup, path, seconds=patience_for(path))
    return facts


def patience_for(path: Path) -> float:
    """How many seconds a step with this backup may take on the second disk."""
    return SECONDS + SECONDS_PER_MB * path.stat().st_size / MEGABYTE
