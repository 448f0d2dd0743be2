"""How well a station is: one word and its reasons, from what its parts told the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from monitor.clocks import clock_problem
from monitor.config import Settings
from monitor.disk import DiskGuard, DiskState
from monitor.domain import parse_iso_utc
from monitor.locks import LOCK_NAME, is_held
from monitor.log.species_log import SpeciesLog
from monitor.rest import resting_lines

STATES = ("service", "watch", "disk", "backup", "integrity", "alerts", "rest")
"""Keys of the log's `state` table that are looked at."""
LATE_SECONDS = 200.0
"""systemd restarts a service that is silent for 180 s; one that is silent for longer is hung."""


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
class HealthFacts:
    """What the health is judged from.

    Attributes:
        running: whether a process owns the log.
        has_model: whether a version is live.
        learns: whether trainings make one by themselves.
        clock_problem: why the station's clock cannot be right; None if it may be.
        told: by key, of STATES; a part that has told nothing is missing.
    """

    running: bool
    has_model: bool
    learns: bool
    told: Mapping[str, Told]
    clock_problem: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: one plain word: service, workers, model, clock, folders, disk,
            backup, log, alerts, work.
        words: for people; may name paths, so it is only for those who have logged in.
        advice: what to do about it; empty where nothing is to be done.
    """

    check: str
    level: Level
    words: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """All findings, in the order of STATES."""

    findings: Sequence[Finding]

    @property
    def state(self) -> Level:
        """ok, degraded or failing: the worst of all; what is unknown does not count."""
        worst = max((f.level for f in self.findings), key=WORST_LAST.index, default=Level.OK)
        return Level.OK if worst is Level.UNKNOWN else worst

    @property
    def reasons(self) -> list[Finding]:
        """What is not well, the worst first."""
        bad = [f for f in self.findings if f.level in (Level.DEGRADED, Level.FAILING)]
        return sorted(bad, key=lambda f: -WORST_LAST.index(f.level))

    @property
    def is_ready(self) -> bool:
        """Whether it does what it is for: the log is sound, the service lives, and there is a
        model or will be."""
        return all(
            f.level is Level.OK if f.check == "model" else f.level is not Level.FAILING
            for f in self.findings
            if f.check in ("log", "service", "model")
        )

    @property
    def checks(self) -> dict[str, str]:
        """Check -> how it stands, the worst where there are several; nothing private."""
        found: dict[str, Level] = {}
        for one in self.findings:
            before = found.get(one.check, Level.OK)
            found[one.check] = max(before, one.level, key=WORST_LAST.index)
        return {check: level.value for check, level in found.items()}

    def facts(self) -> dict[str, Any]:
        """As `status --json` prints it."""
        reasons = [
            {"check": f.check, "level": f.level.value, "words": f.words, "advice": f.advice}
            for f in self.reasons
        ]
        return {"state": self.state.value, "checks": self.checks, "reasons": reasons}


def health(facts: HealthFacts) -> Health:
    """Judge. Pure: nothing is read, no clock is asked."""
    findings = [*_service(facts), _model(facts), _clock(facts)]
    for key, (check, look) in _LOOKS.items():
        told = facts.told.get(key)
        if told is None:
            findings.append(Finding(check, Level.UNKNOWN, f"nothing is known of: {check}"))
        else:
            findings += look(told)
    return Health(findings)


def health_of(settings: Settings, log: SpeciesLog, now: datetime) -> Health:
    """The health of a station whose log opens."""
    running = is_held(settings.data_directory / LOCK_NAME)
    told = told_of(log, now)
    room = DiskGuard(settings).look()
    if room.state is not DiskState.OK or not running:  # a full disk keeps its own word from us
        told["disk"] = Told(room.facts(), 0.0)
    has_model = log.live_version() is not None
    clock = clock_problem(now, log.newest_written_at())
    return health(HealthFacts(running, has_model, settings.training.enabled, told, clock))


def told_of(log: SpeciesLog, now: datetime) -> dict[str, Told]:
    """What parts of the service have told the log, by key."""
    return {
        key: Told(value, (now - parse_iso_utc(at)).total_seconds())
        for key, (value, at) in log.states(STATES).items()
    }


def heartbeat_words(age_seconds: float | None) -> str:
    """How long ago the service gave a sign of life."""
    if age_seconds is None:
        return "no sign of life yet"
    if age_seconds < 0:
        return "last sign of life in the future: the clock was set back"
    return f"last sign of life {age_seconds:.0f} s ago"


def _service(facts: HealthFacts) -> Iterator[Finding]:
    told = facts.told.get("service")
    if not facts.running:
        advice = "start it: systemctl start trapwatch (or, by hand: trapwatch run)"
        words = "the service is not running: nothing is taken in or classified"
        yield Finding("service", Level.FAILING, words, advice)
        return
    if told is None:
        yield Finding("service", Level.UNKNOWN, "the service has only just started")
        return
    if told.age_seconds > LATE_SECONDS and _is_full(facts):
        words = "no sign of life can be written, for the disk is full: "
        words += heartbeat_words(told.age_seconds)
        yield Finding("service", Level.DEGRADED, words, "make room on the disk")
    elif told.age_seconds > LATE_SECONDS:
        words = f"the service hangs: {heartbeat_words(told.age_seconds)}"
        advice = "systemctl restart trapwatch; journalctl -u trapwatch names what hung"
        yield Finding("service", Level.FAILING, words, advice)
    else:
        yield Finding("service", Level.OK, heartbeat_words(told.age_seconds))
    problems = dict(told.value.get("problems") or {})
    for who, why in problems.items():
        words = f"the service has a problem with {who}: {why}"
        advice = "it tries again by itself; if this stays: trapwatch doctor"
        yield Finding("workers", Level.DEGRADED, words, advice)
    if not problems:
        yield Finding("workers", Level.OK, "no problem")


def _is_full(facts: HealthFacts) -> bool:
    disk = facts.told.get("disk")
    return disk is not None and disk.value.get("state") == DiskState.FULL


def _model(facts: HealthFacts) -> Finding:
    told = facts.told.get("service")
    problem = (told.value.get("problems") or {}).get("model") if told and facts.running else None
    if problem:
        advice = "trapwatch models list; trapwatch models rollback takes the one before"
        return Finding("model", Level.FAILING, f"the live model cannot be used: {problem}", advice)
    if facts.has_model:
        return Finding("model", Level.OK, "a model is live")
    if facts.learns:
        return Finding("model", Level.OK, "no model yet: it learns from labels")
    advice = "label frames and run trapwatch train, or set training.enabled: true"
    words = "there is no model, and no training makes one"
    return Finding("model", Level.DEGRADED, words, advice)


def _clock(facts: HealthFacts) -> Finding:
    if facts.clock_problem is None:
        return Finding("clock", Level.OK, "the clock may be right")
    advice = "timedatectl shows and sets it; a cheap clock chip with a battery keeps it"
    return Finding("clock", Level.DEGRADED, facts.clock_problem, advice)


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
        yield Finding("backup", Level.DEGRADED, words, advice.format("second_folder"))
    if not problem and not second:
        yield Finding("backup", Level.OK, "the last backup is good")


def _integrity(told: Told) -> Iterator[Finding]:
    problem = told.value.get("problem")
    if problem:
        advice = "trapwatch doctor says what was done about it, and which backups are good"
        yield Finding("log", Level.FAILING, f"the log is damaged: {problem}", advice)
    else:
        yield Finding("log", Level.OK, "the log is sound")


def _alerts(told: Told) -> Iterator[Finding]:
    failing = told.value.get("failing") or {}
    for channel, why in dict(failing).items():
        words = f"alerts do not get through over {channel}: {why}"
        advice = "trapwatch alerts test; they are kept and sent again"
        yield Finding("alerts", Level.DEGRADED, words, advice)
    if not failing:
        yield Finding("alerts", Level.OK, "alerts get through")


def _rest(told: Told) -> Iterator[Finding]:
    """Resting by the hours of work or a low battery is no fault; a full disk has its own word."""
    for line in resting_lines({work: str(words) for work, words in told.value.items()}):
        yield Finding("work", Level.OK, line)
    if not told.value:
        yield Finding("work", Level.OK, "nothing rests")


_LOOKS: Mapping[str, tuple[str, Callable[[Told], Iterator[Finding]]]] = {
    "watch": ("folders", _folders),
    "disk": ("disk", _disk),
    "backup": ("backup", _backup),
    "integrity": ("log", _integrity),
    "alerts": ("alerts", _alerts),
    "rest": ("work", _rest),
}
"""Key of the state -> the check, and what it says."""
