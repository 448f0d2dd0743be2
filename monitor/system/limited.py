"""Steps on a disk that may never come back: each waits in a thread that can be left to itself.

A stick that dies, or a share that is gone, holds whoever reads or writes there for ever, and no
program can break that off. What must go on without it takes its steps through here.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

SECONDS = 10.0
"""Far above what a slow stick needs for one step."""
ENDING_SECONDS = 3.0
"""A step that can hear of the end comes back in that time."""
AGAIN_SECONDS = 3600.0
"""While a step hangs, another is tried so often: the disk may have been mounted anew."""
MOST_LEFT = 24
"""So many threads are left hanging; then nothing is tried until one of them comes back."""

Step = Callable[..., Any]
"""Takes a function and its arguments: `directly`, or with a limit of time (see `limited`)."""


class Hangs(TimeoutError):
    """A disk, or a folder, does not answer; it is an OSError like others."""


class Limited:
    """Takes one step after the other on the disk where `place` lies. Thread-safe.

    Args:
        seconds: how long a step may take; SECONDS where nothing is said.
    """

    def __init__(self, place: Path, seconds: float | None = None) -> None:
        self._place, self._seconds = place, seconds or SECONDS
        self._lock = threading.Lock()
        self._left: list[threading.Thread] = []
        self._tried_at = 0.0  # monotonic seconds, of the last step that hung

    def __call__(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        late: Callable[[Any], None] = lambda _: None,
        seconds: float | None = None,
        is_ending: Callable[[], bool] = lambda: False,
    ) -> Any:
        """What `function` returns.

        Args:
            late: called in another thread if the step is given up, once it has come back: with
                what it returned, or None if it failed or was not even begun.
            seconds: how long this step may take.
            is_ending: once it is true, the step is waited for a moment only.

        Raises:
            Hangs: it did not come back in time, or others hang already.
            OSError: as the function.
        """
        if self._others_hang():
            threading.Thread(target=late, args=(None,), daemon=True).start()
            raise self._hangs()
        step = _Step(function, arguments, late)
        step.start()
        until = time.monotonic() + (seconds or self._seconds)
        while not step.done.wait(min(1.0, max(0.0, left := until - time.monotonic()))) and left > 0:
            if is_ending():
                until = min(until, time.monotonic() + ENDING_SECONDS)
                is_ending = bool  # False from now on
        if not step.give_up():
            with self._lock:
                self._left.clear()
            if step.error is not None:
                raise step.error
            return step.result
        with self._lock:
            self._left.append(step)
            self._tried_at = time.monotonic()
        raise self._hangs()

    def _others_hang(self) -> bool:
        with self._lock:
            self._left = [step for step in self._left if step.is_alive()]
            is_early = time.monotonic() - self._tried_at < AGAIN_SECONDS
            return bool(self._left) and (is_early or len(self._left) >= MOST_LEFT)

    def _hangs(self) -> Hangs:
        return Hangs(errno.ETIMEDOUT, "the disk does not answer", str(self._place))


def directly(function: Callable[..., Any], *arguments: Any, **limits: Any) -> Any:
    """A step without a limit of time; `limits` are those of a `Limited`, and without effect."""
    return function(*arguments)


@cache
def limited(place: Path) -> Limited:
    """The one of this process for this place."""
    return Limited(place)


class _Step(threading.Thread):
    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        late: Callable[[Any], None],
    ) -> None:
        super().__init__(name="step", daemon=True)  # one that hangs must not hold up the end
        self._function, self._arguments, self._late = function, arguments, late
        self._lock, self._is_given_up = threading.Lock(), False
        self.done = threading.Event()
        self.result: Any = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.result = self._function(*self._arguments)
        except Exception as error:  # noqa: BLE001  raised again in the thread that asked
            self.error = error
        with self._lock:
            is_late = self._is_given_up
            self.done.set()
        if is_late:
            self._late(self.result)

    def give_up(self) -> bool:
        """True if nobody waits any more; False if it has come back by now."""
        with self._lock:
            self._is_given_up = not self.done.is_set()
            return self._is_given_up
