"""One walk over a watched folder: the image files in it, and what is passed over."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from monitor.core.domain import FileStamp, shown_path

HELPER_NAMES = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})
HELPER_ENDINGS = (".part", ".partial", ".tmp", ".crdownload", ".filepart", "~")
HELPER_FOLDERS = frozenset({"@eadir", "$recycle.bin", "system volume information", "lost+found"})
MOST_KINDS = 200
"""So many file types are counted apart; names of hostile suffixes must not fill the memory."""
MOST_PROBLEMS = 50
"""So many problems of one walk are kept in words; a dying disk has one for every file."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file as a directory listing shows it, and the watched folder it is in."""

    folder: Path
    path: bytes
    stamp: FileStamp


def is_helper(name: str) -> bool:
    """True for hidden files and those that systems and copy programs leave beside images."""
    low = name.lower()
    return name.startswith(".") or low in HELPER_NAMES or low.endswith(HELPER_ENDINGS)


def is_helper_folder(name: str) -> bool:
    """True for hidden folders and those that systems keep for themselves."""
    return name.startswith(".") or name.lower() in HELPER_FOLDERS


def is_image(name: str, extensions: frozenset[str]) -> bool:
    """True for a name with one of the extensions, in either case, that is no helper's."""
    return not is_helper(name) and os.path.splitext(name)[1].lower() in extensions


def folders_between(folder: Path, path: bytes) -> list[str]:
    """Names of the folders from the watched one down to `path`, its own name left out."""
    below = os.fsdecode(path)[len(os.fspath(folder)) :].strip(os.sep)
    return below.split(os.sep)[:-1]


def stamp_of(path: bytes) -> FileStamp | None:
    """Size and mtime of a regular file; None if it is not there (any more)."""
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return FileStamp(facts.st_size, facts.st_mtime_ns) if stat.S_ISREG(facts.st_mode) else None


@dataclass(slots=True)
class At:
    """Where somebody is looking at this moment: a share that hangs is told by it."""

    path: bytes | None = None


@dataclass(slots=True)
class Scan:
    """One walk over a watched folder. Counts what it passes over, by type."""

    folder: Path
    extensions: frozenset[str]
    at: At = field(default_factory=At)
    others: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def files(self, start: bytes | None = None) -> Iterator[Found]:
        """Every image file below `start` (default: the folder), links followed, loops cut."""
        seen: set[tuple[int, int]] = set()
        waiting = [start if start is not None else os.fsencode(self.folder)]
        while waiting:
            yield from self._directory(waiting.pop(), waiting, seen)

    def chunks(self, size: int, start: bytes | None = None) -> Iterator[list[Found]]:
        """The same in lists of `size`, the last one shorter."""
        chunk: list[Found] = []
        for found in self.files(start):
            chunk.append(found)
            if len(chunk) == size:
                yield chunk
                chunk = []
        yield chunk

    def _directory(
        self, path: bytes, waiting: list[bytes], seen: set[tuple[int, int]]
    ) -> Iterator[Found]:
        self.at.path = path
        try:
            here = os.stat(path)
            if (here.st_dev, here.st_ino) in seen:
                return
            seen.add((here.st_dev, here.st_ino))
            entries = os.scandir(path)
        except OSError as error:
            self._problem(path, error)
            return
        with entries:
            while True:
                try:
                    entry = next(entries, None)
                    if entry is None:
                        return
                    found = self._entry(entry, waiting)
                except OSError as error:  # a card pulled in the middle, a share gone
                    self._problem(path, error)
                    return
                if found is not None:
                    yield found

    def _entry(self, entry: os.DirEntry[bytes], waiting: list[bytes]) -> Found | None:
        name = os.fsdecode(entry.name)
        self.at.path = entry.path
        try:
            facts = entry.stat()
        except FileNotFoundError:  # vanished since the listing, or a link to nowhere
            return None
        except OSError as error:
            if error.errno != errno.ELOOP:
                self._problem(entry.path, error)
            return None
        if stat.S_ISDIR(facts.st_mode):
            if not is_helper_folder(name):
                waiting.append(entry.path)
            return None
        return None if is_helper(name) else self._file(entry, name, facts)

    def _file(self, entry: os.DirEntry[bytes], name: str, facts: os.stat_result) -> Found | None:
        if not stat.S_ISREG(facts.st_mode):
            self._count("(no regular file)")
            return None
        suffix = os.path.splitext(name)[1].lower()
        if suffix not in self.extensions:
            self._count(shown_path(os.fsencode(suffix)) or "(no suffix)")
            return None
        return Found(self.folder, entry.path, FileStamp(facts.st_size, facts.st_mtime_ns))

    def _count(self, kind: str) -> None:
        full = len(self.others) >= MOST_KINDS and kind not in self.others
        self.others["(other types)" if full else kind] += 1

    def _problem(self, path: bytes, error: OSError) -> None:
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(f"{shown_path(path)}: {error.strerror}")
