"""What lies in a folder of backups: which of them there are, what each holds, whose it is."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor.log.engine import BUSY_SECONDS, LogError, choose_sqlite, in_words, is_damage
from monitor.log.integrity import MAGIC, header_of_backup

MOST_BACKUPS = 10_000_000
"""A number above this is no number of a backup: a user of SQLite may have set it."""
NAME = re.compile(
    r"trapwatch-(?:before-[0-9]{4}-)?([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{4}Z)(?:-[0-9]+)?\.db"
)
"""What is kept in a folder of backups; nothing else there is ever looked at or deleted."""


class BackupError(LogError):
    """A backup cannot be written, is not sound, or cannot be restored; the message says why."""


class NotSound(BackupError):
    """What was copied or kept is no whole log."""


class BackupStopped(BackupError):
    """The program is to end; the backup is made the next time."""


class NoRoom(BackupError):
    """The disk has no room for a log that is to be restored.

    Attributes:
        needed_bytes: must be free for it.
    """

    def __init__(self, message: str, needed_bytes: int = 0) -> None:
        super().__init__(message)
        self.needed_bytes = needed_bytes


@dataclass(frozen=True, slots=True)
class BackupFacts:
    """What a backup holds.

    Attributes:
        number: its place in the order of writing; 0 for one that was written by hand.
        revision: the revision of its tables.
        acts: how much people did, labels among it.
        newest_label_at: ISO 8601, UTC; None without any label.
        station: the mark of the station whose log it is; None: of an older release, without one.
    """

    path: Path
    number: int
    size_bytes: int
    revision: str
    media: int
    labels: int
    acts: int
    newest_label_at: str | None
    station: str | None = None


def facts_of(path: Path, *, is_live: bool = False) -> BackupFacts:
    """What a backup, or a log in use, says it holds; no further look is taken.

    Raises:
        NotSound: it is damaged.
        BackupError: it cannot be read.
    """
    module = choose_sqlite().module
    try:
        opened = connect(path, "mode=rw") if is_live else open_read_only(path)
        with closing(opened) as connection:
            one = _one(connection)
            return BackupFacts(
                path=path,
                number=_number(int(one("PRAGMA user_version"))),
                size_bytes=path.stat().st_size,
                revision=str(one("SELECT version_num FROM alembic_version")),
                media=int(one("SELECT count(*) FROM media")),
                labels=int(one("SELECT count(*) FROM label WHERE withdraws_id IS NULL")),
                acts=int(one("SELECT count(*) FROM act")),
                newest_label_at=one("SELECT max(at) FROM act WHERE kind = 'label'"),
                station=_mark(connection),
            )
    except (module.Error, OSError, ValueError, TypeError, KeyError) as error:
        kind = NotSound if is_damage(error) else BackupError
        raise kind(f"{path} cannot be read as a log: {reason(error)}") from error


def station_of(path: Path) -> str | None:
    """The mark of the station whose log or backup this is; None: it has none, or does not tell."""
    try:
        with closing(open_read_only(path)) as connection:
            return _mark(connection)
    except (choose_sqlite().module.Error, OSError, ValueError, TypeError, KeyError):
        return None


@dataclass(frozen=True, slots=True)
class Surplus:
    """What one log holds and another one lacks."""

    media: int
    acts: int
    versions: int

    def __bool__(self) -> bool:
        return bool(self.media or self.acts or self.versions)


def surplus(log: Path, other: Path) -> Surplus:
    """Count what `log` holds and `other` lacks. Both are opened, as logs that nobody else uses.

    Raises:
        BackupError: one of them is no species log.
    """
    try:
        with closing(connect(log, "mode=rw")) as connection:
            connection.execute("ATTACH ? AS other", (str(other),))
            one = _one(connection)
            return Surplus(*(int(one(sql)) for sql in SURPLUS))
    except (choose_sqlite().module.Error, UnicodeDecodeError) as error:
        raise BackupError(f"{log} cannot be compared with {other}: {reason(error)}") from error


SURPLUS = (
    "SELECT count(*) FROM media WHERE sha256 NOT IN (SELECT sha256 FROM other.media)",
    "SELECT count(*) FROM act AS a WHERE NOT EXISTS (SELECT 1 FROM other.act AS o WHERE "
    'o.id = a.id AND o.at = a.at AND o.kind = a.kind AND o."by" = a."by")',
    "SELECT count(*) FROM model_version WHERE name NOT IN (SELECT name FROM other.model_version)",
)


def next_number(backups: Iterable[Path]) -> int:
    """One more than the highest number of these backups."""
    return 1 + max((number_of(path) for path in backups), default=0)


def backups_in(*folders: Path) -> list[Path]:
    """The backups in these folders by their names, the last written first; none is opened."""
    found = []
    for folder in folders:
        with suppress(OSError):
            found += [path for path in folder.iterdir() if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: (number_of(path), path.name), reverse=True)


def number_of(backup: Path) -> int:
    """The place of a backup in the order of writing, from its header; 0 if it has none."""
    try:
        header = header_of_backup(backup)
    except OSError:
        return 0
    return _number(int.from_bytes(header[60:64], "big") if header.startswith(MAGIC) else 0)


def _number(user_version: int) -> int:
    return user_version if 0 <= user_version <= MOST_BACKUPS else 0


def connect(path: Path, how: str) -> Any:
    """A connection of the database driver; `how`: the parameters of SQLite's URI."""
    uri = f"{path.absolute().as_uri()}?{how}"
    return choose_sqlite().module.connect(
        uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def open_read_only(path: Path) -> Any:
    """A backup is one file that nobody writes; a log that was set aside may have a journal, too."""
    journals = [Path(f"{path}{suffix}") for suffix in ("-wal", "-journal")]
    has_journal = any(journal.exists() and journal.stat().st_size for journal in journals)
    return connect(path, "mode=ro" if has_journal else "mode=ro&immutable=1")


def _mark(connection: Any) -> str | None:
    """See `LearningQueries.identity`."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'state'").fetchone():
        return None
    row = connection.execute("SELECT value FROM state WHERE key = 'identity'").fetchone()
    return str(json.loads(row[0])["id"]) if row else None


def _one(connection: Any) -> Callable[[str], Any]:
    return lambda sql: connection.execute(sql).fetchone()[0]


def reason(error: Exception) -> str:
    """An error of the system or the database driver in words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return in_words(error)


def is_for_want_of_room(error: BaseException) -> bool:
    """True if a disk or a quota had no room for what was to be written."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "disk is full" in str(error)
