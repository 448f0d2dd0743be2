"""What the service does now and then beside taking in and classifying, and how often."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from monitor.health.alert_news import FORGET_SECONDS, forget_old_alerts, look_for_news
from monitor.health.alert_news import LOOK_SECONDS as LOOK_FOR_NEWS_SECONDS
from monitor.health.alert_outbox import SEND_SECONDS, send_what_waits
from monitor.pipeline.watch import stamp_of
from monitor.recovery.backup_schedule import LOOK_SECONDS as LOOK_FOR_BACKUP_SECONDS
from monitor.recovery.backup_task import keep_backups
from monitor.recovery.integrity import (
    CHECK_SECONDS,
    JOURNAL_SECONDS,
    check_soundness,
    keep_together,
)
from monitor.service.cleaning import (
    CLEANING_SECONDS,
    ROTATION_SECONDS,
    drop_old_weights,
    watch_the_disk,
)
from monitor.service.outages import LOOK_SECONDS as LOOK_FOR_OUTAGES_SECONDS
from monitor.service.outages import propose_outages
from monitor.service.power import LOOK_SECONDS, tend_power
from monitor.service.station import Station
from monitor.system.memory import GIVING_SECONDS, give_back

HOUSEKEEPING_SECONDS = 3600.0
HISTORY_PAGE = 2000

IsEnding = Callable[[], bool]
PeriodicTask = Callable[[Station, IsEnding], None]


def housekeeping(station: Station, is_ending: IsEnding = lambda: False) -> None:
    """What keeps a log small and well over the years.

    Args:
        is_ending: asked between two steps; the rest is left for the next time.
    """
    while not is_ending() and station.log.drop_unchanged_history(HISTORY_PAGE) == HISTORY_PAGE:
        pass
    if not is_ending():
        station.log.checkpoint()
    gone = [path for path in station.log.unreadable_paths() if stamp_of(path) is None]
    station.log.forget_unreadable(gone)


def give_memory_back(station: Station, is_ending: IsEnding = lambda: False) -> None:
    """Of the whole process."""
    give_back()


PERIODIC_TASKS: Mapping[str, tuple[float, PeriodicTask]] = {
    "disk": (CLEANING_SECONDS, watch_the_disk),
    "old models": (ROTATION_SECONDS, drop_old_weights),
    "power": (LOOK_SECONDS, tend_power),
    "journal": (JOURNAL_SECONDS, keep_together),
    "integrity": (CHECK_SECONDS, check_soundness),
    "backup": (LOOK_FOR_BACKUP_SECONDS, keep_backups),
    "outages": (LOOK_FOR_OUTAGES_SECONDS, propose_outages),
    "alerts": (LOOK_FOR_NEWS_SECONDS, look_for_news),
    "outbox": (SEND_SECONDS, send_what_waits),
    "old alerts": (FORGET_SECONDS, forget_old_alerts),
    "housekeeping": (HOUSEKEEPING_SECONDS, housekeeping),
    "memory": (GIVING_SECONDS, give_memory_back),
}
"""Name -> seconds between two times, and what is done. Each runs in a thread of its own, never
twice at once; what it raises is logged and told by the health of the station."""

HANG_SECONDS: Mapping[str, float] = {"backup": 4 * 3600.0, "integrity": 4 * 3600.0}
"""Name -> how long it may take, where that is longer than for others: a log of years on a slow
stick takes its time."""
ALONE = frozenset(HANG_SECONDS)
"""A second one beside one that is only slow would get in its way."""
