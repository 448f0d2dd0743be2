"""Who keeps a log to itself: SQLite lets one process write at a time, and tells no name.

The system does: Linux lists every lock with the process that holds it (proc_locks(5)). Which bytes
SQLite locks for writing is part of its file formats (sqlite.org/walformat.html, 2.3.1, and
sqlite.org/lockingv3.html), so other programs, a database browser for one, lock the same ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LOCKS = Path("/proc/locks")
WAL_WRITE_BYTE = 120
"""In the `-shm` file, of a log with a write-ahead log …"""
RESERVED_BYTE = 0x40000000 + 1
"""… and in the log itself, of one without."""
END_OF_FILE = "EOF"


@dataclass(frozen=True, slots=True)
class Writer:
    """A process that holds the write lock. `name` is the system's word for it, or empty."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"process {self.pid}{f' ({self.name})' if self.name else ''}"


def writer_of(log: Path) -> Writer | None:
    """Who holds the write lock of the log at this moment; None: nobody, or it cannot be known
    (another system, another user's namespace)."""
    shared_memory = log.with_name(f"{log.name}-shm")
    looked_for = {
        number: byte
        for path, byte in ((shared_memory, WAL_WRITE_BYTE), (log, RESERVED_BYTE))
        if (number := _number_of(path)) is not None
    }
    for pid, number, first, last in _write_locks():
        if pid > 0 and first <= looked_for.get(number, -1) <= last:
            return Writer(pid, _name_of(pid))
    return None


def _number_of(path: Path) -> str | None:
    """Of a file, as the list of locks names it: major:minor:inode."""
    try:
        found = path.stat()
    except OSError:
        return None
    return f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"


def _write_locks() -> Iterator[tuple[int, str, int, int]]:
    """Process, file, first and last byte of each lock for writing that is held, not waited for."""
    try:
        lines = LOCKS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        words = line.split()
        if len(words) == 8 and words[1] in ("POSIX", "OFDLCK") and words[3] == "WRITE":
            last = int(words[7]) if words[7] != END_OF_FILE else 1 << 63
            yield int(words[4]), words[5], int(words[6]), last


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
