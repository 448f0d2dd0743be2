"""What one part of a station told the log, judged: how it stands, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from monitor.core.pauses import resting_lines
from monitor.system.disk import DiskState


class Level(StrEnum):
    """How one thing stands. `unknown`: its part has told nothing (yet)."""

    OK = "ok"
    UNKNOWN = "unknown"
    DEGRADED = "degraded"
    FAILING = "failing"


WORST_LAST = (Level.OK, Level.UNKNOWN, Level.DEGRADED, Level.FAILING)


@dataclass(frozen=True, slots=True)
class Told:
    """What a part of the service told the log, and how long ago.

    Attributes:
        age_seconds: below zero where the station's clock was set back since.
    """

    value: Mapping[str, Any]
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: one plain word: service, workers, model, damage, clock,
            folders, disk, backup, log, journal, alerts, work, certificate.
        words: for people; may name paths, so it is only for those who have logged in.
        advice: what to do about it; empty where nothing is to be done.
        subject: which of several things it is about, in words that stay the same.
    """

    check: str
    level: Level
    words: str
    advice: str = ""
    subject: str = ""


def _disk(told: Told) -> Iterator[Finding]:
    words = str(told.value.get("words") or "")
    match told.value.get("state"):
        case DiskState.FULL:
            advice = "move frames or old backups to another disk; work goes on by itself then"
            yield Finding("disk", Level.FAILING, words or "the disk is full", advice)
        case DiskState.LOW:
            advice = "move frames or old backups to another disk before it is full"
            yield Finding("disk", Level.DEGRADED, words or "the disk is nearly full", advice)
        case _:
            yield Finding("disk", Level.OK, words or "enough room")


def _folders(told: Told) -> Iterator[Finding]:
    problems = told.value.get("problems") or []
    for problem in problems:
        words = f"a watched folder or file cannot be looked into: {problem}"
        advice = "plug in or mount the disk, or let the service read it; nothing is lost"
        yield Finding("folders", Level.DEGRADED, words, advice)
    if not problems:
        yield Finding("folders", Level.OK, "all watched folders can be read")


def _backup(told: Told) -> Iterator[Finding]:
    advice = "see that the disk of backup.{} is there and has room; it is tried again by itself"
    problem, second = told.value.get("problem"), told.value.get("second_problem")
    if problem:
        words = f"the last backup failed: {problem}"
        yield Finding("backup", Level.DEGRADED, words, advice.format("folder"))
    if second:
        words = f"the last backup is not on the second disk: {second}"
        yield Finding("backup", Level.DEGRADED, words, advice.format("second_folder"), "second")
    if not problem and not second:
        yield Finding("backup", Level.OK, "the last backup is good")


def _integrity(told: Told) -> Iterator[Finding]:
    problem = told.value.get("problem")
    if problem:
        advice = "the service restores it when it starts; trapwatch doctor says what came of that"
        yield Finding("log", Level.FAILING, f"the log is damaged: {problem}", advice)
    else:
        yield Finding("log", Level.OK, "the log is sound")


def _journal(told: Told) -> Iterator[Finding]:
    problems = told.value.get("problems") or []
    for problem in problems:
        advice = "see that its disk is there and the service may write to it; labels are in the "
        advice += "log all the same, and are written to it once that works"
        yield Finding("journal", Level.DEGRADED, str(problem), advice)
    if not problems:
        yield Finding("journal", Level.OK, "the journal of labels is up to date")


def _alerts(told: Told) -> Iterator[Finding]:
    failing = told.value.get("failing") or {}
    for channel, why in dict(failing).items():
        words = f"alerts do not get through over {channel}: {why}"
        advice = "to try it: trapwatch alerts test; what could not be sent is kept, and sent later"
        yield Finding("alerts", Level.DEGRADED, words, advice)
    if not failing:
        yield Finding("alerts", Level.OK, "alerts get through")


def _rest(told: Told) -> Iterator[Finding]:
    """Resting by the hours of work or a low battery is no fault; a full disk has its own word."""
    for line in resting_lines({work: str(words) for work, words in told.value.items()}):
        yield Finding("work", Level.OK, line)
    if not told.value:
        yield Finding("work", Level.OK, "nothing rests")


LOOKS: Mapping[str, tuple[str, Callable[[Told], Iterator[Finding]]]] = {
    "watch": ("folders", _folders),
    "disk": ("disk", _disk),
    "backup": ("backup", _backup),
    "integrity": ("log", _integrity),
    "journal": ("journal", _journal),
    "alerts": ("alerts", _alerts),
    "rest": ("work", _rest),
}
"""Key of the state -> the check, and what it says."""
