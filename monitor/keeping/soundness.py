"""Is the log what it was when it was written? Asked at every start, quickly each day, fully each
week; and the labels outside the log are kept together with those inside."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from monitor.config import Settings, sqlite_path
from monitor.domain import iso_utc, parse_iso_utc
from monitor.keeping.label_journal import (
    STATE as JOURNAL_STATE,
)
from monitor.keeping.label_journal import (
    bring_together,
    damaged_lines,
    differences,
    is_apart,
    journal_paths,
    write_journals,
)
from monitor.log.engine import LogError
from monitor.log.integrity import faults_of
from monitor.log.replaying import Replayed
from monitor.log.species_log import SpeciesLog
from monitor.station import Station

logger = logging.getLogger(__name__)

STATE = "integrity"
RESTORED_STATE = "recovery"
"""What the last recovery of the log came to; `words` says it to people."""
QUICK_EVERY, FULL_EVERY = timedelta(days=1), timedelta(days=7)
CHECK_SECONDS = 3600.0
JOURNAL_SECONDS = 60.0
WAITING_EVERY = timedelta(hours=1)
SMALL_BYTES = 32 * 2**20
"""A log up to this size is looked at fully at every start: that takes less than two seconds."""
MOST_TOLD = 10
CLOCK_TOLERANCE = timedelta(hours=1)

IsEnding = Callable[[], bool]


def faults_at_start(settings: Settings) -> list[str]:
    """What is wrong with the log before it is opened, in words; empty if it is sound or new.

    A large log is looked at no further than SQLite must to open it: the daily check does the rest.
    """
    path = sqlite_path(settings.database.url)
    has_journal = any(p.is_file() and p.stat().st_size for p in journal_paths(settings))
    if not path.exists():
        return ["it is gone, but its journal of labels is there"] if has_journal else []
    size = path.stat().st_size
    if size == 0 and has_journal:
        return ["it is empty, but its journal of labels is not"]
    if size <= SMALL_BYTES:
        return faults_of_log(settings, thorough=True)
    return faults_of(path, depth="schema")


def faults_of_log(settings: Settings, *, thorough: bool) -> list[str]:
    """What is wrong with the file; where it is thorough and SQLite finds nothing, also where the
    log no longer says what the journal kept, which SQLite cannot see."""
    path = sqlite_path(settings.database.url)
    faults = faults_of(path, depth="full" if thorough else "quick")
    if faults or not thorough:
        return faults
    try:
        with SpeciesLog(path) as log:
            for journal in journal_paths(settings):
                faults += differences(journal, log)
    except LogError as error:  # an older release's log, which is to be upgraded first
        logger.info("the log is not compared with its journal yet: %s", error)
    return faults


def check_soundness(station: Station, is_ending: IsEnding = lambda: False) -> None:
    """The duty: look at the log if that is due. What is found ends in `log.damage`, and the service
    restores the log then."""
    now = station.clock()
    told = station.log.state(STATE) or {}
    is_full = is_check_due(told.get("full_at"), FULL_EVERY, now)
    if not is_full and not is_check_due(told.get("quick_at"), QUICK_EVERY, now):
        return
    faults = faults_of_log(station.settings, thorough=is_full)
    if faults:
        words = "; ".join(faults)
        logger.error("the log %s is damaged: %s", station.log.path, words)
        station.log.damage = words
        return
    facts = told | {"quick_at": iso_utc(now), "problem": None}
    station.log.put_state(STATE, facts | ({"full_at": iso_utc(now)} if is_full else {}), now)
    if is_full:
        _mend_journals(station.settings, station.log, now)


def is_check_due(last: str | None, every: timedelta, now: datetime) -> bool:
    """True if the last check is so long ago, or lies in a future that a wrong clock made."""
    if last is None:
        return True
    ago = now - parse_iso_utc(last)
    return ago >= every or ago < -CLOCK_TOLERANCE


def keep_together(station: Station, is_ending: IsEnding = lambda: False) -> None:
    """The duty: bring the journals up to date, and labels that only they have into the log once
    their media were taken in."""
    write_journals(station.log, station.settings, station.clock)
    if is_apart(station.log) and _may_have_come(station):
        now = station.clock()
        outcome = join(station.settings, station.log, now)
        if restored := station.log.state(RESTORED_STATE):
            station.log.put_state(RESTORED_STATE, with_more(restored, outcome), now)
        note = {"waiting": outcome.waiting, "media": station.log.counts()["media"], "apart": False}
        station.log.put_state(JOURNAL_STATE, note | {"at": iso_utc(now)}, now)


def _may_have_come(station: Station) -> bool:
    """True if media that labels wait for may have been taken in since the last try."""
    told = station.log.state(JOURNAL_STATE) or {}
    if told.get("apart") or told.get("at") is None:
        return True
    if told.get("media") == station.log.counts()["media"]:
        return False
    return station.quiet or is_check_due(told["at"], WAITING_EVERY, station.clock())


def join(settings: Settings, log: SpeciesLog, now: datetime) -> Replayed:
    """Bring the log and all its journals together; what failed is logged, and tried again."""
    outcome, waiting = Replayed(), 0
    for path in journal_paths(settings):
        try:
            done = bring_together(path, log, now)
        except (OSError, LogError) as error:
            logger.warning("labels cannot be compared with %s now: %s", path, error)
            continue
        if done.changed:
            log.damage = log.damage or "; ".join(done.changed[:3])
        waiting, done.waiting = max(waiting, done.waiting), 0
        outcome.add(done)
    outcome.waiting = waiting
    if outcome.labels or outcome.acts or outcome.left_out:
        logger.warning("%s", joined_words(outcome))
    return outcome


def joined_words(outcome: Replayed) -> str:
    """What came back from the journal, for people."""
    words = [f"{outcome.labels} labels in {outcome.acts} acts came back from the journal"]
    if outcome.waiting:
        words.append(f"{outcome.waiting} labels wait for frames that are not there yet")
    if outcome.left_out:
        count = len(outcome.left_out) + outcome.others
        words.append(f"{count} acts could not come back ({'; '.join(outcome.left_out[:3])})")
    return "; ".join(words)


def with_more(restored: dict[str, Any], outcome: Replayed) -> dict[str, Any]:
    """The facts of a recovery after more came back from the journal, or the first."""
    facts = restored | {
        "labels": restored.get("labels", 0) + outcome.labels,
        "waiting": outcome.waiting,
        "left_out": [*restored.get("left_out", ()), *outcome.left_out][:MOST_TOLD],
    }
    backup, aside = facts.get("backup"), facts.get("aside")
    came = f"restored from {backup}" if backup else "begun anew, as there is no good backup"
    words = [f"the log was damaged ({facts['why']}) and was {came}"]
    if aside:
        words.append(f"the damaged one is kept as {aside}")
    words.append(f"{facts['labels']} labels came back from the journal")
    if facts["waiting"]:
        words.append(f"{facts['waiting']} more wait for frames that are not there yet")
    if facts["left_out"]:
        words.append(f"not everything could come back: {facts['left_out'][0]}")
    if models := facts.get("models"):
        words.append(f"models taken in again: {', '.join(models)}")
    return facts | {"words": "; ".join(words)}


def _mend_journals(settings: Settings, log: SpeciesLog, now: datetime) -> None:
    for path in journal_paths(settings):
        if count := damaged_lines(path):
            logger.warning("%s: %d lines cannot be read; written again", path, count)
            bring_together(path, log, now)


def log_files(log: Path) -> list[Path]:
    """The files of a log in the order in which they are to be moved: the log itself last, for what
    is left without its write-ahead log is noticed, and the reverse would be mixed up."""
    return [Path(f"{log}{suffix}") for suffix in ("-wal", "-shm", "-journal", "")]
