"""Guessing is made slow: after some wrong tries each next one has to wait longer."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

FORGOTTEN_SECONDS = 3600.0
MOST_KEPT = 4096
"""Bounds the memory: about 1 MB. Whoever tried longest ago is forgotten first."""


@dataclass(frozen=True, slots=True)
class Rule:
    """So many tries are free, then one waits 1, 2, 4 … seconds, at most so long."""

    free: int
    longest_seconds: float


@dataclass(frozen=True, slots=True)
class Key:
    """What is counted: tries of one sort, from or for one thing."""

    rule: Rule
    value: tuple[str, ...]


def wait_seconds(tries: int, rule: Rule) -> float:
    """How long after the last of so many wrong tries the next one may come."""
    over = tries - rule.free
    return 0.0 if over < 0 else min(rule.longest_seconds, 2.0 ** min(over, 30))


class Waits:
    """Counts tries. Safe to share between threads; kept in memory only.

    Args:
        clock: monotonic seconds; a wall clock that is set back must not lock anybody out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._tries: OrderedDict[tuple[str, ...], tuple[int, float]] = OrderedDict()

    def start(self, keys: Iterable[Key]) -> int:
        """Count a try before it is judged, so that a thousand at once are not free.

        Returns:
            0, or the whole seconds to wait: then the try is not counted, and must not be judged.
        """
        keys = list(keys)
        with self._lock:
            now = self._clock()
            left = max((self._left(key, now) for key in keys), default=0.0)
            if left > 0:
                return math.ceil(left)
            for key in keys:
                self._tries[key.value] = (self._count(key, now) + 1, now)
                self._tries.move_to_end(key.value)
            while len(self._tries) > MOST_KEPT:
                self._tries.popitem(last=False)
        return 0

    def succeeded(self, forget: Iterable[Key], uncount: Iterable[Key] = ()) -> None:
        """A try was right: its own keys start anew; for shared ones it just does not count."""
        with self._lock:
            for key in forget:
                self._tries.pop(key.value, None)
            for key in uncount:
                count, last = self._tries.get(key.value, (0, 0.0))
                if count > 1:
                    self._tries[key.value] = (count - 1, last)
                else:
                    self._tries.pop(key.value, None)

    def __len__(self) -> int:
        return len(self._tries)

    def _count(self, key: Key, now: float) -> int:
        count, last = self._tries.get(key.value, (0, now))
        return 0 if now - last > FORGOTTEN_SECONDS else count

    def _left(self, key: Key, now: float) -> float:
        last = self._tries.get(key.value, (0, now))[1]
        return last + wait_seconds(self._count(key, now), key.rule) - now
