"""From folders to settled files. Events only say 'look now'; the reconcile scan is the truth.

`Watcher.settled()` yields batches of files that nobody writes to any more and that the log does
not know as they are. It reads directories only; nothing is ever written to a watched folder.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monitor.config import Watch
from monitor.domain import FileStamp, shown_path
from monitor.hints import Hint, Hints
from monitor.log.media import KnownFile

logger = logging.getLogger(__name__)

BATCH = 500
"""Paths looked up in the log at once."""
MOST_UNSETTLED = 50_000
"""So many files may wait to hold still; the others are found by the next scan (flat memory)."""
POLL_SECONDS = 10.0
"""How often folders are scanned where no events come."""
HELPER_NAMES = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})
HELPER_ENDINGS = (".part", ".partial", ".tmp", ".crdownload", ".filepart", "~")
HELPER_FOLDERS = frozenset({"@eadir", "$recycle.bin", "system volume information", "lost+found"})


@dataclass(frozen=True, slots=True)
class Found:
    """A file as a directory listing shows it, and the watched folder it is in."""

    folder: Path
    path: bytes
    stamp: FileStamp


@dataclass(slots=True)
class _Unsettled:
    found: Found
    since: float  # monotonic seconds


def is_helper(name: str) -> bool:
    """True for hidden files and those that systems and copy programs leave beside images."""
    low = name.lower()
    return name.startswith(".") or low in HELPER_NAMES or low.endswith(HELPER_ENDINGS)


def is_settled(seen: FileStamp, before: FileStamp, still_seconds: float, quiet: float) -> bool:
    """True once size and mtime have held still for `quiet` seconds (of the monotonic clock, so
    that a share whose clock is wrong changes nothing)."""
    return seen == before and still_seconds >= quiet


def needs_intake(seen: FileStamp, known: KnownFile | None) -> bool:
    """True unless the log knows this path with this very size and mtime."""
    return known is None or known.media_id is None or known.stamp != seen


@dataclass(slots=True)
class Scan:
    """One walk over a watched folder. Counts what it passes over, by type."""

    folder: Path
    extensions: frozenset[str]
    others: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def files(self, start: bytes | None = None) -> Iterator[Found]:
        """Every image file below `start` (default: the folder), links followed, loops cut."""
        seen: set[tuple[int, int]] = set()
        waiting = [start if start is not None else os.fsencode(self.folder)]
        while waiting:
            yield from self._directory(waiting.pop(), waiting, seen)

    def _directory(
        self, path: bytes, waiting: list[bytes], seen: set[tuple[int, int]]
    ) -> Iterator[Found]:
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
        try:
            facts = entry.stat()
        except FileNotFoundError:  # vanished since the listing, or a link to nowhere
            return None
        except OSError as error:
            if error.errno != errno.ELOOP:
                self._problem(entry.path, error)
            return None
        if stat.S_ISDIR(facts.st_mode):
            if not name.startswith(".") and name.lower() not in HELPER_FOLDERS:
                waiting.append(entry.path)
            return None
        if not is_helper(name):
            return self._file(entry, name, facts)
        return None

    def _file(self, entry: os.DirEntry[bytes], name: str, facts: os.stat_result) -> Found | None:
        if not stat.S_ISREG(facts.st_mode):
            self.others["(no regular file)"] += 1
            return None
        suffix = os.path.splitext(name)[1].lower()
        if suffix not in self.extensions:
            self.others[shown_path(os.fsencode(suffix)) or "(no suffix)"] += 1
            return None
        return Found(self.folder, entry.path, FileStamp(facts.st_size, facts.st_mtime_ns))

    def _problem(self, path: bytes, error: OSError) -> None:
        self.problems.append(f"{shown_path(path)}: {error.strerror}")


class Watcher:
    """Finds settled files in all watched folders.

    Args:
        settings: the `watch` section.
        known_files: what the log knows of some paths.
        mark_found: called with media whose missing files are there again.
        report: called after each whole reconcile with facts for `status`.
    """

    def __init__(
        self,
        settings: Watch,
        known_files: Callable[[Sequence[bytes]], dict[bytes, KnownFile]],
        mark_found: Callable[[Sequence[int]], None],
        report: Callable[[dict[str, object]], None],
    ) -> None:
        self.settings = settings
        self.hints = Hints(settings.folders, enabled=not settings.polling)
        self._known_files, self._mark_found, self._report = known_files, mark_found, report
        self._extensions = frozenset(settings.extensions)
        self._unsettled: dict[bytes, _Unsettled] = {}
        self._reconcile: Iterator[list[Found]] | None = None
        self._last_reconcile: float | None = None
        self._told: set[str] = set()
        self._complete = True

    def close(self) -> None:
        """Stop listening to events."""
        self.hints.close()

    def step(self, now: float) -> list[Found]:
        """One slice of work: hear the hints, look at what should hold still by now, go on with
        the reconcile scan. Returns at most a few hundred settled files.

        Args:
            now: monotonic seconds.
        """
        settled = self._hear(self.hints.take(BATCH), now)
        settled += self._look_again(now)
        if self.hints.keep_alive(now) or self._is_due(now):
            self._start_reconcile(now)
        if self._reconcile is not None and len(self._unsettled) < MOST_UNSETTLED:
            chunk = next(self._reconcile, None)
            if chunk is None:
                self._reconcile = None
            else:
                self._consider(chunk, now)
        elif self._reconcile is not None:
            self._complete = False
        return settled

    def busy(self) -> bool:
        """True while a scan is under way (so that the loop goes on at once)."""
        return self._reconcile is not None

    def idle(self) -> bool:
        """True when at least one whole scan was made and nothing waits to hold still."""
        return not self.busy() and not self._unsettled and self._last_reconcile is not None

    def request_reconcile(self) -> None:
        """Scan all folders as soon as possible."""
        self._last_reconcile = None

    def put_off(self, found: Found, now: float) -> None:
        """A settled file turned out to be written to: wait for it to hold still again."""
        self._unsettled[found.path] = _Unsettled(found, now)

    def _is_due(self, now: float) -> bool:
        every = self.settings.reconcile_seconds
        if not self.hints.listening():
            every = min(every, max(POLL_SECONDS, self.settings.settle_seconds))
        return self._last_reconcile is None or now - self._last_reconcile >= every

    def _start_reconcile(self, now: float) -> None:
        if self._reconcile is None:
            self._last_reconcile = now
            self._reconcile = self._scan_all()

    def _scan_all(self) -> Iterator[list[Found]]:
        others: Counter[str] = Counter()
        problems: list[str] = []
        files = 0
        for folder in self.settings.folders:
            scan = Scan(folder, self._extensions)
            chunk: list[Found] = []
            for found in scan.files():
                chunk.append(found)
                files += 1
                if len(chunk) == BATCH:
                    yield chunk
                    chunk = []
            yield chunk
            others += scan.others
            problems += scan.problems
        self._tell(problems)
        facts = {"files": files, "other_types": dict(others.most_common(50))}
        self._report({**facts, "problems": problems[:50]})

    def _tell(self, problems: Sequence[str]) -> None:
        """Warn of each problem once, and again only after it had gone."""
        for problem in problems:
            if problem not in self._told:
                logger.warning(
                    "cannot look into %s; nothing is taken as lost, it is tried again", problem
                )
        for problem in self._told - set(problems):
            logger.info("readable again: %s", problem.rsplit(":", 1)[0])
        self._told = set(problems)

    def _consider(self, chunk: Sequence[Found], now: float) -> None:
        """Remember those of `chunk` that the log does not know as they are."""
        if not chunk:
            return
        known = self._known_files([found.path for found in chunk])
        back = []
        for found in chunk:
            row = known.get(found.path)
            if needs_intake(found.stamp, row):
                before = self._unsettled.get(found.path)
                if before is None or before.found.stamp != found.stamp:
                    self._unsettled[found.path] = _Unsettled(found, now)
            elif row is not None and row.waiting and row.media_id is not None:
                back.append(row.media_id)
        if back:
            self._mark_found(back)

    def _look_again(self, now: float) -> list[Found]:
        """Those of the unsettled files that held still long enough."""
        settled = []
        for path, waiting in list(self._unsettled.items()):
            if now - waiting.since < self.settings.settle_seconds:
                continue
            seen = stamp_of(path)
            if seen is None:  # vanished
                del self._unsettled[path]
            elif is_settled(
                seen, waiting.found.stamp, now - waiting.since, self.settings.settle_seconds
            ):
                del self._unsettled[path]
                settled.append(waiting.found)
            else:
                found = Found(waiting.found.folder, path, seen)
                self._unsettled[path] = _Unsettled(found, now)
            if len(settled) == BATCH:
                break
        return settled

    def _hear(self, hints: Sequence[Hint], now: float) -> list[Found]:
        """Closed and renamed files are settled at once; others are looked at; folders scanned."""
        closed: dict[bytes, Found] = {}
        opened: dict[bytes, Found] = {}
        for hint in hints:
            if hint.is_folder:
                scan = Scan(hint.folder, self._extensions)
                opened |= {found.path: found for found in scan.files(hint.path)}
                continue
            found = self._file(hint)
            if found is not None:
                (closed if hint.is_complete else opened)[found.path] = found
        opened = {path: found for path, found in opened.items() if path not in closed}
        self._consider(list(opened.values()), now)
        if not closed:
            return []
        known = self._known_files(list(closed))
        for path in closed:
            self._unsettled.pop(path, None)
        return [f for path, f in closed.items() if needs_intake(f.stamp, known.get(path))]

    def _file(self, hint: Hint) -> Found | None:
        name = os.path.basename(os.fsdecode(hint.path))
        if is_helper(name) or os.path.splitext(name)[1].lower() not in self._extensions:
            return None
        below = os.fsdecode(hint.path)[len(os.fspath(hint.folder)) :].split(os.sep)[:-1]
        if any(part.startswith(".") or part.lower() in HELPER_FOLDERS for part in below):
            return None
        stamp = stamp_of(hint.path)
        return Found(hint.folder, hint.path, stamp) if stamp is not None else None


def stamp_of(path: bytes) -> FileStamp | None:
    """Size and mtime of a regular file; None if it is not there (any more)."""
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return FileStamp(facts.st_size, facts.st_mtime_ns) if stat.S_ISREG(facts.st_mode) else None


def monotonic() -> float:
    """The clock of this room: never set, never jumps."""
    return time.monotonic()
