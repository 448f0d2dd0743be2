"""Which files of the station others than its own user and group may read, or write."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from monitor.core.config import Settings, sqlite_path
from monitor.recovery.backup_places import folders_of, step_in
from monitor.recovery.journal_places import journal_paths, step_for
from monitor.review.features import FEATURES_FILE
from monitor.system.limited import Hangs

MODE = 0o640
"""Of the config and the log: to write for the station's user, to read for its group."""
FOLDER_MODE, SECRET_MODE = 0o750, 0o600
ACCOUNTS = "accounts.json"
TOO_MUCH = 0o027
"""In folders of many files: to write for the group, or anything for others."""


@dataclass(frozen=True, slots=True)
class TooOpen:
    """A file that allows too much, or all of a folder, and the command that closes it."""

    finding: str
    command: str


def too_open(settings: Settings) -> list[TooOpen]:
    """Files and folders of the station that are open to more than its user and group. What does
    not answer is left out."""
    found = []
    for path, most in _named(settings).items():
        with suppress(Hangs):
            found += step_for(path, settings)(_look, path, most)
    for folder in (settings.models.directory, *folders_of(settings)):
        with suppress(Hangs):
            found += step_in(folder, settings)(_look_into, folder)
    return found


def _look_into(folder: Path) -> list[TooOpen]:
    inside = [path for path in _all_in(folder) if (_mode(path) or 0) & TOO_MUCH]
    if not inside:
        return []
    finding = f"{folder}: others may use {len(inside)} files or folders, as {inside[0]}"
    return [TooOpen(finding, f"chmod -R g-w,o= {shlex.quote(str(folder))}")]


def _look(path: Path, most: int) -> list[TooOpen]:
    mode = _mode(path)
    if mode is None or not mode & ~most:
        return []
    finding = f"{path}: mode {mode:04o}, it should be {mode & most:04o}"
    return [TooOpen(finding, f"chmod {mode & most:04o} {shlex.quote(str(path))}")]


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:  # not there, or gone meanwhile
        return None


def _named(settings: Settings) -> dict[Path, int]:
    """Single files and folders, and the most that each may allow."""
    data, log = settings.data_directory, sqlite_path(settings.database.url)
    found = {settings.source: MODE} if settings.source is not None else {}
    found[data] = FOLDER_MODE
    for path in _files_in(data):  # what SQLite keeps beside a log, and logs that were set aside
        if path.name.startswith((log.name, FEATURES_FILE)):
            found[path] = MODE
    found |= dict.fromkeys(journal_paths(settings), MODE)
    return found | {data / ACCOUNTS: SECRET_MODE}


def _files_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:
        return []


def _all_in(folder: Path) -> Iterator[Path]:
    """The folder and all below it; what cannot be looked into is left out."""
    yield folder
    for above, folders, files in os.walk(folder):
        yield from (Path(above, name) for name in sorted(folders + files))
