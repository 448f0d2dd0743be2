"""Figures of disks that the work does not need: a stick, a share, which may never answer.

Each is looked at in a thread that can be left to itself, and whoever asks waits a moment at most.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from monitor.core.domain import TrapwatchError

ANSWER_SECONDS = 2.0
"""A disk that sleeps or is busy may take so long; the work waits no longer for it."""

StatVfs = Callable[[Path], os.statvfs_result]


class DoesNotAnswer(TrapwatchError):
    """A disk has not answered in time.

    Attributes:
        seconds: for so long.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__(f"{path} has not answered for {seconds:.0f} s")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Figures:
    """Of the file system on which a folder lies; `device` is the system's number of it."""

    device: int
    facts: os.statvfs_result


def figures_of(path: Path, statvfs: StatVfs) -> Figures:
    """Of the folder itself, or the nearest one above it that is there. May hang."""
    folder = next((one for one in (path, *path.parents) if one.exists()), Path("/"))
    return Figures(folder.stat().st_dev, statvfs(folder))


class _Look(threading.Thread):
    def __init__(self, path: Path, statvfs: StatVfs) -> None:
        super().__init__(name=f"disk of {path}", daemon=True)
        self._path, self._statvfs = path, statvfs
        self.since = time.monotonic()
        self.found: Figures | OSError | None = None

    def run(self) -> None:
        try:
            self.found = figures_of(self._path, self._statvfs)
        except OSError as error:
            self.found = error


_lock = threading.Lock()
_hanging: dict[Path, _Look] = {}
"""Of each disk at most one look in a process, however many ask."""


def ask(path: Path, statvfs: StatVfs, seconds: float = ANSWER_SECONDS) -> Figures:
    """The figures, as `figures_of`.

    Args:
        seconds: how long a look may take. Only the first who asks waits: where a look hangs
            already, nobody waits for it again.

    Raises:
        DoesNotAnswer: within that time.
        OSError: it cannot be looked at.
    """
    with _lock:
        look = _hanging.get(path)
        if look is None:
            look = _hanging[path] = _Look(path, statvfs)
            look.start()
    look.join(max(0.0, look.since + seconds - time.monotonic()))
    if look.is_alive():
        raise DoesNotAnswer(path, time.monotonic() - look.since)
    with _lock:
        if _hanging.get(path) is look:
            del _hanging[path]
    if isinstance(look.found, OSError):
        raise look.found
    assert look.found is not None, "it has ended"
    return look.found
