"""Which files of the station others than its own user and group may read, or write."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from monitor.config import Settings, sqlite_path
from monitor.keeping.label_journal import journal_paths

MODE = 0o640
"""Of the config and the log: to write for the station's user, to read for its group."""


def too_open(settings: Settings) -> list[tuple[Path, int]]:
    """Files that allow more than `MODE`, each with its mode."""
    found = []
    for path in dict.fromkeys(_files(settings)):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:  # not there, or gone meanwhile
            continue
        if mode & ~MODE:
            found.append((path, mode))
    return found


def _files(settings: Settings) -> Iterator[Path]:
    if settings.source is not None:
        yield settings.source
    log = sqlite_path(settings.database.url)
    if log.parent.is_dir():  # what SQLite keeps beside it, and logs that were set aside
        beside = (path for path in log.parent.iterdir() if path.name.startswith(log.name))
        yield from sorted(path for path in beside if path.is_file())
    yield from journal_paths(settings)
