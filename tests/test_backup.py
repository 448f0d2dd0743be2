"""Copies of the log: written beside writers, read back, refused when damaged, restored whole."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from faults.full_disk import CannotMount, small_disk
from logbook import NOW, fill, frames, item, rows, say, take_in

from monitor.log import upgrading
from monitor.log.backup import sweep, verify_backup, write_backup
from monitor.log.backup_facts import (
    BackupError,
    BackupStopped,
    NotSound,
    backups_in,
    facts_of,
    next_number,
    number_of,
)
from monitor.log.engine import HEAD, LogError, choose_sqlite
from monitor.log.restore import restore_backup
from monitor.log.species_log import SpeciesLog

FIXTURES = Path(__file__).parent / "fixtures"
LABELS = """SELECT m.sha256, a.at, a.by, s.name, o.count FROM label l JOIN act a ON a.id = l.act_id
    JOIN media m ON m.id = l.media_id JOIN observation o ON o.label_id = l.id
    JOIN species s ON s.id = o.species_id ORDER BY l.id"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A log as the first release left it."""
    path = tmp_path / "old" / "trapwatch.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((FIXTURES / "log-0001.sql").read_text(encoding="utf-8"))
    return path


def damage(path: Path) -> None:
    """Zeros in the middle of each page but the first."""
    content = bytearray(path.read_bytes())
    for start in range(4096 + 100, len(content) - 200, 4096):
        content[start : start + 200] = bytes(200)
    path.write_bytes(content)


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if "partial" in p.name]


def test_a_backup_says_what_it_holds(filled, tmp_path):
    target = tmp_path / "copy.db"
    facts = write_backup(filled.path, target, number=17)
    assert facts == verify_backup(target) == facts_of(target)
    assert (facts.media, facts.labels, facts.revision, facts.number) == (11, 3, HEAD, 17)
    assert facts.newest_label_at == "2026-05-01T12:00:00.000Z"
    assert facts.size_bytes == target.stat().st_size
    assert stat.S_IMODE(target.stat().st_mode) & 0o137 == 0
    assert [p.name for p in tmp_path.iterdir() if "copy" in p.name] == ["copy.db"]


def test_a_backup_is_whole_while_another_thread_writes(log, tmp_path):
    """Each transaction says a frame and its label: a copy that holds one holds both."""
    frames(log, 200, minutes=1)
    stop, said, faults = threading.Event(), [0], []

    def write() -> None:
        try:
            while not stop.is_set():
                said[0] += 1
                media = take_in(log, [item(f"w{said[0]}.jpg", deployment="west")])
                say(log, media[0], "red fox")
        except BaseException as error:  # noqa: BLE001 told by the test
            faults.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        before = said[0]
        copies = [write_backup(log.path, tmp_path / f"{n}.db", number=n) for n in range(4)]
        assert said[0] > before, "the writer was not held up all the time"
    finally:
        stop.set()
        writer.join()
    assert faults == []
    for one, after in pairwise(copies):
        assert one.labels <= after.labels
    for facts in copies:
        assert verify_backup(facts.path) == facts
        assert 0 <= facts.media - 200 - facts.labels <= 1
    assert log.check() == []


def test_what_is_only_in_the_write_ahead_log_is_in_the_backup(log, tmp_path):
    media = frames(log, 3)
    log.checkpoint()
    say(log, media[0], "lynx")
    write_backup(log.path, tmp_path / "copy.db")
    with SpeciesLog(tmp_path / "copy.db") as copy:
        assert rows(copy, LABELS) == rows(log, LABELS) != []


def test_an_older_file_is_written_over_only_when_that_is_said(filled, tmp_path):
    target = tmp_path / "copy.db"
    target.write_text("mine")
    with pytest.raises(BackupError, match="exists already"):
        write_backup(filled.path, target)
    assert target.read_text() == "mine"
    assert write_backup(filled.path, target, replace=True).media == 11


def test_a_backup_that_is_told_to_end_leaves_nothing(filled, tmp_path):
    folder = tmp_path / "usb"
    folder.mkdir()
    with pytest.raises(BackupStopped):
        write_backup(filled.path, folder / "copy.db", is_ending=lambda: True)
    assert list(folder.iterdir()) == []


def test_a_full_disk_leaves_nothing_half_written_and_says_so(log, tmp_path):
    frames(log, 4000, minutes=1)
    try:
        with small_disk(tmp_path / "stick", 256) as disk:
            with pytest.raises(BackupError, match="full: free some space"):
                write_backup(log.path, disk.folder / "copy.db")
            assert list(disk.folder.iterdir()) == []
    except CannotMount as error:
        pytest.skip(f"no small disk can be mounted here: {error}")


def test_a_log_that_is_not_there_is_not_made_by_a_backup(tmp_path):
    with pytest.raises(BackupError, match=r"no species log at .* yet"):
        write_backup(tmp_path / "none.db", tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_backup_is_refused_and_not_changed(filled, tmp_path):
    target = tmp_path / "copy.db"
    write_backup(filled.path, target)
    damage(target)
    content = target.read_bytes()
    with pytest.raises(NotSound, match=r"copy\.db is no sound log"):
        verify_backup(target)
    with pytest.raises(BackupError):
        restore_backup(target, filled.path, NOW)
    assert target.read_bytes() == content
    assert len(rows(filled, LABELS)) == 4


@pytest.mark.parametrize("content", [b"", b"no database at all" * 40])
def test_what_is_no_log_is_refused(content, tmp_path):
    path = tmp_path / "x.db"
    path.write_bytes(content)
    with pytest.raises(BackupError, match=r"x\.db"):
        verify_backup(path)
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE birds (name)")
    with pytest.raises(BackupError, match="alembic_version is not there"):
        verify_backup(tmp_path / "other.db")


def test_a_damaged_log_makes_no_backup(filled, tmp_path):
    """A row names one that is not there: SQLite reads and copies that without an error."""
    path = filled.path
    filled.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE media SET deployment_id = 999 WHERE id = 1")
    with pytest.raises(NotSound, match="names one of deployment that is not there"):
        write_backup(path, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()
    assert leftovers(tmp_path) == []


def test_where_the_file_system_knows_no_links_a_log_is_restored_as_well(
    filled, tmp_path, monkeypatch
):
    def refuses(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    write_backup(filled.path, tmp_path / "copy.db")
    labels = rows(filled, LABELS)
    filled.close()
    monkeypatch.setattr(os, "link", refuses)
    aside = restore_backup(tmp_path / "copy.db", filled.path, NOW)
    for path in (filled.path, aside):
        with SpeciesLog(path) as log:
            assert rows(log, LABELS) == labels


def test_a_restored_log_has_every_label_and_the_old_one_is_kept(filled, tmp_path):
    log, copy = filled.path, tmp_path / "copy.db"
    labels = rows(filled, LABELS)
    write_backup(log, copy, number=3)
    say(filled, 4, "lynx")
    with_lynx = rows(filled, LABELS)
    filled.close()

    aside = restore_backup(copy, log, NOW)

    assert aside is not None
    assert aside.name == "trapwatch.db.replaced-2026-05-01T1200Z"
    with SpeciesLog(log) as restored, SpeciesLog(aside) as old:
        assert rows(restored, LABELS) == labels
        assert rows(old, LABELS) == with_lynx
        assert restored.check() == old.check() == []
    assert not log.samefile(aside)
    assert number_of(log) == 0
    assert leftovers(log.parent) == []


def test_two_restores_in_one_minute_keep_both_old_logs(filled, tmp_path):
    log, copy = filled.path, tmp_path / "copy.db"
    write_backup(log, copy)
    filled.close()
    first, second = restore_backup(copy, log, NOW), restore_backup(copy, log, NOW)
    assert first != second
    assert {p.name for p in log.parent.glob("*.replaced-*")} == {first.name, second.name}


def test_a_log_that_broke_is_set_aside_with_its_write_ahead_log(filled, tmp_path):
    if not choose_sqlite().wal:
        pytest.skip("no write-ahead log with this SQLite")
    log, copy = filled.path, tmp_path / "copy.db"
    write_backup(log, copy)
    broken, wal = tmp_path / "broken" / "trapwatch.db", tmp_path / "broken" / "trapwatch.db-wal"
    broken.parent.mkdir()
    broken.write_bytes(b"SQLite format 3\0" + os.urandom(4000))
    wal.write_bytes(os.urandom(8192))
    aside = restore_backup(copy, broken, NOW)
    assert not wal.exists(), "it would be mixed into the restored log"
    assert Path(f"{aside}-wal").exists()
    with SpeciesLog(broken) as restored:
        assert rows(restored, LABELS) == rows(filled, LABELS)


def test_where_no_log_is_a_backup_takes_its_place(filled, tmp_path):
    write_backup(filled.path, tmp_path / "copy.db")
    new = tmp_path / "new" / "trapwatch.db"
    assert restore_backup(tmp_path / "copy.db", new, NOW) is None
    with SpeciesLog(new) as restored:
        assert rows(restored, LABELS) == rows(filled, LABELS)


def test_a_log_that_somebody_has_open_is_not_replaced(filled, tmp_path):
    if not choose_sqlite().wal:
        pytest.skip("an idle connection holds nothing without a write-ahead log")
    write_backup(filled.path, tmp_path / "copy.db")
    list(filled.sightings())  # its connections stay open
    inode = filled.path.stat().st_ino
    with pytest.raises(BackupError, match=r"another trapwatch command has .* open"):
        restore_backup(tmp_path / "copy.db", filled.path, NOW)
    assert filled.path.stat().st_ino == inode
    assert leftovers(filled.path.parent) == []


def test_a_backup_of_a_newer_program_is_refused(filled, tmp_path):
    copy = tmp_path / "copy.db"
    write_backup(filled.path, copy)
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    filled.close()
    before = filled.path.read_bytes()
    with pytest.raises(BackupError, match=r"newer trapwatch .* 9999.*upgrade trapwatch"):
        restore_backup(copy, filled.path, NOW)
    assert filled.path.read_bytes() == before


def test_a_backup_of_an_older_program_is_brought_up_to_date(old, filled):
    filled.close()
    restore_backup(old, filled.path, NOW)
    with SpeciesLog(filled.path) as restored:
        assert rows(restored, "SELECT version_num FROM alembic_version") == [(HEAD,)]
        assert len(rows(restored, LABELS)) == 4
    assert facts_of(old).revision == "0001"


def test_the_side_files_of_an_older_log_set_aside_are_read_too(filled, tmp_path):
    if not choose_sqlite().wal:
        pytest.skip("no write-ahead log with this SQLite")
    aside, labels = tmp_path / "aside.db", rows(filled, LABELS)
    for suffix in ("", "-wal"):
        Path(f"{aside}{suffix}").write_bytes(Path(f"{filled.path}{suffix}").read_bytes())
    assert Path(f"{aside}-wal").stat().st_size > 0
    restore_backup(aside, tmp_path / "new.db", NOW)
    with SpeciesLog(tmp_path / "new.db") as restored:
        assert rows(restored, LABELS) == labels


def test_backups_are_in_the_order_of_writing_whatever_the_clock_says(log, tmp_path):
    for name in ("2040-01-01T0000Z", "1970-01-01T0003Z", "2026-11-26T0215Z"):
        path = tmp_path / f"trapwatch-{name}.db"
        write_backup(log.path, path, number=next_number(backups_in(tmp_path)))
    (tmp_path / "trapwatch-mine.db").write_text("mine")
    names = [path.name[10:14] for path in backups_in(tmp_path, tmp_path / "not there")]
    assert names == ["2026", "1970", "2040"]
    assert next_number(backups_in(tmp_path)) == 4


def test_what_killed_programs_left_is_swept_and_nothing_else(tmp_path):
    alive, dead = os.getppid(), 2**22 + 1
    names = {
        f".a.db.{dead}.partial",
        f".a.db.{dead}.partial-journal",
        f".a.db.{os.getpid()}.partial",
    }
    stay = {f".a.db.{alive}.partial", "a.db", "a.partial"}
    for name in names | stay:
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == stay


def test_an_upgrade_keeps_a_copy_of_before_that_the_older_program_can_use(old, tmp_path):
    was = facts_of(old)
    with SpeciesLog(old, create=True) as log:
        labels = rows(log, LABELS)
    (copy,) = (old.parent / "backups").iterdir()
    assert copy.name.startswith(f"trapwatch-before-{HEAD}-")
    facts = verify_backup(copy)
    assert (facts.revision, facts.media, facts.labels) == ("0001", was.media, was.labels)
    restore_backup(copy, tmp_path / "again.db", NOW)
    with SpeciesLog(tmp_path / "again.db") as again:
        assert rows(again, LABELS) == labels


def test_an_upgrade_that_fails_changes_nothing_names_the_copy_and_makes_one_only(old, monkeypatch):
    def fails(path: Path) -> None:
        raise LogError(f"{path}: the upgrade failed and was undone: no such table")

    monkeypatch.setattr("monitor.log.engine.migrate", fails)
    for _ in range(3):
        with pytest.raises(LogError, match=r"was undone.*kept as .*trapwatch-before-0004-.*\.db"):
            SpeciesLog(old, create=True)
    assert len(list((old.parent / "backups").iterdir())) == 1
    assert facts_of(old).revision == "0001"


def test_a_log_that_cannot_be_copied_is_not_upgraded(old):
    (old.parent / "backups").write_text("no folder")
    with pytest.raises(LogError, match="is not upgraded, for no copy of it can be written"):
        SpeciesLog(old, create=True)
    assert facts_of(old).revision == "0001"


def test_the_newest_two_copies_of_before_are_kept(old):
    folder = old.parent / "backups"
    for day in range(4):
        upgrading.keep_before_upgrade(old, HEAD, NOW + timedelta(days=day))
        with closing(sqlite3.connect(old)) as connection, connection:
            connection.execute(
                "INSERT INTO act (at, by, how, kind) VALUES ('2026', 'Ana', 'cli', 'species-add')"
            )
    assert [path.name[-19:] for path in backups_in(folder)] == [
        "2026-05-04T1200Z.db",
        "2026-05-03T1200Z.db",
    ]


def test_a_new_log_needs_no_copy(tmp_path):
    fill(tmp_path / "trapwatch.db").close()
    assert not (tmp_path / "backups").exists()


KILLED = """
import sys
from datetime import UTC, datetime
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from faults.crasher import arm
from monitor.log.restore import restore_backup
arm("log.restore.put_in_place", sys.argv[4], int(sys.argv[5]))
restore_backup(Path(sys.argv[2]), Path(sys.argv[3]), datetime(2026, 5, 1, 12, tzinfo=UTC))
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_restore_of_a_broken_log_that_is_killed_at_any_rename_is_begun_again(
    filled, tmp_path, when, n
):
    """The write-ahead log goes first, then a second name for the log, then the new one comes."""
    copy, labels = tmp_path / "copy.db", rows(filled, LABELS)
    write_backup(filled.path, copy)
    log = tmp_path / "broken" / "trapwatch.db"
    log.parent.mkdir()
    broken = {"": b"SQLite format 3\0" + os.urandom(4080), "-wal": os.urandom(8192)}
    for suffix, content in broken.items():
        Path(f"{log}{suffix}").write_bytes(content)
    words = [str(Path(__file__).parent), str(copy), str(log), when, str(n)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], check=False)
    assert killed.returncode == -signal.SIGKILL

    is_done = (when, n) == ("after", 3)
    assert log.exists(), "there is a log at every moment"
    assert (log.read_bytes() == broken[""]) is not is_done
    assert not (is_done and Path(f"{log}-wal").exists())

    restore_backup(copy, log, NOW)
    with SpeciesLog(log) as restored:
        assert rows(restored, LABELS) == labels
        assert restored.check() == []
    kept = [path.read_bytes() for path in log.parent.glob("*.replaced-*")]
    assert all(kept.count(content) == 1 for content in broken.values())
    assert leftovers(log.parent) == []


TWO_PROCESSES = """
import os, sqlite3, subprocess, sys
from pathlib import Path
from monitor.log.integrity import header_of
path = Path(sys.argv[1])
log = sqlite3.connect(path, isolation_level=None)
log.execute("PRAGMA journal_mode=WAL")
log.execute("CREATE TABLE t (x)")
look = {"header_of": header_of, "open": lambda path: path.read_bytes()}[sys.argv[2]]
look(path), look(path)
other = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
other += "c.execute('INSERT INTO t VALUES (2)'); c.close()"
subprocess.run([sys.executable, "-c", other, str(path)], check=True)
log.execute("INSERT INTO t VALUES (3)")
os._exit(0)  # as a power cut does
"""


@pytest.mark.parametrize(("look", "rows_left"), [("header_of", 2), ("open", 1)])
def test_looking_at_the_header_of_a_log_in_use_takes_no_lock_away(look, rows_left, tmp_path):
    """With a plain open and close, as a control, the last row is lost, though it was committed."""
    path = tmp_path / "log.db"
    command = [sys.executable, "-c", TWO_PROCESSES, str(path), look]
    subprocess.run(command, check=True)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (rows_left,)
