"""Are the files that this program has open as its log still the ones on the disk?

Another program may delete or replace them at any time: a person who moves files, a program that
synchronises folders, a cleaner of disks. SQLite does not notice. It goes on writing into files
that no longer have a name, and a new connection would mix them with those that have one
(sqlite.org/howtocorrupt.html, 2.4 and 2.5). So each transaction asks before it begins and before
it commits: what was acknowledged is in the files that everybody sees.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from pathlib import Path

Identity = tuple[int, int]
"""Device and inode."""


class OpenFiles:
    """The log's file and its write-ahead log, as the first connection of an engine opened them.

    Args:
        log: the path of the log; SQLite follows links, and keeps side files beside what they name.
    """

    def __init__(self, log: Path) -> None:
        self.log = Path(os.path.realpath(log))
        self._wal = self.log.with_name(f"{self.log.name}-wal")
        self._opened: dict[Path, Identity] = {}
        self._connections = 0
        self._lock = threading.Lock()

    def connected(self) -> None:
        """Note one more connection that has read from the log."""
        with self._lock:
            self._connections += 1
            if self._connections == 1:
                found = {path: identity_of(path) for path in (self.log, self._wal)}
                self._opened = {path: one for path, one in found.items() if one is not None}
                _open_here.update(self._opened.values())

    def disconnected(self) -> None:
        """Note one connection less. SQLite deletes the write-ahead log after the last one."""
        with self._lock:
            self._connections -= 1
            if self._connections == 0:
                _open_here.subtract(self._opened.values())
                self._opened = {}

    def replaced(self) -> str | None:
        """Say which file was deleted or replaced since it was opened; None: all are in place, or
        nobody can tell."""
        for path, opened in self._opened.copy().items():
            try:
                found = identity_of(path)
            except OSError:
                continue
            if found != opened:
                return f"{path} was {'deleted' if found is None else 'replaced'} by another program"
        return None

    def side_files_of_another_log(self) -> list[Path]:
        """List our -wal and -shm, where they lie beside a log that is not ours: whoever opens that
        log would mix them."""
        opened = self._opened
        if self.log not in opened or identity_of(self.log) == opened[self.log]:
            return []
        if self._wal not in opened or identity_of(self._wal) != opened[self._wal]:
            return []
        shared_memory = self.log.with_name(f"{self.log.name}-shm")
        return [path for path in (self._wal, shared_memory) if path.exists()]


_open_here: Counter[Identity] = Counter()
"""The files that this process has open through SQLite -> by how many engines."""


def is_open_here(path: Path) -> bool:
    """Whether this process has the file open through SQLite. Raises OSError."""
    return _open_here[identity_of(path) or (0, 0)] > 0


def identity_of(path: Path) -> Identity | None:
    """Return device and inode of a file; None: it is not there. Raises OSError."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
