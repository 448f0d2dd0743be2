"""The detections that charts are drawn from: read in the background, kept for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class KeptDetections:
    """The independent detections of the whole log, a little old at most; never waits for a scan.

    Args:
        read: `SpeciesLog.detections`.
        private: names of species that no chart shows, as they are called today.
    """

    def __init__(self, read: Callable[[], Any], private: Callable[[], frozenset[str]]) -> None:
        self._read, self._private = read, private

    def close(self) -> None:
        """End the thread."""
