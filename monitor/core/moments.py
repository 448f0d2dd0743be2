"""Times as people write them: a day, a time, or an age."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from monitor.core.domain import TrapwatchError, iso_utc

_AGE = re.compile(r"([0-9]{1,7})([dh])")
MOST_SHIFT_SECONDS = 200 * 366 * 86_400
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


def wall_of(text: str, *, end: bool = False) -> datetime:
    """A day or a time by some camera's own clock, so without an offset.

    Args:
        end: a day means its end.

    Raises:
        NoMoment: it is neither.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is not None:
            raise NoMoment(f"'{text}': leave the offset out; it is the camera's own clock")
        return moment + timedelta(days=1) if end and _is_day(text.strip()) else moment
    except (ValueError, OverflowError):
        raise NoMoment(f"'{text}' is no time; write 2024-05-01 or '2024-05-01 18:30'") from None


_PART = re.compile(r"([0-9]{1,9})([ywdhms])")
_CLOCK = re.compile(r"([0-9]{1,7}):([0-5][0-9])(?::([0-5][0-9]))?")
_LENGTHS = {"y": 365 * 86_400, "w": 7 * 86_400, "d": 86_400, "h": 3600, "m": 60, "s": 1}


def shift_of(text: str) -> timedelta:
    """`+3y 2d 04:00:00` or `-1h`: a sign, then parts in any order. A year counts 365 days.

    Raises:
        NoMoment: it is none.
    """
    stripped = text.strip()
    sign, rest = stripped[:1], stripped[1:] if stripped[:1] in "+-" else stripped
    seconds, parts = 0, rest.split()
    for part in parts:
        if found := _PART.fullmatch(part):
            seconds += int(found[1]) * _LENGTHS[found[2]]
        elif found := _CLOCK.fullmatch(part):
            seconds += 3600 * int(found[1]) + 60 * int(found[2]) + int(found[3] or 0)
        else:
            parts = []
            break
    if not parts or seconds > MOST_SHIFT_SECONDS:
        raise NoMoment(
            f"'{text}' is no shift; write '+3y 2d 04:00:00', '-1h' or '+30m' (a year is 365 days, "
            "at most 200 years)"
        )
    return timedelta(seconds=-seconds if sign == "-" else seconds)
