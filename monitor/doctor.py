"""Checks of everything a station needs; each says how it stands and what to do."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from monitor.alerts.channels import open_to_others, words_of
from monitor.clocks import clock_problem
from monitor.config import ConfigError, Settings, sqlite_path
from monitor.deployments import read_deployments
from monitor.domain import TrapwatchError, iso_utc, utc_now
from monitor.health.check import FAIL, OK, WARN, Check
from monitor.health.classifier_checks import look_at_backbone, look_at_model, look_at_weights
from monitor.health.file_modes import MODE, too_open
from monitor.health.verdict import Level, health_of, heartbeat_words, told_of
from monitor.keeping.backups import folder_of, folders_of
from monitor.keeping.label_journal import journal_paths
from monitor.locks import LOCK_NAME, is_held
from monitor.log.backup import backups_in, facts_of
from monitor.log.engine import LogDamaged, choose_sqlite, file_system_of
from monitor.log.species_log import open_log
from monitor.resources.disk import DiskGuard, DiskState

RESTORES = (
    "start the service anew: it sets the log aside and restores the newest good backup and the "
    "labels since then"
)
LOOKED_AT_HERE = ("disk", "model", "damage", "clock", "folders")
"""Checks of the health that the doctor makes itself."""


def examine(settings: Settings) -> list[Check]:
    """Every check, in the order in which a station needs them. Never raises."""
    checks: list[Check] = []
    for look in (
        _config,
        _clock,
        _data,
        _modes,
        _sqlite,
        _log,
        _journal,
        _backups,
        _folders,
        look_at_weights,
        look_at_backbone,
        look_at_model,
        _service,
        _web,
    ):
        try:
            checks += look(settings)
        except TrapwatchError as error:
            name = look.__name__.removeprefix("look_at").strip("_")
            checks.append(Check(FAIL, name, str(error)))
    return checks


def _config(settings: Settings) -> Iterator[Check]:
    yield Check(OK, "config", str(settings.source))
    if settings.deployments.file is not None:
        try:
            rows = read_deployments(settings.deployments.file, settings.station.zone)
            yield Check(OK, "deployments", f"{len(rows)} in {settings.deployments.file}")
        except ConfigError as error:
            yield Check(FAIL, "deployments", str(error))
    yield Check(OK, "alerts", words_of(settings))
    for path in open_to_others(settings):
        yield Check(WARN, "alerts", f"{path}: others may read its secrets", f"chmod o= {path}")


def _clock(settings: Settings) -> Iterator[Check]:
    newest = None
    if sqlite_path(settings.database.url).exists():
        with open_log(settings.database.url) as log:
            newest = log.newest_written_at()
    now = utc_now()
    problem = clock_problem(now, newest)
    if problem is None:
        yield Check(OK, "clock", iso_utc(now))
    else:
        finding, _, advice = problem.partition(": ")
        yield Check(WARN, "clock", finding, advice)


def _data(settings: Settings) -> Iterator[Check]:
    folder = settings.data_directory
    there = next(p for p in (folder, *folder.parents) if p.exists())
    if not os.access(there, os.W_OK):
        yield Check(
            FAIL, "data folder", f"{folder}: not writable", f"give it to this user: {there}"
        )
        return
    free = shutil.disk_usage(there).free
    yield Check(OK, "data folder", f"{folder}: {free / 1e9:.1f} GB free")
    room = DiskGuard(settings).look()
    state = {DiskState.OK: OK, DiskState.LOW: WARN, DiskState.FULL: FAIL}[room.state]
    advice = "" if state == OK else "move frames or old backups to another disk"
    yield Check(state, "disk", room.words, advice)


def _modes(settings: Settings) -> Iterator[Check]:
    found = too_open(settings)
    for path, mode in found:
        finding = f"{path}: mode {mode:04o}, it should be {mode & MODE:04o}"
        yield Check(
            WARN, "file modes", finding, f"chmod {mode & MODE:04o} {shlex.quote(str(path))}"
        )
    if not found:
        yield Check(OK, "file modes", "config, log and journal are closed to others")


def _sqlite(settings: Settings) -> Iterator[Check]:
    choice = choose_sqlite()
    kind = file_system_of(sqlite_path(settings.database.url))
    finding = f"{choice.name} {choice.version} on {kind or 'an unknown file system'}, "
    if choice.wal:
        yield Check(OK, "SQLite", finding + "write-ahead log")
    else:
        advice = "pip install pysqlite3, where there is a wheel for this machine"
        yield Check(WARN, "SQLite", finding + "rollback journal (slower; WAL-reset bug)", advice)


def _log(settings: Settings) -> Iterator[Check]:
    path = sqlite_path(settings.database.url)
    if not path.exists():
        yield Check(WARN, "log", f"{path}: not there yet", "trapwatch run makes it")
        return
    try:
        with open_log(settings.database.url) as log:
            faults, counts, restored = log.check(), log.counts(), log.state("recovery")
    except LogDamaged as error:
        yield Check(FAIL, "log", str(error), RESTORES)
        return
    if faults:
        yield Check(FAIL, "log", f"{path}: {'; '.join(faults[:3])}", RESTORES)
    else:
        yield Check(OK, "log", f"{path}: sound, {counts['media']} media")
    if restored is not None:
        yield Check(OK, "log restored", f"{restored['at']}: {restored['words']}")


def _journal(settings: Settings) -> Iterator[Check]:
    if not settings.journal.enabled:
        advice = "set journal.enabled to true: labels cannot come back from a backup alone"
        yield Check(WARN, "journal", "no journal of labels is kept", advice)
    for path in journal_paths(settings):
        there = next(p for p in (path, *path.parents) if p.exists())
        if not os.access(there, os.W_OK):
            yield Check(FAIL, "journal", f"{path}: not writable", f"give it to this user: {there}")
        elif path.exists():
            yield Check(OK, "journal", f"{path}: {path.stat().st_size / 1e6:.1f} MB of labels")


def _backups(settings: Settings) -> Iterator[Check]:
    rules, folder = settings.backup, folder_of(settings)
    if not rules.enabled:
        yield Check(WARN, "backups", "none are made", "set backup.enabled: true")
        return
    found = backups_in(*folders_of(settings))
    if found:
        facts = facts_of(found[0])
        words = f"{len(found)}; the newest, {found[0]}, holds {facts.media} media"
        yield Check(OK, "backups", f"{words}, {facts.labels} labels")
    else:
        advice = "the service makes the first when it starts"
        yield Check(WARN, "backups", f"none in {folder} yet", advice)
    second = rules.second_folder
    if second is not None and not second.is_dir():
        advice = "mount the disk; without it there is no copy elsewhere"
        yield Check(WARN, "second backups", f"{second}: not there", advice)


def _folders(settings: Settings) -> Iterator[Check]:
    for folder in settings.watch.folders:
        if not folder.is_dir():
            advice = "make or mount it; it is taken up when it comes"
            yield Check(WARN, "watched folder", f"{folder}: not there", advice)
        elif not os.access(folder, os.R_OK | os.X_OK):
            yield Check(FAIL, "watched folder", f"{folder}: not readable", "let this user read it")
        else:
            yield Check(OK, "watched folder", str(folder))
    limit = Path("/proc/sys/fs/inotify/max_user_watches")
    if limit.exists():
        yield Check(OK, "inotify", f"up to {int(limit.read_text()):,} folders give events")


def _service(settings: Settings) -> Iterator[Check]:
    if not is_held(settings.data_directory / LOCK_NAME):
        yield Check(WARN, "service", "not running", "trapwatch run, or: systemctl start trapwatch")
        return
    if not sqlite_path(settings.database.url).exists():
        yield Check(OK, "service", "running")
        return
    with open_log(settings.database.url) as log:
        now = utc_now()
        health, told = health_of(settings, log, now), told_of(log, now).get("service")
    heartbeat = heartbeat_words(told.age_seconds if told is not None else None)
    hangs = [f for f in health.reasons if f.check == "service"]
    if not hangs:
        yield Check(OK, "service", f"running, {heartbeat}")
    for reason in health.reasons:
        if reason.check in LOOKED_AT_HERE:
            continue
        state = FAIL if reason.level is Level.FAILING else WARN
        yield Check(state, reason.check, reason.words, reason.advice)


def _web(settings: Settings) -> Iterator[Check]:
    web = settings.web
    if not web.enabled:
        yield Check(OK, "pages", "not served (web.enabled)")
        return
    from monitor.web.accounts import Accounts
    from monitor.web.server import is_safe_to_bind, tls_context

    is_tls = tls_context(web) is not None
    address = f"{'https' if is_tls else 'http'}://{web.host}:{web.port}"
    accounts_exist = Accounts(settings.data_directory).exist()
    if not is_safe_to_bind(web.host, accounts_exist=accounts_exist):
        advice = "trapwatch web password, or set web.host to 127.0.0.1"
        yield Check(FAIL, "pages", f"{address}: others could come in, no password is set", advice)
    elif not is_tls and not is_safe_to_bind(web.host, accounts_exist=False):
        advice = "set web.certificate and web.key"
        yield Check(WARN, "pages", f"{address}: whoever listens can read passwords", advice)
    else:
        yield Check(OK, "pages", address)
