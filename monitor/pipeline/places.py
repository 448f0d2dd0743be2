"""Watched folders, each with a thread of its own: one that hangs holds up none of the others."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from monitor.core.config import Watch
from monitor.core.domain import shown_path
from monitor.log.species_log import SpeciesLog
from monitor.pipeline.intake import Intake
from monitor.pipeline.scan import Found, stamp_of
from monitor.pipeline.watch import Watcher, monotonic
from monitor.system.reads import mount_of

PROBE_SECONDS = 30.0
"""So often a folder that hangs is looked at anew."""
MOST_KINDS, MOST_PROBLEMS = 50, 50

IntakeMaker = Callable[[Callable[[Found], None], int], Intake]


class Place:
    """One watched folder: finds its files and takes them in.

    Args:
        watch: the `watch` section; of its folders only `folder` counts.
        make_intake: called with what to do with a file that is still written to, and the number
            of threads.
        on_taken_in: called when something was taken in.
        report: called after each whole reconcile with the folder and its facts.

    Attributes:
        quiet: True once all that is in the folder was taken in.
    """

    def __init__(
        self,
        folder: Path,
        watch: Watch,
        log: SpeciesLog,
        make_intake: IntakeMaker,
        on_taken_in: Callable[[], None],
        report: Callable[[Path, dict[str, object]], None],
        threads: int,
    ) -> None:
        self.folder, self.quiet, self._is_closed = folder, False, False
        self._on_taken_in = on_taken_in
        settings = watch.model_copy(update={"folders": (folder,)})
        self.watcher = Watcher(
            settings, log.known_files, log.mark_found, lambda facts: report(folder, facts)
        )
        self._intake = make_intake(self._put_off, threads)
        self._probe: threading.Thread | None = None
        self._probed_at, self._probe_mount = 0.0, mount_of(folder)

    def step(self) -> bool:
        """Find settled files and take them in. True if there is more to do at once."""
        settled = self.watcher.step(monotonic())
        if settled and not self._take(settled):
            return False
        self.quiet = not settled and self.watcher.idle()
        return self.watcher.busy() or self.watcher.hints.waiting()

    def _take(self, settled: Sequence[Found]) -> bool:
        """False if it was closed while it hung: whoever looks here next finds these files."""
        try:
            self._intake.take(settled)
        except RuntimeError:  # its threads have ended
            if self._is_closed:
                return False
            raise
        self._on_taken_in()
        return True

    def doing(self) -> str:
        """Where it is at this moment, for whoever wonders why it takes so long."""
        path = self.at()
        return f"at {shown_path(path)}" if path is not None else "waiting for the log"

    def answers(self, now: float) -> bool:
        """Whether what it hangs at answers somebody who has never waited for it: the folder may
        have been mounted anew, while the thread that hangs waits for what was there before.

        Returns at once: False until a look, in a thread of its own, has come back.

        Args:
            now: monotonic seconds.
        """
        if self._probe is not None and not self._probe.is_alive():
            self._probe = None
            return True
        if self._probe is not None and self._probe_mount == mount_of(self.folder):
            return False
        path = self.at()  # None: it is the log that hangs
        if path is not None and now - self._probed_at >= PROBE_SECONDS:
            self._probed_at, self._probe_mount = now, mount_of(self.folder)
            self._probe = threading.Thread(target=_look_at, args=(path,), daemon=True)
            self._probe.start()
        return False

    def close(self) -> None:
        """Let go of threads."""
        self._is_closed = True
        self.watcher.close()
        self._intake.close()

    def at(self) -> bytes | None:
        """The path that it looks at or reads."""
        return self._intake.reading() or self.watcher.at.path

    def _put_off(self, found: Found) -> None:
        seen = stamp_of(found.path)
        if seen is not None:
            self.watcher.put_off(Found(found.folder, found.path, seen), monotonic())


def merged(reports: Mapping[Path, Mapping[str, Any]]) -> dict[str, object]:
    """What the reconciles of all folders found, as one."""
    others: Counter[str] = Counter()
    problems: list[str] = []
    for facts in reports.values():
        others.update(facts["other_types"])
        problems += facts["problems"]
    return {
        "files": sum(facts["files"] for facts in reports.values()),
        "other_types": dict(others.most_common(MOST_KINDS)),
        "problems": problems[:MOST_PROBLEMS],
        "events": all(facts["events"] for facts in reports.values()),
    }


def threads_of(threads: int, folders: Sequence[Path]) -> int:
    """How many of the intake's threads each folder gets."""
    return max(1, threads // max(1, len(folders)))


def _look_at(path: bytes) -> None:
    with suppress(OSError):  # an error is an answer, too
        os.stat(path)
        with os.scandir(path if os.path.isdir(path) else os.path.dirname(path)) as entries:
            next(entries, None)
