"""Whether the station's own clock can be right. Nothing waits for it: rows are in order by their
ids, pauses are counted on the monotonic clock, and captures keep their cameras' times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

RELEASED_AT = datetime(2026, 11, 1, tzinfo=UTC)
"""This program did not exist before: a clock that says so has no battery, or lost its time."""
BACK_TOLERANCE = timedelta(days=1)
"""So far a clock may lie behind the newest time of the log: that much a person may set it back."""


def clock_problem(now: datetime, newest: datetime | None) -> str | None:
    """Why the station's clock cannot be right, and what to do; None if it may be.

    Args:
        newest: the newest of the times that were lately written to the log.
    """
    if now < RELEASED_AT:
        return (
            f"the station's clock stands at {now:%Y-%m-%d}: set it (timedatectl set-time, or "
            "let it ask a time server); captures keep their camera's times"
        )
    if newest is not None and now < newest - BACK_TOLERANCE:
        return (
            f"the station's clock stands at {now:%Y-%m-%d}, but the log was written to at "
            f"{newest:%Y-%m-%d}: it was set back, or it was wrong then; look at it (timedatectl); "
            "captures keep their camera's times"
        )
    return None
