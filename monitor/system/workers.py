"""Threads that do one step after another, end when told to, and show that they are alive."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from monitor.core.domain import TrapwatchError

logger = logging.getLogger(__name__)

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
SLOWER = 5
"""A step may take so many times as long as the longest before: machines differ by a hundred."""


def tell_failure(log: logging.Logger, error: Exception, words: str, *arguments: object) -> None:
    """What failed and is tried again: a line, and the traceback only of what nobody foresaw."""
    log.error(words, *arguments, exc_info=None if isinstance(error, TrapwatchError) else error)


class Worker:
    """A loop around `step` in a thread of its own.

    Args:
        name: for logs and `status`.
        step: one unit of work; returns True if there is more to do at once. What it raises is
            logged and the step tried again after a growing pause: an error never ends a worker.
        idle_seconds: pause after a step that found nothing to do.
        hang_seconds: a step that takes longer than this counts as hung.
        wake: set by others when there is something to do: it ends the pause of an idle worker.
        doing: says in words what it is at, for when it hangs.
        at: changes while a long step gets on; without it only the end of a step counts.

    Attributes:
        problem: what its last step raised, in words.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], bool],
        idle_seconds: float,
        hang_seconds: float,
        wake: threading.Event | None = None,
        doing: Callable[[], str | None] = lambda: None,
        at: Callable[[], object] = lambda: None,
    ) -> None:
        self.name, self._step, self._doing, self._at = name, step, doing, at
        self._idle_seconds, self._hang_seconds = idle_seconds, hang_seconds
        self._stop = threading.Event()
        self._wake = wake or threading.Event()
        self._beat, self._longest = time.monotonic(), 0.0
        self._looked: tuple[float, object] = (self._beat, None)
        self._moved = self._beat
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
        """True if its step neither came back nor got on for too long, or its thread is gone.

        Call about once a second.
        """
        looked = self._beat, self._at()
        if looked != self._looked and looked[0] == self._looked[0]:
            self._moved = now
        self._looked = looked
        limit = max(self._hang_seconds, SLOWER * self._longest)
        return now - self._last_sign() > limit or not self._thread.is_alive()

    def words(self, now: float) -> str:
        """How long it has given no sign of life, and what it is at."""
        if not self._thread.is_alive():
            return "its thread is gone"
        at = self._doing()
        return f"no sign of life for {now - self._last_sign():.0f} s{f', {at}' if at else ''}"

    def _last_sign(self) -> float:
        return max(self._beat, self._moved)

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            self._beat = time.monotonic()
            try:
                busy = self._step()
            except Exception as error:  # noqa: BLE001  the edge of a loop: told, then tried again
                told = "%s: a step failed (%s); it is tried again in %.0f s"
                tell_failure(logger, error, told, self.name, error, pause)
                self.problem = f"{type(error).__name__}: {error}"
                self._pause(pause, self._stop)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            self.problem, pause = None, FIRST_PAUSE
            took = time.monotonic() - self._beat
            if took < self._hang_seconds:  # or one night without the share would count for ever
                self._longest = max(self._longest, took)
            if not busy:
                self._pause(self._idle_seconds, self._wake)
                self._wake.clear()

    def _pause(self, seconds: float, until: threading.Event) -> None:
        self._beat = time.monotonic() + seconds
        until.wait(seconds)


class Doing:
    """What each thread of a room is at, and since when."""

    def __init__(self) -> None:
        self._at: dict[int, tuple[float, Callable[[], str]]] = {}

    @contextmanager
    def note(self, words: Callable[[], str]) -> Iterator[None]:
        """Around a piece of work; `words` are only asked for when somebody wants to know."""
        thread = threading.get_ident()
        self._at[thread] = (time.monotonic(), words)
        try:
            yield
        finally:
            self._at.pop(thread, None)

    def longest(self) -> str | None:
        """What takes longest at this moment; None if nothing is under way."""
        found = min(self._at.copy().values(), key=lambda one: one[0], default=None)
        if found is None:
            return None
        since, words = found
        return f"{words()} for {time.monotonic() - since:.0f} s"
