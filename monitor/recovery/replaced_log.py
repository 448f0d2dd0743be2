"""When another program deletes or replaces the files of the log under a running service.

The service copies what it still has open, notes why, and begins anew: only that lets go of the old
files without SQLite writing into those that have taken their place. The next start decides between
the copy and what lies at the log's path, notes what it decided, and does it; whatever is not used
is kept beside the log.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from monitor.core.config import Settings, sqlite_path
from monitor.core.domain import iso_utc
from monitor.log.backup import remove_partial, sweep, verify
from monitor.log.backup_facts import BackupError, NoRoom, NotSound, station_of, surplus
from monitor.log.engine import LogError, LogReplaced
from monitor.log.integrity import faults_of
from monitor.log.restore import drop_older_asides, name_aside, set_aside
from monitor.log.species_log import SpeciesLog
from monitor.recovery.integrity import RESTORED_STATE, join, with_more
from monitor.recovery.label_journal import keep_journal
from monitor.system.files import sync, write_whole
from monitor.system.systemd import notify

logger = logging.getLogger(__name__)

NOTE = "replaced.json"
"""Beside the log: why the service began anew, until the next start has dealt with it."""
COPY_SUFFIX = ".was-open"
COPY_IS_USED = "nothing is lost: the log goes on with a copy of what the service had open"
COME_BACK = "labels come back from the journal, frames from their folders"
TRIES, PAUSE_SECONDS = 40, 0.25
"""For a connection that no worker uses; each of them fails at its next transaction."""
SIGN_SECONDS = 5.0

Facts = dict[str, Any]


# ---- in the service that had the log open -------------------------------------------------------


def save_what_is_open(
    log: SpeciesLog,
    why: str,
    now: datetime,
    make_room: Callable[[int], object] = lambda needed_bytes: None,
) -> None:
    """Note that the log's files were replaced, and copy what the service still has open of them.

    What fails is logged and noted: labels come back from the journal, frames from their folders.

    Args:
        why: which file was replaced, in words.
        make_room: called with the bytes that a copy needs, where the disk has no room for it.
    """
    logger.critical("%s; the service copies what it has open and begins anew", why)
    place = _real(log.path)
    partial = place.with_name(f".{place.name}{COPY_SUFFIX}.{os.getpid()}.partial")
    note: Facts = {"at": iso_utc(now), "why": why}
    try:
        _write_note(place, note)
        note["media"], size_bytes = _tried_again(log.size_of_what_is_open)
        try:
            _tried_again(lambda: log.copy_what_is_open(partial, _sign_of_life()))
        except NoRoom:
            make_room(2 * size_bytes)
            _tried_again(lambda: log.copy_what_is_open(partial, _sign_of_life()))
        sync(partial)
        os.replace(partial, _copy_of(place))
        note["is_copied"] = True
    except (LogError, OSError) as error:
        logger.error("what the service had open cannot be copied whole: %s", error)
        note["problem"] = str(error)
    try:
        remove_partial(partial)
        log.set_side_files_aside()
        _write_note(place, note)
    except OSError as error:
        logger.error("the next start cannot be told of it: %s", error)


def _tried_again(read: Callable[[], Any]) -> Any:
    """Read through a connection of before; a new one is refused while all of them are in use."""
    is_ending = _sign_of_life()
    for tries_left in reversed(range(TRIES)):
        try:
            return read()
        except LogReplaced:
            if not tries_left:
                raise
            is_ending()
            time.sleep(PAUSE_SECONDS)
    return None


def _sign_of_life() -> Callable[[], bool]:
    """Return what is asked whether to end: never; systemd hears now and then that all is well."""
    told = float("-inf")

    def is_ending() -> bool:
        nonlocal told
        if time.monotonic() - told >= SIGN_SECONDS:
            told = time.monotonic()
            notify("WATCHDOG=1\nEXTEND_TIMEOUT_USEC=60000000")
        return False

    return is_ending


# ---- at the next start --------------------------------------------------------------------------


def choose_log(settings: Settings, now: datetime) -> Facts | None:
    """Put the better one in the log's place, if the last run noted that its files were replaced.

    Call it as the owner of the log, before it is opened. Killed at any moment, the next call goes
    on; what was decided is decided.

    Returns:
        the facts for `tell_choice`; None if nothing was noted.

    Raises:
        OSError: the log's folder cannot be read or written.
    """
    log = _real(sqlite_path(settings.database.url))
    note = _read_note(log)
    if note is None:
        return None
    if "what" not in note:
        sweep(log.parent)
        note |= _decision(settings, log, now, note)
        _write_note(log, note)
    copy, aside = _copy_of(log), log.with_name(str(note["aside"]))
    if copy.exists() and note["is_copy_used"]:
        set_aside(log, aside)
        os.replace(copy, log)
    elif copy.exists():
        os.replace(copy, aside)
    sync(log.parent)
    drop_older_asides(log, aside)
    return note


def tell_choice(settings: Settings, note: Facts, more: str, now: datetime) -> None:
    """Bring the labels of both together in the log, and say what was done wherever people look.

    Args:
        note: what `choose_log` answered.
        more: what else was done to the log before it could be opened, in words.
    """
    place = _real(sqlite_path(settings.database.url))
    aside = place.with_name(str(note["aside"]))
    with keep_journal(SpeciesLog(place, create=True), settings) as log:
        missing = 0
        if not note["is_copy_used"]:
            missing = max(0, int(note.get("media", 0)) - log.counts()["media"])
            log.skip_media_ids(0, now)
        words = [str(note["what"]), *([more] if more else [])]
        if missing:
            words.append(
                f"{missing} frames that had been taken in are not in the log: those that are still "
                "in their folders come back by themselves"
            )
        if aside.exists():
            words.append(f"what is not used is kept as {aside}")
        facts = {"at": note["at"], "what": "; ".join(words), "missing_media": missing}
        facts["aside"] = os.fspath(aside) if aside.exists() else None
        facts = with_more(facts, join(settings, log, now))
        logger.error("%s", facts["words"])
        log.put_state(RESTORED_STATE, facts, now)
    (place.parent / NOTE).unlink(missing_ok=True)


def forget_copy(log: Path, now: datetime) -> None:
    """Set the copy aside: somebody restored the log meanwhile. Raises OSError."""
    place = _real(log)
    if (copy := _copy_of(place)).exists():
        os.replace(copy, name_aside(place, now))
    (place.parent / NOTE).unlink(missing_ok=True)


def _decision(settings: Settings, log: Path, now: datetime, note: Facts) -> Facts:
    """Which is used, and why, in words."""
    copy, why = _copy_of(log), note.get("why", "the files of the log were replaced")
    facts: Facts = {"at": note.get("at", iso_utc(now)), "aside": name_aside(log, now).name}
    if not copy.exists():
        problem = note.get("problem", "the service was ended before")
        what = f"what the service had open could not be copied ({problem}): {COME_BACK}"
        return facts | {"is_copy_used": False, "what": f"{why}; {what}"}
    try:
        verify(copy, copy, _sign_of_life())
    except NotSound as error:
        logger.warning("%s", error)
        what = f"the copy of what the service had open is not sound: {COME_BACK}"
        return facts | {"is_copy_used": False, "what": f"{why}; {what}"}
    is_used, reason = _is_better(copy, log)
    if reason == BOTH:
        with suppress(LogError), SpeciesLog(log if is_used else copy) as unused:
            join(settings, unused, now)  # so that the journal has what only this one knows
    what = f"{COPY_IS_USED}, for {reason}" if is_used else reason
    return facts | {"is_copy_used": is_used, "what": f"{why}; {what}"}


BOTH = "others have written into what lies there now"


def _is_better(copy: Path, log: Path) -> tuple[bool, str]:
    """Whether the copy is better than what lies at the log's path, and why."""
    if not log.exists():
        return True, "there was nothing in its place"
    try:
        if not log.stat().st_size or faults_of(log, depth="quick"):
            return True, "what lay in its place is no sound log"
        own, other = station_of(copy), station_of(log)
        if None not in (own, other) and own != other:
            return True, "what lay in its place is another station's log"
        there = surplus(log, copy)
    except (BackupError, LogError):
        return True, "what lay in its place cannot be read as a species log"
    if not there:
        return True, "what lay in its place holds nothing more"
    return there.media <= surplus(copy, log).media, BOTH


def _real(log: Path) -> Path:
    """Where the file itself lies; SQLite follows links, too."""
    return Path(os.path.realpath(log))


def _copy_of(log: Path) -> Path:
    return log.with_name(f"{log.name}{COPY_SUFFIX}")


def _write_note(log: Path, note: Facts) -> None:
    write_whole(json.dumps(note).encode(), log.parent / NOTE, 0o640)


def _read_note(log: Path) -> Facts | None:
    try:
        found = json.loads((log.parent / NOTE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read: %s", log.parent / NOTE, error)
        return {}
    return found if isinstance(found, dict) else {}
