"""Checks of everything a station needs; each says how it stands and what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from monitor.alerts.channels import ChannelsElsewhere, open_to_others, words_of
from monitor.clocks import clock_problem
from monitor.config import ConfigError, Settings, sqlite_path
from monitor.config.power import HOURS_NOT_KEPT, NO_BATTERY
from monitor.deployments import read_deployments
from monitor.domain import TrapwatchError, iso_utc, utc_now
from monitor.health.check import FAIL, OK, WARN, Check
from monitor.health.classifier_checks import look_at_backbone, look_at_model, look_at_weights
from monitor.health.file_modes import too_open
from monitor.health.verdict import Level, health_of, heartbeat_words, told_of
from monitor.keeping.backups import folder_of, folders_of, mark_of, own_backups
from monitor.keeping.journal_places import in_words, journal_paths, look_at, step_for
from monitor.keeping.label_journal import damaged_lines
from monitor.locks import LOCK_NAME, is_held
from monitor.log.backup_facts import BackupError, backups_in, facts_of
from monitor.log.engine import (
    HEAD,
    LogDamaged,
    LogError,
    LogNewer,
    choose_sqlite,
    file_system_of,
)
from monitor.log.recovery_note import read_note
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
        _alerts,
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
        _power,
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


def _alerts(settings: Settings) -> Iterator[Check]:
    try:
        yield Check(OK, "alerts", words_of(settings))
    except ChannelsElsewhere:
        finding = f"{settings.alerts.urls_file}: only the service can read it"
        yield Check(OK, "alerts", finding, "docs/alerts.md says how to try it")
        return
    for path in open_to_others(settings):
        yield Check(WARN, "alerts", f"{path}: others may read its secrets", f"chmod o= {path}")


def _clock(settings: Settings) -> Iterator[Check]:
    newest = None
    if sqlite_path(settings.database.url).exists():
        with suppress(LogError), open_log(settings.database.url) as log:  # which `_log` tells
            newest = log.newest_written_at()
    now = utc_now()
    problem = clock_problem(now, newest)
    if problem is None:
        yield Check(OK, "clock", iso_utc(now))
    else:
        finding, _, advice = problem.partition(": ")
        yield Check(WARN, "clock", finding, advice)
        if settings.classifier.active_hours:
            yield Check(WARN, "hours of work", HOURS_NOT_KEPT, "set the clock")


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
    guard = DiskGuard(settings)
    room = guard.look()
    for path, why in guard.hanging().items():
        yield Check(WARN, "disk", f"{path}: {why}", "unplug it, or mount it anew")
    state = {DiskState.OK: OK, DiskState.LOW: WARN, DiskState.FULL: FAIL}[room.state]
    advice = "" if state == OK else "move frames or old backups to another disk"
    yield Check(state, "disk", room.words, advice)


def _modes(settings: Settings) -> Iterator[Check]:
    found = too_open(settings)
    for one in found:
        yield Check(WARN, "file modes", one.finding, one.command)
    if not found:
        yield Check(OK, "file modes", "config, log, models and backups are closed to others")


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
    for path in backups_in(*folders_of(settings)):
        with suppress(BackupError):
            if facts_of(path).revision <= HEAD:
                back = f"stop the service, then: trapwatch restore {path}"
                return f"or stay with this release: {back} (docs/install.md, Go back)"
    return "docs/install.md, Go back, says what else there is"


def _journal(settings: Settings) -> Iterator[Check]:
    if not settings.journal.enabled:
        advice = "set journal.enabled to true: labels cannot come back from a backup alone"
        yield Check(WARN, "journal", "no journal of labels is kept", advice)
    for path in journal_paths(settings):
        there = next(p for p in (path, *path.parents) if p.exists())
        if not os.access(there, os.W_OK):
            yield Check(FAIL, "journal", f"{path}: not writable", f"give it to this user: {there}")
            continue
        try:
            look_at(path, settings)
            damaged = damaged_lines(path, step_for(path, settings))
        except OSError as error:
            advice = "see that its disk is there and sound; labels are in the log all the same"
            yield Check(WARN, "journal", f"{path}: {in_words(error)}", advice)
            continue
        if damaged:
            advice = "the service writes them again within a week"
            yield Check(WARN, "journal", f"{path}: {damaged} damaged lines", advice)
        elif path.exists():
            yield Check(OK, "journal", f"{path}: {path.stat().st_size / 1e6:.1f} MB of labels")


def _backups(settings: Settings) -> Iterator[Check]:
    rules, folder = settings.backup, folder_of(settings)
    if not rules.enabled:
        yield Check(WARN, "backups", "none are made", "set backup.enabled: true")
        return
    found = own_backups(settings, mark_of(settings))
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
    elif second is not None and folder.is_dir() and second.stat().st_dev == folder.stat().st_dev:
        advice = "mount the other disk: no copy is made there as long as it is not"
        yield Check(WARN, "second backups", f"{second}: on the same disk as {folder}", advice)


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


def _power(settings: Settings) -> Iterator[Check]:
    if settings.classifier.rest_below_battery_percent is None:
        return
    from monitor.resources.power import read_battery

    battery = read_battery()
    if battery is None:
        yield Check(WARN, "battery", NO_BATTERY, "set classifier.active_hours (docs/power.md)")
    else:
        mains = ", on mains or charging" if battery.on_mains else ""
        yield Check(OK, "battery", f"{battery.percent:.0f} %{mains}")


def _service(settings: Settings) -> Iterator[Check]:
    """Whether it runs, and what it told of its parts, where nothing above looked by itself."""
    running, found = is_held(settings.data_directory / LOCK_NAME), None
    if not running:
        yield Check(WARN, "service", "not running", "trapwatch run, or: systemctl start trapwatch")
    if sqlite_path(settings.database.url).exists():
        with suppress(LogError), open_log(settings.database.url) as log:  # which `_log` tells
            now = utc_now()
            found = health_of(settings, log, now), told_of(log, now).get("service")
    if found is None:
        if running:
            yield Check(OK, "service", "running")
        return
    health, told = found
    reasons = [f for f in health.reasons if running or f.check != "service"]
    if running and all(f.check != "service" for f in reasons):
        heartbeat = heartbeat_words(told.age_seconds if told is not None else None)
        yield Check(OK, "service", f"running, {heartbeat}")
    for reason in reasons:
        if reason.check not in LOOKED_AT_HERE:
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
