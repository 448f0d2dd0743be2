"""How a station stands, from its log alone: works whether the service runs or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psutil

from monitor.core.clock_check import clock_problem
from monitor.core.config import Settings
from monitor.core.config.power import HOURS_NOT_KEPT, NO_BATTERY
from monitor.core.domain import iso_utc, parse_iso_utc, utc_now
from monitor.core.pauses import resting_lines
from monitor.health.learning import learning_lines, learning_of
from monitor.health.verdict import health_of
from monitor.log.runs import RunRow
from monitor.log.species_log import SpeciesLog
from monitor.log.versions import VersionRow
from monitor.recovery.backups import STATE as BACKUP
from monitor.recovery.backups import backup_lines
from monitor.report.silent_deployments import silent_deployments
from monitor.system.disk import DiskGuard, DiskState
from monitor.system.locks import LOCK_NAME, TRAINING_LOCK_NAME, is_held
from monitor.training.schedule import training_due_at, training_facts

MOST_SILENT_LINES = 10
TOLD_ABOVE = ("workers", "folders", "disk", "clock")
"""Checks of the health that have lines of their own."""
TOLD_FOR = timedelta(days=30)
"""So long a recovery of the log stands among the lines."""


def status_of(settings: Settings, log: SpeciesLog, now: datetime | None = None) -> dict[str, Any]:
    """Everything `trapwatch status --json` prints."""
    now = now or utc_now()
    counts = log.counts()
    oldest = log.oldest_pending()
    facts = training_facts(log)
    due = training_due_at(facts, settings.training, settings.station.zone)
    data = settings.data_directory
    disk, room = psutil.disk_usage(str(data)), DiskGuard(settings).look()
    service = log.state("service") or {}
    running = is_held(data / LOCK_NAME)
    live = log.live_version()
    return {
        "station": settings.station.name,
        "now": iso_utc(now),
        "clock": {"problem": clock_problem(now, log.newest_written_at())},
        "health": health_of(settings, log, now).facts(),
        "service": {
            "running": running,
            "pid": service.get("pid") if running else None,
            "problems": service.get("problems", {}) if running else {},
        },
        "engine": log.state("engine"),
        "media": counts,
        "lag_seconds": _lag(oldest, now),
        "watch": log.state("watch"),
        "unreadable": [{"path": p, "problem": why} for p, why in log.unreadable(20)],
        "live_model": _version(live),
        "rescoring": _rescoring(log, counts["predicted_by_live"]),
        "training": {
            "running": is_held(data / TRAINING_LOCK_NAME),
            "last": _run(facts.newest),
            "new_labels": facts.new_labels,
            "min_new_labels": settings.training.min_new_labels,
            "next_due": iso_utc(due) if due is not None else None,
        },
        "learning": learning_of(log, settings.training, live),
        "labels_until_training": max(0, settings.training.min_new_labels - facts.new_labels),
        "disk": {"free_bytes": disk.free, "total_bytes": disk.total, "folder": str(data)}
        | {"state": room.state.value, "fullest": room.words},
        "backup": {"enabled": settings.backup.enabled} | (log.state(BACKUP) or {}),
        "rest": (log.state("rest") or {}) if running else {},
        "power": _power(settings, log),
        "log": {key: log.state(key) for key in ("integrity", "recovery", "journal")},
        "today": _today(log, now, settings.station.zone),
        "silent_deployments": silent_deployments(log, now, settings.effort.rule),
        "alerts": {"on": settings.alerts.is_on, **log.deliveries()},
    }


def status_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The same for people: (what, how it stands)."""
    media, training, watch = facts["media"], facts["training"], facts["watch"] or {}
    live, service = facts["live_model"], facts["service"]
    others = ", ".join(f"{n} {kind}" for kind, n in watch.get("other_types", {}).items())
    lines = [
        ("station", facts["station"]),
        *([("clock", facts["clock"]["problem"])] if facts["clock"]["problem"] else []),
        ("health", facts["health"]["state"]),
        ("service", f"running, process {service['pid']}" if service["running"] else "not running"),
        ("engine", _engine_line(facts["engine"])),
        (
            "media",
            f"{media['media']}: {media['classified']} classified, {media['pending']} pending, "
            f"{media['rejected']} rejected, {media['labelled']} labelled",
        ),
        ("waiting for their file", str(media["waiting_for_their_file"])),
        ("lag", f"{facts['lag_seconds']:.0f} s" if facts["lag_seconds"] is not None else "none"),
        ("other files seen", others or "none"),
        ("unreadable files", str(media["unreadable_files"])),
        ("live model", f"{live['name']}, since {live['went_live_at']}" if live else "none yet"),
        ("past media", _rescoring_line(facts["rescoring"])),
        ("last training", _run_line(training["last"])),
        ("new labels", f"{training['new_labels']} (trains from {training['min_new_labels']})"),
        ("next training", training["next_due"] or "when there are enough new labels"),
        *learning_lines(facts),
        ("disk", f"{facts['disk']['free_bytes'] / 1e9:.1f} GB free in {facts['disk']['folder']}"),
    ]
    if facts["disk"]["state"] != DiskState.OK:
        lines.append(("disk", facts["disk"]["fullest"]))
    lines += _log_lines(facts["log"], facts["now"])
    lines += backup_lines(facts["backup"])
    if (alerts := facts["alerts"])["on"]:
        given_up = f", {alerts['failed']} given up" if alerts["failed"] else ""
        lines.append(("alerts", f"{alerts['waiting']} waiting to be sent{given_up}"))
    lines += _power_lines(facts["power"], facts["clock"]["problem"])
    lines += [("rests", line) for line in resting_lines(facts["rest"])]
    lines += [
        ("silent camera", _silent_line(silent))
        for silent in facts["silent_deployments"][:MOST_SILENT_LINES]
    ]
    lines += [("problem", f"{u['path']}: {u['problem']}") for u in facts["unreadable"]]
    lines += [("problem", p) for p in watch.get("problems", [])]
    lines += [("problem", f"{who}: {why}") for who, why in service["problems"].items()]
    lines += [
        ("not well", f"{reason['words']} ({reason['advice']})")
        for reason in facts["health"]["reasons"]
        if not _is_told(reason, facts["backup"])
    ]
    return lines


def _power(settings: Settings, log: SpeciesLog) -> dict[str, Any]:
    """What the classifier is to rest by, and what the service found of the battery."""
    rules, told = settings.classifier, log.state("power") or {}
    return {
        "active_hours": list(rules.active_hours),
        "rest_below_battery_percent": rules.rest_below_battery_percent,
        "battery_percent": told.get("battery_percent"),
        "on_mains": told.get("on_mains"),
        "looked_for_battery": bool(told),
    }


def _power_lines(power: dict[str, Any], clock: str | None) -> Iterator[tuple[str, str]]:
    if power["active_hours"] and clock is not None:
        yield ("hours of work", HOURS_NOT_KEPT)
    if power["rest_below_battery_percent"] is None or not power["looked_for_battery"]:
        return
    percent = power["battery_percent"]
    mains = ", on mains or charging" if power["on_mains"] else ""
    yield ("battery", f"{percent} %{mains}" if percent is not None else NO_BATTERY)


def _is_told(reason: dict[str, Any], backup: dict[str, Any]) -> bool:
    """Whether another line says that already."""
    if reason["check"] != "backup":
        return reason["check"] in TOLD_ABOVE
    failures = (backup.get("problem"), backup.get("second_problem"))
    return any(problem and problem in reason["words"] for problem in failures)


def start_of_day(now: datetime, zone: ZoneInfo) -> datetime:
    """When today began at the station."""
    return datetime.combine(now.astimezone(zone).date(), time(), zone)


def _silent_line(silent: dict[str, Any]) -> str:
    if silent["last_frame_at"] is None:
        return f"{silent['deployment']}: no frame since it was put up, {silent['start_at']}"
    return f"{silent['deployment']}: last frame {silent['last_frame_at']}"


def _log_lines(log: dict[str, Any], now: str) -> Iterator[tuple[str, str]]:
    """When the log was last looked at, and what was done when it broke."""
    checked, restored, journal = (log[key] or {} for key in ("integrity", "recovery", "journal"))
    if checked.get("quick_at"):
        yield ("log looked at", f"{checked['quick_at']}, fully {checked.get('full_at', 'never')}")
    recently = iso_utc(parse_iso_utc(now) - TOLD_FOR)
    if restored and restored["at"] > recently:
        yield ("log restored", f"{restored['at']}: {restored['words']}")
    if waiting := journal.get("waiting"):
        yield ("labels waiting", f"{waiting}, for frames that are not there yet")


def _today(log: SpeciesLog, now: datetime, zone: ZoneInfo) -> dict[str, Any]:
    since = iso_utc(start_of_day(now, zone))
    return {"since": since, **asdict(log.taken_in_since(since))}


def _lag(oldest: str | None, now: datetime) -> float | None:
    if oldest is None:
        return None
    return max(0.0, (now - parse_iso_utc(oldest)).total_seconds())  # the clock may be set back


def _version(row: VersionRow | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {"name": row.name, "went_live_at": row.went_live_at, "figures": row.figures}


def _rescoring(log: SpeciesLog, scored: int) -> dict[str, Any] | None:
    """How far the live version's word on past media is; None without a live version."""
    live = log.live_version()
    if live is None:
        return None
    told = log.state("rescoring") or {}
    if told.get("version") != live.name:
        told = {}
    left = told.get("left")  # None until all is done; those that were left cannot be read
    return {
        "version": live.name,
        "scored": scored,
        "to_score": left if left is not None else log.not_rescored(live.name),
        "reading_files": bool(told.get("reading_files")),
    }


def _rescoring_line(facts: dict[str, Any] | None) -> str:
    if facts is None:
        return "no model speaks of them yet"
    if facts["to_score"] == 0:
        return f"all scored by {facts['version']}"
    how = ", from their files" if facts["reading_files"] else ""
    return f"{facts['scored']} scored by {facts['version']}, {facts['to_score']} to do{how}"


def _engine_line(engine: dict[str, Any] | None) -> str:
    if engine is None:
        return "not opened yet"
    found = f"; fastest here: {engine['trial']}" if engine["trial"] else ""
    return f"{engine['description']}{found}"


def _run(row: RunRow | None) -> dict[str, Any] | None:
    if row is None:
        return None
    names = ("started_at", "finished_at", "state", "method", "trigger", "stage", "progress")
    return {name: getattr(row, name) for name in (*names, "version", "message")}


def _run_line(run: dict[str, Any] | None) -> str:
    if run is None:
        return "none yet"
    if run["state"] == "running":
        return f"running: {run['stage']}, {run['progress']:.0%}"
    return f"{run['started_at']}, {run['state']}: {run['message']}"
