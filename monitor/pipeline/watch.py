"""From folders to settled files. Events only say 'look now'; the reconcile scan is the truth.

`Watcher.step()` returns files that nobody writes to any more and that the log does not know as
they are. It reads directories only; nothing is ever written to a watched folder.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from monitor.core.config import Watch
from monitor.core.domain import FileStamp
from monitor.log.media import KnownFile
from monitor.pipeline.filesystem_events import Hint, Hints
from monitor.pipeline.scan import (
    At,
    Found,
    Scan,
    folders_between,
    is_helper_folder,
    is_image,
    stamp_of,
)

__all__ = ["Found", "Watcher", "is_settled", "monotonic", "needs_intake", "stamp_of"]

logger = logging.getLogger(__name__)

BATCH = 500
"""Paths looked up in the log, or looked at again, in one step."""
MOST_UNSETTLED = 50_000
"""So many files may wait to hold still; the scan pauses there (flat memory)."""
MOST_NEW_FOLDERS = 1000
"""So many folders that just came may wait to be scanned; others are found by the reconcile."""
POLL_SECONDS = 10.0
"""How often folders are scanned where no events come, or where some were lost."""
SCAN_SHARE = 4
"""Where scans take long, the pause from one to the next is this many times as long."""


@dataclass(frozen=True, slots=True)
class _Unsettled:
    found: Found
    since: float  # monotonic seconds


def is_settled(seen: FileStamp, before: FileStamp, still_seconds: float, quiet: float) -> bool:
    """True once size and mtime have held still for `quiet` seconds (of the monotonic clock, so
    that a share whose clock is wrong changes nothing)."""
    return seen == before and still_seconds >= quiet


def needs_intake(seen: FileStamp, known: KnownFile | None) -> bool:
    """True unless the log knows this path with this very size and mtime."""
    return known is None or known.media_id is None or known.stamp != seen


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
        self._unsettled: dict[bytes, _Unsettled] = {}  # those that wait longest come first
        self._new_folders: deque[Iterator[list[Found]]] = deque()
        self._reconcile: Iterator[list[Found]] | None = None
        self._last_reconcile: float | None = None  # when it began
        self._began, self._scan_seconds = 0.0, 0.0
        self._incomplete = False  # something was let go of that only a scan can find again
        self._more_settled = False
        self._told: set[str] = set()
        self.at = At()

    def close(self) -> None:
        """Stop listening to events."""
        self.hints.close()

    def step(self, now: float) -> list[Found]:
        """One slice of work: hear the hints, look at what should hold still by now, go on with
        the reconcile scan. Returns at most a thousand or so settled files.

        Args:
            now: monotonic seconds.
        """
        try:
            return self._step(now)
        except BaseException:
            self._reconcile = None  # what this step had in hand is found again by a scan
            self.request_reconcile()
            raise

    def busy(self) -> bool:
        """True while there is something to do at once, without a pause."""
        scanning = self._reconcile is not None or bool(self._new_folders)
        return self._more_settled or (scanning and not self._is_full())

    def idle(self) -> bool:
        """True when at least one whole scan was made, nothing waits to hold still and nothing
        was heard since that was not looked at."""
        return not (
            self._reconcile is not None
            or self._last_reconcile is None
            or self._unsettled
            or self._new_folders
            or self._lost_some()
            or self.hints.waiting()
        )

    def request_reconcile(self) -> None:
        """Scan all folders as soon as possible: after the scan under way, if there is one."""
        self._last_reconcile = None

    def put_off(self, found: Found, now: float) -> None:
        """A settled file was not taken in after all: wait for it to hold still (again)."""
        self._unsettled.pop(found.path, None)
        self._unsettled[found.path] = _Unsettled(found, now)

    def _step(self, now: float) -> list[Found]:
        settled = self._hear(self.hints.take(BATCH), now)
        settled += self._look_again(now)
        self.at.path = None
        if self.hints.keep_alive(now):
            self.request_reconcile()
        if self._reconcile is None and self._is_due(now):
            self._reconcile = self._scan_all()
            self._last_reconcile = self._began = now
            self._incomplete = self.hints.lost = False
        self._scan_on(now)
        self.at.path = None
        return settled

    def _is_full(self) -> bool:
        return len(self._unsettled) >= MOST_UNSETTLED

    def _lost_some(self) -> bool:
        return self._incomplete or self.hints.lost

    def _is_due(self, now: float) -> bool:
        every = self.settings.reconcile_seconds
        if self._lost_some() or not self.hints.listening():
            pause = max(POLL_SECONDS, self.settings.settle_seconds, SCAN_SHARE * self._scan_seconds)
            every = min(every, pause)
        return self._last_reconcile is None or now - self._last_reconcile >= every

    def _scan_on(self, now: float) -> None:
        """One chunk of the reconcile and one of a folder that just came, so that neither waits
        for the other."""
        if self._new_folders and not self._is_full():
            chunk = next(self._new_folders[0], None)
            if chunk is None:
                self._new_folders.popleft()
            else:
                self._consider(chunk, now)
        if self._reconcile is not None and not self._is_full():
            chunk = next(self._reconcile, None)
            if chunk is None:
                self._reconcile = None
                self._scan_seconds = now - self._began
            else:
                self._consider(chunk, now)

    def _scan_all(self) -> Iterator[list[Found]]:
        others: Counter[str] = Counter()
        problems: list[str] = []
        told: list[str] = []
        files = 0
        for folder in self.settings.folders:
            scan = Scan(folder, self._extensions, self.at)
            for chunk in scan.chunks(BATCH):
                files += len(chunk)
                yield chunk
            others += scan.others
            problems += scan.problems
            if folder.exists():  # of a whole folder that is not there the hints tell
                told += scan.problems
        self._tell(told)
        facts = {"files": files, "other_types": dict(others.most_common(50))}
        self._report({**facts, "problems": problems[:50], "events": self.hints.listening()})

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
                    self.put_off(found, now)
            elif row is not None and row.waiting and row.media_id is not None:
                back.append(row.media_id)
        if back:
            self._mark_found(back)

    def _look_again(self, now: float) -> list[Found]:
        """Those of the unsettled files that held still long enough."""
        quiet = self.settings.settle_seconds
        first = list(islice(self._unsettled.items(), BATCH))
        due = [(path, waiting) for path, waiting in first if now - waiting.since >= quiet]
        self._more_settled = len(due) == BATCH
        settled = []
        for path, waiting in due:
            del self._unsettled[path]
            self.at.path = path
            seen = stamp_of(path)
            if seen is None:  # vanished
                continue
            if is_settled(seen, waiting.found.stamp, now - waiting.since, quiet):
                settled.append(waiting.found)
            else:
                self.put_off(Found(waiting.found.folder, path, seen), now)
        return settled

    def _hear(self, hints: Sequence[Hint], now: float) -> list[Found]:
        """Closed and renamed files are settled at once, whatever the log knows of them (a clock
        of two seconds' grain hides a change); others are looked at, new folders scanned."""
        closed: dict[bytes, Found] = {}
        opened: dict[bytes, Found] = {}
        for hint in dict.fromkeys(hints):
            if hint.is_folder:
                self._scan_soon(hint)
                continue
            found = self._file(hint)
            if found is not None:
                (closed if hint.is_complete else opened)[found.path] = found
        for path in closed:
            opened.pop(path, None)
            self._unsettled.pop(path, None)
        if self._is_full():
            self._incomplete = self._incomplete or bool(opened)
        else:
            self._consider(list(opened.values()), now)
        return list(closed.values())

    def _scan_soon(self, hint: Hint) -> None:
        inside = [
            *folders_between(hint.folder, hint.path),
            os.path.basename(os.fsdecode(hint.path)),
        ]
        if any(is_helper_folder(name) for name in inside):
            return
        if len(self._new_folders) >= MOST_NEW_FOLDERS:
            self._incomplete = True
        else:
            scan = Scan(hint.folder, self._extensions, self.at)
            self._new_folders.append(scan.chunks(BATCH, hint.path))

    def _file(self, hint: Hint) -> Found | None:
        name = os.path.basename(os.fsdecode(hint.path))
        if not is_image(name, self._extensions):
            return None
        if any(is_helper_folder(part) for part in folders_between(hint.folder, hint.path)):
            return None
        self.at.path = hint.path
        stamp = stamp_of(hint.path)
        return Found(hint.folder, hint.path, stamp) if stamp is not None else None


def monotonic() -> float:
    """The clock of this room: never set, never jumps."""
    return time.monotonic()
