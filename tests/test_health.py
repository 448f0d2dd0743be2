"""The health of a station: one word, reasons in words, what to do."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from logbook import publish

from monitor.config import Settings, load_settings
from monitor.doctor import FAIL, OK, WARN, examine
from monitor.domain import utc_now
from monitor.health.verdict import (
    LATE_SECONDS,
    Health,
    HealthFacts,
    Level,
    Told,
    health,
    health_of,
    heartbeat_words,
)
from monitor.locks import LOCK_NAME, OwnerLock
from monitor.log.species_log import SpeciesLog, open_log
from monitor.status import status_lines, status_of

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
WELL: dict[str, dict[str, Any]] = {
    "service": {"pid": 4711, "problems": {}},
    "watch": {"problems": []},
    "disk": {"state": "ok", "words": "90,000 MB free where the log lies (/data)"},
    "backup": {"problem": None},
    "integrity": {"problem": None},
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
        "service", "workers", "model", "clock", "folders", "disk", "backup", "log", "alerts", "work"
    }  # fmt: skip
    assert set(found.checks.values()) == {"ok"}


def test_what_no_part_has_told_is_unknown_and_no_fault() -> None:
    quiet = dict.fromkeys(("watch", "disk", "backup", "integrity", "alerts", "rest"))
    found = health(facts(**quiet))
    assert found.state is Level.OK
    for check in ("folders", "disk", "backup", "log", "alerts", "work"):
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
        ("alerts", {"failing": {"mail": "no route"}}, Level.DEGRADED, "mail: no route"),
        ("rest", {"classify": "outside the hours of work"}, Level.OK, ""),
    ],
)
def test_each_part_is_heard(key: str, value: dict[str, Any], level: Level, word: str) -> None:
    found = health(facts(**{key: value}))
    assert found.state is level
    assert word in words(found)
    assert all(reason.advice for reason in found.reasons)


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
