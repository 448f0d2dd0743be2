"""How a station stands, in words for people: what is wrong and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from monitor.core.domain import parse_iso_utc
from monitor.health.verdict import Level

LONG_LAG_SECONDS = 3600.0
BAD, WARN = "bad", "warn"
MOST_NAMED = 5
COMMANDS = ("trapwatch", "systemctl", "timedatectl", "journalctl")
UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that needs a person. `level` is bad (nothing works until it is mended) or warn."""

    level: str
    what: str
    advice: str


def troubles(facts: dict[str, Any]) -> list[Trouble]:
    """What is wrong at the station, the worst first.

    Args:
        facts: `status_of`.
    """
    found = [*_health(facts), *_frames(facts), *_training(facts)]
    return sorted(found, key=lambda trouble: trouble.level != BAD)


def _health(facts: dict[str, Any]) -> Iterator[Trouble]:
    """What /healthz goes by, with its words."""
    for reason in facts.get("health", {}).get("reasons", ()):
        level = BAD if reason["level"] == Level.FAILING else WARN
        yield Trouble(level, sentence(reason["words"]), sentence(reason["advice"]))


def sentence(words: str) -> str:
    """With a capital and a full stop, but not where a command stands: it is copied as it is."""
    begins = words.split(" ", 1)[0]
    text = words if begins in COMMANDS else words[:1].upper() + words[1:]
    has_command = any(command in words for command in COMMANDS)
    return text if not text or has_command or text.endswith(".") else f"{text}."


def _frames(facts: dict[str, Any]) -> Iterator[Trouble]:
    media, silent, lag = facts["media"], facts["silent_deployments"], facts["lag_seconds"]
    rests = "classify" in facts.get("rest", {})  # which is told with its reason
    if lag is not None and lag > LONG_LAG_SECONDS and not rests:
        yield Trouble(
            WARN,
            f"Frames have been waiting for the classifier for {duration(lag)}.",
            "Newest frames go first, and the rest follows by itself once the service runs.",
        )
    if media["waiting_for_their_file"]:
        yield Trouble(
            WARN,
            f"{counted(media['waiting_for_their_file'], 'frame')} cannot be classified: "
            "the file is gone.",
            "Put the card or disk back in; the frames are then classified by themselves.",
        )
    if media["unreadable_files"]:
        yield Trouble(
            WARN,
            f"{counted(media['unreadable_files'], 'file')} cannot be read.",
            "Copy those files from the card again. The dashboard lists them, with the reasons.",
        )
    if recent := [s for s in silent if s["silent_days"] <= LONG_SILENT_DAYS]:
        names = [s["deployment"] for s in recent[:MOST_NAMED]]
        others = ["others"] if len(recent) > MOST_NAMED else []
        yield Trouble(
            WARN,
            f"{counted(len(recent), 'camera')} fell silent: {', '.join(names + others)}.",
            "Look at battery, card and lens; the dashboard lists them, with their last frames.",
        )


def _training(facts: dict[str, Any]) -> Iterator[Trouble]:
    last = facts["training"]["last"]
    if last is not None and last["state"] == "failed":
        yield Trouble(
            WARN,
            f"The last training failed: {last['message']}",
            "The model that is live goes on working. It is tried again by itself; "
            "to try now: trapwatch train --force",
        )


LONG_SILENT_DAYS = 90
"""A camera silent for longer was most likely taken down: told apart, no trouble any more."""


def counted(number: int, word: str) -> str:
    """A number with its word: 1 frame, 1,204 frames."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def amount(size_bytes: float) -> str:
    """A number of bytes as people say it: 3.4 GB."""
    unit = 0
    while size_bytes >= 1000 and unit < len(UNITS) - 1:
        size_bytes, unit = size_bytes / 1000, unit + 1
    return f"{size_bytes:.{0 if unit == 0 or size_bytes >= 100 else 1}f} {UNITS[unit]}"


def duration(seconds: float) -> str:
    """A time span in its largest unit: 40 s, 12 min, 5 h, 3 days."""
    for size, unit in ((86_400, "day"), (3600, "h"), (60, "min")):
        if seconds >= size:
            whole = int(seconds // size)
            return counted(whole, unit) if unit == "day" else f"{whole} {unit}"
    return f"{max(seconds, 0):.0f} s"


def share(value: float | None) -> str:
    """A share as a percentage; a dash where there was nothing to divide by."""
    return "–" if value is None else f"{value:.0%}"


def moment(text: str | None, zone: ZoneInfo) -> str:
    """A time of the log as the station's clock shows it; empty for none."""
    return f"{there(text, zone):%-d %b %Y, %H:%M}" if text else ""


def clock(text: str, zone: ZoneInfo) -> str:
    """The time of day of it."""
    return f"{there(text, zone):%H:%M}"


def there(text: str, zone: ZoneInfo) -> datetime:
    """A time of the log by the station's clock; in UTC at the very ends of the calendar."""
    moment = parse_iso_utc(text)
    try:
        return moment.astimezone(zone)
    except OverflowError:
        return moment


def what_helps(species: dict[str, Any]) -> str:
    """What a person can do for a species: one row of `learning` in `status_of`."""
    if species["labels_until_learnt"]:
        return f"{counted(species['labels_until_learnt'], 'more label')} until it is learnt"
    if not species["known"]:
        return "learnt at the next training"
    if species["recall"] is None:
        return "label it at one more place or time, to see what is found"
    return "learnt; more labels of other places and times still help"
