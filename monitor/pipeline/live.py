"""Which model labels now: follows the log's live version and swaps between two batches."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import datetime

from monitor.core.domain import FileStamp
from monitor.log.engine import LogError
from monitor.log.species_log import SpeciesLog
from monitor.log.versions import VersionRow
from monitor.model.backbone.tail import Tail, without_tail
from monitor.model.head import Head
from monitor.model.versions import HEAD_FILE, TAIL_FILE, ModelError, ModelStore, ModelUnreadable
from monitor.pipeline.scan import stamp_of

logger = logging.getLogger(__name__)

Stamps = tuple[FileStamp | None, ...]


class LiveModel:
    """The head and the tail of the live version, loaded when the version changes.

    Where its files are damaged, the newest earlier version that is sound is live from then on, and
    the log says so; without one none is. Only where nothing at all can be read (a disk that is not
    mounted yet?) it stays live, and is tried again when a file of it changes: meanwhile frames are
    taken in, their features kept, and the head that worked before goes on.

    Attributes:
        problem: why the live version does not label, in words; None when all is well.
        card_problem: why its card cannot be read: it labels all the same, its weights are proven.
    """

    def __init__(self, store: ModelStore, log: SpeciesLog, clock: Callable[[], datetime]) -> None:
        self._store, self._log, self._clock = store, log, clock
        self._row: VersionRow | None = None
        self._head: Head | None = None
        self._asked: tuple[str, str] | None = None
        self._tail: Tail | None = None
        self._damaged: Stamps | None = None
        self._refused: str | None = None
        self.problem: str | None = None
        self.card_problem: str | None = None

    @property
    def name(self) -> str | None:
        """Name of the version whose head is in use."""
        return self._row.name if self._row is not None else None

    @property
    def layout(self) -> str | None:
        """Name of the features that the head in use was trained on."""
        return self._head.layout if self._head is not None else None

    def take_tail(self) -> Tail | None:
        """The tail of `layout`, once after each `follow` that was True: it is large, and whoever
        opens a backbone with it needs it no longer."""
        tail, self._tail = self._tail, None
        return tail

    def follow(self) -> bool:
        """Look which version is live; True if another head is in use from now on.

        Raises:
            LogError: it is damaged, and the log cannot be told (the disk is full); call again.
        """
        row = self._log.live_version()
        wanted = (row.name, row.weights_sha256) if row is not None else None
        if wanted == self._asked and not self._was_repaired(row):
            return False
        self._asked, self._damaged, self._refused = wanted, None, None
        self.problem = self.card_problem = None
        if row is None:
            self._row, self._head, self._tail = None, None, None
            return True
        before = self._stamps(row)
        try:
            head, tail = self._load(row)
        except ModelError as error:
            logger.error("model %s cannot be used: %s", row.name, error)
            if self._give_up(row, error):
                return self.follow()
            self.problem, self._damaged = str(error), before
            return False
        self._look_at_card(row)
        logger.info("model %s is live (before: %s)", row.name, self.name or "none")
        self._row, self._head, self._tail = row, head, tail
        return True

    def head_for(self, layout: str, size: int) -> Head | None:
        """The head, if it was trained on features of this layout, `size` numbers each."""
        head = self._head
        if head is None or (head.layout == layout and head.mean.size == size):
            return head
        if self._refused != layout:
            self._refused = layout
            self.problem = (
                f"model {self.name} was trained on {head.layout} features ({head.mean.size} "
                f"numbers), but the configured backbone gives {layout} ({size}); train again or "
                "set classifier.backbone back"
            )
            logger.error("%s", self.problem)
        return None

    def _load(self, row: VersionRow) -> tuple[Head, Tail | None]:
        """Read it; twice before it is given up, for memory and cables err, too."""
        try:
            return self._store.load(row.name, row.weights_sha256)
        except ModelError as error:
            logger.warning("model %s is read once more: %s", row.name, error)
            return self._store.load(row.name, row.weights_sha256)

    def _look_at_card(self, row: VersionRow) -> None:
        try:
            self._store.card(row.name)
        except ModelError as error:
            self.card_problem = str(error)
            logger.warning("model %s labels without its card: %s", row.name, error)

    def _give_up(self, row: VersionRow, why: ModelError) -> bool:
        """Let an earlier version label from now on, or none; False where the files may come back
        and there is nothing to label with meanwhile."""
        earlier = self._log.earlier_versions(row.name)
        name = next((other.name for other in earlier if self._can_follow(other, row)), None)
        if name is None and isinstance(why, ModelUnreadable):
            return False
        try:
            self._log.fall_back(row.name, name, str(why), self._clock())
        except LogError:
            self._asked = None
            raise
        logger.error("model %s is set aside; %s labels in its place", row.name, name or "none")
        return True

    def _can_follow(self, other: VersionRow, row: VersionRow) -> bool:
        if without_tail(other.layout) != without_tail(row.layout):
            return False
        try:
            self._store.load(other.name, other.weights_sha256)
        except ModelError as error:
            logger.warning("model %s cannot label in its place: %s", other.name, error)
            return False
        return True

    def _was_repaired(self, row: VersionRow | None) -> bool:
        """True if a file of a version that could not be loaded is another one now."""
        failed = row is not None and (self._row is None or row.name != self._row.name)
        return failed and row is not None and self._stamps(row) != self._damaged

    def _stamps(self, row: VersionRow) -> Stamps:
        folder = self._store.directory / row.name
        return tuple(stamp_of(os.fsencode(folder / name)) for name in (HEAD_FILE, TAIL_FILE))
