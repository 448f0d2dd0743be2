"""Another program deletes or replaces the files of a log that is open."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from logbook import NOW, frames, item, rows, say, take_in

from monitor.core.config import Settings
from monitor.log.backup_facts import BackupError, NoRoom, number_of
from monitor.log.engine import LogError, LogReplaced, choose_sqlite
from monitor.log.species_log import SpeciesLog
from monitor.recovery import replaced_log
from monitor.recovery.backups import back_up
from monitor.recovery.integrity import RESTORED_STATE
from monitor.recovery.label_journal import keep_journal
from monitor.recovery.recovery import make_sound
from monitor.recovery.replaced_log import save_what_is_open

needs_wal = pytest.mark.skipif(not choose_sqlite().wal, reason="this SQLite uses no WAL")


@pytest.fixture
def path(settings: Settings) -> Path:
    return settings.data_directory / "trapwatch.db"


@pytest.fixture
def base(settings: Settings, path: Path) -> Path:
    """A station's log with three frames, the first of them labelled."""
    with keep_journal(SpeciesLog(path, create=True), settings) as log:
        log.identity(NOW)
        media = frames(log, 3)
        say(log, media[0], "fox")
    return path


@pytest.fixture
def opened(base: Path, settings: Settings) -> Iterator[SpeciesLog]:
    with keep_journal(SpeciesLog(base), settings) as log:
        log.counts()
        yield log


def wal(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def said(path: Path) -> list[tuple]:
    with SpeciesLog(path) as log:
        query = (
            "SELECT m.sha256, s.name FROM label l JOIN media m ON m.id = l.media_id "
            "JOIN observation o ON o.label_id = l.id JOIN species s ON s.id = o.species_id"
        )
        return rows(log, f"{query} ORDER BY l.id")


def asides(path: Path) -> list[Path]:
    return sorted(p for p in path.parent.glob("*.replaced-*") if p.suffix not in ("-wal", "-shm"))


# ---- while it is open -------------------------------------------------------------------------


@needs_wal
def test_nothing_is_written_or_read_any_more_after_the_write_ahead_log_was_deleted(
    opened: SpeciesLog, base: Path
) -> None:
    wal(base).unlink()
    with pytest.raises(LogReplaced, match=r"trapwatch.db-wal was deleted by another program"):
        say(opened, 2, "hare")
    with pytest.raises(LogReplaced):
        opened.counts()
    with pytest.raises(LogReplaced):
        opened.checkpoint()
    assert opened.replaced() is not None


def test_a_log_that_is_replaced_within_a_transaction_is_not_said_to_be_written(
    opened: SpeciesLog, base: Path, tmp_path: Path
) -> None:
    shutil.copy(base, tmp_path / "other.db")
    with pytest.raises(LogReplaced, match="was replaced"), opened._write() as connection:
        connection.exec_driver_sql("UPDATE media SET width = 1")
        os.replace(tmp_path / "other.db", base)
    opened.close()
    assert said(base) != []
    with SpeciesLog(base) as log:
        assert rows(log, "SELECT DISTINCT width FROM media") == [(64,)]


def test_no_new_connection_mixes_old_files_with_new_ones(opened: SpeciesLog, base: Path) -> None:
    with opened._engine.connect():
        base.rename(base.with_name("moved.db"))
        with pytest.raises(LogReplaced, match="was deleted"):
            opened._engine.connect()


def test_a_log_whose_connections_were_all_closed_may_be_another_file(
    opened: SpeciesLog, base: Path
) -> None:
    opened.close()
    shutil.copy(base, base.with_name("other.db"))
    os.replace(base.with_name("other.db"), base)
    assert opened.replaced() is None
    assert opened.counts()["media"] == 3


def test_a_log_that_cannot_be_opened_leaves_no_connection_behind(base: Path) -> None:
    base.write_bytes(b"nonsense" * 999)
    with pytest.raises(LogError):
        SpeciesLog(base)
    links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.exists()]
    assert str(base) not in links


# ---- the copy of what is open -----------------------------------------------------------------


@needs_wal
def test_what_was_only_in_the_deleted_write_ahead_log_is_copied(
    opened: SpeciesLog, base: Path, settings: Settings
) -> None:
    say(opened, 2, "hare")
    take_in(opened, [item("gone.jpg")])
    wal(base).unlink()
    save_what_is_open(opened, "it was deleted", NOW)
    copy = base.with_name("trapwatch.db.was-open")
    assert [name for _, name in said(copy)] == ["fox", "hare"]
    note = json.loads((base.parent / "replaced.json").read_text())
    assert note["is_copied"] and note["why"] == "it was deleted"


@needs_wal
def test_side_files_do_not_stay_beside_another_log(
    opened: SpeciesLog, base: Path, tmp_path: Path
) -> None:
    say(opened, 2, "hare")
    shutil.copy(base, tmp_path / "other.db")
    os.replace(tmp_path / "other.db", base)
    save_what_is_open(opened, "it was replaced", NOW)
    assert not wal(base).exists() and not base.with_name("trapwatch.db-shm").exists()


@needs_wal
def test_side_files_of_others_stay_where_they_are(opened: SpeciesLog, base: Path) -> None:
    other = base.with_name("other.db")
    shutil.copy(base, other)
    os.replace(other, base)
    wal(base).unlink()
    wal(base).write_bytes(b"of somebody else")
    save_what_is_open(opened, "it was replaced", NOW)
    assert wal(base).read_bytes() == b"of somebody else"
    wal(base).unlink()


def test_a_copy_that_finds_no_room_is_told_and_the_service_goes_on(
    opened: SpeciesLog,
    base: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*_: object) -> None:
        raise NoRoom("the disk is full")

    monkeypatch.setattr(SpeciesLog, "copy_what_is_open", full)
    base.unlink()
    save_what_is_open(opened, "it was deleted", NOW)
    assert "cannot be copied whole: the disk is full" in caplog.text
    opened.close()
    report = make_sound(settings, NOW)
    assert report is not None, "as every log that is gone"
    assert report["labels"] == 1


def test_room_is_made_for_the_copy(
    opened: SpeciesLog, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_what_is_open, made = SpeciesLog.copy_what_is_open, []

    def full_at_first(log: SpeciesLog, target: Path, is_ending: Callable[[], bool]) -> None:
        copy_what_is_open(log, target, is_ending)
        if not made:
            raise NoRoom("the disk is full")

    monkeypatch.setattr(SpeciesLog, "copy_what_is_open", full_at_first)
    base.rename(base.with_name("moved.db"))
    save_what_is_open(opened, "it was deleted", NOW, made.append)
    assert made[0] > base.with_name("moved.db").stat().st_size
    assert base.with_name("trapwatch.db.was-open").exists()


def test_the_copy_waits_for_a_connection_that_nobody_uses(
    opened: SpeciesLog, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = opened._engine.connect()
    base.rename(base.with_name("moved.db"))
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            used.close()

    monkeypatch.setattr("monitor.recovery.replaced_log.time.sleep", sleep)
    save_what_is_open(opened, "it was deleted", NOW)
    assert base.with_name("trapwatch.db.was-open").exists()
    assert slept[:3] == [replaced_log.PAUSE_SECONDS] * 3


# ---- the next start ---------------------------------------------------------------------------


def started(settings: Settings) -> dict[str, Any]:
    """What people are told after a start; empty: nothing."""
    make_sound(settings, NOW)
    with SpeciesLog(settings.data_directory / "trapwatch.db") as log:
        return log.state(RESTORED_STATE) or {}


def note(base: Path, **facts: object) -> None:
    (base.parent / "replaced.json").write_text(json.dumps({"why": "it was replaced", **facts}))


@pytest.fixture
def copy(base: Path, settings: Settings) -> Path:
    """What the service had open: two frames more, one of them labelled, whose card has gone."""
    path = base.with_name("trapwatch.db.was-open")
    shutil.copy(base, path)
    with SpeciesLog(path) as log:
        media = take_in(log, [item("later.jpg"), item("unlabelled.jpg")])
        say(log, media[0], "hare")
    note(base, at="2026-05-01T12:00:00.000Z", is_copied=True)
    return path


def gone(base: Path) -> None:
    base.unlink()


def empty(base: Path) -> None:
    base.write_bytes(b"")


def damaged(base: Path) -> None:
    with base.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 400)


def of_another_program(base: Path) -> None:
    base.unlink()
    with closing(sqlite3.connect(base)) as connection:
        connection.execute("CREATE TABLE birds (name TEXT)")


def of_another_station(base: Path) -> None:
    base.unlink()
    with SpeciesLog(base, create=True) as log:
        log.identity(NOW)
        frames(log, 9, deployment="elsewhere")


UNUSED = {
    "nothing": (lambda base: None, "holds nothing more"),
    "gone": (gone, ""),
    "empty": (empty, "no sound log"),
    "damaged": (damaged, "no sound log"),
    "another program's": (of_another_program, "no s"),
    "another station's": (of_another_station, "another station's"),
}


@pytest.mark.parametrize(("change", "words"), UNUSED.values(), ids=UNUSED.keys())
def test_the_copy_is_used_where_nothing_better_lies_in_its_place(
    change: Callable[[Path], None], words: str, base: Path, copy: Path, settings: Settings
) -> None:
    change(base)
    facts = started(settings)
    assert "nothing is lost" in facts["words"] and words in facts["words"]
    assert [name for _, name in said(base)] == ["fox", "hare"]
    with SpeciesLog(base) as log:
        assert log.counts()["media"] == 5
        log.put_state(RESTORED_STATE, {}, NOW)
    assert len(asides(base)) == (change is not gone)
    assert not copy.exists()
    assert started(settings) == {}, "once is enough"


def test_labels_that_others_wrote_come_into_the_copy(
    base: Path, copy: Path, settings: Settings
) -> None:
    with SpeciesLog(base) as log:  # also where the journal does not have it yet
        say(log, 3, "badger", by="Bob")
    facts = started(settings)
    assert "others have written into what lies there now" in facts["words"]
    assert facts["missing_media"] == 0
    assert sorted(name for _, name in said(base)) == ["badger", "fox", "hare"]
    assert asides(base) == [Path(facts["aside"])], "what lay there is kept"
    with SpeciesLog(base) as log:
        assert log.counts()["media"] == 5


def test_the_one_with_more_frames_is_used_and_labels_come_together(
    base: Path, copy: Path, settings: Settings
) -> None:
    with keep_journal(SpeciesLog(base), settings) as log:
        say(log, 3, "badger", by="Bob")
        take_in(log, [item(f"other-{n}.jpg") for n in range(4)])
    note(base, at="2026-05-01T12:00:00.000Z", is_copied=True, media=9)
    facts = started(settings)
    assert facts["missing_media"] == 1
    assert "1 frames that had been taken in are not in the log" in facts["words"]
    assert sorted(name for _, name in said(base)) == ["badger", "fox", "hare"]
    assert asides(base) == [Path(facts["aside"])], "the copy is kept"
    with SpeciesLog(base) as log:
        assert log.counts()["media"] == 8, "the labelled frame came back without its file"
        assert min(take_in(log, [item("new.jpg")])) > 1000, "no id is given twice"


HOLDS = """
import sqlite3, sys
log = sqlite3.connect(sys.argv[1])
print(log.execute("SELECT count(*) FROM media").fetchone()[0], flush=True)
sys.stdin.read()
"""


@needs_wal
@pytest.mark.parametrize("suffixes", [("-wal", "-shm"), ("-wal",)])
def test_a_reader_that_stays_does_not_keep_the_copy_out(
    suffixes: tuple[str, ...], base: Path, settings: Settings, opened: SpeciesLog
) -> None:
    say(opened, 2, "hare")
    command = [sys.executable, "-c", HOLDS, str(base)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as reader:
        reader.stdout.readline()
        for suffix in suffixes:
            base.with_name(f"{base.name}{suffix}").unlink()
        save_what_is_open(opened, "it was deleted", NOW)
        facts = started(settings)
        assert "nothing is lost" in facts["words"]
        assert [name for _, name in said(base)] == ["fox", "hare"]
        reader.stdin.close()


def test_a_damaged_copy_is_kept_and_not_used(base: Path, copy: Path, settings: Settings) -> None:
    damaged(copy)
    facts = started(settings)
    assert "is not sound" in facts["words"]
    assert [name for _, name in said(base)] == ["fox"]
    assert asides(base) == [Path(facts["aside"])]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"why": "it was deleted"}', "the service was ended before"),
        ('{"why": "it was deleted", "problem": "no room"}', "could not be copied (no room)"),
        ("torn", "the files of the log were replaced; what the service had open could not"),
        ("[]", "the files of the log were replaced; what the service had open could not"),
    ],
)
def test_without_a_copy_the_log_that_is_there_is_used(
    text: str, words: str, base: Path, settings: Settings
) -> None:
    (base.parent / "replaced.json").write_text(text)
    facts = started(settings)
    assert words in facts["words"]
    assert not (base.parent / "replaced.json").exists()
    assert [name for _, name in said(base)] == ["fox"]


@pytest.mark.parametrize("change", [gone, empty, damaged, of_another_program])
def test_without_a_copy_the_backup_is_restored(
    change: Callable[[Path], None], base: Path, settings: Settings
) -> None:
    back_up(settings, NOW)
    change(base)
    note(base, at="2026-05-01T12:00:00.000Z", media=5, problem="no room")
    facts = started(settings)
    assert "no room" in facts["words"] and "restored from" in facts["words"]
    assert facts["missing_media"] == 2
    assert [name for _, name in said(base)] == ["fox"]


def test_what_was_decided_is_decided_also_through_a_kill(
    base: Path, copy: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    damaged(copy)
    with monkeypatch.context() as patch:
        patch.setattr(replaced_log, "drop_older_asides", killed)
        with pytest.raises(KeyboardInterrupt):
            make_sound(settings, NOW)
    assert not copy.exists()
    assert "is not sound" in started(settings)["words"]


def test_what_a_killed_copying_left_is_swept(base: Path, settings: Settings) -> None:
    left = base.with_name(".trapwatch.db.was-open.999999999.partial")
    left.write_bytes(b"half a copy")
    note(base)
    started(settings)
    assert not left.exists()


def test_a_restore_by_hand_counts_for_more_than_the_copy(
    base: Path, copy: Path, settings: Settings, run: Callable[..., tuple[int, str, str]]
) -> None:
    backup = base.with_name("backup.db")
    with SpeciesLog(base) as log:
        log.backup(backup)
    code, _, err = run("restore", backup, "--yes")
    assert code == 0, err
    assert started(settings) == {}
    with SpeciesLog(base) as log:
        assert log.counts()["media"] == 3


@needs_wal
def test_a_log_that_is_a_link_is_watched_where_it_lies(
    base: Path, settings: Settings, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    base.rename(disk / "log.db")
    base.symlink_to(disk / "log.db")
    with keep_journal(SpeciesLog(base), settings) as log:
        say(log, 2, "hare")
        (disk / "log.db-wal").unlink()
        with pytest.raises(LogReplaced, match="was deleted"):
            log.counts()
        save_what_is_open(log, "it was deleted", NOW)
    assert "nothing is lost" in started(settings)["words"]
    assert base.is_symlink()
    assert [name for _, name in said(base)] == ["fox", "hare"]


def test_files_that_cannot_be_looked_at_are_not_called_deleted(
    opened: SpeciesLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("monitor.log.open_files.os.stat", hidden)
    assert opened.replaced() is None


def test_the_live_log_is_not_closed_under_the_name_of_a_backup(
    opened: SpeciesLog, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = tmp_path / "trapwatch-2026-05-01T1200Z.db"
    os.link(base, backup)
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("it would be closed"))
    assert number_of(backup) == 0


def test_a_log_cannot_be_restored_from_itself(base: Path) -> None:
    from monitor.log.restore import restore_backup

    with pytest.raises(BackupError, match="is the log itself"):
        restore_backup(base, base, NOW)
