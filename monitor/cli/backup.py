"""Copies of the log: backup, restore."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from monitor.cli.app import ConfigOption, JsonOption, UsageError, app, read_settings
from monitor.core.config import Settings, sqlite_path
from monitor.core.domain import utc_now
from monitor.log.backup import verify_backup, write_backup
from monitor.log.backup_facts import BackupError, BackupFacts, facts_of
from monitor.log.recovery_note import NOTE
from monitor.system.console import note, print_json, print_table
from monitor.system.locks import LOCK_NAME, TRAINING_LOCK_NAME, Busy, OwnerLock

ACCOUNTS = "accounts.json"
"""See `monitor.web.accounts`, which is heavy."""


@app.command("backup")
def backup(
    file: Annotated[Path | None, typer.Argument(help="A new file.", show_default=False)] = None,
    list_them: Annotated[
        bool, typer.Option("--list", help="Show the backups that the service made, newest first.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Copy the log into FILE, whole, as it is at this moment; the service may go on.

    The copy is read back before it counts. The service makes backups by itself, too: `--list`.

    Example: `trapwatch backup /media/usb/log-2024-05-01.db`
    """
    settings = read_settings(config)
    if list_them:
        if file is not None:
            raise UsageError("--list takes no FILE")
        _list(settings, as_json=as_json)
        return
    if file is None:
        raise UsageError("name a new FILE, or see what there is: trapwatch backup --list")
    facts = write_backup(sqlite_path(settings.database.url), file)
    if as_json:
        print_json(_values(facts))
    note(f"{file}: written; it holds {_contents(facts)}")


@app.command("restore")
def restore(
    file: Annotated[Path, typer.Argument(help="A backup.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    other: Annotated[
        bool, typer.Option("--other-station", help="Also the backup of another station.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Put a backup in the place of the log. The log that is there now is kept under another name.

    Stop the service before. Labels since the backup come back from the journal of labels, frames
    from their folders, when the service starts again.

    Example: `trapwatch restore /var/lib/trapwatch/backups/trapwatch-2026-11-26T0215Z.db`
    """
    from monitor.log.restore import drop_older_asides, restore_backup
    from monitor.recovery.backup_places import mark_of
    from monitor.recovery.replaced_log import forget_copy

    settings = read_settings(config)
    log, data = sqlite_path(settings.database.url), settings.data_directory
    with _owned(data):
        facts = verify_backup(file)
        note(f"{file} holds {_contents(facts)}")
        if log.exists():
            note(f"{log} holds {_now_in(log)}; it is kept under another name beside it")
        own, question = mark_of(settings), "Put the backup in its place?"
        if not other and None not in (own, facts.station) and own != facts.station:
            note(f"{file} is ANOTHER station's: its log would take the place of this station's")
            if yes:
                raise BackupError("nothing was changed; if that is meant, add --other-station")
            question = "Put the other station's backup in its place?"
        if not (yes or _agreed(question)):
            raise BackupError("nothing was changed")
        aside = restore_backup(file, log, utc_now())
        drop_older_asides(log, aside)
        (data / NOTE).unlink(missing_ok=True)  # of a damage that is mended by this
        forget_copy(log, utc_now())
    if as_json:
        print_json(_values(facts) | {"set_aside": str(aside) if aside else None})
    note(f"{log}: restored" + (f"; the log that was there: {aside}" if aside else ""))
    if settings.web.enabled and not (data / ACCOUNTS).exists():
        note("who may log in is in no backup: set passwords anew with: trapwatch web password")
    note("start the service again; frames and labels since then come back by themselves")


@contextmanager
def _owned(data: Path) -> Iterator[None]:
    """No service works on the log, and nothing trains. Raises Busy."""
    with ExitStack() as locks:
        try:
            for name in (LOCK_NAME, TRAINING_LOCK_NAME):
                locks.enter_context(OwnerLock(data / name, f"the log in {data}", utc_now()))
        except Busy as error:
            raise Busy(f"{error}; end it first: systemctl stop trapwatch") from error
        yield


def _agreed(question: str) -> bool:
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _list(settings: Settings, *, as_json: bool) -> None:
    from monitor.recovery.backup_places import all_backups, mark_of

    own = mark_of(settings)
    found, problems = all_backups(settings)
    for problem in problems:
        note(problem)
    if as_json:
        print_json([_values(facts) for facts in found])
        return
    rows = [
        (
            f.path,
            f"{f.size_bytes / 1e6:.1f} MB",
            f.media,
            f.labels,
            f.newest_label_at,
            _whose(f, own),
        )
        for f in found
    ]
    print_table(("backup", "size", "media", "labels", "newest label", "whose"), rows)


def _whose(facts: BackupFacts, own: str | None) -> str:
    if facts.station is None or own is None:
        return "not known"
    return "this station's" if facts.station == own else "another station's"


def _values(facts: BackupFacts) -> dict[str, Any]:
    return asdict(facts) | {"path": str(facts.path)}


def _contents(facts: BackupFacts) -> str:
    newest = f", the newest of {facts.newest_label_at}" if facts.newest_label_at else ""
    return f"{facts.media} media, {facts.labels} labels{newest}"


def _now_in(log: Path) -> str:
    try:
        return _contents(facts_of(log, is_live=True))
    except BackupError as error:
        return f"what cannot be told ({error})"
