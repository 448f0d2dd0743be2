"""A second journal on a stick: it may be gone, hang, be forbidden or be another station's, and
neither a label nor the start waits for it."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from logbook import NOW, frames, rows, say

from monitor.core.config import Settings, load_settings
from monitor.core.domain import How
from monitor.health.doctor import OK, WARN, examine
from monitor.log.species_log import SpeciesLog
from monitor.recovery import journal_file, journal_places
from monitor.recovery.integrity import (
    check_soundness,
    faults_at_start,
    faults_of_log,
    is_check_due,
    keep_together,
)
from monitor.recovery.journal_file import locked
from monitor.recovery.label_journal import keep_journal, records_of, write_journals
from monitor.recovery.recovery import make_sound
from monitor.system import limited
from monitor.system.limited import Hangs, Limited

LATER = NOW + timedelta(hours=1)
Make = Callable[[str], Settings]


@pytest.fixture
def stick() -> Iterator[Path]:
    """A folder on another disk than the station."""
    folder = Path(f"/dev/shm/second-journal-{os.getpid()}")
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def make(tmp_path: Path, stick: Path) -> Make:
    """Makes the settings of a station whose second journal lies on the stick."""

    def station(name: str) -> Settings:
        folder = tmp_path / name
        (folder / "frames").mkdir(parents=True)
        config = folder / "config.yaml"
        config.write_text(
            f"station: {{name: {name.partition('-')[0]}}}\nclassifier: {{backbone: small}}\n"
            f"web: {{enabled: false}}\njournal: {{second: {stick}/labels.jsonl}}\n"
        )
        return load_settings(config)

    return station


def opened(settings: Settings) -> SpeciesLog:
    log = SpeciesLog(settings.data_directory / "trapwatch.db", create=True)
    return keep_journal(log, settings, lambda: NOW)


def at(settings: Settings, log: SpeciesLog, now: datetime = NOW) -> SimpleNamespace:
    return SimpleNamespace(log=log, settings=settings, clock=lambda: now, quiet=True)


def labelled(settings: Settings, species: str = "fox") -> None:
    """A station with a label, as its service leaves it."""
    with opened(settings) as log:
        say(log, frames(log, 1)[0], species)
        keep_together(at(settings, log))


def problems(log: SpeciesLog) -> list[str]:
    return log.state("journal")["problems"]


def test_the_service_keeps_the_second_journal_and_no_label_waits_for_it(
    make: Make, stick: Path
) -> None:
    settings = make("north")
    with opened(settings) as log:
        say(log, frames(log, 1)[0], "fox")
        assert not (stick / "labels.jsonl").exists()
        keep_together(at(settings, log))
        first = settings.data_directory / "labels.jsonl"
        assert (stick / "labels.jsonl").read_bytes() == first.read_bytes() != b""
        assert problems(log) == []
        first.unlink()
        say(log, 1, "hare")
        assert [r.id for r in records_of(first)] == [1, 2], "written anew from the log"


def test_a_stick_that_is_not_mounted_gets_no_folder_and_is_told_once(
    make: Make, stick: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = make("north")
    stick.rmdir()
    with opened(settings) as log:
        say(log, frames(log, 1)[0], "fox")
        for _ in range(3):
            keep_together(at(settings, log))
        (told,) = problems(log)
        assert "is not there: is the disk mounted?" in told and not stick.exists()
        assert caplog.text.count("is the disk mounted?") == 1
        check = next(
            c for c in examine(settings) if c.name == "journal" and str(stick) in c.finding
        )
        assert check.state == WARN
        stick.mkdir()
        keep_together(at(settings, log))
        assert problems(log) == [] and len(list(records_of(stick / "labels.jsonl"))) == 1


def test_a_second_journal_on_the_disk_of_the_log_is_refused(config: Path) -> None:
    config.write_text(config.read_text() + "journal: {second: usb/labels.jsonl}\n")
    (config.parent / "usb").mkdir()
    settings = load_settings(config)
    with opened(settings) as log:
        say(log, frames(log, 1)[0], "fox")
        keep_together(at(settings, log))
        assert "lies on the same disk as the log" in problems(log)[0]
        assert not list((config.parent / "usb").iterdir())


@pytest.mark.parametrize("reason", [errno.EACCES, errno.ENOTDIR, errno.EIO])
def test_a_second_journal_that_cannot_be_opened_stops_neither_start_nor_check(
    make: Make, stick: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    settings = make("north")
    labelled(settings)
    really = os.open

    def refuse(path: object, *arguments: int) -> int:
        if str(path).startswith(f"{stick}/"):
            raise OSError(reason, os.strerror(reason), str(path))
        return really(path, *arguments)

    monkeypatch.setattr(os, "open", refuse)
    assert make_sound(settings, LATER) is None
    assert faults_of_log(settings, thorough=True, second=True) == []
    with opened(settings) as log:
        keep_together(at(settings, log))
        assert os.strerror(reason) in problems(log)[0]
        check_soundness(at(settings, log))
        assert log.damage is None and log.state("integrity")["problem"] is None
        assert list(log.state("journal")["unread"]) == [f"{stick}/labels.jsonl"]
    found = {c.finding: c.state for c in examine(settings) if c.name == "journal"}
    assert found[f"{stick}/labels.jsonl: {os.strerror(reason)}"] == WARN
    monkeypatch.undo()
    with opened(settings) as log:
        check_soundness(at(settings, log))
        keep_together(at(settings, log))
        assert problems(log) == []


def test_a_first_journal_that_cannot_be_read_is_no_damage_of_the_log(make: Make) -> None:
    settings = make("north")
    labelled(settings)
    first = settings.data_directory / "labels.jsonl"
    first.unlink()
    first.mkdir()
    assert make_sound(settings, LATER) is None
    with opened(settings) as log:
        keep_together(at(settings, log))
        assert "Is a directory" in problems(log)[0]


def test_a_stick_that_hangs_holds_up_neither_labels_nor_the_duty_nor_the_start(
    make: Make, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make("north")
    labelled(settings)
    let_go, really = threading.Event(), os.open

    def hang(path: object, *arguments: int) -> int:
        if str(path).startswith(f"{stick}/"):
            let_go.wait(60)
        return really(path, *arguments)

    monkeypatch.setattr(journal_places, "limited", lambda path, one=Limited(stick, 0.2): one)
    monkeypatch.setattr(os, "open", hang)
    started = time.monotonic()
    assert make_sound(settings, LATER) is None
    with opened(settings) as log:
        say(log, 1, "hare")
        for _ in range(50):
            keep_together(at(settings, log))
        assert "does not answer" in problems(log)[0]
        assert sum(t.name == "step" for t in threading.enumerate()) == 1, "tried once an hour"
        assert time.monotonic() - started < 30
        let_go.set()
        while any(t.name == "step" for t in threading.enumerate()):
            time.sleep(0.01)
        keep_together(at(settings, log))
        assert problems(log) == [] and len(list(records_of(stick / "labels.jsonl"))) == 2
    links = [Path(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert not [link for link in links if str(stick) in os.path.realpath(link)]


def test_a_step_that_hangs_is_left_and_others_are_refused_until_it_may_be_mounted_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, let_go, late = Limited(tmp_path, 0.05), threading.Event(), []
    with pytest.raises(Hangs):
        steps(lambda: let_go.wait(30), late=late.append)
    with pytest.raises(Hangs):
        steps(int, late=late.append)
    monkeypatch.setattr(limited, "AGAIN_SECONDS", 0.0)
    assert steps(int) == 0, "the disk answers again, whatever the first step does"
    let_go.set()
    until = time.monotonic() + 10
    while len(late) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert sorted(late, key=str) == [None, True]


def test_whoever_holds_the_journal_for_ever_stops_no_label(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_file, "LOCK_SECONDS", 0.1)
    settings = make("north")
    with opened(settings) as log:
        with locked(settings.data_directory / "labels.jsonl"):
            say(log, frames(log, 1)[0], "fox")
            assert "another program holds it" in write_journals(log, settings)[0]
        assert write_journals(log, settings) == []
        assert len(list(records_of(settings.data_directory / "labels.jsonl"))) == 1


@pytest.mark.parametrize("how", ["start", "recovery"])
def test_the_journal_of_another_station_is_left_alone(make: Make, stick: Path, how: str) -> None:
    labelled(make("quarry"), "lynx")
    before = (stick / "labels.jsonl").read_bytes()
    settings = make("north")
    assert faults_at_start(settings) == [], "a new log, and nothing to restore"
    labelled(settings)
    if how == "recovery":
        (settings.data_directory / "trapwatch.db").write_bytes(b"nonsense" * 999)
    make_sound(settings, LATER)
    with opened(settings) as log:
        keep_together(at(settings, log))
        (told,) = problems(log)
        assert "labels of another station (quarry, mark " in told
        assert rows(log, "SELECT name FROM species WHERE name = 'lynx'") == []
    assert (stick / "labels.jsonl").read_bytes() == before


def test_a_log_that_begins_anew_keeps_the_mark_of_its_journals(make: Make) -> None:
    settings = make("north")
    labelled(settings)
    with opened(settings) as log:
        before = log.identity(NOW)
    (settings.data_directory / "trapwatch.db").write_bytes(b"nonsense" * 999)
    assert make_sound(settings, LATER)["backup"] is None
    with opened(settings) as log:
        assert log.identity(NOW) == before
        keep_together(at(settings, log))
        assert problems(log) == []


def test_a_station_that_lost_its_data_knows_its_own_stick_by_the_name_it_was_given(
    make: Make,
) -> None:
    labelled(make("north-before"), "lynx")
    settings = make("north-after")
    assert "second journal" in faults_at_start(settings)[0]
    make_sound(settings, LATER)
    with opened(settings) as log:
        assert rows(log, "SELECT name FROM species WHERE name = 'lynx'") == [("lynx",)]
    unnamed = make("station-before")
    Path(unnamed.journal.second).unlink()
    labelled(unnamed)
    assert faults_at_start(make("station-after")) == [], "everybody is called so"


def test_labels_that_only_a_missing_stick_has_come_back_with_it(make: Make, stick: Path) -> None:
    settings = make("north")
    labelled(settings, "lynx")
    stick.rename(f"{stick}-away")
    try:
        (settings.data_directory / "trapwatch.db").write_bytes(b"nonsense" * 999)
        (settings.data_directory / "labels.jsonl").write_bytes(b"")
        make_sound(settings, LATER)
    finally:
        Path(f"{stick}-away").rename(stick)
    with opened(settings) as log:
        lynx = "SELECT name FROM species WHERE name = 'lynx'"
        assert rows(log, lynx) == [] and log.state("journal")["unjoined"]
        log.put_state("identity", {"id": next_mark(stick)}, NOW)
        keep_together(at(settings, log))
        assert rows(log, lynx) == [("lynx",)] and log.state("journal")["unjoined"] == []


def next_mark(stick: Path) -> str:
    with locked(stick / "labels.jsonl") as file:
        return file.last()["station"]


@pytest.mark.parametrize("how", ["gone", "empty"])
def test_a_log_that_is_gone_is_no_new_one_while_its_backups_are_there(
    config: Path, how: str
) -> None:
    config.write_text(config.read_text() + "journal: {enabled: false}\n")
    settings = load_settings(config)
    path = settings.data_directory / "trapwatch.db"
    assert faults_at_start(settings) == []
    with SpeciesLog(path, create=True) as log:
        say(log, frames(log, 1)[0], "fox")
        (settings.data_directory / "backups").mkdir()
        log.backup(settings.data_directory / "backups" / "trapwatch-2026-05-01T1200Z.db")
    path.unlink()
    if how == "empty":
        path.touch()
    assert faults_at_start(settings) == [f"it is {how}, but its backups are there"]
    assert make_sound(settings, LATER)["backup"].endswith("trapwatch-2026-05-01T1200Z.db")
    with SpeciesLog(path) as log:
        assert log.counts()["labelled"] == 1


def test_the_checks_come_again_although_every_boot_is_in_1970(config: Path) -> None:
    settings, fulls, quicks = load_settings(config), set(), set()
    with opened(settings) as log:
        for boot in range(20):
            for hour in range(22):
                now = datetime(1970, 1, 1, hour, boot, tzinfo=UTC)
                check_soundness(at(settings, log, now))
                told = log.state("integrity")
                fulls.add(told["full_at"])
                quicks.add(told["quick_at"])
    assert 3 <= len(fulls) <= 5 and len(quicks) >= 16


def test_hours_of_running_overrule_the_clock() -> None:
    at_noon, day = "2026-05-01T12:00:00.000Z", timedelta(days=1)
    assert not is_check_due(at_noon, day, NOW, 23)
    assert is_check_due(at_noon, day, NOW, 24)


ACTS = (
    ("label", "set", "1", "fox"),
    ("label", "undo"),
    ("species", "add", "lynx"),
    ("deployments", "set", "north", "--start", "2026-03-01"),
    ("deployments", "shift-time", "north", "--by", "1h"),
    ("deployments", "shift-time", "north", "--undo"),
    ("deployments", "outage", "add", "north", "--start", "2026-05-02", "--reason", "battery"),
    ("deployments", "outage", "confirm", "1", "--reason", "stolen"),
    ("deployments", "outage", "dismiss", "1"),
)


def test_every_command_that_acts_leaves_a_line(
    config: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    settings = load_settings(config)
    with opened(settings) as log:
        frames(log, 2)
    first = settings.data_directory / "labels.jsonl"
    counts = []
    for arguments in ACTS:
        code, _, words = run(*arguments)
        assert code == 0, words
        counts.append(len(first.read_text().splitlines()))
    assert counts == list(range(1, len(ACTS) + 1))


def test_all_is_well_with_two_journals(make: Make) -> None:
    settings = make("north")
    labelled(settings)
    with opened(settings) as log:
        log.set_period("north", NOW, None, "Ana", How.CLI, NOW)
        keep_together(at(settings, log))
        check_soundness(at(settings, log))
        assert problems(log) == [] and log.state("journal")["unread"] == {}
    assert [c.state for c in examine(settings) if c.name == "journal"] == [OK, OK]


def test_the_doctor_sees_second_backups_that_would_go_to_the_same_disk(config: Path) -> None:
    config.write_text(config.read_text() + "backup: {second_folder: usb}\n")
    for folder in ("usb", "data/backups"):
        (config.parent / folder).mkdir(parents=True)
    found = [c for c in examine(load_settings(config)) if c.name == "second backups"]
    assert [c.state for c in found] == [WARN] and "on the same disk" in found[0].finding
