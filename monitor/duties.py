"""What the service does now and then beside taking in and classifying, and how often."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from monitor.station import Station
from monitor.watch import stamp_of

HOUSEKEEPING_SECONDS = 3600.0
HISTORY_PAGE = 2000

IsEnding = Callable[[], bool]
Duty = Callable[[Station, IsEnding], None]


def housekeeping(station: Station, is_ending: IsEnding = lambda: False) -> None:
    """What keeps a log small and well over the years.

    Args:
        is_ending: asked between two steps; the rest is left for the next time.
    """
    while not is_ending() and station.log.drop_unchanged_history(HISTORY_PAGE) == HISTORY_PAGE:
        pass
    gone = [path for path in station.log.unreadable_paths() if stamp_of(path) is None]
    station.log.forget_unreadable(gone)
    if not is_ending():
        station.log.checkpoint()


DUTIES: Mapping[str, tuple[float, Duty]] = {
    "housekeeping": (HOUSEKEEPING_SECONDS, housekeeping),
}
"""Name -> seconds between two times, and what is done. Each runs in a thread of its own, never
twice at once; what it raises is logged."""
