"""Which model labels now: follows the log's live version and swaps between two batches."""

from __future__ import annotations

import logging
from collections.abc import Callable

from monitor.classifier import Head
from monitor.log.versions import VersionRow
from monitor.models import ModelDamaged, ModelStore

logger = logging.getLogger(__name__)


class LiveModel:
    """The head of the live version, loaded when the version changes.

    A version that cannot be loaded is reported once and passed over: frames are taken in and
    their features kept, and the head that worked before goes on.
    """

    def __init__(self, store: ModelStore, current: Callable[[], VersionRow | None]) -> None:
        self._store, self._current = store, current
        self._row: VersionRow | None = None
        self._head: Head | None = None
        self._asked: tuple[str, str] | None = None
        self.problem: str | None = None

    @property
    def name(self) -> str | None:
        """Name of the version whose head is in use."""
        return self._row.name if self._row is not None else None

    def follow(self) -> bool:
        """Look which version is live; True if another head is in use from now on."""
        row = self._current()
        wanted = (row.name, row.weights_sha256) if row is not None else None
        if wanted == self._asked:
            return False
        self._asked = wanted
        if row is None:
            self._row, self._head = None, None
            return True
        try:
            head = self._store.load_head(row.name, row.weights_sha256)
        except ModelDamaged as error:
            self.problem = str(error)
            logger.error("model %s cannot be used: %s", row.name, error)
            return False
        self.problem = None
        logger.info("model %s is live (before: %s)", row.name, self.name or "none")
        self._row, self._head = row, head
        return True

    def head_for(self, layout: str) -> Head | None:
        """The head, if it was trained on features of this layout."""
        if self._head is not None and self._head.layout != layout:
            self.problem = (
                f"model {self.name} was trained on {self._head.layout} features, but the "
                f"configured backbone gives {layout}; train again or set classifier.backbone back"
            )
            return None
        return self._head
