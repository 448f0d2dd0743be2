"""Opening the log: which SQLite, where it may lie, what its errors mean; many writers; backups."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from logbook import NOW, fill, frames, item, rows, say, take_in

from monitor.log import engine as engine_page
from monitor.log.engine import (
    BUSY_SECONDS,
    CACHES_BYTES,
    LogError,
    choose_sqlite,
    file_system_of,
    wal_is_safe,
)
from monitor.log.species_log import SpeciesLog, open_log


@pytest.mark.parametrize("version", ["3.51.3", "3.52.0", "3.50.7", "3.44.6", "3.44.9", "3.6.23"])
def test_wal_is_used_where_the_reset_bug_is_fixed(version):
    assert wal_is_safe(version)


@pytest.mark.parametrize(
    "version", ["3.51.2", "3.51.0", "3.50.6", "3.45.0", "3.44.5", "3.40.1", "3.7.0", "3.49.1"]
)
def test_wal_is_not_used_where_two_connections_could_corrupt_the_log(version):
    assert not wal_is_safe(version)


def test_the_log_is_opened_as_promised(log):
    wanted = {"foreign_keys": 1, "synchronous": 2, "journal_mode": "wal"}
    if not choose_sqlite().wal:
        wanted["journal_mode"] = "delete"
    for pragma, value in wanted.items():
        assert rows(log, f"PRAGMA {pragma}") == [(value,)]


def test_an_unsafe_sqlite_gets_a_rollback_journal(tmp_path, monkeypatch):
    choice = choose_sqlite()
    unsafe = engine_page.SqliteChoice(choice.module, choice.name, "3.45.0", False)
    monkeypatch.setattr(engine_page, "choose_sqlite", lambda: unsafe)
    with SpeciesLog(tmp_path / "log.db", create=True) as log:
        frames(log, 2)
        assert rows(log, "PRAGMA journal_mode") == [("delete",)]


def test_without_pysqlite3_the_systems_own_sqlite_is_used(monkeypatch):
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(engine_page.importlib, "import_module", missing)
    assert choose_sqlite().name == "system sqlite3"


def test_a_log_on_a_network_file_system_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_page, "file_system_of", lambda path: "nfs4")
    with pytest.raises(LogError, match=r"network file system \(nfs4\).*set database.url"):
        SpeciesLog(tmp_path / "log.db", create=True)


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path):
    assert file_system_of(Path("/proc/self/nothing")) == "proc"
    assert file_system_of(tmp_path / "not" / "there") not in ("", "proc")


def test_a_missing_log_says_how_to_start_one(tmp_path):
    with pytest.raises(LogError, match="start one with: trapwatch run"):
        open_log(f"sqlite:///{tmp_path / 'none.db'}")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_refused_in_words(tmp_path):
    path = tmp_path / "log.db"
    path.write_bytes(b"these are holiday pictures " * 100)
    with pytest.raises(LogError, match=r"set database.url to another path"):
        SpeciesLog(path, create=True)
    assert path.read_bytes().startswith(b"these are")


def test_a_place_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LogError, match=r"file/log.db cannot be opened: File exists"):
        SpeciesLog(tmp_path / "file" / "log.db", create=True)


@pytest.mark.skipif(os.getuid() != 0, reason="needs to become another user")
def test_a_folder_without_write_permission_is_named_with_what_to_do():
    base = Path(tempfile.mkdtemp())
    try:
        fill(base / "log.db").close()
        base.chmod(0o755)
        assert _as_nobody(base / "log.db") == 0
    finally:
        shutil.rmtree(base)


def _as_nobody(path: Path) -> int:
    child = os.fork()
    if child == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            with SpeciesLog(path) as log:
                say(log, 1, "fox")
        except LogError as error:
            os._exit(0 if "this user may not" in str(error) else 3)
        finally:
            os._exit(5)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_full_disk_is_told_in_words_and_loses_nothing(filled):
    before = rows(filled, "SELECT count(*) FROM media")
    with filled._read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    filled.close()  # the pool: the limit below holds for new connections

    from sqlalchemy import event

    @event.listens_for(filled._engine, "connect")
    def small(connection, _record):
        connection.execute(f"PRAGMA max_page_count={pages}")

    with pytest.raises(LogError, match="full: free some space; nothing that was recorded is lost"):
        take_in(filled, [item(f"{n}.jpg", content=str(n) * 50) for n in range(3000)])
    assert rows(filled, "SELECT count(*) FROM media") == before
    assert filled.check() == []


def test_a_damaged_log_is_told_in_words(tmp_path):
    path = tmp_path / "log.db"
    fill(path).close()
    data = bytearray(path.read_bytes())
    for start in range(8192, len(data), 4096):
        data[start : start + 200] = b"\xff" * 200
    path.write_bytes(data)
    with pytest.raises(LogError, match="restores the newest backup"), SpeciesLog(path) as log:
        list(log.sightings())


def test_a_log_with_a_damaged_schema_is_told_in_words(tmp_path):
    path = tmp_path / "log.db"
    fill(path).close()
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE act", b"CREATE T\x80BLE act"))
    with pytest.raises(LogError, match="restores the newest backup"):
        SpeciesLog(path)


def test_a_backup_is_a_log_with_the_same_content(filled, tmp_path):
    target = tmp_path / "copy.db"
    filled.backup(target)
    assert [p.name for p in tmp_path.iterdir() if "copy" in p.name] == ["copy.db"]
    with SpeciesLog(target) as copy:
        assert copy.check() == []
        assert list(copy.sightings()) == list(filled.sightings())
        assert copy.counts() == filled.counts()


def test_a_backup_overwrites_nothing(filled, tmp_path):
    target = tmp_path / "copy.db"
    target.write_text("mine")
    with pytest.raises(LogError, match="exists already"):
        filled.backup(target)
    assert target.read_text() == "mine"


def test_a_backup_into_a_folder_that_is_not_there_is_refused_in_words(filled, tmp_path):
    with pytest.raises(LogError, match="cannot be written: No such file"):
        filled.backup(tmp_path / "usb" / "copy.db")


def test_a_checkpoint_empties_the_journal(filled):
    if not choose_sqlite().wal:
        pytest.skip("no WAL here")
    wal = Path(f"{filled.path}-wal")
    assert wal.stat().st_size > 0
    filled.checkpoint()
    assert wal.stat().st_size == 0


def test_a_checkpoint_lets_go_where_somebody_reads(filled):
    reader = choose_sqlite().module.connect(filled.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM media").fetchone()  # as a backup does for minutes
    filled.put_state("a", {"b": 1}, NOW)
    begun = time.monotonic()
    filled.checkpoint()
    assert time.monotonic() - begun < BUSY_SECONDS / 2
    reader.close()
    with filled._driver() as connection:
        waits = connection.execute("PRAGMA busy_timeout").fetchone()[0]
    assert waits == 1000 * BUSY_SECONDS


def test_four_threads_write_at_once_and_none_is_locked_out(log):
    faults: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for n in range(25):
                (media_id,) = take_in(log, [item(f"{number}-{n}.jpg", deployment=str(number))])
                say(log, media_id, "fox")
                list(log.sightings())
        except (LogError, OSError) as error:
            faults.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert log.counts()["labelled"] == 100


WRITER = """
import sys; sys.path.insert(0, sys.argv[3])
from pathlib import Path
from logbook import item, take_in, say
from monitor.log.species_log import SpeciesLog
with SpeciesLog(Path(sys.argv[1]), create=True) as log:
    for n in range(40):
        say(log, take_in(log, [item(f"{sys.argv[2]}-{n}.jpg")])[0], "fox")
"""


def test_a_lock_that_sqlite_does_not_wait_for_is_waited_for(monkeypatch):
    choice = choose_sqlite()

    class Cursor:
        asked = 0

        def execute(self, sql):
            self.asked += 1
            if self.asked < 3:
                raise choice.module.OperationalError("database is locked")

    cursor = Cursor()
    engine_page._set_journal_mode(cursor, choice)
    assert cursor.asked == 3
    monkeypatch.setattr(engine_page, "BUSY_SECONDS", 0.0)
    with pytest.raises(choice.module.OperationalError, match="locked"):
        engine_page._set_journal_mode(Cursor(), choice)


def test_two_processes_make_and_fill_one_log_at_once(tmp_path):
    path = tmp_path / "log.db"
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", WRITER, str(path)]
    both = [subprocess.Popen([*command, name, here], stderr=subprocess.PIPE) for name in "ab"]
    for process in both:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    with SpeciesLog(path) as log:
        assert log.counts()["labelled"] == 80
        assert log.check() == []


def test_state_is_kept_and_replaced(log):
    assert log.state("watch") is None
    log.put_state("watch", {"n": 1}, NOW)
    log.put_state("watch", {"n": 2}, NOW)
    assert log.state("watch") == {"n": 2}


def test_a_log_has_one_mark_of_its_own_that_stays(tmp_path: Path) -> None:
    with SpeciesLog(tmp_path / "a.db", create=True) as one:
        mark = one.identity(NOW)
        with SpeciesLog(tmp_path / "a.db") as again:
            assert again.identity(NOW) == mark
    with SpeciesLog(tmp_path / "b.db", create=True) as other:
        assert other.identity(NOW) != mark


def test_the_caches_of_all_connections_together_have_a_limit(log: SpeciesLog) -> None:
    with log._engine.connect() as one, log._engine.connect() as other:
        for connection in (one, other):
            limit = connection.exec_driver_sql("PRAGMA soft_heap_limit").scalar()
            assert limit == CACHES_BYTES
