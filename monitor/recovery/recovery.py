"""What is done when the log breaks: it is set aside, the newest good backup takes its place, and
what people said since then comes back from the journal. Frames come back by themselves: the folders
are compared with the log at every start.

A note beside the log says how far it is, so that a kill at any moment only begins it again.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from monitor.core.config import Settings, sqlite_path
from monitor.core.domain import ModelState, TrapwatchError, iso_utc
from monitor.log.backup import remove_partial
from monitor.log.backup_facts import NoRoom, is_for_want_of_room, station_of
from monitor.log.recovery_note import NOTE, Note, read_note, write_note
from monitor.log.restore import (
    SPARE_BYTES,
    drop_older_asides,
    log_files,
    restore_backup,
    set_aside,
)
from monitor.log.species_log import SpeciesLog
from monitor.model.versions import ModelError, ModelStore
from monitor.recovery.backup_places import mark_of, newest_good
from monitor.recovery.integrity import (
    RESTORED_STATE,
    faults_at_start,
    faults_of_log,
    join,
    with_more,
)
from monitor.recovery.integrity import STATE as INTEGRITY
from monitor.recovery.journal_places import journal_paths, mark_in
from monitor.recovery.label_journal import is_apart, keep_journal, write_journals
from monitor.recovery.replaced_log import choose_log, tell_choice

logger = logging.getLogger(__name__)

Tell = Callable[[SpeciesLog, dict[str, Any]], None]
FOUND = "found in the models directory when the log was restored"


def note_damage(settings: Settings, why: str, now: datetime) -> None:
    """Let the log be restored at the next start, because of what was found while it was open."""
    log = sqlite_path(settings.database.url)
    if read_note(log) is None:
        write_note(log, _new_note(log, why, now))


def make_sound(
    settings: Settings, now: datetime, tell: Tell = lambda log, report: None
) -> dict[str, Any] | None:
    """Restore the log if it is broken, or if that was begun; bring the labels together.

    Args:
        tell: called with the restored log and what was done, before the recovery counts as done.

    Returns:
        what was done, as `trapwatch status --json` tells it; None if the log was sound.

    Raises:
        TrapwatchError: the log cannot be restored, with the reason.
    """
    log = sqlite_path(settings.database.url)
    note = read_note(log)
    try:
        choice = choose_log(settings, now)
        if note is None and (faults := _faults(settings, log, now)):
            note = _new_note(log, "; ".join(faults), now)
            write_note(log, note)
        report = _recover(settings, log, note, now, tell) if note is not None else None
        if choice is not None:
            tell_choice(settings, choice, report["words"] if report is not None else "", now)
        return report
    except NoRoom as error:
        _wait_for_room(log, str(error))
        raise
    except OSError as error:
        what = f"the damaged log {log} cannot be restored" if note else f"{log} cannot be looked at"
        raise TrapwatchError(f"{what}: {error}; the next start tries it again") from error


def _faults(settings: Settings, log: Path, now: datetime) -> list[str]:
    """What is wrong with the log, in words; where nothing is, labels are brought together."""
    (log.parent / NOTE).unlink(missing_ok=True)  # one that cannot be read
    if faults := faults_at_start(settings):
        return faults
    why = _bring_labels(settings, log, now)
    return [why] if why is not None else []


def _recover(
    settings: Settings, log: Path, note: Note, now: datetime, tell: Tell
) -> dict[str, Any]:
    logger.error("the log %s is damaged: %s. It is set aside and restored", log, note.why)
    aside = log.with_name(note.aside)
    if log.exists() and not aside.exists():
        set_aside(log, aside)
    drop_older_asides(log, aside)
    if not log.exists() and not note.is_empty:
        _save_last_labels(settings, aside)
        backup = _restore_newest(settings, log, aside, now)
        note = replace(
            note,
            backup=os.fspath(backup) if backup else None,
            is_empty=backup is None,
            waits_for=None,
        )
        write_note(log, note)
    if log.exists() and not note.is_empty and (faults := faults_of_log(settings, thorough=True)):
        logger.error("the backup %s is damaged, too: %s", note.backup, "; ".join(faults))
        set_aside(log, log.with_name(f"{note.aside}-backup"))
        note = replace(note, backup=None, is_empty=True)
        write_note(log, note)
    with keep_journal(SpeciesLog(log, create=True), settings) as opened:
        opened.skip_media_ids(0, now)
        models = adopt_models(opened, ModelStore(settings.models.directory), now)
        kept = os.fspath(aside) if aside.exists() else None
        facts = {"at": note.at, "why": note.why, "aside": kept, "backup": note.backup}
        report = with_more({**facts, "models": models}, join(settings, opened, now))
        _tell(opened, report, now, tell)
    (log.parent / NOTE).unlink(missing_ok=True)
    return report


def _wait_for_room(log: Path, why: str) -> None:
    """Say in the note why the recovery does not go on."""
    note = read_note(log)
    if note is not None and note.waits_for != why:
        with suppress(OSError):  # the disk may be full to the last byte
            write_note(log, replace(note, waits_for=why))


def _save_last_labels(settings: Settings, aside: Path) -> None:
    """Acts that the journal has not yet and the damaged log can still tell: read from a copy, as
    SQLite changes what it opens."""
    copy = aside.with_name(f"{aside.name}.reading")
    try:
        for file, target in zip(log_files(aside), log_files(copy), strict=True):
            if file.exists():
                shutil.copyfile(file, target)
        with SpeciesLog(copy) as opened:
            write_journals(opened, settings)
    except Exception as error:  # a broken file can do anything
        if is_for_want_of_room(error):
            needed = SPARE_BYTES + sum(f.stat().st_size for f in log_files(aside) if f.exists())
            why = f"{needed / 1e6:,.1f} MB are needed to read the last labels of the damaged log"
            raise NoRoom(f"{aside.parent}: {why}; free some space", needed) from error
        logger.info("the damaged log tells no more labels: %s", error)
    finally:
        remove_partial(copy)


def _restore_newest(settings: Settings, log: Path, aside: Path, now: datetime) -> Path | None:
    """Put the newest good backup of this station in the place of the log; None if there is none."""
    own = station_of(aside) or _mark_of_journals(settings) or mark_of(settings)
    backup = newest_good(settings, own)
    if backup is not None:
        restore_backup(backup, log, now)
    return backup


def _mark_of_journals(settings: Settings) -> str | None:
    for path in journal_paths(settings):
        with suppress(OSError):
            if (mark := mark_in(path, settings)) is not None:
                return mark
    return None


def _bring_labels(settings: Settings, log: Path, now: datetime) -> str | None:
    """Where somebody put an older log there by hand, what was said since then comes back.

    Returns:
        what is wrong with the log if that shows by this.
    """
    if not log.exists() or log.stat().st_size == 0:
        return None
    with keep_journal(SpeciesLog(log, create=True), settings) as opened:
        write_journals(opened, settings)
        if is_apart(opened):
            join(settings, opened, now)
        return opened.damage


def adopt_models(log: SpeciesLog, store: ModelStore, now: datetime) -> list[str]:
    """Enter model versions in the log that lie whole on the disk and are unknown to it: as
    candidates. Which of them was live, the journal says.

    Returns:
        their names, and what is wrong with those that were left out.
    """
    known, adopted = {row.name for row in log.versions()}, []
    for name in store.names():
        if name in known:
            continue
        try:
            head, card = store.load(name, None)[0], store.card(name)
        except ModelError as error:
            logger.warning("%s is left out: %s", name, error)
            continue
        backbone = str(card.get("backbone", head.layout.partition("@")[0]))
        sha256, figures = str(card["weights_sha256"]), _figures(card)
        state = ModelState.CANDIDATE
        log.add_version(name, state, backbone, head.layout, sha256, FOUND, figures, now)
        adopted.append(name)
    return adopted


def _figures(card: dict[str, Any]) -> dict[str, Any]:
    from monitor.training.card import figures_of  # only where a log is restored

    try:
        return figures_of(card)
    except (KeyError, TypeError, ValueError):
        return {}


def _tell(log: SpeciesLog, report: dict[str, Any], now: datetime, tell: Tell) -> None:
    """Say it wherever people look."""
    logger.error("%s", report["words"])
    log.put_state(RESTORED_STATE, report, now)
    told = log.state(INTEGRITY) or {}
    log.put_state(INTEGRITY, told | {"problem": None, "restored_at": iso_utc(now)}, now)
    tell(log, report)


def _new_note(log: Path, why: str, now: datetime) -> Note:
    moment = now.strftime("%Y%m%dT%H%M%SZ")
    names = [f"{log.name}.damaged-{moment}"]
    names += [f"{names[0]}-{number}" for number in range(2, 1000)]
    free = next(name for name in names if not log.with_name(name).exists())
    return Note(iso_utc(now), why, free)
