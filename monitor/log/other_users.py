"""Who keeps a log busy: SQLite waits for other processes, and tells no names.

The system does: Linux lists every lock with the process that holds it (proc_locks(5)). Which bytes
SQLite locks is part of its file formats (sqlite.org/walformat.html, 2.3.1, and
sqlite.org/lockingv3.html), so other programs, a database browser for one, lock the same ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LOCKS = Path("/proc/locks")
WRITE_BYTES = range(120, 121)
"""In the `-shm` file, of a log with a write-ahead log …"""
RESERVED_BYTES = range(0x40000001, 0x40000002)
"""… and in the log itself, of one without."""
READ_BYTES = range(123, 128)
END_OF_FILE = "EOF"


@dataclass(frozen=True, slots=True)
class User:
    """A process that holds a lock. `name` is the system's word for it, or empty."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"process {self.pid}{f' ({self.name})' if self.name else ''}"


def writer_of(log: Path) -> User | None:
    """Who holds the write lock of the log at this moment; None: nobody, or it cannot be known
    (another system, another namespace of processes)."""
    places = ((_shared_memory(log), WRITE_BYTES), (log, RESERVED_BYTES))
    found = (user for path, span in places for user in _users(path, "WRITE", span))
    return next(found, None)


def readers_of(log: Path) -> list[User]:
    """Who reads from the log at this moment and so keeps its write-ahead log from being emptied."""
    return list(dict.fromkeys(_users(_shared_memory(log), "READ", READ_BYTES)))


def _shared_memory(log: Path) -> Path:
    return log.with_name(f"{log.name}-shm")


def _users(path: Path, kind: str, looked_for: range) -> Iterator[User]:
    """Who holds a lock of that kind on one of those bytes; not who waits for one."""
    try:
        found = path.stat()
        lines = LOCKS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return
    number = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for line in lines:
        words = line.split()
        if len(words) != 8 or words[1] not in ("POSIX", "OFDLCK"):
            continue
        if words[3] != kind or words[5] != number or not words[4].isdecimal():
            continue
        first, last = int(words[6]), None if words[7] == END_OF_FILE else int(words[7])
        if first < looked_for.stop and (last is None or last >= looked_for.start):
            yield User(int(words[4]), _name_of(int(words[4])))


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
