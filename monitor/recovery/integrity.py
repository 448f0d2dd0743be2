"""Is the log what it was when it was written? Asked at every start, quickly each day, fully each
week; and the labels outside the log are kept together with those inside."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from monitor.core.config import Settings, sqlite_path
from monitor.core.domain import iso_utc, parse_iso_utc
from monitor.log.backup_facts import backups_in
from monitor.log.context import Context
from monitor.log.engine import LogError
from monitor.log.integrity import faults_of
from monitor.log.replaying import Replayed
from monitor.log.species_log import SpeciesLog
from monitor.log.upgrading import FOLDER
from monitor.recovery.backup_places import folder_of
from monitor.recovery.journal_places import (
    OtherStation,
    in_words,
    journal_paths,
    look_at,
    mark_in,
    step_for,
    take_mark,
)
from monitor.recovery.label_journal import STATE as JOURNAL_STATE
from monitor.recovery.label_journal import (
    bring_together,
    damaged_lines,
    differences,
    is_apart,
    write_journals,
)
from monitor.system.limited import limited

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


class JournalContext(Context, Protocol):
    """What bringing the journals up to date works with."""

    @property
    def quiet(self) -> bool:
        """True once all that is in the folders was taken in."""


def faults_at_start(settings: Settings) -> list[str]:
    """What is wrong with the log before it is opened, in words; empty if it is sound or new.

    A log that is gone or empty is new only if nothing of its own is left. A large log is looked at
    no further than SQLite must to open it: the daily check does the rest.
    """
    path = sqlite_path(settings.database.url)
    size = path.stat().st_size if path.exists() else 0
    if size == 0 and (left := _what_is_left(settings)) is not None:
        return [f"it is {'empty' if path.exists() else 'gone'}, but {left} there"]
    if not path.exists():
        return []
    if size <= SMALL_BYTES:
        return faults_of_log(settings, thorough=True)
    return faults_of(path, depth="schema")


def _what_is_left(settings: Settings) -> str | None:
    """What a log that is not there left behind: then it is no new one. What lies on another disk
    may be another station's."""
    paths, second = journal_paths(settings), settings.backup.second_folder
    if any(p.is_file() and p.stat().st_size for p in paths[:1]):
        return "its journal of labels is"
    if backups_in(folder_of(settings), settings.data_directory / FOLDER):
        return "its backups are"
    try:
        if any(mark_in(path, settings) for path in paths[1:]):
            return "its second journal of labels is"
        found = limited(second)(backups_in, second) if second is not None else []
    except OSError as error:
        logger.warning("nothing is known of what lies on the second disk: %s", in_words(error))
        return None
    if found:
        logger.warning(
            "a new log is begun, although %s lies on the second disk; if it is this station's, put "
            "it back with: trapwatch restore %s",
            found[0],
            found[0],
        )
    return None


def faults_of_log(settings: Settings, *, thorough: bool, second: bool = False) -> list[str]:
    """What is wrong with the file; where it is thorough and SQLite finds nothing, also where the
    log no longer says what the journal kept, which SQLite cannot see.

    Args:
        second: ask the second journal, too.
    """
    path = sqlite_path(settings.database.url)
    faults = faults_of(path, depth="full" if thorough else "quick")
    if faults or not thorough:
        return faults
    try:
        with SpeciesLog(path) as log:
            for journal in journal_paths(settings)[: 2 if second else 1]:
                faults += _differences(journal, log, settings)
    except LogError as error:  # an older release's log, which is to be upgraded first
        logger.info("the log is not compared with its journal yet: %s", error)
    return faults


def _differences(journal: Path, log: SpeciesLog, settings: Settings) -> list[str]:
    try:
        return differences(journal, log, step_for(journal, settings))
    except OSError as error:  # the log is no worse for it
        logger.warning("the log is not compared with %s: %s", journal, in_words(error))
        return []


def check_soundness(context: Context, is_ending: IsEnding = lambda: False) -> None:
    """The duty: look at the log if that is due. What is found ends in `log.damage`, and the service
    restores the log then."""
    now = context.clock()
    told = context.log.state(STATE) or {}
    looks = {name: int(told.get(name, 0)) + 1 for name in ("quick_looks", "full_looks")}
    is_full = is_check_due(told.get("full_at"), FULL_EVERY, now, looks["full_looks"])
    if is_full or is_check_due(told.get("quick_at"), QUICK_EVERY, now, looks["quick_looks"]):
        if faults := faults_of_log(context.settings, thorough=is_full, second=True):
            words = "; ".join(faults)
            logger.error("the log %s is damaged: %s", context.log.path, words)
            context.log.damage = words
            return
        told |= {"quick_at": iso_utc(now), "problem": None}
        looks["quick_looks"] = 0
        if is_full:
            told |= {"full_at": iso_utc(now)}
            looks["full_looks"] = 0
    context.log.put_state(STATE, told | looks, now)
    if is_full or (context.log.state(JOURNAL_STATE) or {}).get("unread"):
        _mend_journals(context.settings, context.log, now)


def is_check_due(last: str | None, every: timedelta, now: datetime, looks: int = 0) -> bool:
    """True if the last check is so long ago, or lies in a future that a wrong clock made.

    Args:
        looks: how often it was asked since then, once in `CHECK_SECONDS`: hours of running, which
            no clock can change.
    """
    if last is None or looks * CHECK_SECONDS >= every.total_seconds():
        return True
    ago = now - parse_iso_utc(last)
    return ago >= every or ago < -CLOCK_TOLERANCE


def keep_together(context: JournalContext, is_ending: IsEnding = lambda: False) -> None:
    """The duty: bring the journals up to date, and labels that only they have into the log once
    their media were taken in."""
    problems = _write_journals(context)
    if (is_apart(context.log) and _may_have_come(context)) or _may_join(context.log, problems):
        now = context.clock()
        outcome = join(context.settings, context.log, now)
        if restored := context.log.state(RESTORED_STATE):
            context.log.put_state(RESTORED_STATE, with_more(restored, outcome), now)
        note = {"waiting": outcome.waiting, "media": context.log.counts()["media"], "apart": False}
        context.log.change_state(JOURNAL_STATE, note | {"at": iso_utc(now)}, now)


def _write_journals(context: Context) -> list[str]:
    """What is wrong with the journals, in words; told where it changes."""
    log, settings = context.log, context.settings
    problems = write_journals(log, settings, context.clock, second=True)
    told = log.state(JOURNAL_STATE) or {}
    unread: dict[str, str] = told.get("unread", {})
    paths = [str(path) for path in journal_paths(settings)]
    problems += [
        f"the journal of labels {path} cannot be read: {why}"
        for path, why in unread.items()
        if path in paths and not any(path in problem for problem in problems)
    ]
    before = told.get("problems")
    if problems != before:
        log.change_state(JOURNAL_STATE, {"problems": problems}, context.clock())
        for problem in problems:
            logger.warning("%s; what is missing is added later", problem)
        if before and not problems:
            logger.info("the journals of labels are up to date again")
    return problems


def _may_join(log: SpeciesLog, problems: list[str]) -> bool:
    """True if a journal that could not be asked for its labels can be asked now."""
    unjoined = (log.state(JOURNAL_STATE) or {}).get("unjoined", [])
    return any(not any(path in problem for problem in problems) for path in unjoined)


def _may_have_come(context: JournalContext) -> bool:
    """True if media that labels wait for may have been taken in since the last try."""
    told = context.log.state(JOURNAL_STATE) or {}
    if told.get("apart") or told.get("at") is None:
        return True
    if told.get("media") == context.log.counts()["media"]:
        return False
    return context.quiet or is_check_due(told["at"], WAITING_EVERY, context.clock())


def join(settings: Settings, log: SpeciesLog, now: datetime) -> Replayed:
    """Bring the log and all its journals together; what failed is logged, and tried again."""
    outcome, waiting, unjoined = Replayed(), 0, []
    take_mark(log, settings, now)
    for path in journal_paths(settings):
        try:
            look_at(path, settings)
            step = step_for(path, settings)
            done = bring_together(path, log, now, step, settings.station.name)
        except OtherStation as error:
            logger.warning("labels of %s are not brought in: %s", path, error)
            continue
        except (OSError, LogError) as error:
            logger.warning("labels cannot be compared with %s now: %s", path, in_words(error))
            unjoined.append(str(path))
            continue
        if done.changed:
            log.damage = log.damage or "; ".join(done.changed[:3])
        waiting, done.waiting = max(waiting, done.waiting), 0
        outcome.add(done)
    outcome.waiting = waiting
    if unjoined != (log.state(JOURNAL_STATE) or {}).get("unjoined", []):
        log.change_state(JOURNAL_STATE, {"unjoined": unjoined}, now)
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
    """The facts of a recovery after more came back from the journal, or the first.

    Args:
        restored: the facts until now; `what` is what happened, in words.
    """
    facts = restored | {
        "labels": restored.get("labels", 0) + outcome.labels,
        "waiting": outcome.waiting,
        "left_out": [*restored.get("left_out", ()), *outcome.left_out][:MOST_TOLD],
    }
    words = [facts.get("what") or _what_was_done(facts)]
    if facts["labels"] or "what" not in facts:
        words.append(f"{facts['labels']} labels came back from the journal")
    if facts["waiting"]:
        words.append(f"{facts['waiting']} more wait for frames that are not there yet")
    if facts["left_out"]:
        words.append(f"not everything could come back: {facts['left_out'][0]}")
    if models := facts.get("models"):
        words.append(f"models taken in again: {', '.join(models)}")
    return facts | {"words": "; ".join(words)}


def _what_was_done(facts: Mapping[str, Any]) -> str:
    backup, aside = facts.get("backup"), facts.get("aside")
    came = f"restored from {backup}" if backup else "begun anew, as there is no good backup"
    words = f"the log was damaged ({facts['why']}) and was {came}"
    return f"{words}; the damaged one is kept as {aside}" if aside else words


def _mend_journals(settings: Settings, log: SpeciesLog, now: datetime) -> None:
    """Read the journals whole; lines that are damaged are written again."""
    unread: dict[str, str] = {}
    for path in journal_paths(settings):
        step = step_for(path, settings)
        try:
            if count := damaged_lines(path, step):
                logger.warning("%s: %d lines cannot be read; written again", path, count)
                look_at(path, settings)
                bring_together(path, log, now, step, settings.station.name)
        except OtherStation:
            continue  # told once a minute
        except OSError as error:
            unread[str(path)] = in_words(error)
    log.change_state(JOURNAL_STATE, {"unread": unread}, now)
