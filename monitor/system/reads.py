"""Reads that may never come back: each waits in a thread that can be left to itself.

A network share that is gone, or a dying card, holds whoever reads from it for minutes or for ever,
and no program can break that off. So whoever must go on reads through here.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from monitor.core.domain import shown_path
from monitor.system.limited import Hangs
from monitor.system.reading import Content, read_content

logger = logging.getLogger(__name__)

READ_SECONDS = 60.0
"""256 MB, the largest file that is read, come in that time over 40 Mbit/s."""
MOST_STUCK = 2
"""So many reads may hang in one folder; then nothing more of it is tried until one comes back, or
until the folder, mounted anew, answers somebody who has never waited for it."""
PROBE_SECONDS = 30.0
"""So often one of those files is read anew."""
MOST_LEFT = 8
"""So many threads may be left hanging in one folder, whatever it was mounted as meanwhile."""


class _Probe(threading.Thread):
    """Reads a file that hangs, for the first time."""

    def __init__(self, folder: Path, read: Callable[[], object], answers: Callable[[], None]):
        super().__init__(name="probe", daemon=True)
        self._read, self._answers = read, answers
        self.mount, self.began = mount_of(folder), time.monotonic()

    def run(self) -> None:
        with suppress(OSError):  # an error is an answer, too
            self._read()
        self._answers()


@dataclass(frozen=True, slots=True)
class _Stuck:
    folder: Path
    path: bytes
    since: float  # monotonic seconds


class Patience:
    """Reads files below the watched folders with a limit of time; safe to share between threads.

    Args:
        folders: the watched ones; a file elsewhere is read without a limit.
        seconds: of one read; READ_SECONDS where nothing is said.
        read: how a file is read; `reading.read_content` where nothing is said.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        seconds: float | None = None,
        read: Callable[[bytes], Content] | None = None,
    ) -> None:
        self._folders = [(folder, os.path.join(os.fsencode(folder), b"")) for folder in folders]
        self._seconds, self._read = seconds or READ_SECONDS, read or read_content
        self._own = threading.local()
        self._lock = threading.Lock()
        self._readers: set[_Reader] = set()
        self._stuck: dict[_Reader, _Stuck] = {}
        self._left: dict[Path, list[threading.Thread]] = {}  # to themselves
        self._probes: dict[Path, _Probe] = {}

    def read(self, path: bytes) -> Content:
        """The file's content.

        Raises:
            Hangs: it did not come in time, or others of its folder hang already.
            OSError: it cannot be read, as from `reading.read_content`.
        """
        folder = next((f for f, start in self._folders if path.startswith(start)), None)
        if folder is None:
            return self._read(path)
        if self._is_hopeless(folder, path):
            self._look_anew(folder)
            raise Hangs(errno.ETIMEDOUT, f"{folder} does not answer")
        reader = self._reader()
        promise, since = reader.ask(path), time.monotonic()
        try:
            return promise.result(self._seconds)
        except TimeoutError:
            if promise.done():  # in time after all, or an answer of the share itself
                return promise.result()
            self._give_up(reader, _Stuck(folder, path, since))
            raise Hangs(errno.ETIMEDOUT, f"no answer within {self._seconds:.0f} s") from None

    def stuck(self) -> dict[Path, str]:
        """Folder -> in words what hangs there."""
        now = time.monotonic()
        with self._lock:
            stuck = list(self._stuck.values())
        return {
            one.folder: f"reading {shown_path(one.path)} hangs for {now - one.since:.0f} s; its "
            "frames wait, the others go on"
            for one in stuck
        }

    def close(self) -> None:
        """Let the threads end; those that hang are left to themselves."""
        with self._lock:
            readers = list(self._readers)
        for reader in readers:
            reader.end()

    def _is_hopeless(self, folder: Path, path: bytes) -> bool:
        with self._lock:
            here = [one.path for one in self._stuck.values() if one.folder == folder]
        return path in here or len(here) >= MOST_STUCK

    def _look_anew(self, folder: Path) -> None:
        """See whether a folder with reads that hang answers now. Returns at once."""
        with self._lock:
            stuck = next((one for one in self._stuck.values() if one.folder == folder), None)
            left = [thread for thread in self._left.get(folder, ()) if thread.is_alive()]
            probe = self._probes.get(folder)
            if stuck is None or len(left) >= MOST_LEFT:
                return
            if probe is not None and time.monotonic() - probe.began < PROBE_SECONDS:
                return
            if probe is not None and probe.is_alive():
                if probe.mount == mount_of(folder):
                    return
                left.append(probe)  # it waits for what was mounted there before
            self._left[folder] = left
            new = self._probes[folder] = _Probe(
                folder, lambda: self._read(stuck.path), lambda: self._forget(folder, new)
            )
            new.start()

    def _forget(self, folder: Path, probe: _Probe) -> None:
        """Leave those that hang in a folder that answers to themselves."""
        with self._lock:
            hanging = [reader for reader, one in self._stuck.items() if one.folder == folder]
            if self._probes.get(folder) is not probe or not hanging:
                return
            for reader in hanging:
                del self._stuck[reader]
            self._left.setdefault(folder, []).extend(hanging)
        logger.info("%s answers anew", folder)

    def _reader(self) -> _Reader:
        held: _Held | None = getattr(self._own, "held", None)
        if held is None:
            reader = _Reader(self._read, self._came_back, self._ended)
            held = self._own.held = _Held(reader)
            with self._lock:
                self._readers.add(reader)
            reader.start()
        return held.reader

    def _give_up(self, reader: _Reader, what: _Stuck) -> None:
        with self._lock:
            self._stuck[reader] = what
        self._own.held = None  # by which it is told to end
        logger.warning(
            "%s does not answer (reading %s for %.0f s): its frames wait until it does, the others "
            "go on",
            what.folder,
            shown_path(what.path),
            self._seconds,
        )
        if reader.is_idle:  # it came back at this very moment
            self._came_back(reader)

    def _ended(self, reader: _Reader) -> None:
        with self._lock:
            self._readers.discard(reader)

    def _came_back(self, reader: _Reader) -> None:
        with self._lock:
            what = self._stuck.pop(reader, None)
        if what is not None:
            logger.info("%s answers again", what.folder)


class _Reader(threading.Thread):
    """Reads one file after the other for one other thread."""

    def __init__(
        self,
        read: Callable[[bytes], Content],
        came_back: Callable[[_Reader], None],
        ended: Callable[[_Reader], None],
    ) -> None:
        super().__init__(name="reader", daemon=True)  # one that hangs must not hold up the end
        self._read, self._came_back, self._ended = read, came_back, ended
        self._inbox: queue.SimpleQueue[tuple[bytes, Future[Content]] | None] = queue.SimpleQueue()
        self.is_idle = True

    def ask(self, path: bytes) -> Future[Content]:
        """Let it read this next."""
        promise: Future[Content] = Future()
        self.is_idle = False
        self._inbox.put((path, promise))
        return promise

    def end(self) -> None:
        """Let it end after what it is at."""
        self._inbox.put(None)

    def run(self) -> None:
        """Until told to end."""
        while (order := self._inbox.get()) is not None:
            path, promise = order
            try:
                promise.set_result(self._read(path))
            except BaseException as error:  # noqa: BLE001  raised again in the thread that asked
                promise.set_exception(error)
            del order, promise  # or a whole file would be held until the next one
            self.is_idle = True
            self._came_back(self)
        self._ended(self)


class _Held:
    """A thread's own reader, which is told to end when that thread ends or gives it up."""

    def __init__(self, reader: _Reader) -> None:
        self.reader = reader

    def __del__(self) -> None:
        self.reader.end()


def mount_of(folder: Path) -> str | None:
    """Names what is mounted at a folder, without asking it; None where the system does not say."""
    try:
        text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    above = {str(one).replace(" ", r"\040") for one in (folder, *folder.parents)}
    mounts = [line.split() for line in text.splitlines()]
    found = [
        (len(mount[4]), number) for number, mount in enumerate(mounts) if mount[4] in above
    ]  # of those at one point the last is on top
    return " ".join(mounts[max(found)[1]][:3]) if found else None
