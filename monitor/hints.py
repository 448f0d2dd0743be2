"""Events of the file system as hints, through watchdog: where to look now.

Nothing here is relied on: a lost event, a dead emitter, a full inotify table or a remounted
folder costs only time, because the reconcile scan of `watch` finds the file anyway.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import queue
from collections.abc import Sequence
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
JOIN_SECONDS = 5.0
NO_INOTIFY = (errno.ENOSPC, errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, slots=True)
class Hint:
    """Something happened at `path`. `is_complete`: the file was closed, or renamed into place."""

    folder: Path
    path: bytes
    is_folder: bool = False
    is_complete: bool = False


class _Handler(FileSystemEventHandler):
    def __init__(self, folder: Path, hints: queue.Queue[Hint]) -> None:
        self._folder, self._hints = folder, hints

    def on_any_event(self, event: FileSystemEvent) -> None:
        hint = self._hint(event)
        if hint is not None:
            with contextlib.suppress(queue.Full):  # the reconcile scan finds it
                self._hints.put_nowait(hint)

    def _hint(self, event: FileSystemEvent) -> Hint | None:
        if isinstance(event, FileClosedEvent):
            return Hint(self._folder, os.fsencode(event.src_path), is_complete=True)
        if isinstance(event, FileMovedEvent):
            return Hint(self._folder, os.fsencode(event.dest_path), is_complete=True)
        if isinstance(event, FileCreatedEvent | FileModifiedEvent):
            return Hint(self._folder, os.fsencode(event.src_path))
        if isinstance(event, DirCreatedEvent):
            return Hint(self._folder, os.fsencode(event.src_path), is_folder=True)
        if isinstance(event, DirMovedEvent):
            return Hint(self._folder, os.fsencode(event.dest_path), is_folder=True)
        return None


class Hints:
    """Listens to the folders that are there, and takes up again those that come back."""

    def __init__(self, folders: Sequence[Path], *, enabled: bool) -> None:
        self._folders = folders
        self._enabled = enabled
        self._queue: queue.Queue[Hint] = queue.Queue(QUEUE_LENGTH)
        self._observers: dict[Path, tuple[Any, tuple[int, int]]] = {}
        self._missing: set[Path] = set()
        self._checked: float | None = None

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
            folder in self._observers or folder in self._missing for folder in self._folders
        )

    def keep_alive(self, now: float) -> bool:
        """Start what does not listen but should. True if something had to be taken up (again),
        so that everything in it should be scanned."""
        if self._checked is not None and now - self._checked < CHECK_SECONDS:
            return False
        first, self._checked = self._checked is None, now
        taken_up = False
        for folder in self._folders:
            identity = _identity(folder)
            self._note_missing(folder, identity)
            if identity is None:
                self._drop(folder)
            elif self._enabled and not self._is_well(folder, identity):
                self._drop(folder)
                taken_up |= self._listen(folder, identity)
        return taken_up and not first

    def close(self) -> None:
        """End every observer thread."""
        for folder in list(self._observers):
            self._drop(folder)

    def _note_missing(self, folder: Path, identity: tuple[int, int] | None) -> None:
        if identity is None and folder not in self._missing:
            logger.warning(
                "watched folder %s is not there (unmounted?); nothing is taken as lost, "
                "it is taken up when it comes back",
                folder,
            )
            self._missing.add(folder)
        elif identity is not None and folder in self._missing:
            logger.info("watched folder %s is there again", folder)
            self._missing.discard(folder)

    def _is_well(self, folder: Path, identity: tuple[int, int]) -> bool:
        if folder not in self._observers:
            return False
        observer, before = self._observers[folder]
        if before != identity:
            logger.info("watched folder %s was mounted or made anew", folder)
            return False
        alive = observer.is_alive() and all(e.is_alive() for e in observer.emitters)
        if not alive:
            logger.warning("the event thread of %s has died; it is started again", folder)
        return bool(alive)

    def _listen(self, folder: Path, identity: tuple[int, int]) -> bool:
        observer = Observer()
        try:
            handler = _Handler(folder, self._queue)
            observer.schedule(handler, os.fspath(folder), recursive=True, event_filter=list(EVENTS))
            observer.start()
        except OSError as error:
            observer.unschedule_all()
            if error.errno not in NO_INOTIFY:
                logger.warning("%s: no events (%s); trying again", folder, error)
                return False
            logger.warning(
                "%s: the system's limit of watched folders is reached (%s); scanning instead of "
                "waiting for events. To raise it: sysctl fs.inotify.max_user_watches=524288",
                folder,
                error.strerror,
            )
            self._enabled = False
            return False
        self._observers[folder] = (observer, identity)
        return True

    def _drop(self, folder: Path) -> None:
        observer, _ = self._observers.pop(folder, (None, None))
        if observer is not None:
            observer.unschedule_all()
            observer.stop()
            if observer.is_alive():
                observer.join(JOIN_SECONDS)


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        facts = os.stat(folder)
    except OSError:
        return None
    return (facts.st_dev, facts.st_ino)
