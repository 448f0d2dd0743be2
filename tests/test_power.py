"""Hours of work, a battery that runs low, cores and niceness: pure decisions, and what they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from faults.drill import Drill, fill
from faults.systemd import stopped, wait_until
from hypothesis import given
from hypothesis import strategies as st
from visits import pages, visit

from monitor.core.config import ConfigError, load_settings
from monitor.core.config.power import HOURS_NOT_KEPT, NO_BATTERY, Power, Span, span_of
from monitor.core.pauses import CLASSIFY, INTAKE, TRAIN
from monitor.health import doctor
from monitor.health.check import OK, WARN
from monitor.health.doctor import examine
from monitor.health.status import status_lines, status_of
from monitor.log.species_log import SpeciesLog
from monitor.service.power import (
    BATTERY,
    POWER_KEY,
    Battery,
    battery_words,
    hours_words,
    is_active,
    next_start,
    read_battery,
    tend_power,
)
from monitor.service.station import Station
from monitor.service.training_process import TrainingProcess
from monitor.system.locks import LOCK_NAME, OwnerLock
from monitor.web.station_words import troubles

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = (span_of("20:00-06:00"), span_of("12:00-13:00"))


def at(text: str) -> datetime:
    """That wall clock time in Berlin."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("time", "active"),
    [
        ("19:59:59", False),
        ("20:00:00", True),
        ("23:59:59", True),
        ("00:00:00", True),
        ("05:59:59", True),
        ("06:00:00", False),
        ("11:59:59", False),
        ("12:00:00", True),
        ("13:00:00", False),
    ],
)
def test_it_works_in_its_hours_over_midnight_too(time: str, active: bool) -> None:
    assert is_active(NIGHT, at(f"2026-05-01T{time}")) is active


def test_no_hours_are_all_hours_and_a_whole_day_may_be_written() -> None:
    whole = (span_of("00:00-24:00"),)
    for hour in range(24):
        assert is_active((), at(f"2026-05-01T{hour:02}:30"))
        assert is_active(whole, at(f"2026-05-01T{hour:02}:59"))


def test_it_says_until_when_it_rests() -> None:
    assert hours_words(NIGHT, at("2026-05-01T07:00")) == "until 12:00 (classifier.active_hours)"
    assert hours_words(NIGHT, at("2026-05-01T13:00")) == "until 20:00 (classifier.active_hours)"
    assert hours_words(NIGHT, at("2026-05-01T21:00")) is None


def test_daylight_saving_neither_stops_it_for_a_day_nor_for_an_hour() -> None:
    spans = (span_of("02:30-03:30"),)  # in Berlin, 02:30 does not exist on 2026-03-29
    moments = [datetime(2026, 3, 28, 23, tzinfo=UTC) + timedelta(minutes=m) for m in range(24 * 60)]
    worked = sum(is_active(spans, moment.astimezone(BERLIN)) for moment in moments)
    assert worked == 30, "03:00 to 03:30 by the clock on the wall"
    moments = [datetime(2026, 10, 24, 22, tzinfo=UTC) + timedelta(minutes=m) for m in range(1500)]
    worked = sum(is_active(spans, moment.astimezone(BERLIN)) for moment in moments)
    assert worked == 90, "02:30 to 03:00 comes twice"


@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(0, 1439))
def test_the_time_that_it_names_is_the_next_at_which_it_works(start, end, now) -> None:
    if start == end:
        return
    spans = (Span(start, end),)
    midnight = datetime(2026, 5, 1, tzinfo=UTC)
    moment = midnight + timedelta(minutes=now)
    if is_active(spans, moment):
        return
    minutes = 0
    while not is_active(spans, moment + timedelta(minutes=minutes)):
        minutes += 1
    assert next_start(spans, moment) == f"{moment + timedelta(minutes=minutes):%H:%M}"


@pytest.mark.parametrize(
    "text", ["20-06", "24:00-06:00", "20:60-06:00", "6:00-06:00", "x", "1:00-25:00"]
)
def test_hours_that_are_none_are_refused_with_their_place(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"classifier: {{active_hours: ['{text}']}}\n")
    with pytest.raises(ConfigError, match=r"classifier.active_hours\[0\]: .*no part of a day"):
        load_settings(path, {})


def test_below_the_limit_it_rests_and_goes_on_five_percent_above() -> None:
    def words(percent: float, *, resting: bool) -> str | None:
        return battery_words(Battery(percent, False), 20, resting=resting)

    assert words(20, resting=False) is None
    assert words(14, resting=False) == (
        "battery at 14 %, goes on at 25 % (classifier.rest_below_battery_percent)"
    )
    assert words(24.9, resting=True) is not None
    assert words(25, resting=True) is None


def test_on_mains_power_without_a_battery_or_a_limit_it_never_rests() -> None:
    assert battery_words(Battery(1, True), 20) is None
    assert battery_words(None, 20) is None
    assert battery_words(Battery(1, False), None) is None
    full = Battery(100, False)
    assert battery_words(full, 100, resting=True) is None, "100 % is the most there can be"


def supply(folder: Path, name: str, **facts: str) -> None:
    (folder / name).mkdir(parents=True)
    for key, value in facts.items():
        (folder / name / key).write_text(f"{value}\n")


@pytest.mark.parametrize(
    ("supplies", "found"),
    [
        ({}, None),
        ({"AC": {"type": "Mains", "online": "1"}}, None),
        ({"BAT0": {"type": "Battery", "capacity": "42", "status": "Discharging"}}, (42, False)),
        ({"BAT0": {"type": "Battery", "capacity": "42", "status": "Charging"}}, (42, True)),
        ({"BAT0": {"type": "Battery", "capacity": "99", "status": "Not charging"}}, (99, True)),
        (
            {
                "AC": {"type": "Mains", "online": "1"},
                "BAT0": {"type": "Battery", "capacity": "42", "status": "Discharging"},
            },
            (42, True),
        ),
        ({"hat": {"type": "UPS", "capacity": "61", "status": "Discharging"}}, (61, False)),
        (
            {"hidpp_battery_0": {"type": "Battery", "scope": "Device", "capacity": "3"}},
            None,
        ),
        (
            {
                "BAT0": {"type": "Battery", "capacity": "10", "status": "Discharging"},
                "BAT1": {"type": "Battery", "capacity": "90", "status": "Full"},
            },
            (50, False),
        ),
        ({"BAT0": {"type": "Battery", "capacity": "nonsense"}}, None),
        ({"BAT0": {"type": "Battery", "capacity": "300"}}, None),
    ],
    ids=[
        "nothing",
        "mains alone",
        "discharging",
        "charging",
        "kept at a level",
        "mains and battery",
        "a UPS hat",
        "a mouse",
        "two batteries",
        "no number",
        "no percent",
    ],
)
def test_the_battery_is_read_from_the_systems_files(tmp_path, supplies, found) -> None:
    for name, facts in supplies.items():
        supply(tmp_path, name, **facts)
    assert read_battery(tmp_path) == (Battery(*found) if found else None)


def test_a_machine_that_has_no_such_folder_is_asked_in_another_way(tmp_path, monkeypatch) -> None:
    import psutil

    def broken() -> None:
        raise FileNotFoundError("/sys")

    monkeypatch.setattr(psutil, "sensors_battery", broken)
    assert read_battery(tmp_path / "none") is None


class Wall:
    """A clock that is set by hand."""

    now = datetime(2027, 5, 1, 10, tzinfo=UTC)  # 12:00 in Berlin

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def station(config: Path):
    config.write_text(
        config.read_text().replace(
            "threads: 1",
            "threads: 1, active_hours: ['20:00-06:00'], rest_below_battery_percent: 20",
        )
    )
    wall = Wall()
    station = Station(load_settings(config, {}), wall)
    yield station
    station.close()


def test_classifying_and_training_rest_and_intake_goes_on(station: Station) -> None:
    tend_power(station, read=lambda: None)
    assert station.rests(CLASSIFY) == "until 20:00 (classifier.active_hours)"
    assert station.rests(TRAIN) is not None
    assert station.rests(INTAKE) is None
    Wall.now = station.clock.now = datetime(2027, 5, 1, 18, tzinfo=UTC)
    tend_power(station, read=lambda: None)
    assert station.rests(CLASSIFY) is None


def test_a_low_battery_is_told_with_both_figures_and_remembered(station: Station) -> None:
    station.clock.now = datetime(2027, 5, 1, 18, tzinfo=UTC)
    for percent, rests in ((20, False), (19, True), (24, True), (25, False), (24, False)):
        tend_power(station, read=lambda percent=percent: Battery(percent, False))
        assert station.rest.is_set(BATTERY) is rests, percent
    assert station.log.state(POWER_KEY) == {"battery_percent": 24, "on_mains": False}


def test_a_limit_without_a_battery_is_told_once(station: Station, caplog) -> None:
    for _ in range(3):
        tend_power(station, read=lambda: None)
    assert sum("tells nothing of a battery" in r.message for r in caplog.records) == 1


def test_with_a_clock_that_cannot_be_right_it_does_not_rest_by_the_hour(
    station: Station, caplog
) -> None:
    noon = datetime(2027, 5, 1, 10, tzinfo=UTC)
    station.clock.now = datetime(1970, 1, 1, 7, tzinfo=UTC)
    for _ in range(2):
        tend_power(station, read=lambda: None)
        assert station.rests(CLASSIFY) is None and station.rests(TRAIN) is None
    assert sum("active_hours is not kept" in r.message for r in caplog.records) == 1
    assert "1970-01-01" in caplog.text
    lines = status_lines(status_of(station.settings, station.log, station.clock.now))
    assert ("hours of work", HOURS_NOT_KEPT) in lines
    station.clock.now = noon
    tend_power(station, read=lambda: None)
    assert station.rests(CLASSIFY) == "until 20:00 (classifier.active_hours)"
    lines = status_lines(status_of(station.settings, station.log, noon))
    assert "hours of work" not in dict(lines)


def test_the_doctor_tells_that_the_hours_are_not_kept(station: Station, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "utc_now", lambda: datetime(1970, 1, 1, 7, tzinfo=UTC))
    (check,) = [c for c in examine(station.settings) if c.name == "hours of work"]
    assert (check.state, check.finding) == (WARN, HOURS_NOT_KEPT)


def test_a_low_battery_lets_it_rest_also_where_the_clock_is_wrong(station: Station) -> None:
    station.clock.now = datetime(1970, 1, 1, 7, tzinfo=UTC)
    tend_power(station, read=lambda: Battery(5, False))
    assert "battery at 5 %" in (station.rests(CLASSIFY) or "")


def test_status_and_doctor_tell_of_a_battery_that_is_not_known(
    station: Station, monkeypatch
) -> None:
    def lines() -> list[str]:
        facts = status_of(station.settings, station.log)
        return [line for what, line in status_lines(facts) if what == "battery"]

    assert lines() == []  # nobody has looked yet
    for battery, said in ((None, NO_BATTERY), (Battery(61.4, True), "61 %, on mains or charging")):
        tend_power(station, read=lambda battery=battery: battery)
        assert lines() == [said]
        read = "monitor.system.battery.read_battery"
        monkeypatch.setattr(read, lambda battery=battery: battery)
        (check,) = [c for c in examine(station.settings) if c.name == "battery"]
        assert (check.state, check.finding) == (WARN if battery is None else OK, said)
        assert ("active_hours" in check.advice) is (battery is None)


def test_a_single_part_of_the_day_needs_no_brackets(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("classifier: {active_hours: '20:00-06:00'}\n")
    assert load_settings(path, {}).classifier.active_hours == ("20:00-06:00",)
    environ = {"TRAPWATCH_CLASSIFIER__ACTIVE_HOURS": "12:00-13:00"}
    assert load_settings(path, environ).classifier.active_hours == ("12:00-13:00",)
    path.write_text("classifier: {active_hours: 'at night'}\n")
    with pytest.raises(ConfigError, match=r"active_hours\[0\]: .*'at night' is no part of a day"):
        load_settings(path, {})


CODE = """
import os, sys, threading
from monitor.core.config.power import Power
from monitor.system.processor import be_nice, take_cores
from monitor.model.backbone import usable_threads
take_cores(Power(cores=1))
print(len(os.sched_getaffinity(0)), usable_threads(0))
def work():
    be_nice(Power(nice=7))
    inner = threading.Thread(target=lambda: print(os.getpriority(os.PRIO_PROCESS, 0)))
    inner.start(); inner.join()
    be_nice(Power(nice=3))
    print(os.getpriority(os.PRIO_PROCESS, 0))
worker = threading.Thread(target=work)
worker.start(); worker.join()
print(os.getpriority(os.PRIO_PROCESS, os.getpid()))
take_cores(Power())
print(len(os.sched_getaffinity(0)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="niceness of one thread is Linux's")
def test_cores_are_a_limit_for_all_and_niceness_is_the_classifiers_alone() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    ended = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=60
    )
    cores, threads, inner, later, main, all_cores = map(int, ended.stdout.split())
    assert (cores, threads) == (1, 1)
    assert inner == later == max(7, before), "threads inherit it, and nothing lowers it"
    assert main == before
    assert all_cores == len(os.sched_getaffinity(0))


def test_the_defaults_take_everything_at_any_hour() -> None:
    power = Power()
    assert (power.active_spans, power.cores, power.nice) == ((), 0, 0)
    assert power.rest_below_battery_percent is None


def test_the_service_takes_in_and_does_not_classify_outside_its_hours(tmp_path: Path) -> None:
    drill = Drill(tmp_path / "station")
    fill(drill, each=1, unlabelled=0)
    hour = datetime.now(UTC) + timedelta(hours=3)
    hours = f"{hour:%H}:00-{hour:%H}:30"
    text = drill.config.read_text().replace("threads: 1", f"threads: 1, active_hours: ['{hours}']")
    drill.config.write_text(text)
    with drill.service() as service:
        wait_until(lambda: drill.number("SELECT count(*) FROM media") == 10, 30)
        wait_until(lambda: drill.query("SELECT 1 FROM state WHERE key = 'rest'"), 30)
        assert drill.number("SELECT count(*) FROM media WHERE status = 'classified'") == 0
        status = drill.trapwatch("status").stdout
        assert f"classifying, training rest: until {hour:%H}:00" in " ".join(status.split())
        assert stopped(service) == 0


def test_the_dashboard_says_in_words_why_it_rests_and_calls_that_no_trouble(
    config: Path, filled: SpeciesLog
) -> None:
    words = "until 20:00 (classifier.active_hours)"
    filled.put_state("rest", {"classify": words, "train": words}, datetime.now(UTC))
    with (
        OwnerLock(config.parent / "data" / LOCK_NAME, "the log", datetime.now(UTC)),
        pages(config) as app,
    ):
        text = visit(app).get("/").text
        assert f"<dt>classifying</dt><dd>rests: {words}</dd>" in text
        assert visit(app).get("/healthz").status_code == 200
    facts = {
        "service": {"running": True, "problems": {}},
        "watch": None,
        "disk": {"free_bytes": 5e10, "total_bytes": 1e11, "folder": "/data"},
        "lag_seconds": 50_000.0,
        "media": {"waiting_for_their_file": 0, "unreadable_files": 0},
        "silent_deployments": [],
        "training": {"last": None},
    }
    (lag,) = troubles(facts)
    assert "waiting for the classifier" in lag.what
    assert troubles(facts | {"rest": {"classify": words}}) == []


def test_a_battery_that_runs_low_ends_the_training_that_runs() -> None:
    training = TrainingProcess()
    training.interrupt()
    training._child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    training.interrupt()
    assert training._child.wait(10) == -signal.SIGTERM
    assert not training._closed, "another one may be started"


BEGINS_ANEW = """
import os, sys
from monitor.core.config.power import Power
from monitor.system.processor import hand_over_cores, take_cores
take_cores(Power(cores=int(sys.argv[1])))
print(*sorted(os.sched_getaffinity(0)), flush=True)
if sys.argv[1] == "1":
    hand_over_cores()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:-1], "0"])
print("TRAPWATCH_ALLOWED_CORES" in os.environ)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of cores is Linux's")
def test_a_program_that_begins_anew_does_not_take_its_old_limit_for_the_machines() -> None:
    command = [sys.executable, "-c", BEGINS_ANEW, "1"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    limited, whole, is_left = ended.stdout.splitlines()
    cores = sorted(os.sched_getaffinity(0))
    assert limited == str(cores[0])
    assert whole == " ".join(map(str, cores))
    assert is_left == "False", "whoever is started from there asks the system"
