"""Threads that do one step after another, end when told to, and show that they are alive."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0


class Worker:
    """A loop around `step` in a thread of its own.

    Args:
        name: for logs and `status`.
        step: one unit of work; returns True if there is more to do at once. What it raises is
            logged and the step tried again after a growing pause: an error never ends a worker.
        idle_seconds: pause after a step that found nothing to do.
        hang_seconds: a step that takes longer than this counts as hung.
        wake: set by others when there is something to do: it ends the pause of an idle worker.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], bool],
        idle_seconds: float,
        hang_seconds: float,
        wake: threading.Event | None = None,
    ) -> None:
        self.name, self._step = name, step
        self._idle_seconds, self._hang_seconds = idle_seconds, hang_seconds
        self._stop = threading.Event()
        self._wake = wake or threading.Event()
        self._beat = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.problem: str | None = None

    def start(self) -> None:
        """Begin."""
        self._beat = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Ask for the end after the step under way."""
        self._stop.set()
        self._wake.set()

    def join(self, seconds: float) -> bool:
        """Wait for the end. True if it came in time."""
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def hangs(self, now: float) -> bool:
        """True if its step has not come back for too long, or its thread is gone."""
        return now - self._beat > self._hang_seconds or not self._thread.is_alive()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            self._beat = time.monotonic()
            try:
                busy = self._step()
            except Exception as error:  # the edge of a loop: told, then tried again
                logger.exception("%s: a step failed; it is tried again in %.0f s", self.name, pause)
                self.problem = f"{type(error).__name__}: {error}"
                self._pause(pause, self._stop)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            self.problem, pause = None, FIRST_PAUSE
            if not busy:
                self._pause(self._idle_seconds, self._wake)
                self._wake.clear()

    def _pause(self, seconds: float, until: threading.Event) -> None:
        self._beat = time.monotonic() + seconds
        until.wait(seconds)
