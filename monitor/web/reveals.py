"""Which hidden frames a browser was shown on request: remembered for an hour, in memory only."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

LASTS = timedelta(hours=1)
MOST = 10_000
"""So many are remembered; beyond, the oldest has to be asked for again."""


class Reveals:
    """Which frames are shown to which session. Safe to share between threads.

    Args:
        clock: the present, in UTC.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until: dict[tuple[str, int], datetime] = {}

    def add(self, session: str, media_id: int) -> None:
        """Show this frame to this session for an hour from now."""
        with self._lock:
            self._until.pop((session, media_id), None)
            while len(self._until) >= MOST:
                del self._until[next(iter(self._until))]
            self._until[session, media_id] = self._clock() + LASTS

    def is_revealed(self, session: str, media_id: int) -> bool:
        """True for an hour after `add`; a clock that is set back ends it too."""
        now = self._clock()
        with self._lock:
            until = self._until.get((session, media_id))
            return until is not None and timedelta(0) < until - now <= LASTS
