"""Files that end the program: found after a crash, tried alone, set aside.

A run that ended tidily leaves a mark in the log. Where the last one did not (a crash, a power cut,
a kill), the next is careful for a while: files are read one by one, each noted in the log first. So
if the program dies again, it is known of what, and that file is tried in a process of its own
before it is read once more: only if that process dies too is it set aside. Power cuts condemn
nothing. In normal running none of this costs anything.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from monitor.core.domain import FileStamp, shown_path
from monitor.images.decode import DecodeRules
from monitor.log.crashing_files import CONDEMNED, DeadlyFile
from monitor.log.engine import LogError
from monitor.log.species_log import SpeciesLog
from monitor.pipeline.crash_test import death_of
from monitor.pipeline.scan import stamp_of

logger = logging.getLogger(__name__)

RUN_KEY, READING_KEY = "run", "reading"
CAREFUL_READS = 2000
"""So many files are read with care after a run that ended badly: more than can be under way."""
CAREFUL_SECONDS = 3600.0
REFUSED = "reading it ended the program twice{}; set aside until its bytes change"


class Quarantine:
    """Knows whether to be careful, and of which files.

    Args:
        rules: what the decoder is told.
        clock: the present, in UTC.
        try_alone: `tasting.death_of`.
    """

    def __init__(
        self,
        log: SpeciesLog,
        rules: DecodeRules,
        clock: Callable[[], datetime],
        try_alone: Callable[[bytes, DecodeRules], str | None] = death_of,
    ) -> None:
        self._log, self._rules, self._clock, self._try_alone = log, rules, clock, try_alone
        self._one_by_one = threading.RLock()
        self._suspects: dict[bytes, DeadlyFile] = {}
        self._reads_left = 0
        self._until = 0.0

    @property
    def is_on(self) -> bool:
        """Whether files are read one by one now."""
        return self._reads_left > 0

    def run_begins(self) -> None:
        """A run of the service begins: see how the last one ended."""
        before = self._log.state(RUN_KEY)
        if before is not None and not before.get("tidy"):
            self._be_careful()
        self._suspects = {file.path: file for file in self._log.deadly_files()}
        self._note(RUN_KEY, {"tidy": False})

    def run_ends(self) -> None:
        """It ends as it should."""
        self._forget_marker()
        self._note(RUN_KEY, {"tidy": True})

    def objection(self, paths: Sequence[bytes]) -> str | None:
        """Why the file at these paths must not be read at all; None for nearly all there are.

        A suspect is tried in a process of its own, which takes a second or two.

        Raises:
            CannotTell: the trial failed; ask again later.
        """
        if not self._suspects:
            return None
        with self._one_by_one:
            for path in paths:
                suspect = self._suspects.get(path)
                if suspect is not None and (objection := self._judge(suspect)) is not None:
                    return objection
        return None

    @contextmanager
    def reading(self, path: bytes) -> Iterator[None]:
        """Around what is done with the bytes of a file."""
        if not self.is_on:
            yield
            return
        with self._one_by_one:
            self._mark(path)
            yield

    def _be_careful(self) -> None:
        marked = _marked(self._log.state(READING_KEY))
        if marked is not None:
            path, stamp = marked
            logger.warning("the last run ended while it read %s", shown_path(path))
            self._log.count_death(path, stamp, self._clock())
            self._forget_marker()
        logger.info("the last run did not end tidily; files are read one by one for a while")
        self._reads_left = CAREFUL_READS
        self._until = time.monotonic() + CAREFUL_SECONDS

    def _mark(self, path: bytes) -> None:
        self._reads_left -= 1
        if self._reads_left <= 0 or time.monotonic() > self._until:
            self._reads_left = 0
            self._forget_marker()
            return
        stamp = stamp_of(path)
        if stamp is None:
            return
        marker = {"path": path.hex(), "size": stamp.size, "mtime_ns": stamp.mtime_ns}
        self._note(READING_KEY, marker)

    def _forget_marker(self) -> None:
        if self._log.state(READING_KEY):
            self._note(READING_KEY, {})

    def _note(self, key: str, facts: dict[str, Any]) -> None:
        try:
            self._log.put_state(key, facts, self._clock())
        except LogError as error:  # a full disk: then it is less careful, and goes on
            logger.warning("what is being read cannot be noted: %s", error)

    def _judge(self, suspect: DeadlyFile) -> str | None:
        path, is_same = suspect.path, stamp_of(suspect.path) == suspect.stamp
        if is_same and suspect.deaths >= CONDEMNED:  # its media may not be marked as refused yet
            return REFUSED.format("")
        death = self._try_alone(path, self._rules) if is_same else None
        if death is None:
            del self._suspects[path]
            self._log.clear_of_suspicion([path])
            return None
        self._log.count_death(path, suspect.stamp, self._clock())
        self._suspects[path] = replace(suspect, deaths=CONDEMNED)
        logger.error("%s ends whatever reads it (%s); it is set aside", shown_path(path), death)
        return REFUSED.format(f" ({death})")


def _marked(facts: dict[str, Any] | None) -> tuple[bytes, FileStamp] | None:
    """The file of a marker; None where there is none that can be understood."""
    if not facts:
        return None
    try:
        stamp = FileStamp(int(str(facts["size"])), int(str(facts["mtime_ns"])))
        return bytes.fromhex(str(facts["path"])), stamp
    except (KeyError, ValueError):
        return None
