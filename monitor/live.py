"""Which model labels now: follows the log's live version and swaps between two batches."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from monitor.backbone.tail import Tail
from monitor.classifier import Head
from monitor.domain import FileStamp
from monitor.log.versions import VersionRow
from monitor.models import HEAD_FILE, TAIL_FILE, ModelError, ModelStore
from monitor.scan import stamp_of

logger = logging.getLogger(__name__)

Stamps = tuple[FileStamp | None, ...]


class LiveModel:
    """The head and the tail of the live version, loaded when the version changes.

    A version that cannot be loaded is reported once, and tried again when a file of it changes:
    meanwhile frames are taken in, their features kept, and the head that worked before goes on.

    Attributes:
        problem: why the live version does not label, in words; None when all is well.
    """

    def __init__(self, store: ModelStore, current: Callable[[], VersionRow | None]) -> None:
        self._store, self._current = store, current
        self._row: VersionRow | None = None
        self._head: Head | None = None
        self._asked: tuple[str, str] | None = None
        self._tail: Tail | None = None
        self._damaged: Stamps | None = None
        self._refused: str | None = None
        self.problem: str | None = None

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
        """Look which version is live; True if another head is in use from now on."""
        row = self._current()
        wanted = (row.name, row.weights_sha256) if row is not None else None
        if wanted == self._asked and not self._was_repaired(row):
            return False
        self._asked, self._damaged, self._refused, self.problem = wanted, None, None, None
        if row is None:
            self._row, self._head, self._tail = None, None, None
            return True
        before = self._stamps(row)
        try:
            head, tail = self._store.load(row.name, row.weights_sha256)
        except ModelError as error:
            self.problem, self._damaged = str(error), before
            logger.error("model %s cannot be used: %s", row.name, error)
            return False
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

    def _was_repaired(self, row: VersionRow | None) -> bool:
        """True if a file of a version that could not be loaded is another one now."""
        failed = row is not None and (self._row is None or row.name != self._row.name)
        return failed and row is not None and self._stamps(row) != self._damaged

    def _stamps(self, row: VersionRow) -> Stamps:
        folder = self._store.directory / row.name
        return tuple(stamp_of(os.fsencode(folder / name)) for name in (HEAD_FILE, TAIL_FILE))
