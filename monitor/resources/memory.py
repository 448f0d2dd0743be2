"""Memory that was freed and that the C library keeps: given back to the system now and then.

Each thread that reads much at once leaves holes behind in its part of the heap; over the months
these add up to as much as is in use (glibc: mallopt(3), malloc_trim(3)).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

GIVING_SECONDS = 60.0


def give_back() -> bool:
    """Give it back; some milliseconds. False where the C library cannot (musl, macOS)."""
    trim = _trim()
    if trim is None:
        return False
    trim(0)
    return True


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    return trim
