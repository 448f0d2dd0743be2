"""Checks of everything a station needs; each says how it stands and what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from monitor.core.clock_check import clock_problem
from monitor.core.config import ConfigError, Settings, sqlite_path
from monitor.core.config.power import HOURS_NOT_KEPT, NO_BATTERY
from monitor.core.domain import TrapwatchError, iso_utc, utc_now
from monitor.health.alert_channels import ChannelsElsewhere, open_to_others, words_of
from monitor.health.check import FAIL, OK, WARN, Check
from monitor.health.classifier_checks import look_at_backbone, look_at_model, look_at_weights
from monitor.health.file_modes import too_open
from monitor.health.log_checks import look_at_backups, look_at_journal, look_at_log
from monitor.health.verdict import Level, health_of, heartbeat_words, told_of
from monitor.log.engine import LogError, choose_sqlite, file_system_of
from monitor.log.species_log import open_log
from monitor.pipeline.deployments import read_deployments
from monitor.system.disk import DiskGuard, DiskState
from monitor.system.limited import Hangs, limited
from monitor.system.locks import LOCK_NAME, is_held

LOOKED_AT_HERE = ("disk", "model", "damage", "clock", "folders")
"""Checks of the health that the doctor makes itself."""
Look = Callable[[Settings], Iterator[Check]]


def examine(settings: Settings, more: Sequence[Look] = ()) -> list[Check]:
    """Every check, in the order in which a station needs them. Never raises.

    Args:
        more: checks of rooms above this one; made last.
    """
    checks: list[Check] = []
    for look in (
        _config,
        _alerts,
        _clock,
        _data,
        _modes,
        _sqlite,
        look_at_log,
        look_at_journal,
        look_at_backups,
        _folders,
        look_at_weights,
        look_at_backbone,
        look_at_model,
        _power,
        _service,
        *more,
    ):
        try:
            checks += look(settings)
        except (TrapwatchError, OSError) as error:
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
        with suppress(LogError), open_log(settings.database.url) as log:  # told by look_at_log
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


def _folders(settings: Settings) -> Iterator[Check]:
    for folder in settings.watch.folders:
        try:
            yield limited(folder)(_look_at_folder, folder)
        except Hangs as error:
            advice = "unplug it, or mount it anew; the other folders go on meanwhile"
            yield Check(WARN, "watched folder", f"{folder}: {error.strerror}", advice)
    limit = Path("/proc/sys/fs/inotify/max_user_watches")
    if limit.exists():
        yield Check(OK, "inotify", f"up to {int(limit.read_text()):,} folders give events")


def _look_at_folder(folder: Path) -> Check:
    if not folder.is_dir():
        advice = "make or mount it; it is taken up when it comes"
        return Check(WARN, "watched folder", f"{folder}: not there", advice)
    if not os.access(folder, os.R_OK | os.X_OK):
        return Check(FAIL, "watched folder", f"{folder}: not readable", "let this user read it")
    return Check(OK, "watched folder", str(folder))


def _power(settings: Settings) -> Iterator[Check]:
    if settings.classifier.rest_below_battery_percent is None:
        return
    from monitor.system.battery import read_battery

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
        with suppress(LogError), open_log(settings.database.url) as log:  # told by look_at_log
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
