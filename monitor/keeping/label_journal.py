"""The journal of labels: every act of people once more, outside the log, for the day it breaks.

    data/labels.jsonl    one act a line, with a checksum; media by the SHA-256 of their bytes

Whoever labels brings the journal up to date from the log right after his own act is in it. What a
kill left out there is made up for the next time, by whichever process: the journal only asks for
the acts after its last line.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from monitor.config import Settings
from monitor.domain import utc_now
from monitor.keeping.journal_file import locked, read_lines
from monitor.log.act_records import ActRecord, LabelRecord, is_one_act, same_words
from monitor.log.engine import LogError
from monitor.log.replaying import Replayed
from monitor.log.species_log import SpeciesLog

logger = logging.getLogger(__name__)

NAME = "labels.jsonl"
STATE = "journal"
VERSION = 1
PAGE = 200
MOST_TOLD = 5
FIELDS = ("count", "sex", "life_stage", "behaviour")


def journal_paths(settings: Settings) -> tuple[Path, ...]:
    """Where this station keeps its journals: beside the log, and on the second path if any."""
    if not settings.journal.enabled:
        return ()
    second = settings.journal.second
    first = settings.data_directory / NAME
    return (first,) if second is None else (first, second)


def keep_journal(
    log: SpeciesLog, settings: Settings, clock: Callable[[], datetime] = utc_now
) -> SpeciesLog:
    """From now on each act that goes into `log` goes into the journals, too; returns `log`."""

    def after_act() -> None:
        write_journals(log, settings, clock)

    log.after_act = after_act
    return log


def write_journals(
    log: SpeciesLog, settings: Settings, clock: Callable[[], datetime] = utc_now
) -> list[str]:
    """Bring every journal of the station up to date.

    Returns:
        what failed, in words: the labels are in the log, and the journal gets them the next time.
    """
    problems = []
    for path in journal_paths(settings):
        try:
            catch_up(path, log, clock())
        except (OSError, LogError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            problems.append(f"the journal of labels {path} cannot be written: {reason}")
            logger.warning("%s; what is missing is added later", problems[-1])
    return problems


def catch_up(path: Path, log: SpeciesLog, now: datetime) -> int:
    """Append the acts that came after the journal's last line; returns how many.

    A log that has not the act of the last line is older than the journal: it was restored. Its new
    acts then get ids behind those that are still to be written again, see `bring_together`.

    Raises:
        OSError: the journal cannot be written.
        LogError: the log cannot be read.
    """
    with locked(path) as file:
        last = file.last() or {"act": 0, "key": None, "newest_label": 0}
        newest = int(last["act"])
        if log.act_key(newest) != last["key"]:
            log.reserve_ids(_taken(last), int(last["newest_label"]))
            if not is_apart(log):
                log.put_state(STATE, {"apart": True, "waiting": 0}, now)
        added = 0
        while page := log.acts_after(newest, PAGE):
            _, newest_label = log.newest_ids()
            file.append([line_values(record, newest_label) for record in page])
            newest, added = page[-1].id, added + len(page)
    return added


def is_apart(log: SpeciesLog) -> bool:
    """True if the journal holds acts that the log does not, as far as is known."""
    told = log.state(STATE) or {}
    return bool(told.get("apart") or told.get("waiting"))


def bring_together(path: Path, log: SpeciesLog, now: datetime) -> Replayed:
    """Write into the log what only the journal has, and into the journal what only the log has.

    Labels of media that the log does not know yet wait: call it again once they were taken in.

    Raises:
        OSError: the journal cannot be read or written.
        LogError: the log cannot be written.
    """
    outcome = Replayed()
    catch_up(path, log, now)
    newest, _ = log.newest_ids()
    seen, again = bytearray(newest + 1), log.replayed_acts()
    for page in _pages(records_of(path)):
        done = log.replay_acts(page, again)
        for act_id in done.present:
            if act_id <= newest:
                seen[act_id] = 1
        done.present.clear()
        done.touched.clear()
        outcome.add(done)
    _append_missing(path, log, seen)
    log.put_state(STATE, {"apart": False, "waiting": outcome.waiting}, now)
    return outcome


def _append_missing(path: Path, log: SpeciesLog, seen: bytearray) -> None:
    """Acts of the log that no sound line names; then a line that says: together up to here."""
    with locked(path) as file:
        after = 0
        while page := [r for r in log.acts_after(after, PAGE) if r.id < len(seen)]:
            _, newest_label = log.newest_ids()
            missing = [line_values(r, newest_label) for r in page if not seen[r.id]]
            if missing:
                file.append(missing)
            after = page[-1].id
        last, (newest, newest_label) = file.last(), log.newest_ids()
        if last is not None and (last["act"], last["key"]) != (newest, log.act_key(newest)):
            mark = {"v": VERSION, "act": newest, "key": log.act_key(newest), "kind": "together"}
            taken = {"taken": max(newest, _taken(last))}
            newest_label = max(newest_label, int(last["newest_label"]))
            file.append([{**mark, **taken, "newest_label": newest_label}])


def _taken(last: dict[str, Any]) -> int:
    """The largest id of an act that a journal has a line of, by its last line."""
    return max(int(last["act"]), int(last.get("taken", 0)))


def differences(path: Path, log: SpeciesLog) -> list[str]:
    """Acts of which the log no longer says what the journal kept: somebody, or something, changed
    the log. Lines that cannot be read say nothing."""
    found: list[str] = []
    meanings = log.meanings()
    for page in _pages(records_of(path)):
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


def damaged_lines(path: Path) -> int:
    """How many lines of a journal are torn or changed."""
    return sum(line is None for line in read_lines(path))


def records_of(path: Path) -> Iterator[ActRecord]:
    """Every act of a journal, in order; lines that cannot be read are left out."""
    for line in read_lines(path):
        if line is not None and line.get("kind") != "together":
            yield record_of(line)


def _pages(records: Iterator[ActRecord]) -> Iterator[list[ActRecord]]:
    while page := list(islice(records, PAGE)):
        yield page


def line_values(record: ActRecord, newest_label: int) -> dict[str, Any]:
    """What a line says of an act.

    Args:
        newest_label: the largest id of a label so far.
    """
    values = {"v": VERSION, "act": record.id, **asdict(record), "newest_label": newest_label}
    del values["id"]
    values["labels"] = [_label_values(label) for label in record.labels]
    return values


def _label_values(label: LabelRecord) -> dict[str, Any]:
    values: dict[str, Any] = {"id": label.id, "sha256": label.sha256}
    if label.withdraws is not None:
        return {**values, "withdraws": f"{label.withdraws}/{label.sha256}"}
    said = [
        {"species": species, **{k: v for k, v in zip(FIELDS, rest, strict=True) if v is not None}}
        for species, *rest in label.observations
    ]
    return {**values, "observations": said}


def record_of(line: dict[str, Any]) -> ActRecord:
    """The inverse of `line_values`."""
    names = ("key", "kind", "at", "by", "how", "scope", "request", "details")
    labels = tuple(_label_of(label) for label in line["labels"])
    return ActRecord(id=line["act"], labels=labels, **{name: line[name] for name in names})


def _label_of(values: dict[str, Any]) -> LabelRecord:
    withdraws = values.get("withdraws")
    said = tuple(
        (o["species"], o.get("count"), o.get("sex"), o.get("life_stage"), o.get("behaviour"))
        for o in values.get("observations", ())
    )
    key = withdraws.partition("/")[0] if withdraws is not None else None
    return LabelRecord(values["id"], values["sha256"], said, key)
