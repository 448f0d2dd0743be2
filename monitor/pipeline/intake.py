"""From a settled file to one row in `media`: read once, never written, moved or deleted."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from enum import Enum
from zoneinfo import ZoneInfo

from monitor.core.domain import shown_path
from monitor.images.decode import DecodeRules, ImageRejected, dimensions
from monitor.images.metadata import read_metadata, to_utc
from monitor.log.species_log import SpeciesLog
from monitor.log.taking_in import IntakeItem
from monitor.pipeline.deployments import Deployments
from monitor.pipeline.quarantine import Quarantine
from monitor.pipeline.scan import Found
from monitor.system.limited import Hangs
from monitor.system.reading import MAX_FILE_BYTES, Content
from monitor.system.reads import Patience

logger = logging.getLogger(__name__)

PER_TRANSACTION = 64
MOST_TOLD = 10_000


class Missed(Enum):
    """Why a settled file was not taken in now; the next scan finds it again."""

    VANISHED = "vanished"
    CHANGING = "changing"
    UNREADABLE = "unreadable"


class Intake:
    """Takes settled files into the log, a few dozen in one transaction.

    Args:
        on_changing: called with a file that is still being written to, and with those that
            could not be taken in because the log failed: they are to be brought again.
        clock: the present, in UTC.
        quarantine: knows of files that end the program.
        patience: reads files.
    """

    def __init__(
        self,
        log: SpeciesLog,
        deployments: Deployments,
        rules: DecodeRules,
        zone: ZoneInfo,
        event_gap: timedelta,
        clock: Callable[[], datetime],
        on_changing: Callable[[Found], None] = lambda found: None,
        threads: int = 2,
        quarantine: Quarantine | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._log, self._deployments, self._rules = log, deployments, rules
        self._quarantine = quarantine or Quarantine(log, rules, clock)
        self._patience = patience or Patience(())
        self._reading: dict[int, bytes] = {}
        self._zone, self._event_gap, self._clock = zone, event_gap, clock
        self._on_changing = on_changing
        self._told: set[bytes] = set()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="intake")

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def take(self, files: Sequence[Found]) -> list[int]:
        """Take these files in.

        Returns:
            ids of the media, known ones included.
        """
        media_ids: list[int] = []
        parts = [files[i : i + PER_TRANSACTION] for i in range(0, len(files), PER_TRANSACTION)]
        ahead = self._start(parts[0]) if parts else []
        for number, part in enumerate(parts):
            reading = ahead
            ahead = self._start(parts[number + 1]) if number + 1 < len(parts) else []
            try:
                media_ids += self._take_part(part, reading)
            except BaseException:
                for found in files[number * PER_TRANSACTION :]:
                    self._on_changing(found)
                raise
        return media_ids

    def _start(self, part: Sequence[Found]) -> list[Future[IntakeItem | Missed]]:
        """Begin to read `part`, while the one before is written to the log."""
        return [self._pool.submit(self.read, found) for found in part]

    def _take_part(
        self, part: Sequence[Found], reading: Sequence[Future[IntakeItem | Missed]]
    ) -> list[int]:
        items = []
        for found, future in zip(part, reading, strict=True):
            outcome = future.result()
            if isinstance(outcome, IntakeItem):
                items.append(outcome)
            elif outcome is Missed.CHANGING:
                self._on_changing(found)
        if not items:
            return []
        outcomes = self._log.take_in(items, self._clock(), self._event_gap)
        self._say(items, outcomes)
        return [media_id for media_id, _ in outcomes]

    def read(self, found: Found) -> IntakeItem | Missed:
        """Read one file: all that its media row will say, or why not now."""
        thread = threading.get_ident()
        self._reading[thread] = found.path
        try:
            return self._read(found)
        finally:
            del self._reading[thread]

    def reading(self) -> bytes | None:
        """A file that is being read at this moment."""
        return next(iter(self._reading.copy().values()), None)

    def _read(self, found: Found) -> IntakeItem | Missed:
        try:
            objection = self._quarantine.objection([found.path])
            content = self._patience.read(found.path)
        except FileNotFoundError:
            self._told.discard(found.path)
            return Missed.VANISHED
        except OSError as error:
            if error.errno == errno.ESTALE or isinstance(error, Hangs):
                return Missed.CHANGING
            self._note_unreadable(found, error)
            return Missed.UNREADABLE
        self._told.discard(found.path)
        if content.stamp != found.stamp:  # written to, or replaced, since it was listed
            return Missed.CHANGING
        with self._quarantine.reading(found.path):
            return self._describe(found, content, objection)

    def _describe(self, found: Found, content: Content, objection: str | None) -> IntakeItem:
        name = os.path.basename(os.fsdecode(found.path))
        data = content.data if objection is None else b""
        metadata = read_metadata(data, name=name, mtime_ns=content.stamp.mtime_ns, zone=self._zone)
        reason = objection or self._refusal(content)
        deployment = self._deployments.name_of(found.folder, found.path, to_utc(metadata.captured))
        return IntakeItem(found.path, content.stamp, content.sha256, deployment, metadata, reason)

    def _refusal(self, content: Content) -> str | None:
        """Why these bytes cannot become a picture, by their size or header; None if they may."""
        if content.too_large:
            return f"{content.stamp.size:,} bytes; trapwatch reads up to {MAX_FILE_BYTES:,}"
        try:
            dimensions(content.data, self._rules)
        except ImageRejected as error:
            return str(error)
        return None

    def _note_unreadable(self, found: Found, error: OSError) -> None:
        problem = error.strerror or str(error)
        if found.path not in self._told:
            if len(self._told) >= MOST_TOLD:
                self._told.clear()
            self._told.add(found.path)
            shown = shown_path(found.path)
            logger.warning("%s cannot be read (%s); it is tried again", shown, problem)
            self._log.note_unreadable(found.path, found.stamp, problem)

    def _say(self, items: Sequence[IntakeItem], outcomes: Sequence[tuple[int, bool]]) -> None:
        new = sum(is_new for _, is_new in outcomes)
        if new:
            logger.info("took in %d new media (%d files seen)", new, len(items))
        for item, (media_id, is_new) in zip(items, outcomes, strict=True):
            if is_new and item.rejected_reason:
                shown = shown_path(item.path)
                logger.warning("rejected media %d, %s: %s", media_id, shown, item.rejected_reason)
