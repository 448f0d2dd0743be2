"""One owner at a time: of a station's log, and of training."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from monitor.core.domain import TrapwatchError, iso_utc, parse_iso_utc
from monitor.system.files import make_folder

LOCK_NAME = "trapwatch.lock"
"""Held by the one service of a station; lies beside the log."""
TRAINING_LOCK_NAME = "training.lock"
"""Held by the one process that trains."""
PATIENCE_SECONDS = 0.5
"""`is_held` takes a lock for an instant; whoever wants it just then is not turned away by that."""


class Busy(TrapwatchError):
    """Another process holds the lock; the message names it."""


class OwnerLock:
    """A lock file that the system lets go when its process ends, however it ends.

    Args:
        path: the lock file; `PATH.owner` beside it says who holds it.
        what: what is owned, for the message ("the log …").
    """

    def __init__(self, path: Path, what: str, now: datetime) -> None:
        self._lock = FileLock(path, timeout=PATIENCE_SECONDS)
        self._owner = path.with_name(path.name + ".owner")
        self._what, self._now = what, now

    def __enter__(self) -> Self:
        """Take the lock. Raises Busy."""
        make_folder(Path(self._lock.lock_file).parent)
        try:
            self._lock.acquire()
        except Timeout:
            raise Busy(f"{self._what} is in use by {self._describe_owner()}") from None
        owner = {"pid": os.getpid(), "since": iso_utc(self._now)}
        with suppress(OSError):  # a full disk; the lock itself needs no room
            self._owner.write_text(json.dumps(owner), encoding="utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._owner.unlink(missing_ok=True)
        self._lock.release()

    def _describe_owner(self) -> str:
        try:
            owner = json.loads(self._owner.read_text(encoding="utf-8"))
            return f"process {owner['pid']} (since {owner['since']})"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"


def held_since(path: Path) -> datetime | None:
    """When the process that holds the lock at `path` took it; None if nobody does, or it could
    not be written."""
    try:
        owner = json.loads(path.with_name(path.name + ".owner").read_text(encoding="utf-8"))
        return parse_iso_utc(owner["since"]) if is_held(path) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_held(path: Path) -> bool:
    """True while some process holds the lock at `path`. Needs no right to write there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)  # lets the lock go, too
    return False
