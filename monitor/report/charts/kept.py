"""The detections that charts are drawn from: read in the background, kept for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from monitor.log.detected import Detections
from monitor.log.detections import ScanStopped

LEAST_SECONDS = 60.0
"""Detections younger than this are fresh …"""

REST_FACTOR = 20
"""… and so are those younger than so many times what reading them took: a large log on a slow
machine spends a twentieth of its time on it at most."""

DRAWN_CHARTS = 64

Read = Callable[[Callable[[float], bool]], Detections]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Scan:
    """The last scan: what it found (None: it failed), when it ended, how long it took."""

    found: Detections | None
    ended: float
    seconds: float


class KeptDetections:
    """The independent detections of the whole log, a little old at most; never waits for a scan.

    Safe to share between threads.

    Args:
        read: `SpeciesLog.detections`.
        private: names of species that no chart shows, as they are called today.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        read: Read,
        private: Callable[[], frozenset[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._private, self._clock = read, private, clock
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._last: _Scan | None = None
        self._shown: tuple[Detections, frozenset[str], Detections] | None = None
        self._drawn: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self) -> Detections | None:
        """What there is, private species left out; None until the first scan ended.

        Where it is too old, a scan starts in a thread of its own, for whoever asks next.
        """
        self._refresh()
        last = self._last
        return self._without_private(last.found) if last and last.found is not None else None

    def wait(self, seconds: float) -> Detections | None:
        """As `get`, after the scan that runs now, or for so long."""
        self._refresh()
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
        return self.get()

    def drawn(self, key: Hashable, draw: Callable[[], bytes]) -> bytes:
        """What `draw` gives; kept under `key` while others are not asked for more often.

        Args:
            key: everything the drawing depends on, `Detections.as_of` too.
        """
        with self._lock:
            if key in self._drawn:
                self._drawn.move_to_end(key)
                return self._drawn[key]
        made = draw()
        with self._lock:
            self._drawn[key] = made
            while len(self._drawn) > DRAWN_CHARTS:
                self._drawn.popitem(last=False)
        return made

    def close(self) -> None:
        """End the thread: within the time that one page of the log takes."""
        self._stop.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _refresh(self) -> None:
        with self._lock:
            running = self._thread is not None and self._thread.is_alive()
            if running or self._stop.is_set() or self._fresh():
                return
            self._thread = threading.Thread(target=self._scan, name="detections")
            self._thread.start()

    def _fresh(self) -> bool:
        if self._last is None:
            return False
        age = self._clock() - self._last.ended
        return age < max(LEAST_SECONDS, REST_FACTOR * self._last.seconds)

    def _scan(self) -> None:
        started = self._clock()
        found = self._last.found if self._last else None
        try:
            found = self._read(lambda done: not self._stop.is_set())
        except ScanStopped:
            return
        except Exception:  # the edge of a thread: charts stay as they are, and it tries again
            logger.exception("the detections for charts could not be read")
        ended = self._clock()
        self._last = _Scan(found, ended, ended - started)

    def _without_private(self, found: Detections) -> Detections:
        private = self._private()
        shown = self._shown
        if shown is None or shown[0] is not found or shown[1] != private:
            shown = self._shown = (found, private, found.without(private))
        return shown[2]
