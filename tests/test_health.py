"""The health of a station: one word, reasons in words, what to do."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from logbook import publish

from monitor.core.config import Settings, load_settings
from monitor.core.domain import iso_utc, utc_now
from monitor.health.ages import LOOKS_AT_LOG, Ages
from monitor.health.doctor import FAIL, OK, WARN, examine
from monitor.health.log_use import WAL_MB, LogUse
from monitor.health.status import status_lines, status_of
from monitor.health.verdict import (
    HELD_SECONDS,
    LATE_SECONDS,
    Health,
    HealthFacts,
    Level,
    Told,
    health,
    health_of,
    heartbeat_words,
)
from monitor.log.other_users import User
from monitor.log.species_log import SpeciesLog, open_log
from monitor.recovery.backup_schedule import LOOK_SECONDS
from monitor.recovery.integrity import FULL_EVERY, QUICK_EVERY
from monitor.system.locks import LOCK_NAME, OwnerLock

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
WELL: dict[str, dict[str, Any]] = {
    "service": {"pid": 4711, "problems": {}},
    "watch": {"problems": []},
    "disk": {"state": "ok", "words": "90,000 MB free where the log lies (/data)"},
    "backup": {"problem": None},
    "integrity": {"problem": None},
    "journal": {"waiting": 0},
    "alerts": {"failing": {}},
    "rest": {},
}


def facts(
    *,
    running: bool = True,
    has_model: bool = True,
    learns: bool = True,
    age: float = 6.0,
    **told: Any,
) -> HealthFacts:
    """A station that is well, but for what a test says; a part told as None is missing."""
    parts = {key: value for key, value in {**WELL, **told}.items() if value is not None}
    return HealthFacts(
        running, has_model, learns, {key: Told(value, age) for key, value in parts.items()}
    )


def words(found: Health) -> str:
    """All reasons in one text."""
    return "; ".join(reason.words for reason in found.reasons)


def test_a_station_that_is_well_is_ok_and_has_no_reasons() -> None:
    found = health(facts())
    assert (found.state, found.reasons, found.is_ready) == (Level.OK, [], True)
    assert set(found.checks) == {
        "service", "workers", "model", "clock", "folders", "disk", "backup", "log", "journal",
        "alerts", "work",
    }  # fmt: skip
    assert set(found.checks.values()) == {"ok"}


def test_a_log_that_another_keeps_locked_is_told_with_its_name() -> None:
    writer = User(815, "sqlitebrowser")
    found = health(replace(facts(age=HELD_SECONDS + 1), use=LogUse(writer)))
    assert found.state is Level.FAILING
    told = "process 815 (sqlitebrowser) keeps the log locked, so that nothing can be recorded"
    assert told in words(found) and "kill 815" in found.reasons[0].advice
    late = health(replace(facts(age=LATE_SECONDS + 1), use=LogUse(writer)))
    assert told in words(late) and "restart" not in late.reasons[0].advice
    own = replace(facts(age=LATE_SECONDS + 1), use=LogUse(replace(writer, pid=4711)))
    assert "the service hangs" in words(health(own)), "it keeps itself waiting"
    quick = health(replace(facts(), use=LogUse(writer)))
    assert quick.state is Level.OK, "everybody writes now and then"


def test_a_write_ahead_log_that_cannot_be_emptied_is_told_with_who_reads() -> None:
    reader = User(99, "R")
    found = health(replace(facts(), use=LogUse(None, [reader], WAL_MB)))
    assert (found.state, found.checks["log"]) == (Level.DEGRADED, "degraded")
    assert "is 256 MB and grows" in words(found) and "process 99 (R)" in words(found)
    unknown = health(replace(facts(), use=LogUse(None, [], WAL_MB)))
    assert "reading now" not in words(unknown)
    assert health(replace(facts(), use=LogUse(None, [], WAL_MB - 1))).state is Level.OK


def test_what_no_part_has_told_is_unknown_and_no_fault() -> None:
    quiet = dict.fromkeys(("watch", "disk", "backup", "integrity", "journal", "alerts", "rest"))
    found = health(facts(**quiet))
    assert found.state is Level.OK
    for check in ("folders", "disk", "backup", "log", "journal", "alerts", "work"):
        assert found.checks[check] == "unknown"


def test_a_service_that_does_not_run_is_failing_and_not_ready() -> None:
    found = health(facts(running=False))
    assert (found.state, found.is_ready) == (Level.FAILING, False)
    assert "not running" in words(found)
    assert "systemctl start" in found.reasons[0].advice


@pytest.mark.parametrize(
    ("age", "state"),
    [(0.0, Level.OK), (LATE_SECONDS, Level.OK), (LATE_SECONDS + 1, Level.FAILING)],
)
def test_a_service_without_a_sign_of_life_for_too_long_hangs(age: float, state: Level) -> None:
    found = health(facts(age=age))
    assert found.state is state
    assert found.is_ready == (state is Level.OK)


def test_where_the_disk_is_full_a_missing_sign_of_life_is_no_hang() -> None:
    full = {"state": "full", "words": "disk full, 3 MB free"}
    found = health(facts(age=LATE_SECONDS + 1, disk=full))
    assert found.state is Level.FAILING  # for the disk
    assert found.checks["service"] == "degraded" and found.is_ready
    assert "hangs" not in words(found)


def test_a_clock_that_was_set_back_does_not_make_a_service_hang() -> None:
    assert health(facts(age=-86_400.0)).state is Level.OK
    assert "set back" in heartbeat_words(-86_400.0)
    assert heartbeat_words(None) == "no sign of life yet"


def test_a_service_that_has_only_just_started_is_no_fault() -> None:
    found = health(facts(service=None))
    assert (found.state, found.checks["service"]) == (Level.OK, "unknown")


def test_a_problem_of_a_worker_is_told_in_its_own_words() -> None:
    found = health(facts(service={"pid": 1, "problems": {"classify": "no weights of VGG16"}}))
    assert found.state is Level.DEGRADED
    assert "classify: no weights of VGG16" in words(found)
    assert found.is_ready


def test_without_a_model_a_station_is_ready_only_if_it_learns() -> None:
    assert health(facts(has_model=False)).is_ready
    found = health(facts(has_model=False, learns=False))
    assert (found.state, found.is_ready) == (Level.DEGRADED, False)
    assert "training.enabled" in found.reasons[0].advice


def test_a_live_model_that_cannot_be_read_is_not_ready() -> None:
    found = health(facts(service={"problems": {"model": "v0007: weights do not match"}}))
    assert (found.state, found.is_ready) == (Level.FAILING, False)
    assert "v0007" in words(found) and "rollback" in found.reasons[0].advice


@pytest.mark.parametrize(
    ("key", "value", "level", "word"),
    [
        ("disk", {"state": "low", "words": "disk low, 900 MB free"}, Level.DEGRADED, "900 MB"),
        ("disk", {"state": "full", "words": "disk full, 3 MB free"}, Level.FAILING, "3 MB"),
        ("watch", {"problems": ["/mnt/ridge: gone"]}, Level.DEGRADED, "/mnt/ridge"),
        ("backup", {"problem": "/mnt/usb is not there"}, Level.DEGRADED, "/mnt/usb"),
        ("backup", {"at": "…", "second_problem": "no stick"}, Level.DEGRADED, "no stick"),
        ("integrity", {"problem": "row 7 missing"}, Level.FAILING, "row 7"),
        ("journal", {"problems": ["/usb: gone"]}, Level.DEGRADED, "/usb: gone"),
        ("alerts", {"failing": {"mail": "no route"}}, Level.DEGRADED, "mail: no route"),
        ("rest", {"classify": "outside the hours of work"}, Level.OK, ""),
    ],
)
def test_each_part_is_heard(key: str, value: dict[str, Any], level: Level, word: str) -> None:
    found = health(facts(**{key: value}))
    assert found.state is level
    assert word in words(found)
    assert all(reason.advice for reason in found.reasons)


def of(ages: Ages, **told: Any) -> list[tuple[str, str]]:
    """What is not well with a station that is well otherwise: check and words."""
    found = health(replace(facts(**told), ages=ages))
    assert all(reason.level is Level.DEGRADED and reason.advice for reason in found.reasons)
    return [(reason.check, reason.words) for reason in found.reasons]


DAY = timedelta(days=1)
TRUSTED = Ages(NOW, 5 * DAY, DAY)
LONG_AGO = iso_utc(datetime(2026, 11, 1, tzinfo=UTC))
JUST_NOW = iso_utc(NOW - DAY)


def test_a_backup_that_is_old_is_told_though_the_last_try_did_not_fail() -> None:
    old = {"at": LONG_AGO, "problem": None, "looks": 3}
    assert of(TRUSTED, backup=old) == [
        ("backup", "the last good backup is of 2026-11-01, 30 days ago")
    ]
    for days, told in ((2.9, False), (3.0, True)):
        backup = {"at": iso_utc(NOW - days * DAY), "looks": 3}
        assert bool(of(TRUSTED, backup=backup)) is told
    rare = replace(TRUSTED, backup_every=30 * DAY)
    assert of(rare, backup=old) == []
    assert of(replace(TRUSTED, backup_every=None), backup=old) == []  # none are wanted


def test_with_a_clock_that_cannot_be_right_only_hours_of_running_make_a_backup_old() -> None:
    unknown = replace(TRUSTED, now=None, up=None)
    looks = int(3 * 86_400 / LOOK_SECONDS)
    assert of(unknown, backup={"at": LONG_AGO, "looks": looks - 1}) == []
    assert of(unknown, backup={"at": LONG_AGO, "looks": looks}) == [
        ("backup", "no new backup was made in 72 hours of running")
    ]
    assert of(unknown, backup={"at": None, "looks": looks}) == [
        ("backup", "no backup at all was made in 72 hours of running")
    ]
    from_the_future = {"at": iso_utc(NOW + 900 * DAY), "looks": looks}
    assert len(of(TRUSTED, backup=from_the_future)) == 1


def test_after_a_winter_without_power_there_is_an_hour_to_make_up_for_it() -> None:
    old = {"backup": {"at": LONG_AGO, "looks": 3}, "integrity": {"quick_at": LONG_AGO}}
    assert of(replace(TRUSTED, up=timedelta(minutes=59)), **old) == []
    assert len(of(replace(TRUSTED, up=timedelta(minutes=60)), **old)) == 2
    assert len(of(replace(TRUSTED, up=None), **old)) == 2  # it does not run at all


def test_a_log_that_nobody_looked_at_for_long_is_told() -> None:
    assert of(TRUSTED, integrity={"quick_at": JUST_NOW, "full_at": JUST_NOW}) == []
    assert of(TRUSTED, integrity={"quick_at": JUST_NOW, "full_at": LONG_AGO}) == [
        ("log", "the log was last fully looked at on 2026-11-01, 30 days ago")
    ]
    assert of(TRUSTED, integrity={"quick_at": LONG_AGO, "full_at": JUST_NOW}) == [
        ("log", "the log was last looked at on 2026-11-01, 30 days ago")
    ]
    assert of(replace(TRUSTED, now=None), integrity={"quick_at": LONG_AGO}) == []
    usual = {name: every for name, (_, every) in LOOKS_AT_LOG.items()}
    assert usual == {"quick_at": QUICK_EVERY, "full_at": FULL_EVERY}


def test_an_old_backup_and_a_journal_that_fails_are_seen_in_status_and_doctor(
    settings: Settings, log: SpeciesLog
) -> None:
    now = utc_now()
    log.put_state("backup", {"at": "2026-11-01T00:00:00.000Z", "looks": 9_999}, now)
    log.put_state("journal", {"problems": ["/usb/labels.jsonl: read-only"]}, now)
    told = status_of(settings, log, now) | {"backup": {"enabled": True}}
    assert told["health"]["checks"]["backup"] == told["health"]["checks"]["journal"] == "degraded"
    lines = [line for what, line in status_lines(told) if what == "not well"]
    assert sum("backup" in line for line in lines) == 1
    assert sum("/usb/labels.jsonl: read-only" in line for line in lines) == 1
    lock = OwnerLock(settings.data_directory / LOCK_NAME, "the log", now - DAY)
    for running in (False, True):
        with lock if running else nullcontext():
            found = [check for check in examine(settings) if check.state == WARN]
        assert sum(check.name == "backup" for check in found) == 1
        assert sum("/usb/labels.jsonl: read-only" in check.finding for check in found) == 1


def test_a_backup_that_failed_is_told_once_among_the_lines(
    settings: Settings, log: SpeciesLog
) -> None:
    log.put_state("backup", {"problem": "no room", "second_problem": "no stick"}, NOW)
    lines = [line for _, line in status_lines(status_of(settings, log, NOW))]
    assert sum("no room" in line for line in lines) == 1
    assert sum("no stick" in line for line in lines) == 1


def test_a_clock_that_cannot_be_right_is_told_and_stops_nothing() -> None:
    found = health(replace(facts(), clock_problem="the clock stands at 1970-01-01"))
    assert (found.state, found.is_ready) == (Level.DEGRADED, True)
    assert "1970" in words(found) and "timedatectl" in found.reasons[0].advice


def test_the_worst_comes_first() -> None:
    found = health(
        facts(
            alerts={"failing": {"mail": "no route"}}, disk={"state": "full", "words": "disk full"}
        )
    )
    assert [reason.check for reason in found.reasons] == ["disk", "alerts"]
    assert found.state is Level.FAILING


def test_strange_states_of_another_release_break_nothing() -> None:
    for value in ({}, {"state": 3}, {"problem": ""}, {"failing": None}, {"problems": None}):
        for key in WELL:
            health(facts(**{key: value})).facts()


@pytest.fixture
def settings(config: Path) -> Settings:
    return load_settings(config, environ={})


def test_status_has_a_health_part(settings: Settings) -> None:
    with open_log(settings.database.url, create=True) as log:
        told = status_of(settings, log)
    assert told["health"]["state"] == "failing"
    (reason,) = told["health"]["reasons"]
    assert reason["check"] == "service" and reason["advice"]
    lines = status_lines(told)
    assert ("health", "failing") in lines
    assert any(name == "not well" and "not running" in line for name, line in lines)


def test_the_health_is_read_from_the_log_and_the_lock(settings: Settings, log: SpeciesLog) -> None:
    publish(log)
    log.put_state("service", {"pid": 1, "problems": {}}, NOW)
    with OwnerLock(settings.data_directory / LOCK_NAME, "the log", NOW):
        assert health_of(settings, log, NOW + timedelta(seconds=10)).state is Level.OK
        late = health_of(settings, log, NOW + timedelta(seconds=LATE_SECONDS + 10))
        assert late.state is Level.FAILING
    assert not health_of(settings, log, NOW).is_ready


def test_a_full_disk_is_seen_also_where_the_log_could_not_be_told(
    settings: Settings, log: SpeciesLog
) -> None:
    rules = settings.disk.model_copy(update={"stop_mb": 2**40, "warn_mb": 2**41})
    greedy = settings.model_copy(update={"disk": rules})
    with OwnerLock(settings.data_directory / LOCK_NAME, "the log", NOW):
        log.put_state("service", {"pid": 1, "problems": {}}, NOW)
        log.put_state("disk", {"state": "ok", "words": "enough"}, NOW)
        assert health_of(settings, log, NOW).checks["disk"] == "ok"
        assert health_of(greedy, log, NOW).checks["disk"] == "failing"


def test_the_doctor_shows_the_heartbeat_and_each_problem_with_what_to_do(
    settings: Settings, log: SpeciesLog
) -> None:
    with OwnerLock(settings.data_directory / LOCK_NAME, "the log", utc_now()):
        log.put_state("service", {"pid": 1, "problems": {"watch": "share is gone"}}, utc_now())
        log.put_state("alerts", {"failing": {"mail": "no route to host"}}, utc_now())
        checks = {check.name: check for check in examine(settings)}
        assert checks["service"].state == OK
        assert re.search(r"sign of life \d+ s ago", checks["service"].finding)
        assert checks["workers"].state == WARN and "share is gone" in checks["workers"].finding
        assert "no route" in checks["alerts"].finding and "alerts test" in checks["alerts"].advice
        log.put_state("service", {"pid": 1, "problems": {}}, utc_now() - timedelta(hours=1))
        hung = {check.name: check for check in examine(settings)}["service"]
    assert hung.state == FAIL
    assert re.search(r"36\d\d s ago", hung.finding) and "journalctl" in hung.advice


def test_a_service_that_never_gave_a_sign_of_life_is_judged_by_its_age() -> None:
    def ages(seconds: float) -> Ages:
        return Ages(NOW, timedelta(seconds=seconds), None)

    young = health(replace(facts(service=None), ages=ages(LATE_SECONDS)))
    assert young.checks["service"] == "unknown"
    old = health(replace(facts(service=None), ages=ages(LATE_SECONDS + 1)))
    assert (old.checks["service"], old.is_ready) == ("failing", False)
    assert "no sign of life since its start, 201 s ago" in words(old)
