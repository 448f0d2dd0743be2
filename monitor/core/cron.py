"""Cron expressions, as cron means them."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def cron_trigger(expression: str, zone: ZoneInfo) -> Any:
    """A cron expression as cron means it: weekday 0 and 7 are Sunday (APScheduler's 0 is Monday).

    Raises:
        ValueError: it is none.
    """
    from apscheduler.triggers.cron import CronTrigger  # 0.16 s: not for commands that only read

    fields = expression.split()
    if len(fields) == 5:
        fields[4] = ",".join(_weekdays(part) for part in fields[4].split(","))
    return CronTrigger.from_crontab(" ".join(fields), timezone=zone)


def _weekdays(part: str) -> str:
    """One part of the weekday field, its numbers turned into names."""
    span, _, step = part.partition("/")
    first, dash, last = span.partition("-")
    numbers = (first, last if dash else first, step or "1")
    if not all(number.isdigit() for number in numbers) or int(numbers[2]) == 0:
        return part
    if max(int(numbers[0]), int(numbers[1])) > 7:
        raise ValueError(f"there is no weekday '{part}'; write 0-7 or mon-sun")
    end = int(last) if last else 6 if step else int(first)
    return ",".join(WEEKDAYS[day % 7] for day in range(int(first), end + 1, int(step or "1")))
