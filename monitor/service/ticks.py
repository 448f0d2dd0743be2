"""Periodic calls by APScheduler that only ask what is due: a clock that jumps can neither stall nor
flood them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

from monitor.system.workers import SLOWER, tell_failure

logger = logging.getLogger(__name__)

CLOCK_JUMP_SECONDS = 30.0
HANG_SECONDS = 1800.0
"""A function that takes longer counts as hung, but for one that took a good part of it before."""
MOST_LEFT = 3
"""So many threads of one function may be left hanging; then one of them is waited for."""


class _Pause(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """So many seconds from now, whatever the time was before.

    APScheduler's own interval counts from the time before and makes a list of all that were missed:
    a clock that is set from 1970 to today would fill the memory with it.
    """

    def __init__(self, seconds: float) -> None:
        self._pause = timedelta(seconds=seconds)

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        return now + self._pause


class _Job:
    """One function in a thread of its own, never twice at once. One that hangs, which no program
    can break off, is left to itself, and begun anew where `renews` says that this does no harm."""

    def __init__(
        self, name: str, function: Callable[[], None], hang_seconds: float, *, renews: bool
    ) -> None:
        self.name, self._function = name, function
        self._hang_seconds, self._renews = hang_seconds, renews
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._left: list[threading.Thread] = []
        self._since, self._longest = 0.0, 0.0  # monotonic seconds
        self._error: str | None = None

    def begin(self) -> None:
        """Let it run, unless it does."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                self._left = [thread for thread in self._left if thread.is_alive()]
                if not (self._renews and self.hangs() and len(self._left) < MOST_LEFT):
                    return
                logger.error("%s hangs; it is left to itself and begun anew", self.name)
                self._left.append(self._thread)
            self._since = time.monotonic()
            self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            self._thread.start()

    def join(self, seconds: float) -> bool:
        """Wait for its end. True if it came in time."""
        if self._thread is not None:
            self._thread.join(max(0.0, seconds))
        return self._thread is None or not self._thread.is_alive()

    def problem(self) -> str | None:
        """What is wrong with it, in words."""
        if self.hangs():
            took = time.monotonic() - self._since
            return f"it has not come to an end for {took:.0f} s; all else goes on"
        return self._error and f"it failed ({self._error}); it is tried again by itself"

    def hangs(self) -> bool:
        """Whether it has run for too long."""
        limit = max(self._hang_seconds, SLOWER * self._longest)
        is_under_way = self._thread is not None and self._thread.is_alive()
        return is_under_way and time.monotonic() - self._since > limit

    def _run(self) -> None:
        began = time.monotonic()
        try:
            self._function()
            self._error = None
        except Exception as error:  # noqa: BLE001  the edge of a loop: told, then tried again
            told = "%s failed (%s); it is tried again at its next time"
            tell_failure(logger, error, told, self.name, error)
            self._error = f"{type(error).__name__}: {error}"
        if threading.current_thread() is self._thread:  # or one night's hang would count for ever
            self._longest = max(self._longest, time.monotonic() - began)


class Ticks:
    """Calls functions every so many seconds, each in a thread of its own, at most once at a time.

    Args:
        jobs: name -> seconds between two times, and what is called.
        hang_seconds: name -> after so many seconds it counts as hung; HANG_SECONDS where nothing
            is said.
        alone: names of those that are not begun anew beside one that hangs.
    """

    def __init__(
        self,
        jobs: Mapping[str, tuple[float, Callable[[], None]]],
        hang_seconds: Mapping[str, float] = {},
        alone: Collection[str] = (),
    ) -> None:
        self._scheduler: Any = BackgroundScheduler(timezone=UTC)
        self._jobs: list[_Job] = []
        for name, (seconds, function) in jobs.items():
            limit = hang_seconds.get(name, HANG_SECONDS)
            job = _Job(name, function, limit, renews=name not in alone)
            self._jobs.append(job)
            self._scheduler.add_job(
                job.begin,
                _Pause(seconds),
                id=name,
                name=name,
                coalesce=True,
                max_instances=1,
                misfire_grace_time=None,
                next_run_time=datetime.now(UTC),
            )
        self._drift: float | None = None

    def start(self) -> None:
        """Begin to tick."""
        self._scheduler.start()

    def close(self) -> None:
        """Tick no more; for what runs see `join`."""
        self._scheduler.shutdown()

    def join(self, seconds: float) -> list[str]:
        """Wait for the functions that run. Names of those that did not come to an end."""
        deadline = time.monotonic() + seconds
        return [job.name for job in self._jobs if not job.join(deadline - time.monotonic())]

    def problems(self) -> dict[str, str]:
        """Name -> what is wrong with it, in words."""
        found = {job.name: job.problem() for job in self._jobs}
        return {name: why for name, why in found.items() if why is not None}

    def hanging(self) -> set[str]:
        """Names of those that do not come to an end."""
        return {job.name for job in self._jobs if job.hangs()}

    def check_clock(self, wall: float | None = None, monotonic: float | None = None) -> bool:
        """Set every tick anew if the wall clock was set; call about once a second.

        APScheduler waits for wall-clock times: after a jump back it would wait until then.
        """
        wall = time.time() if wall is None else wall
        drift = wall - (time.monotonic() if monotonic is None else monotonic)
        before, self._drift = self._drift, drift
        if before is None or abs(drift - before) < CLOCK_JUMP_SECONDS:
            return False
        logger.warning("the clock was set by %+.0f s; the schedule is set anew", drift - before)
        for job in self._scheduler.get_jobs():
            job.modify(next_run_time=datetime.fromtimestamp(wall, UTC))
        return True
