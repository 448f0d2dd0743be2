"""Whether the last backup and the last looks at the log are too long ago. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitor.core.domain import parse_iso_utc
from monitor.health.findings import Finding, Level, Told
from monitor.recovery.backup_schedule import LOOK_SECONDS

TOO_OLD = 3
"""So many times their usual distance may go by without one."""
LOOKS_AT_LOG = {
    "quick_at": ("looked at", timedelta(days=1)),
    "full_at": ("fully looked at", timedelta(days=7)),
}
"""Kept in the log's state -> in words, and how often that is usual."""
GRACE = timedelta(hours=1)
"""After a winter without power all is old, and mended within this time."""


@dataclass(frozen=True, slots=True)
class Ages:
    """What ages are judged by.

    Attributes:
        now: None where the clock cannot be trusted; then only hours of running count.
        up: how long the service has run; None if it does not.
        backup_every: None where no backups are made.
    """

    now: datetime | None
    up: timedelta | None
    backup_every: timedelta | None


def old_ones(told: Mapping[str, Told], ages: Ages) -> Iterator[Finding]:
    """What should have been done long ago, and was not."""
    if ages.backup_every is not None:
        yield from _backup(told.get("backup"), ages, TOO_OLD * ages.backup_every)
    looks = told["integrity"].value if "integrity" in told else {}
    for name, (how, every) in LOOKS_AT_LOG.items():
        ago = _ago(looks.get(name), ages)
        if ago is not None and ago >= TOO_OLD * every:
            words = f"the log was last {how} on {looks[name][:10]}, {ago.days} days ago"
            advice = (
                "trapwatch doctor looks at it now; journalctl -u trapwatch says what held it up"
            )
            yield Finding("log", Level.DEGRADED, words, advice)


def _backup(told: Told | None, ages: Ages, limit: timedelta) -> Iterator[Finding]:
    value = told.value if told is not None else {}
    at = str(value.get("at") or "")
    ran = timedelta(seconds=int(value.get("looks") or 0) * LOOK_SECONDS)
    ago = _ago(at, ages)
    if ago is not None and ago >= limit:
        words = f"the last good backup is of {at[:10]}, {ago.days} days ago"
    elif ran >= limit:  # which no clock can change
        what = "no new backup" if at else "no backup at all"
        words = f"{what} was made in {ran.total_seconds() / 3600:.0f} hours of running"
    else:
        return
    advice = "see that the disk of backup.folder is there and has room; journalctl -u trapwatch "
    yield Finding("backup", Level.DEGRADED, words, advice + "says why none was made")


def _ago(at: str | None, ages: Ages) -> timedelta | None:
    """How long ago that was; None where it cannot be said, or is about to be mended."""
    if not at or ages.now is None or (ages.up is not None and ages.up < GRACE):
        return None
    return ages.now - parse_iso_utc(at)
