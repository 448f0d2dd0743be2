"""What the doctor asks of all that is recorded: the log, the journal of labels, backups."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from monitor.core.config import Settings, sqlite_path
from monitor.health.check import FAIL, OK, WARN, Check
from monitor.log.backup_facts import BackupFacts, facts_of
from monitor.log.engine import HEAD, LogDamaged, LogNewer
from monitor.log.recovery_note import read_note
from monitor.log.species_log import open_log
from monitor.recovery.backup_places import all_backups, folder_of, mark_of, own_backups, step_in
from monitor.recovery.journal_places import in_words, journal_paths, look_at, step_for
from monitor.recovery.label_journal import damaged_lines

RESTORES = (
    "start the service anew: it sets the log aside and restores the newest good backup and the "
    "labels since then"
)


def look_at_log(settings: Settings) -> Iterator[Check]:
    """The log: whether it opens, whether it is whole."""
    path = sqlite_path(settings.database.url)
    if not path.exists():
        if (note := read_note(path)) is not None:
            advice = "free some space" if note.waits_for else "start the service"
            yield Check(FAIL, "log", f"{path}: {note.words}", advice)
            return
        yield Check(WARN, "log", f"{path}: not there yet", "trapwatch run makes it")
        return
    try:
        with open_log(settings.database.url) as log:
            faults, counts, restored = log.check(), log.counts(), log.state("recovery")
    except LogDamaged as error:
        yield Check(FAIL, "log", str(error), RESTORES)
        return
    except LogNewer as error:
        yield Check(FAIL, "log", str(error), _way_back(settings))
        return
    if faults:
        yield Check(FAIL, "log", f"{path}: {'; '.join(faults[:3])}", RESTORES)
    else:
        yield Check(OK, "log", f"{path}: sound, {counts['media']} media")
    if restored is not None:
        yield Check(OK, "log restored", f"{restored['at']}: {restored['words']}")


def _way_back(settings: Settings) -> str:
    """What to do about a log of a newer release, with the very copy that this one can restore."""
    found, _ = all_backups(settings)
    for facts in found:
        if facts.revision <= HEAD:
            back = f"stop the service, then: trapwatch restore {facts.path}"
            return f"or stay with this release: {back} (docs/install.md, Go back)"
    return "docs/install.md, Go back, says what else there is"


def look_at_journal(settings: Settings) -> Iterator[Check]:
    """The journal of labels, here and on the second path."""
    if not settings.journal.enabled:
        advice = "set journal.enabled to true: labels cannot come back from a backup alone"
        yield Check(WARN, "journal", "no journal of labels is kept", advice)
    for path in journal_paths(settings):
        step = step_for(path, settings)
        try:
            if (there := step(_not_writable, path)) is not None:
                advice = f"give it to this user: {there}"
                yield Check(FAIL, "journal", f"{path}: not writable", advice)
                continue
            look_at(path, settings)
            damaged, size = damaged_lines(path, step), step(_size_of, path)
        except OSError as error:
            advice = "see that its disk is there and sound; labels are in the log all the same"
            yield Check(WARN, "journal", f"{path}: {in_words(error)}", advice)
            continue
        if damaged:
            advice = "the service writes them again within a week"
            yield Check(WARN, "journal", f"{path}: {damaged} damaged lines", advice)
        elif size is not None:
            yield Check(OK, "journal", f"{path}: {size / 1e6:.1f} MB of labels")


def _not_writable(path: Path) -> Path | None:
    """The file, or the nearest folder above it that is there, if this user may not write there."""
    there = next(p for p in (path, *path.parents) if p.exists())
    return None if os.access(there, os.W_OK) else there


def _size_of(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None


def look_at_backups(settings: Settings) -> Iterator[Check]:
    """The backups of this station, and the disk of their second copies."""
    rules, folder = settings.backup, folder_of(settings)
    if not rules.enabled:
        yield Check(WARN, "backups", "none are made", "set backup.enabled: true")
        return
    found = own_backups(settings, mark_of(settings))
    if found:
        facts: BackupFacts = step_in(found[0].parent, settings)(facts_of, found[0])
        words = f"{len(found)}; the newest, {found[0]}, holds {facts.media} media"
        yield Check(OK, "backups", f"{words}, {facts.labels} labels")
    else:
        advice = "the service makes the first when it starts"
        yield Check(WARN, "backups", f"none in {folder} yet", advice)
    if (second := rules.second_folder) is not None:
        try:
            yield from step_in(second, settings)(_look_at_second, second, folder)
        except OSError as error:
            advice = "unplug it, or mount it anew; backups are made here all the same"
            yield Check(WARN, "second backups", f"{second}: {error.strerror or error}", advice)


def _look_at_second(second: Path, folder: Path) -> list[Check]:
    if not second.is_dir():
        advice = "mount the disk; without it there is no copy elsewhere"
        return [Check(WARN, "second backups", f"{second}: not there", advice)]
    if folder.is_dir() and second.stat().st_dev == folder.stat().st_dev:
        advice = "mount the other disk: no copy is made there as long as it is not"
        return [Check(WARN, "second backups", f"{second}: on the same disk as {folder}", advice)]
    return []
