"""How well a station is: one word and its reasons, from what its parts told the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from monitor.core.clock_check import clock_problem
from monitor.core.config import Settings, sqlite_path
from monitor.core.domain import parse_iso_utc
from monitor.health.ages import Ages, old_ones
from monitor.health.certificate import ends_at, running_out
from monitor.health.findings import LOOKS, WORST_LAST, Finding, Level, Told
from monitor.health.log_use import NOT_IN_USE, LogUse, grown, kept_locked, log_use
from monitor.log.species_log import SpeciesLog
from monitor.system.disk import DiskGuard, DiskState
from monitor.system.locks import LOCK_NAME, held_since, is_held

__all__ = [
    "WORST_LAST",
    "Finding",
    "Health",
    "HealthFacts",
    "Level",
    "Told",
    "health",
    "health_of",
    "heartbeat_words",
    "told_of",
]

STATES = ("service", "watch", "disk", "backup", "integrity", "journal", "alerts", "rest")
"""Keys of the log's `state` table that are looked at."""
REPAIR = (
    "put its directory back from a copy, then: trapwatch models promote {}; or train anew: "
    "trapwatch train --force"
)
HANGS = "systemctl restart trapwatch; journalctl -u trapwatch names what hung"
HELD_SECONDS = 100.0
"""A sign of life comes every 60 s at least, and waits 30 s for the log."""
LATE_SECONDS = 200.0
"""systemd restarts a service that is silent for 180 s; one that is silent for longer is hung."""


@dataclass(frozen=True, slots=True)
class HealthFacts:
    """What the health is judged from.

    Attributes:
        running: whether a process owns the log.
        has_model: whether a version is live.
        learns: whether trainings make one by themselves.
        clock_problem: why the station's clock cannot be right; None if it may be.
        damaged: the version whose files were found damaged, and in whose place another is live, or
            none; None: nothing of the kind, or it is settled.
        told: by key, of STATES; a part that has told nothing is missing.
        ages: what the age of backups and checks is judged by; None: it is not.
        use: who else uses the log.
        certificate_ends: when that of the pages does; None: it is not known, or there is none.
    """

    running: bool
    has_model: bool
    learns: bool
    told: Mapping[str, Told]
    clock_problem: str | None = None
    damaged: str | None = None
    ages: Ages | None = None
    use: LogUse = NOT_IN_USE
    certificate_ends: datetime | None = None


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
    findings = [*_service(facts), _model(facts), *_damage(facts), _clock(facts)]
    for key, (check, look) in LOOKS.items():
        told = facts.told.get(key)
        if told is None:
            findings.append(Finding(check, Level.UNKNOWN, f"nothing is known of: {check}"))
        else:
            findings += look(told)
    findings += grown(facts.use)
    if facts.ages is not None:
        findings += old_ones(facts.told, facts.ages)
        if facts.ages.now is not None:
            findings += running_out(facts.certificate_ends, facts.ages.now)
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
    learns, lost = settings.training.enabled, log.damaged_version()
    damaged = lost.name if lost is not None else None
    ages = _ages(settings, None if clock is not None else now)
    use = log_use(sqlite_path(settings.database.url))
    ends = ends_at(settings.web.certificate) if settings.web.enabled else None
    return health(HealthFacts(running, has_model, learns, told, clock, damaged, ages, use, ends))


def _ages(settings: Settings, now: datetime | None) -> Ages:
    rules, since = settings.backup, held_since(settings.data_directory / LOCK_NAME)
    up = now - since if now is not None and since is not None else None
    return Ages(now, up, timedelta(hours=rules.every_hours) if rules.enabled else None)


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
    up = facts.ages.up if facts.ages is not None else None
    if told is None and up is not None and up.total_seconds() > LATE_SECONDS:
        words = (
            f"the service hangs: no sign of life since its start, {up.total_seconds():.0f} s ago"
        )
        yield Finding("service", Level.FAILING, words, HANGS)
        return
    if told is None:
        yield Finding("service", Level.UNKNOWN, "the service has only just started")
        return
    writer = facts.use.writer
    if told.age_seconds > HELD_SECONDS and writer and writer.pid != told.value.get("pid"):
        yield kept_locked(facts.use, heartbeat_words(told.age_seconds))
    elif told.age_seconds > LATE_SECONDS and _is_full(facts):
        words = "no sign of life can be written, for the disk is full: "
        words += heartbeat_words(told.age_seconds)
        yield Finding("service", Level.DEGRADED, words, "make room on the disk")
    elif told.age_seconds > LATE_SECONDS:
        words = f"the service hangs: {heartbeat_words(told.age_seconds)}"
        yield Finding("service", Level.FAILING, words, HANGS)
    else:
        yield Finding("service", Level.OK, heartbeat_words(told.age_seconds))
    problems = dict(told.value.get("problems") or {})
    for who, why in problems.items():
        words = f"the service has a problem with {who}: {why}"
        advice = "it tries again by itself; if this stays: trapwatch doctor"
        yield Finding("workers", Level.DEGRADED, words, advice, who)
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


def _damage(facts: HealthFacts) -> Iterator[Finding]:
    """A check of its own: a station whose older model labels does what it is for."""
    if facts.damaged is None:
        return
    words, level = damage_words(facts.damaged, has_model=facts.has_model), Level.DEGRADED
    if not facts.has_model:
        level = Level.FAILING
    yield Finding("damage", level, words, REPAIR.format(facts.damaged))


def damage_words(name: str, *, has_model: bool) -> str:
    """What came of it that the files of the live version were found damaged."""
    found = f"the files of model {name} are damaged, and kept as they are"
    if has_model:
        return f"{found}; the newest sound version before it labels in its place"
    return f"{found}; no version before it is sound: frames are kept, and wait for a new model"


def _clock(facts: HealthFacts) -> Finding:
    if facts.clock_problem is None:
        return Finding("clock", Level.OK, "the clock may be right")
    advice = "timedatectl shows and sets it; a cheap clock chip with a battery keeps it"
    return Finding("clock", Level.DEGRADED, facts.clock_problem, advice)
