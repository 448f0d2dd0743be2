"""The folder in which resized pictures are kept: bounded, rebuildable, never trusted blindly.

It may be deleted, filled up or made read-only at any time: then pictures are only made again.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

FULL, TIDIED = 0.95, 0.85
"""Above this share of the limit the pictures used longest ago are deleted, down to that share:
what is written while they are being deleted still finds room below the limit."""
TOUCH_SECONDS = 60.0
PARTIAL_SECONDS = 3600.0
_Used = tuple[float, int, Path]  # mtime, bytes
START, END = b"\xff\xd8", b"\xff\xd9"  # of every JPEG


class PictureFolder:
    """Files by name, below a number of bytes. Safe to share between threads.

    Args:
        folder: made when the first file is written.
        most_bytes: all files together stay below it.
        spare_bytes: where the disk has less free than that, nothing is kept.
    """

    def __init__(self, folder: Path, most_bytes: int, spare_bytes: int = 0) -> None:
        self._folder, self._most_bytes, self._spare_bytes = folder, most_bytes, spare_bytes
        self._lock = threading.Lock()
        self._bytes: int | None = None  # None until `tidy` has counted
        self._added = 0  # bytes, since the last count began
        self._turned_away = False  # one that found no room
        self._told = False

    @property
    def is_full(self) -> bool:
        """True if `tidy` should be called: not counted yet, or too much was written since."""
        if self._bytes is None or self._turned_away:
            return True
        return self._bytes + self._added > FULL * self._most_bytes

    def read(self, name: str) -> bytes | None:
        """A picture that was kept, marked as used; None if it is not there or not whole."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with open(os.open(self._path(name), flags), "rb") as file:
                facts = os.fstat(file.fileno())
                content = file.read() if stat.S_ISREG(facts.st_mode) else b""
                if abs(time.time() - facts.st_mtime) > TOUCH_SECONDS:
                    os.utime(file.fileno())
        except OSError:
            return None
        # Not synced when it was written: a power cut may have left it empty or cut off.
        return content if content.startswith(START) and content.endswith(END) else None

    def keep(self, name: str, content: bytes) -> None:
        """Write a picture. Where that fails it is told once, and the picture is not kept."""
        if self._bytes is not None and self._bytes + self._added + len(content) > self._most_bytes:
            self._turned_away = True
            return
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            disk = os.statvfs(path.parent)
            if disk.f_bavail * disk.f_frsize < self._spare_bytes:
                return
            _write(path, content)
        except OSError as error:
            if not self._told:
                self._told = True
                reason = error.strerror or error
                logger.warning("resized pictures cannot be kept in %s: %s", self._folder, reason)
            return
        self._told = False
        with self._lock:
            self._added += len(content)

    def tidy(self, stop: threading.Event) -> None:
        """Count what is there, and delete what was used longest ago if it is too much."""
        with self._lock:
            before = self._added
        files: list[_Used] = []
        partials: list[_Used] = []
        for path, facts in self._files():
            if stop.is_set():
                return
            of_its_kind = partials if path.name.startswith(".") else files
            of_its_kind.append((facts.st_mtime, facts.st_size, path))
        now = time.time()
        for written, _, path in partials:  # of a process that was killed
            if abs(now - written) > PARTIAL_SECONDS:
                path.unlink(missing_ok=True)
        total = sum(size for _, size, _ in files)
        if self._turned_away or total > FULL * self._most_bytes:
            total -= _delete(sorted(files), total - TIDIED * self._most_bytes)
        with self._lock:
            # What was written meanwhile counts twice at worst, until the next count.
            self._bytes, self._added = total, self._added - before
            self._turned_away = False

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for folder, _, names in os.walk(self._folder):
            for name in names:
                path = Path(folder, name)
                try:
                    yield path, path.lstat()
                except OSError:  # deleted meanwhile
                    continue


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, as far as a running system goes: what is lost is made again."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _delete(oldest_first: list[_Used], excess: float) -> int:
    """Delete files until `excess` bytes are gone; returns how many bytes are."""
    gone = 0
    for _, size, path in oldest_first:
        if gone >= excess:
            break
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("%s cannot be deleted: %s", path, error.strerror or error)
            break
        gone += size
    return gone
