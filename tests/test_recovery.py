"""A log that breaks: noticed, set aside, restored, told; and no label is lost by it."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from field import sure_of
from logbook import NOW, frames, rows, say
from test_label_journal import as_older_releases_wrote_it

from monitor.core.config import Settings, load_settings
from monitor.core.domain import TrapwatchError
from monitor.health.doctor import FAIL, examine
from monitor.health.status import status_lines, status_of
from monitor.log.backup import write_backup
from monitor.log.backup_facts import NoRoom
from monitor.log.engine import LogDamaged, LogError, choose_sqlite
from monitor.log.integrity import faults_of
from monitor.log.restore import SPARE_BYTES
from monitor.log.species_log import SpeciesLog, open_log
from monitor.model.versions import ModelStore
from monitor.recovery import recovery
from monitor.recovery.backups import back_up
from monitor.recovery.integrity import check_soundness, faults_at_start, is_check_due, keep_together
from monitor.recovery.label_journal import keep_journal, records_of
from monitor.recovery.recovery import adopt_models, make_sound, note_damage
from monitor.service import cleaning
from monitor.service.cleaning import open_when_there_is_room
from monitor.service.opening import open_station

LATER = NOW + timedelta(hours=1)


def log_path(settings: Settings) -> Path:
    return settings.data_directory / "trapwatch.db"


def opened(settings: Settings, *, create: bool = False) -> SpeciesLog:
    return keep_journal(SpeciesLog(log_path(settings), create=create), settings, lambda: NOW)


@pytest.fixture
def backed_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A station with one label before its backup and two after it; the backup's path."""
    backup = settings.data_directory / "copy.db"
    with opened(settings, create=True) as log:
        media = frames(log, 5)
        say(log, media[0], "fox")
        log.backup(backup)
        say(log, media[1], "hare")
        log.rename_species("fox", "red fox", "Ana", "cli", NOW)
    restores_from(monkeypatch, backup)
    return backup


def restores_from(monkeypatch: pytest.MonkeyPatch, backup: Path | None) -> None:
    def restore(settings: Settings, log: Path, aside: Path, now: object) -> Path | None:
        if backup is not None:
            shutil.copy(backup, log)
        return backup

    monkeypatch.setattr(recovery, "_restore_newest", restore)


def spoil(path: Path, place: int, content: bytes = b"\xff" * 64) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)


def labels(settings: Settings) -> list[tuple]:
    with SpeciesLog(log_path(settings)) as log:
        return rows(
            log,
            "SELECT a.id, m.id, s.name FROM label l JOIN act a ON a.id = l.act_id JOIN media m ON "
            "m.id = l.media_id JOIN observation o ON o.label_id = l.id JOIN species s ON s.id = "
            "o.species_id ORDER BY 1",
        )


def set_aside(settings: Settings) -> list[str]:
    return sorted(path.name for path in settings.data_directory.glob("*.damaged-*"))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "not a database at all": lambda path: path.write_bytes(b"nonsense" * 999),
    "an empty file": lambda path: path.write_bytes(b""),
    "no file": lambda path: path.unlink(),
    "cut off": lambda path: os.truncate(path, path.stat().st_size // 2),
    "its header": lambda path: spoil(path, 16),
    "its format bytes": lambda path: spoil(path, 18, b"\x07\x07"),
    "its encoding": lambda path: spoil(path, 56, b"\0\0\0\2"),
    "its schema": lambda path: spoil(path, 100),
    "a zeroed page": lambda path: spoil(path, 4096 * 3, bytes(4096)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_broken_log_is_restored_and_its_later_labels_come_back(
    damage: Callable[[Path], None], backed_up: Path, settings: Settings
) -> None:
    before = labels(settings)
    damage(log_path(settings))
    with_label = {"labels": 1, "waiting": 0, "left_out": [], "backup": str(backed_up)}

    report = make_sound(settings, LATER)

    assert report is not None and report.items() >= with_label.items()
    assert labels(settings) == before
    assert make_sound(settings, LATER) is None, "once is enough"
    assert not (settings.data_directory / "recovery.json").exists()


def test_the_broken_file_is_kept_with_all_that_belongs_to_it(
    backed_up: Path, settings: Settings
) -> None:
    path = log_path(settings)
    path.write_bytes(b"nonsense" * 999)
    Path(f"{path}-wal").write_bytes(b"more nonsense")
    make_sound(settings, LATER)
    assert set_aside(settings) == [
        "trapwatch.db.damaged-20260501T130000Z",
        "trapwatch.db.damaged-20260501T130000Z-wal",
    ]
    aside = settings.data_directory / "trapwatch.db.damaged-20260501T130000Z"
    assert aside.read_bytes() == b"nonsense" * 999
    path.write_bytes(b"again")
    make_sound(settings, LATER)
    assert len(set_aside(settings)) == 3, "another name for another one"


def test_without_a_backup_labels_of_an_older_release_wait_for_their_frames(
    backed_up: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    restores_from(monkeypatch, None)
    as_older_releases_wrote_it(settings.data_directory / "labels.jsonl")
    before = labels(settings)
    log_path(settings).write_bytes(b"nonsense" * 999)
    report = make_sound(settings, LATER)
    assert report is not None and (report["labels"], report["waiting"]) == (0, 2)
    assert "2 more wait" in report["words"]
    with opened(settings) as log:
        frames(log, 5)
        station = SimpleNamespace(log=log, settings=settings, clock=lambda: LATER, quiet=True)
        keep_together(station)
        assert log.state("recovery")["labels"] == 2
        assert "wait" not in log.state("recovery")["words"]
    assert [row[2] for row in labels(settings)] == [row[2] for row in before]


def test_a_backup_that_is_damaged_too_gives_way_to_the_journal(
    backed_up: Path, settings: Settings
) -> None:
    log_path(settings).write_bytes(b"nonsense" * 999)
    spoil(backed_up, 4096 * 3, bytes(4096))
    report = make_sound(settings, LATER)
    assert report is not None and report["backup"] is None
    assert [name[-7:] for name in set_aside(settings)] == ["130000Z", "-backup"]
    with opened(settings) as log:
        frames(log, 5)
        keep_together(SimpleNamespace(log=log, settings=settings, clock=lambda: LATER, quiet=True))
    assert len(labels(settings)) == 2


@pytest.mark.parametrize("step", ["write_note", "set_aside", "_restore_newest", "_tell"])
def test_a_kill_in_the_middle_of_it_only_begins_it_again(
    step: str, backed_up: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = labels(settings)
    log_path(settings).write_bytes(b"nonsense" * 999)
    whole = getattr(recovery, step)

    def killed(*arguments: object) -> None:
        whole(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(recovery, step, killed)
    with pytest.raises(KeyboardInterrupt):
        make_sound(settings, LATER)
    monkeypatch.setattr(recovery, step, whole)
    make_sound(settings, LATER + timedelta(minutes=1))
    assert labels(settings) == before
    assert len(set_aside(settings)) == 1
    assert make_sound(settings, LATER) is None


def test_a_label_that_changed_without_a_trace_is_noticed_and_put_right(
    backed_up: Path, settings: Settings
) -> None:
    before = labels(settings)
    connection = choose_sqlite().module.connect(str(log_path(settings)), isolation_level=None)
    connection.execute("DROP TRIGGER observation_is_never_changed")
    connection.execute("UPDATE observation SET species_id = 2, count = 7 WHERE label_id = 1")
    connection.close()
    assert faults_of(log_path(settings), depth="full") == [], "SQLite sees nothing"
    assert "act 1" in faults_at_start(settings)[0]
    make_sound(settings, LATER)
    assert labels(settings) == before


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE state SET value = '{\"broken'", "no JSON in value"),
        ("UPDATE media SET status = 'pendinf' WHERE id = 1", "media.status is 'pendinf'"),
        ("UPDATE media SET label_id = NULL", "does not show its newest label"),
        ("UPDATE alembic_version SET version_num = '?'", "which revision"),
        ("DROP TABLE flag", "flag is not there"),
        ("DROP TRIGGER act_is_never_deleted; DELETE FROM act WHERE id = 1", "names one of act"),
    ],
)
def test_what_sqlite_takes_for_sound_and_is_not(
    statement: str, told: str, backed_up: Path, settings: Settings
) -> None:
    with opened(settings) as log:
        log.put_state("k", {}, NOW)
    assert faults_of(log_path(settings), depth="full") == []
    connection = choose_sqlite().module.connect(str(log_path(settings)))
    connection.executescript(statement)
    connection.close()
    assert told in "; ".join(faults_of(log_path(settings), depth="full"))


def test_a_newer_log_is_not_taken_for_a_broken_one(backed_up: Path, settings: Settings) -> None:
    connection = choose_sqlite().module.connect(str(log_path(settings)), isolation_level=None)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(TrapwatchError, match="upgrade trapwatch"):
        open_station(settings)
    assert set_aside(settings) == []


def test_the_models_on_the_disk_are_known_again_and_the_live_one_is_live(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ModelStore(settings.models.directory)
    with opened(settings, create=True) as log:
        for name in ("v0001", "v0002", "v0003"):
            card = {"backbone": "small"}
            sha256 = store.publish(name, sure_of("fox"), card, "")
            log.add_version(name, "candidate", "small", "small", sha256, "", {}, NOW)
        log.go_live("v0001", "first", "Ana", NOW)
        log.go_live("v0002", "better", "Ana", NOW)
    restores_from(monkeypatch, None)
    head = store.directory / "v0003" / "head.safetensors"
    head.chmod(0o644)
    spoil(head, 200)
    log_path(settings).write_bytes(b"nonsense" * 999)

    report = make_sound(settings, LATER)

    assert report is not None and report["models"] == ["v0001", "v0002"]
    with opened(settings) as log:
        states = {row.name: row.state for row in log.versions()}
        assert states == {"v0001": "retired", "v0002": "live"}
        assert store.load("v0002", log.live_version().weights_sha256)
        assert log.roll_back("Ana", LATER) == "v0001", "the way back is known, too"
        assert adopt_models(log, store, LATER) == []


def test_damage_that_shows_while_the_log_is_open_is_told_as_such(
    backed_up: Path, settings: Settings
) -> None:
    with SpeciesLog(log_path(settings)) as log:
        query = "SELECT rootpage FROM sqlite_master WHERE name IN ('media', 'media_by_status')"
        pages = rows(log, query)
        log.checkpoint()
    for (page,) in pages:
        spoil(log_path(settings), 4096 * (page - 1), b"\x99" * 4096)
    with SpeciesLog(log_path(settings)) as log:
        assert log.damage is None
        with pytest.raises(LogDamaged, match="damaged"):
            log.counts()
        assert log.damage is not None
        note_damage(settings, log.damage, LATER)
    report = make_sound(settings, LATER)
    assert report is not None and "malformed" in report["why"]
    assert len(labels(settings)) == 2


def test_what_is_due_is_looked_at_and_the_result_remembered(
    backed_up: Path, settings: Settings
) -> None:
    with opened(settings) as log:
        station = SimpleNamespace(log=log, settings=settings, clock=lambda: LATER)
        check_soundness(station)
        first = log.state("integrity")
        assert (first["full_at"], first["problem"]) == (first["quick_at"], None)
        station.clock = lambda: LATER + timedelta(days=1)
        check_soundness(station)
        second = log.state("integrity")
        assert second["quick_at"] > first["quick_at"] and second["full_at"] == first["full_at"]
        station.clock = lambda: LATER + timedelta(days=8)
        log.checkpoint()
        spoil(log_path(settings), 4096 * 3, bytes(4096))
        check_soundness(station)
        assert log.damage


def test_a_check_is_due_after_its_time_and_after_a_clock_that_was_wrong() -> None:
    day = timedelta(days=1)
    assert is_check_due(None, day, NOW)
    assert not is_check_due("2026-05-01T00:00:00.000Z", day, NOW)
    assert is_check_due("2026-04-30T12:00:00.000Z", day, NOW)
    assert is_check_due("2031-01-01T00:00:00.000Z", day, NOW)


def test_status_and_doctor_say_what_happened(backed_up: Path, settings: Settings) -> None:
    log_path(settings).write_bytes(b"nonsense" * 999)
    checks = {check.name: check for check in examine(settings)}
    assert checks["log"].state == FAIL and "start the service" in checks["log"].advice
    make_sound(settings, LATER)
    with opened(settings) as log:
        facts = status_of(settings, log, LATER)
    assert facts["log"]["recovery"]["backup"] == str(backed_up)
    lines = dict(status_lines(facts))
    assert "1 labels came back from the journal" in lines["log restored"]
    assert json.dumps(facts)
    checks = {check.name: check for check in examine(settings)}
    assert "restored from" in checks["log restored"].finding
    assert "labels.jsonl" in checks["journal"].finding


def test_an_older_log_that_somebody_put_there_gets_its_later_labels(
    backed_up: Path, settings: Settings
) -> None:
    before = labels(settings)
    shutil.copy(backed_up, log_path(settings))
    assert make_sound(settings, LATER) is None
    assert labels(settings) == before
    assert len(list(records_of(settings.data_directory / "labels.jsonl"))) == 3


def test_a_new_station_is_not_taken_for_a_broken_one(settings: Settings) -> None:
    assert make_sound(settings, NOW) is None
    assert not log_path(settings).exists()
    open_station(settings).close()
    assert make_sound(settings, NOW) is None
    assert set_aside(settings) == []


def test_a_kill_with_the_log_set_aside_is_remembered_without_a_journal_too(
    backed_up: Path, config: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(config.read_text() + "journal: {enabled: false}\n")
    settings = load_settings(config)
    log_path(settings).write_bytes(b"nonsense" * 999)
    whole = recovery.set_aside

    def killed(log: Path, aside: Path) -> None:
        whole(log, aside)
        raise KeyboardInterrupt

    monkeypatch.setattr(recovery, "set_aside", killed)
    with pytest.raises(KeyboardInterrupt):
        make_sound(settings, LATER)
    assert not log_path(settings).exists()
    make_sound(settings, LATER)
    assert len(labels(settings)) == 1, "the backup's; not an empty log"


@pytest.fixture
def without_room(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """A station whose log broke, and whose disk has room for another as soon as some pictures are
    gone; those pictures."""
    log = log_path(settings)
    with opened(settings, create=True) as one:
        media = frames(one, 5)
        say(one, media[0], "fox")
        one.identity(NOW)
    back_up(settings, NOW)
    needed = log.stat().st_size + SPARE_BYTES
    log.write_bytes(b"nonsense" * 999)
    pictures = [settings.data_directory / "pictures" / "00" / f"{n}.jpg" for n in range(9)]
    pictures[0].parent.mkdir(parents=True)
    for number, path in enumerate(pictures):
        path.write_bytes(b"x" * 1000)
        os.utime(path, (10**9 + number, 10**9 + number))
    usage = shutil.disk_usage(settings.data_directory)

    def disk_usage(_: object) -> object:
        gone = sum(not path.exists() for path in pictures)
        return usage._replace(free=needed - 3_000_000 + gone * 1_000_000)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    yield pictures


def test_a_recovery_that_lacks_room_says_so_wherever_one_asks(
    without_room: list[Path], settings: Settings
) -> None:
    with pytest.raises(NoRoom, match=r"MB free, and .* are needed"):
        make_sound(settings, LATER)
    assert len(set_aside(settings)) == 1
    (check,) = [check for check in examine(settings) if check.name == "log"]
    assert check.state == FAIL
    assert "waits for room" in check.finding and "are needed" in check.finding
    with pytest.raises(LogError, match=r"recovery was begun at .* waits for room"):
        open_log(settings.database.url)


def test_the_service_cleans_for_a_recovery_and_goes_on(
    without_room: list[Path], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "WAIT_SECONDS", 0.01)
    before, stop = len(without_room), threading.Event()
    station = open_when_there_is_room(settings, stop, lambda: None)
    assert station is not None
    station.close()
    assert len(labels(settings)) == 1
    assert before - 3 == sum(path.exists() for path in without_room), "no more than needed"
    assert not (settings.data_directory / "recovery.json").exists()


def test_while_there_is_no_room_to_restore_it_is_waited_for_until_the_end(
    without_room: list[Path], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(cleaning, "clean_files", lambda *_: [])
    opens, stop = [], threading.Event()
    whole = cleaning.open_station
    monkeypatch.setattr(
        cleaning, "open_station", lambda settings: (opens.append(1), whole(settings))[1]
    )
    waits = iter([*[None] * 20, 1])
    station = open_when_there_is_room(settings, stop, lambda: next(waits) and stop.set())
    assert station is None
    assert len(opens) == 1, "whole backups are not read again and again"


def test_of_the_damaged_logs_the_newest_two_stay(backed_up: Path, settings: Settings) -> None:
    for hour in range(4):
        log_path(settings).write_bytes(b"nonsense" * 999)
        make_sound(settings, LATER - timedelta(hours=hour))
    names = [name for name in set_aside(settings) if not name.endswith(("-wal", "-shm"))]
    assert len(names) == 2
    assert "trapwatch.db.damaged-20260501T100000Z" in names, "the last, whatever the clock says"


def test_another_stations_backup_on_the_stick_is_not_restored(
    settings: Settings, config: Path, tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    backup = settings.backup.model_copy(update={"second_folder": stick})
    settings = settings.model_copy(update={"backup": backup})
    with SpeciesLog(tmp_path / "other.db", create=True) as other:
        frames(other, 3)
        other.identity(NOW)
    write_backup(tmp_path / "other.db", stick / "trapwatch-2026-11-26T0215Z.db", number=900)
    with opened(settings, create=True) as log:
        say(log, frames(log, 5)[0], "fox")
        mark = log.identity(NOW)
    own = back_up(settings, NOW).facts.path
    log_path(settings).write_bytes(b"nonsense" * 999)
    report = make_sound(settings, LATER)
    assert report is not None and report["backup"] == str(own)
    with opened(settings) as log:
        assert log.identity(LATER) == mark
        assert log.counts()["media"] == 5
