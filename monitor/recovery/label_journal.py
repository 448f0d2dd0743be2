"""The journal of labels: every act of people once more, outside the log, for the day it breaks.

    data/labels.jsonl    one act a line, with a checksum; media by the SHA-256 of their bytes

Whoever labels brings the journal up to date from the log right after his own act is in it. What a
kill left out there is made up for the next time, by whichever process: the journal only asks for
the acts after its last line. A second journal, on another disk, is kept by the service alone, with
a limit of time for each step: nobody who labels waits for it.

Each line has the mark of its station (`identity` of the log): a journal of another station is left
alone. Lines of older releases have none and count as own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from monitor.core.config import Settings
from monitor.core.domain import utc_now
from monitor.log.act_records import ActRecord, is_one_act, same_words
from monitor.log.engine import LogError
from monitor.log.learning import IDENTITY
from monitor.log.replaying import Replayed
from monitor.log.species_log import SpeciesLog
from monitor.recovery.journal_file import JournalFile, locked, read_lines
from monitor.recovery.journal_lines import VERSION, line_values, record_of
from monitor.recovery.journal_places import (
    in_words,
    journal_paths,
    look_at,
    own_mark,
    step_for,
    take_mark,
)
from monitor.system.limited import Step, directly

logger = logging.getLogger(__name__)

STATE = "journal"
"""In the log's state: `apart` and `waiting` (labels that only a journal has), `media` and `at` (of
the last try to bring them in), `unjoined` (journals that could not be asked for them), `unread`
(journal -> why it could not be read whole), and `problems`, for people: a list of sentences, empty
where all is well; the service looks once a minute, and writes it when it changes."""
PAGE = 200
MOST_TOLD = 5


def keep_journal(
    log: SpeciesLog, settings: Settings, clock: Callable[[], datetime] = utc_now
) -> SpeciesLog:
    """From now on each act that goes into `log` goes into the journal, too; returns `log`."""

    def after_act() -> None:
        for problem in write_journals(log, settings, clock):
            logger.warning("%s; what is missing is added later", problem)

    log.after_act = after_act
    return log


def write_journals(
    log: SpeciesLog,
    settings: Settings,
    clock: Callable[[], datetime] = utc_now,
    *,
    second: bool = False,
) -> list[str]:
    """Bring the journal of the station up to date; the second one only where that is said.

    Returns:
        what failed, in words: the labels are in the log, and the journal gets them the next time.
    """
    problems = []
    for path in journal_paths(settings)[: 2 if second else 1]:
        step = step_for(path, settings)
        try:
            look_at(path, settings)
            take_mark(log, settings, clock())
            catch_up(path, log, clock(), step, settings.station.name)
        except (OSError, LogError) as error:
            problems.append(f"the journal of labels {path} cannot be written: {in_words(error)}")
    return problems


def catch_up(
    path: Path, log: SpeciesLog, now: datetime, step: Step = directly, name: str | None = None
) -> int:
    """Append the acts that came after the journal's last line; returns how many.

    A log that has not the act of the last line is older than the journal: it was restored. Its new
    acts then get ids behind those that are still to be written again, see `bring_together`.

    Args:
        step: how the journal's disk is asked.
        name: of the station, for its lines.

    Raises:
        OSError: the journal cannot be read or written.
        OtherStation: it is another station's.
        LogError: the log cannot be read.
    """
    with locked(path, step) as file:
        last = file.last() or {"act": 0, "key": None, "newest_label": 0}
        mark = own_mark(log, last, now, name)
        newest = int(last["act"])
        if log.act_key(newest) != last["key"]:
            log.reserve_ids(_taken(last), int(last["newest_label"]))
            log.skip_media_ids(int(last.get("newest_media", 0)), now)
            if not is_apart(log):
                log.change_state(STATE, {"apart": True, "waiting": 0}, now)
        added = 0
        while page := log.acts_after(newest, PAGE):
            ids = log.newest_ids()[1], log.newest_media_id()
            file.append([line_values(record, *ids) | mark for record in page])
            newest, added = page[-1].id, added + len(page)
    return added


def is_apart(log: SpeciesLog) -> bool:
    """True if the journal holds acts that the log does not, as far as is known."""
    told = log.state(STATE) or {}
    return bool(told.get("apart") or told.get("waiting"))


def bring_together(
    path: Path, log: SpeciesLog, now: datetime, step: Step = directly, name: str | None = None
) -> Replayed:
    """Write into the log what only the journal has, and into the journal what only the log has.

    Labels of media that the log does not know yet wait: call it again once they were taken in.

    Raises:
        OSError: the journal cannot be read or written.
        OtherStation: it is another station's.
        LogError: the log cannot be written.
    """
    outcome = Replayed()
    catch_up(path, log, now, step, name)
    own = log.identity(now)
    newest, _ = log.newest_ids()
    seen, again = bytearray(newest + 1), log.replayed_acts()
    for page in _pages(records_of(path, step, own)):
        done = log.replay_acts(page, again)
        for act_id in done.present:
            if act_id <= newest:
                seen[act_id] = 1
        done.present.clear()
        done.touched.clear()
        outcome.add(done)
    with locked(path, step) as file:
        _append_missing(file, log, seen, own_mark(log, {}, now, name))
    log.change_state(STATE, {"apart": False, "waiting": outcome.waiting}, now)
    return outcome


def _append_missing(
    file: JournalFile, log: SpeciesLog, seen: bytearray, mark: dict[str, str]
) -> None:
    """Acts of the log that no sound line names; then a line that says: together up to here."""
    after = 0
    while page := [r for r in log.acts_after(after, PAGE) if r.id < len(seen)]:
        ids = log.newest_ids()[1], log.newest_media_id()
        missing = [line_values(r, *ids) | mark for r in page if not seen[r.id]]
        if missing:
            file.append(missing)
        after = page[-1].id
    last, (newest, newest_label) = file.last(), log.newest_ids()
    if last is not None and (last["act"], last["key"]) != (newest, log.act_key(newest)):
        line = {"v": VERSION, "act": newest, "key": log.act_key(newest), "kind": "together"}
        taken = {"taken": max(newest, _taken(last))}
        newest_label = max(newest_label, int(last["newest_label"]))
        newest_media = max(log.newest_media_id(), int(last.get("newest_media", 0)))
        newest_ids = {"newest_label": newest_label, "newest_media": newest_media}
        file.append([{**line, **taken, **newest_ids, **mark}])


def _taken(last: dict[str, Any]) -> int:
    """The largest id of an act that a journal has a line of, by its last line."""
    return max(int(last["act"]), int(last.get("taken", 0)))


def differences(path: Path, log: SpeciesLog, step: Step = directly) -> list[str]:
    """Acts of which the log no longer says what the journal kept: somebody, or something, changed
    the log. Lines that cannot be read say nothing. Raises OSError."""
    found: list[str] = []
    meanings, own = log.meanings(), (log.state(IDENTITY) or {}).get("id")
    for page in _pages(records_of(path, step, own)):
        there = log.act_records([record.id for record in page])
        for kept in page:
            written = there.get(kept.id)
            if written is None or not is_one_act(written, kept):
                continue
            if not same_words(written, kept, meanings):
                what = f"{kept.kind} by {kept.by} at {kept.at}"
                found.append(f"act {kept.id} ({what}) is not what the journal kept")
                if len(found) == MOST_TOLD:
                    return found
    return found


def damaged_lines(path: Path, step: Step = directly) -> int:
    """How many lines of a journal are torn or changed. Raises OSError."""
    return sum(line is None for line in read_lines(path, step))


def records_of(path: Path, step: Step = directly, own: str | None = None) -> Iterator[ActRecord]:
    """Every act of a journal, in order; lines that cannot be read are left out, and where `own` is
    the mark of a station, those of others."""
    for line in read_lines(path, step):
        if line is None or line.get("kind") == "together":
            continue
        if own is None or line.get("station", own) == own:
            yield record_of(line)


def _pages(records: Iterator[ActRecord]) -> Iterator[list[ActRecord]]:
    while page := list(islice(records, PAGE)):
        yield page
