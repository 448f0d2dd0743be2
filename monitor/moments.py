"""Times as people write them: a day, a time, or an age."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from monitor.domain import TrapwatchError, iso_utc

_AGE = re.compile(r"([0-9]{1,7})([dh])")
_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1)}


class NoMoment(TrapwatchError):
    """What was written is no time."""


def moment_of(text: str | None, zone: ZoneInfo, now: datetime, *, end: bool = False) -> str | None:
    """A day (`2024-05-01`), a time (`2024-05-01T18:30`) or an age (`7d`, `12h`) as UTC text.

    Args:
        zone: where the station is; days and times without an offset are read there.
        now: ages count back from here.
        end: a day means its end.

    Raises:
        NoMoment: it is none of these.
    """
    if text is None:
        return None
    try:
        if age := _AGE.fullmatch(text):
            return iso_utc(now - int(age[1]) * _UNITS[age[2]])
        moment = datetime.fromisoformat(text)
        if end and _is_day(text):
            moment += timedelta(days=1)
        return iso_utc(moment if moment.tzinfo else moment.replace(tzinfo=zone))
    except (ValueError, OverflowError):
        raise NoMoment(
            f"'{text}' is no time; write 2024-05-01, 2024-05-01T18:30 or an age like 7d"
        ) from None


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
