"""Events of the file system as hints, through watchdog: where to look now.

Nothing here is relied on: a lost event, a dead emitter, a full inotify table or a remounted
folder costs only time, because the reconcile scan of `watch` finds the file anyway.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

logger = logging.getLogger(__name__)

EVENTS = (
    FileClosedEvent,
    FileMovedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    DirCreatedEvent,
    DirMovedEvent,
)
QUEUE_LENGTH = 20_000
CHECK_SECONDS = 2.0
LIMIT_CHECK_SECONDS = 300.0
JOIN_SECONDS = 5.0
Identity = tuple[int, int]  # device and inode
NO_INOTIFY = (errno.ENOSPC, errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, slots=True)
class Hint:
    """Something happened at `path`. `is_complete`: the file was closed, or renamed into place."""

    folder: Path
    path: bytes
    is_folder: bool = False
    is_complete: bool = False


class _Handler(FileSystemEventHandler):
    """Turns the events below the real path of a folder into hints below its configured path."""

    def __init__(self, folder: Path, real: str, heard: Callable[[Hint], None]) -> None:
        self._folder, self._heard = folder, heard
        self._prefix, self._real_length = os.fsencode(folder), len(os.fsencode(real))

    def on_any_event(self, event: FileSystemEvent) -> None:
        if isinstance(event, FileMovedEvent | DirMovedEvent):
            path = event.dest_path
        elif isinstance(event, EVENTS):
            path = event.src_path
        else:
            return
        is_folder = isinstance(event, DirCreatedEvent | DirMovedEvent)
        is_complete = isinstance(event, FileClosedEvent | FileMovedEvent)
        self._heard(Hint(self._folder, self._at(path), is_folder, is_complete))

    def _at(self, path: bytes | str) -> bytes:
        return self._prefix + os.fsencode(path)[self._real_length :]


class Hints:
    """Listens to the folders that are there, and takes up again those that come back.

    Attributes:
        lost: True once hints were dropped; set back by whoever scans everything.
        complete: set when a file was closed or renamed into place, for whoever takes files in.
    """

    def __init__(self, folders: Sequence[Path], *, enabled: bool) -> None:
        self._folders = folders
        self._enabled = enabled
        self._queue: queue.Queue[Hint] = queue.Queue(QUEUE_LENGTH)
        self._observers: dict[Path, Any] = {}
        self._identities: dict[Path, Identity | None] = {}
        self._told: dict[Path, str] = {}
        self._checked: float | None = None
        self._limit_checked: float | None = None
        self.lost = False
        self.complete = threading.Event()

    def take(self, limit: int) -> list[Hint]:
        """The hints that came since the last call."""
        hints: list[Hint] = []
        while len(hints) < limit:
            try:
                hints.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return hints

    def waiting(self) -> bool:
        """True if a hint is there to be taken."""
        return not self._queue.empty()

    def listening(self) -> bool:
        """True when events come from every folder that is there."""
        return self._enabled and all(
            folder in self._observers or self._identities.get(folder) is None
            for folder in self._folders
        )

    def keep_alive(self, now: float) -> bool:
        """Start what does not listen but should. True if something came (back) or had to be
        taken up again, so that everything in it should be scanned."""
        if self._checked is not None and now - self._checked < CHECK_SECONDS:
            return False
        first, self._checked = self._checked is None, now
        changed = False
        for folder in self._folders:
            changed |= self._look_at(folder)
            if self._identities[folder] is not None and self._enabled and not self._is_well(folder):
                self._drop(folder)
                changed |= self._listen(folder)
        self._look_at_limit(now)
        return changed and not first

    def close(self) -> None:
        """End every observer thread."""
        for folder in list(self._observers):
            self._drop(folder)

    def _hear(self, hint: Hint) -> None:
        try:
            self._queue.put_nowait(hint)
        except queue.Full:  # the reconcile scan finds it
            self.lost = True
        if hint.is_complete:
            self.complete.set()

    def _look_at(self, folder: Path) -> bool:
        """Note whether the folder is there and still the same; True if it came or was replaced."""
        before, known = self._identities.get(folder), folder in self._identities
        now = self._identities[folder] = _identity(folder)
        if now == before and known:
            return False
        if now != before:
            self._drop(folder)
        if now is None:
            logger.warning(
                "watched folder %s is not there (unmounted?); nothing is taken as lost, "
                "it is taken up when it comes back",
                folder,
            )
        elif known and before is None:
            logger.info("watched folder %s is there again", folder)
        elif known:
            logger.warning(
                "watched folder %s is another one now (unmounted, mounted or made anew); "
                "nothing is taken as lost, it is scanned again",
                folder,
            )
        return now is not None

    def _is_well(self, folder: Path) -> bool:
        observer = self._observers.get(folder)
        if observer is None:
            return False
        reader = getattr(observer, "_inotify_fd", None)  # a thread of its own in watchdog 7
        threads = [observer, *observer.emitters, *([reader] if reader is not None else [])]
        if observer.emitters and all(thread.is_alive() for thread in threads):
            self._told.pop(folder, None)
            return True
        self._tell_once(folder, f"the event thread of {folder} has died; it is started again")
        return False

    def _listen(self, folder: Path) -> bool:
        real = os.path.realpath(folder)  # inotify does not follow a folder that is a link
        try:
            self._observers[folder] = _observe(_Handler(folder, real, self._hear), real)
        except OSError as error:
            if error.errno in NO_INOTIFY:
                self._give_up(error)
            else:
                self._tell_once(folder, f"{folder}: no events ({error}); scanning it, trying again")
            return False
        return True

    def _look_at_limit(self, now: float) -> None:
        """When the system's limit is reached, watchdog passes over the folders it cannot watch
        and says nothing: so see from time to time whether one more could be."""
        recent = self._limit_checked is not None and now - self._limit_checked < LIMIT_CHECK_SECONDS
        if recent or not self._enabled or not self._observers:
            return
        self._limit_checked = now
        try:
            real = os.path.realpath(next(iter(self._observers)))
            _end(_observe(FileSystemEventHandler(), real, recursive=False))
        except OSError as error:
            if error.errno in NO_INOTIFY:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._enabled = False
        limit = (
            "max_user_watches=524288" if error.errno == errno.ENOSPC else "max_user_instances=512"
        )
        logger.warning(
            "the system's limit of watched folders is reached (%s): the folders are scanned every "
            "few seconds instead. To raise it: sysctl fs.inotify.%s, then start trapwatch again",
            error.strerror,
            limit,
        )

    def _tell_once(self, folder: Path, message: str) -> None:
        if self._told.get(folder) != message:
            self._told[folder] = message
            logger.warning("%s", message)

    def _drop(self, folder: Path) -> None:
        observer = self._observers.pop(folder, None)
        if observer is not None:
            _end(observer)


def _observe(handler: FileSystemEventHandler, path: str, *, recursive: bool = True) -> Any:
    """A started observer. Raises OSError, with nothing left running."""
    observer = Observer()
    try:
        observer.schedule(handler, path, recursive=recursive, event_filter=list(EVENTS))
        observer.start()
    except BaseException:
        _end(observer)
        raise
    return observer


def _end(observer: Any) -> None:
    observer.unschedule_all()
    observer.stop()  # of one that never started, too: it holds an inotify instance
    if observer.is_alive():
        observer.join(JOIN_SECONDS)


def _identity(folder: Path) -> Identity | None:
    try:
        facts = os.stat(folder)
    except OSError:
        return None
    return (facts.st_dev, facts.st_ino)
