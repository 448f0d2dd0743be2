"""Memory that was freed and that the C library keeps for itself: little of it, and given back.

glibc gives each thread a heap of its own, as far as there are sixteen or so. What reads much at
once leaves holes behind in its heap, which no other thread may fill; over the months these add up
to more than is in use. So there are two heaps, and now and then their holes go back to the system
(mallopt(3), malloc_trim(3)).
"""

from __future__ import annotations

import ctypes
from functools import cache

GIVING_SECONDS = 30.0
HEAPS = 2
_M_ARENA_MAX = -8
"""glibc's malloc.h."""


def take_few_heaps() -> bool:
    """For this process, before it starts its threads. False where the C library has no such thing
    (musl, macOS)."""
    libc = _glibc()
    return libc is not None and bool(libc.mallopt(_M_ARENA_MAX, HEAPS))


def give_back() -> bool:
    """Give the holes back; some milliseconds. False where the C library cannot."""
    libc = _glibc()
    if libc is None:
        return False
    libc.malloc_trim(0)
    return True


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
        return libc if libc.gnu_get_libc_version and libc.malloc_trim and libc.mallopt else None
    except (OSError, AttributeError):
        return None
