"""When a backup is due, and which are kept. Pure.

No clock is trusted with what cannot be made anew: it may stand in 1970 at every start, or jump.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from monitor.core.clock_check import RELEASED_AT
from monitor.core.domain import iso_utc, parse_iso_utc
from monitor.log.backup_facts import NAME
from monitor.log.upgrading import BEFORE

LOOK_SECONDS = 600.0
"""So often it is asked whether a backup is due."""
FEWEST_LOOKS = 3
"""Between two backups, whatever the clock says."""
LONGEST_PAUSE_LOOKS = 36
"""After failures: six hours of running."""
ALWAYS_KEPT = 3
"""The newest, whatever their names say of their day."""


@dataclass(frozen=True, slots=True)
class Last:
    """What is known of the last backup.

    Attributes:
        since: when it was made, or from when the clock is counted anew; None: there is none yet.
        looks: how often it was asked since then whether one is due: time that no clock can change.
        failures: tries since then that failed, and `waited` looks since the last of them.
    """

    since: datetime | None = None
    looks: int = 0
    failures: int = 0
    waited: int = 0


def due(last: Last, now: datetime, every: timedelta) -> bool:
    """Whether a backup is to be made now.

    The clock decides; one that stands still or was set back is overruled after as many looks as
    belong to `every`, and one that jumps forward cannot make more than one backup for each
    `FEWEST_LOOKS`.
    """
    if last.failures and last.waited < min(2**last.failures, LONGEST_PAUSE_LOOKS):
        return False
    if last.since is None:
        return True
    if last.looks * LOOK_SECONDS >= every.total_seconds():
        return True
    return last.looks >= FEWEST_LOOKS and now - last.since >= every


def looked(last: Last, now: datetime) -> Last:
    """The same one look later. A backup of the future was made under a wrong clock: once the clock
    may be right again, it is counted from now, not from when that future comes."""
    is_future = last.since is not None and RELEASED_AT <= now < last.since
    since = now if is_future else last.since
    return Last(since, last.looks + 1, last.failures, last.waited + 1)


def to_drop(backups: Iterable[tuple[int, str]], keep_daily: int, keep_weekly: int) -> list[str]:
    """Names of backups that are no longer kept.

    Days and weeks are counted by those that have a backup, in the order of writing and without any
    clock: a station that was off for a month loses none, a wrong date pushes out one day at most.

    Args:
        backups: (place in the order of writing, name); names that are none of ours are left alone.
    """
    days: set[date] = set()
    weeks: set[tuple[int, int]] = set()
    drop: list[str] = []
    ours = [(number, name) for number, name in backups if day_of(name) is not None]
    for place, (_, name) in enumerate(sorted(ours, reverse=True)):
        day = day_of(name)
        assert day is not None, "filtered above"
        week = day.isocalendar()[:2]
        is_new_day = day not in days and len(days) < keep_daily
        is_new_week = week not in weeks and len(weeks) < keep_weekly
        if is_new_day:
            days.add(day)
        if is_new_week:
            weeks.add(week)
        if not (is_new_day or is_new_week or place < ALWAYS_KEPT):
            drop.append(name)
    return drop


def day_of(name: str) -> date | None:
    """The day that the name of a scheduled backup says; None for any other file."""
    match = NAME.fullmatch(name)
    if match is None or BEFORE.fullmatch(name):
        return None
    try:
        return datetime.strptime(match[1], "%Y-%m-%dT%H%MZ").date()
    except ValueError:
        return None


def last_of(told: Mapping[str, Any]) -> Last:
    """What the log's state says of the last backup."""
    since = told.get("since")
    counts = [int(told.get(name, 0)) for name in ("looks", "failures", "waited")]
    return Last(parse_iso_utc(since) if since else None, *counts)


def facts_of_last(last: Last) -> dict[str, Any]:
    """The inverse of `last_of`."""
    counts = {"looks": last.looks, "failures": last.failures, "waited": last.waited}
    return {"since": iso_utc(last.since) if last.since else None} | counts
