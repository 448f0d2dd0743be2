"""`trapwatch backup` and `trapwatch restore`, as a ranger types them."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from logbook import NOW, rows, say
from test_cli import Station

from monitor.core.config import load_settings
from monitor.core.domain import utc_now
from monitor.log.backup_facts import station_of
from monitor.log.engine import choose_sqlite
from monitor.log.recovery_note import NOTE
from monitor.log.species_log import SpeciesLog
from monitor.recovery.backups import back_up
from monitor.system.locks import LOCK_NAME, TRAINING_LOCK_NAME, OwnerLock

LABELS = "SELECT id, act_id, media_id FROM label ORDER BY id"
HEAVY = ("tensorflow", "keras", "numpy", "alembic", "PIL", "apscheduler", "watchdog", "rich")


@pytest.fixture
def station(config, filled, monkeypatch, capfd):
    """A station with something in every table, and nobody at work."""
    filled.close()
    return Station(config, monkeypatch, capfd)


@pytest.fixture
def data(config) -> Path:
    return config.parent / "data"


def labels(path: Path) -> list[tuple]:
    with SpeciesLog(path) as log:
        return rows(log, LABELS)


def test_a_backup_says_what_it_holds(station, tmp_path):
    copy = tmp_path / "copy.db"
    code, out, err = station.run("backup", copy)
    assert (code, out) == (0, "")
    assert "written; it holds 11 media, 3 labels, the newest of 2026-05-01T12:00:00.000Z" in err
    code, out, err = station.run("backup", copy)
    assert (code, "exists already; name a new file" in err) == (1, True)
    facts = station.json("backup", tmp_path / "second.db")
    assert (facts["media"], facts["labels"], facts["path"]) == (11, 3, str(tmp_path / "second.db"))


def test_a_backup_needs_a_file_or_the_wish_to_list(station, tmp_path):
    code, _, err = station.run("backup")
    assert (code, "--list" in err) == (2, True)
    assert station.run("backup", tmp_path / "x.db", "--list")[0] == 2
    assert not (tmp_path / "x.db").exists()


def test_the_backups_of_the_service_are_listed_newest_first(station, data):
    settings = load_settings(station.config, {})
    assert station.json("backup", "--list") == []
    first, second = (back_up(settings, NOW).facts for _ in range(2))
    listed = station.json("backup", "--list")
    assert [one["path"] for one in listed] == [str(second.path), str(first.path)]
    assert listed[0]["newest_label_at"] == "2026-05-01T12:00:00.000Z"
    table = station.ok("backup", "--list").splitlines()
    assert table[0].split("\t") == ["backup", "size", "media", "labels", "newest label", "whose"]
    assert table[1].startswith(f"{second.path}\t")
    second.path.write_bytes(b"damaged")
    code, out, err = station.run("backup", "--list", "--json")
    assert [one["path"] for one in json.loads(out)] == [str(first.path)]
    assert (code, second.path.name in err) == (0, True)


def test_a_restore_brings_every_label_of_the_backup_and_keeps_the_log_that_was_there(
    station, data, tmp_path
):
    log, copy = data / "trapwatch.db", tmp_path / "copy.db"
    station.ok("backup", copy)
    before = labels(log)
    with SpeciesLog(log) as opened:
        say(opened, 5, "lynx")
    code, _, err = station.run("restore", copy, "--yes")
    assert code == 0, err
    assert f"{copy} holds 11 media, 3 labels" in err
    assert f"{log} holds 11 media, 4 labels" in err
    (aside,) = data.glob("trapwatch.db.replaced-*")
    assert str(aside) in err
    assert labels(log) == before
    assert len(labels(aside)) == len(before) + 1


def test_a_restore_says_as_json_what_was_set_aside(station, data, tmp_path):
    station.ok("backup", tmp_path / "copy.db")
    facts = station.json("restore", tmp_path / "copy.db", "--yes")
    assert (facts["labels"], Path(facts["set_aside"]).parent) == (3, data)


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_a_restore_asks_first(station, data, tmp_path, answer, code):
    station.ok("backup", tmp_path / "copy.db")
    command = [sys.executable, "-m", "monitor", "restore", tmp_path / "copy.db", "--config"]
    done = subprocess.run(
        [*command, station.config], input=f"{answer}\n", capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert (done.stdout, "Put the backup in its place?" in done.stderr) == ("", True)
    assert len(list(data.glob("*.replaced-*"))) == (code == 0)


@pytest.mark.parametrize("lock", [LOCK_NAME, TRAINING_LOCK_NAME])
def test_a_restore_while_the_service_runs_or_trains_is_refused(station, data, tmp_path, lock):
    station.ok("backup", tmp_path / "copy.db")
    inode = (data / "trapwatch.db").stat().st_ino
    with OwnerLock(data / lock, "the log", utc_now()):
        code, _, err = station.run("restore", tmp_path / "copy.db", "--yes")
    assert (code, "is in use by process" in err, "systemctl stop" in err) == (1, True, True)
    assert (data / "trapwatch.db").stat().st_ino == inode
    assert list(data.glob("*.replaced-*")) == []


def test_a_damaged_backup_is_refused_and_the_log_stays(station, data, tmp_path):
    copy, log = tmp_path / "copy.db", data / "trapwatch.db"
    station.ok("backup", copy)
    copy.write_bytes(copy.read_bytes()[: copy.stat().st_size // 2])
    before = log.read_bytes()
    code, _, err = station.run("restore", copy, "--yes")
    assert (code, "copy.db is no sound log" in err) == (1, True)
    assert log.read_bytes() == before
    assert station.run("restore", tmp_path / "none.db", "--yes")[0] == 1


def test_a_broken_log_is_restored_and_its_note_of_damage_is_gone(station, data, tmp_path):
    copy, log = tmp_path / "copy.db", data / "trapwatch.db"
    station.ok("backup", copy)
    before = labels(log)
    log.write_bytes(b"broken" * 1000)
    (data / NOTE).write_text("{}")
    code, _, err = station.run("restore", copy, "--yes")
    assert (code, "what cannot be told" in err) == (0, True), err
    assert labels(log) == before
    assert not (data / NOTE).exists()


def test_what_was_said_since_the_backup_comes_back_when_the_service_starts(station, data, tmp_path):
    copy, log = tmp_path / "copy.db", data / "trapwatch.db"
    station.ok("backup", copy)
    station.ok("label", "set", "5", "red fox", "--by", "Zoe")
    station.ok("restore", copy, "--yes")
    assert len(labels(log)) == 4
    station.ok("run", "--once")
    with closing(choose_sqlite().module.connect(log)) as connection:
        said = connection.execute(
            "SELECT media_id FROM label JOIN act ON act.id = act_id WHERE act.by = 'Zoe'"
        ).fetchall()
    assert said == [(5,)]


def test_a_backup_imports_nothing_heavy(station, tmp_path):
    code = (
        "import sys; from monitor.cli import main\n"
        f"try: main()\nfinally: print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    words = ["backup", str(tmp_path / "copy.db"), "--config", str(station.config)]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, check=False, text=True
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_another_stations_backup_is_restored_only_if_that_is_said(station, data, tmp_path):
    log, copy = data / "trapwatch.db", tmp_path / "copy.db"
    with SpeciesLog(log) as opened:
        opened.identity(NOW)
    station.ok("backup", copy)
    with closing(choose_sqlite().module.connect(copy)) as connection, connection:
        connection.execute("UPDATE state SET value = '{\"id\": \"other\"}' WHERE key = 'identity'")
    code, _, err = station.run("restore", copy, "--yes")
    assert (code, "ANOTHER station's" in err, "--other-station" in err) == (1, True, True)
    assert list(data.glob("*.replaced-*")) == []
    assert station.run("restore", copy, "--yes", "--other-station")[0] == 0
    assert station_of(log) == "other"


def test_a_backup_without_a_log_says_that_there_is_none(station, data, tmp_path):
    for path in data.glob("trapwatch.db*"):
        path.unlink()
    code, _, err = station.run("backup", tmp_path / "copy.db")
    assert (code, "there is no species log at" in err) == (1, True)
    assert not (tmp_path / "copy.db").exists()


def test_of_the_logs_that_were_replaced_the_newest_two_stay(station, data, tmp_path):
    station.ok("backup", tmp_path / "copy.db")
    (data / "trapwatch.db.replaced-mine").write_text("a name of somebody's own")
    for _ in range(4):
        station.ok("restore", tmp_path / "copy.db", "--yes")
    found = {path.name for path in data.glob("*.replaced-*")}
    assert len(found) == 3 and "trapwatch.db.replaced-mine" in found


def test_a_restore_says_what_is_in_no_backup(station, data, tmp_path):
    text = station.config.read_text()
    station.config.write_text(text.replace("web: {enabled: false}", "web: {enabled: true}"))
    station.ok("backup", tmp_path / "copy.db")
    err = station.run("restore", tmp_path / "copy.db", "--yes")[2]
    assert "trapwatch web password" in err
    (data / "accounts.json").write_text("{}")
    assert "web password" not in station.run("restore", tmp_path / "copy.db", "--yes")[2]
