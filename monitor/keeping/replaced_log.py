"""When another program deletes or replaces the files of the log under a running service.

The service copies what it still has open, notes why, and begins anew: only that lets go of the old
files without SQLite writing into those that have taken their place. The next start decides between
the copy and what lies at the log's path; whatever is not used is kept beside it.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from monitor.config import Settings, sqlite_path
from monitor.domain import iso_utc
from monitor.durable import sync, write_whole
from monitor.keeping.label_journal import keep_journal
from monitor.keeping.soundness import RESTORED_STATE, join, with_more
from monitor.log.backup import remove_partial, verify
from monitor.log.backup_facts import BackupError, station_of, surplus
from monitor.log.engine import LogError, LogReplaced
from monitor.log.integrity import faults_of
from monitor.log.restore import drop_older_asides, name_aside, put_in_place
from monitor.log.species_log import SpeciesLog

logger = logging.getLogger(__name__)

NOTE = "replaced.json"
"""Beside the log: why the service began anew, until the next start has dealt with it."""
COPY_SUFFIX = ".was-open"
COPY_IS_USED = "nothing is lost: the log goes on with a copy of what the service had open"
COME_BACK = "labels come back from the journal, frames from their folders"
TRIES, PAUSE_SECONDS = 40, 0.25
"""For a connection that no worker uses; each of them fails at its next transaction."""


def save_what_is_open(
    log: SpeciesLog, why: str, now: datetime, alive: Callable[[], object] = lambda: None
) -> None:
    """Note that the log's files were replaced, and copy what the service still has open of them.

    What fails is logged: labels come back from the journal and frames from their folders, too.

    Args:
        why: which file was replaced, in words.
        alive: called now and then; a large log takes its time.
    """
    logger.critical("%s; the service copies what it has open and begins anew", why)
    copy = _copy_of(log.path)
    facts: dict[str, Any] = {"at": iso_utc(now), "why": why}
    partial = log.path.with_name(f".{copy.name}.{os.getpid()}.partial")
    try:
        _write_note(log.path, facts)
        _copy(log, partial, alive)
        sync(partial)
        os.replace(partial, copy)
        facts["is_copied"] = True
    except (LogError, OSError) as error:
        logger.error("what the service had open cannot be copied whole: %s", error)
        facts["problem"] = str(error)
    try:
        remove_partial(partial)
        log.set_side_files_aside(name_aside(log.path, now).name)
        _write_note(log.path, facts)
    except OSError as error:
        logger.error("the next start cannot be told of it: %s", error)


def _copy(log: SpeciesLog, partial: Path, alive: Callable[[], object]) -> None:
    def is_ending() -> bool:
        alive()
        return False

    for tries_left in reversed(range(TRIES)):
        try:
            log.copy_what_is_open(partial, is_ending)
            return
        except LogReplaced:
            if not tries_left:
                raise
            is_ending()
            time.sleep(PAUSE_SECONDS)


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of the copy.

    Attributes:
        words: the same for people.
        missing_media: how many had been taken in and are not in the log that is used now.
        aside: where what is not used is kept.
    """

    words: str
    missing_media: int = 0
    aside: Path | None = None


def take_up_copy(settings: Settings, now: datetime) -> dict[str, Any] | None:
    """Decide which log is used, if the last run of the service noted that its files were replaced.

    Call it as the owner of the log, before it is opened. Killed at any moment, the next call goes
    on.

    Returns:
        the facts, with `words` for people; None if nothing was noted.

    Raises:
        OSError: the log's folder cannot be read or written.
        LogError: the log cannot be written.
    """
    log = sqlite_path(settings.database.url)
    note = _read_note(log)
    if note is None:
        return None
    decision = _decide(settings, log, now, note)
    drop_older_asides(log, decision.aside)
    facts: dict[str, Any] = {
        "at": note.get("at", iso_utc(now)),
        "what": f"{note.get('why', 'the files of the log were replaced')}; {decision.words}",
        "aside": os.fspath(decision.aside) if decision.aside else None,
        "missing_media": decision.missing_media,
    }
    if log.exists():
        with keep_journal(SpeciesLog(log, create=True), settings) as opened:
            if decision.missing_media:
                opened.skip_media_ids(0, now)
            facts = with_more(facts, join(settings, opened, now))
            opened.put_state(RESTORED_STATE, facts, now)
    logger.error("%s", facts.get("words", facts["what"]))
    (log.parent / NOTE).unlink(missing_ok=True)
    return facts


def _decide(settings: Settings, log: Path, now: datetime, note: dict[str, Any]) -> Decision:
    copy = _copy_of(log)
    if not copy.exists():
        if note.get("is_copied"):  # and a kill came between using the copy and telling
            return Decision(COPY_IS_USED)
        problem = note.get("problem", "the service was ended before")
        return Decision(f"what the service had open could not be copied ({problem}): {COME_BACK}")
    try:
        verify(copy, copy, lambda: False)
    except BackupError as error:
        os.replace(copy, aside := name_aside(log, now))
        logger.warning("%s", error)
        words = f"the copy of what the service had open is not sound and kept as {aside}"
        return Decision(f"{words}: {COME_BACK}", 0, aside)
    if (unused := _why_unused(copy, log)) is not None:
        try:
            kept_as = put_in_place(copy, log, now)
        except BackupError as error:  # somebody has it open
            logger.warning("what lies at %s is left there: %s", log, error)
        else:
            kept = f"; {unused}, and is kept as {kept_as}" if kept_as else ""
            return Decision(f"{COPY_IS_USED}{kept}", 0, kept_as)
    missing = _missing_in(log, copy)
    with suppress(LogError), SpeciesLog(copy) as opened:
        join(settings, opened, now)  # so that the journal has what only the copy knows
    os.replace(copy, aside := name_aside(log, now))
    return Decision(
        f"what lies there now is used, for others have written into it. {missing} frames that had "
        "been taken in are not in it: those that are still in their folders come back by "
        f"themselves; the log as it was is kept as {aside}",
        missing,
        aside,
    )


def _why_unused(copy: Path, log: Path) -> str | None:
    """Why what lies at the log's path is of no use beside the copy; None: it holds more."""
    if not log.exists():
        return "there was nothing in its place"
    if not log.stat().st_size or faults_of(log, depth="full"):
        return "what lay in its place is no sound log"
    own, other = station_of(copy), station_of(log)
    if None not in (own, other) and own != other:
        return "what lay in its place is another station's log"
    try:
        more = surplus(log, copy)
    except BackupError:
        return "what lay in its place is no species log"
    return None if more else "what lay in its place holds nothing more"


def _missing_in(log: Path, copy: Path) -> int:
    try:
        return surplus(copy, log).media
    except BackupError:
        return 0


def _copy_of(log: Path) -> Path:
    return log.with_name(f"{log.name}{COPY_SUFFIX}")


def _write_note(log: Path, facts: dict[str, Any]) -> None:
    write_whole(json.dumps(facts).encode(), log.parent / NOTE, 0o640)


def _read_note(log: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((log.parent / NOTE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read: %s", log.parent / NOTE, error)
        return {}
    return found if isinstance(found, dict) else {}
