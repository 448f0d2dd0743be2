"""Who keeps the log locked: named in messages and by the health, and waited for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from faults.drill import HURRIED, Drill, draw_frame, fill
from faults.losses import losses
from faults.systemd import Ears, running, stopped, wait_until
from test_service_training import label_all

from monitor.core.domain import utc_now
from monitor.health.log_use import LogUse, log_use
from monitor.log import other_users
from monitor.log.engine import LogError, choose_sqlite
from monitor.log.other_users import User, writer_of
from monitor.log.species_log import SpeciesLog

USES = """
import sys
from monitor.log.engine import choose_sqlite
log = choose_sqlite().module.connect(sys.argv[1], isolation_level=None)
log.execute("{begin}")
log.execute("SELECT count(*) FROM sqlite_master").fetchall()
print("held", flush=True)
sys.stdin.read()
"""
READ, HOLD = USES.format(begin="BEGIN"), USES.format(begin="BEGIN IMMEDIATE")
IMPATIENT = "import monitor.log.engine\nmonitor.log.engine.BUSY_SECONDS = 1.0"


@contextmanager
def another(code: str, log: Path) -> Iterator[int]:
    """A process of its own begins to HOLD or READ the log, and comes to no end; its number."""
    command = [sys.executable, "-c", code, str(log)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process.pid
        process.communicate("")


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_whoever_writes_is_named_and_who_reads_is_not_taken_for_it(
    tmp_path: Path, mode: str
) -> None:
    path = tmp_path / "log.db"
    log = choose_sqlite().module.connect(path, isolation_level=None)
    log.execute(f"PRAGMA journal_mode={mode}")
    log.execute("CREATE TABLE t (x)")
    assert writer_of(path) is None
    log.execute("BEGIN")
    log.execute("SELECT * FROM t").fetchall()
    assert writer_of(path) is None
    log.rollback()
    with another(HOLD, path) as pid:
        writer = writer_of(path)
        assert writer is not None and writer.pid == pid
        assert str(writer).startswith(f"process {pid} (python"), writer
    assert writer_of(path) is None
    log.close()


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "1: FLOCK  ADVISORY  WRITE 12 {file} 0 EOF",
        "1: POSIX  ADVISORY  READ 12 {file} 0 EOF",
        "1: POSIX  ADVISORY  WRITE 12 {file} 0 119",
        "1: POSIX  ADVISORY  WRITE 12 00:00:1 0 EOF",
        "1: POSIX  ADVISORY  WRITE -1 {file} 0 EOF",
        "1: -> POSIX  ADVISORY  WRITE 12 {file} 0 EOF",
    ],
)
def test_other_locks_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    log, locks = tmp_path / "log.db", tmp_path / "locks"
    monkeypatch.setattr(other_users, "LOCKS", locks)
    shared = tmp_path / "log.db-shm"
    shared.touch()
    found = shared.stat()
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    locks.write_text(line.format(file=f"{device}:{found.st_ino}"))
    assert writer_of(log) is None
    locks.write_text(f"1: POSIX  ADVISORY  WRITE 0123456789 {device}:{found.st_ino} 0 EOF")
    assert writer_of(log) == User(123456789, "")
    assert str(User(123456789, "")) == "process 123456789"
    locks.unlink()
    assert writer_of(log) is None


def test_an_error_names_who_writes_for_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.log.engine.BUSY_SECONDS", 0.1)
    path = tmp_path / "trapwatch.db"
    with SpeciesLog(path, create=True) as log:
        with another(HOLD, path) as pid, pytest.raises(LogError) as error:
            log.put_state("key", {}, utc_now())
        told = f"process {pid} (python"
        assert told in str(error.value) and "has been writing for too long" in str(error.value)
        with another(HOLD, path), monkeypatch.context() as patch:
            patch.setattr(other_users, "LOCKS", tmp_path / "none")
            with pytest.raises(LogError, match="another process has been writing for too long"):
                log.put_state("key", {}, utc_now())


def test_a_reader_that_comes_to_no_end_is_named_once_the_log_beside_the_log_has_grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.health.log_use.WAL_MB", 1)
    path = tmp_path / "trapwatch.db"

    def write(log: SpeciesLog) -> None:
        for number in range(3):
            log.put_state(f"key {number}", {"text": "x" * 1_000_000}, utc_now())

    with SpeciesLog(path, create=True) as log:
        with another(READ, path) as pid:
            write(log)
            log.checkpoint()
            use = log_use(path)
            assert use.wal_mb >= 2
            assert [reader.pid for reader in use.readers] == [pid]
            assert use.readers[0].name.startswith("python")
        log.checkpoint()
        assert log_use(path) == LogUse()


def test_a_service_whose_log_is_kept_locked_says_who_and_goes_on_when_it_may(
    drill: Drill, ears: Ears
) -> None:
    def put(number: int) -> None:
        at = datetime(2024, 5, 1, 6) + timedelta(hours=number)
        draw_frame(drill.frames / f"IMG_{number:04}.JPG", "red fox", at, number)

    put(1)
    classified = "SELECT count(*) FROM media WHERE status = 'classified'"
    with running(drill, ears, IMPATIENT) as service:
        wait_until(lambda: drill.number(classified) == 1)
        with another(HOLD, drill.data / "trapwatch.db") as pid:
            put(2)
            wait_until(lambda: f"process {pid} (python" in drill.output.read_text())
        wait_until(lambda: drill.number(classified) == 2)
        assert service.poll() is None
        assert stopped(service) == 0
    assert "Traceback" not in drill.output.read_text(), "one line tells it"
    assert losses(drill) == []


def test_a_training_that_stops_while_it_writes_is_ended_and_lets_go_of_the_log(
    drill: Drill, ears: Ears, tmp_path: Path
) -> None:
    fill(drill)
    drill.configure(schedule="* * * * *")
    assert drill.trapwatch("run", "--once").returncode == 0
    label_all(drill)
    stops = tmp_path / "stops.py"
    text = HOLD.replace("sys.argv[1]", repr(str(drill.data / "trapwatch.db")))
    text = text.replace(
        "sys.stdin.read()", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"
    )
    stops.write_text(f"#!{sys.executable}\n{text}")
    stops.chmod(0o755)
    code = (
        f"{HURRIED}\n{IMPATIENT}\nfrom monitor.service import training_process as job\n"
        "job.STILL_SECONDS = 4.0\n"
        f"job.sys = type('s', (), {{'executable': {str(stops)!r}}})"
    )
    with running(drill, ears, code) as service:
        wait_until(lambda: "the training stood still" in drill.output.read_text())
        wait_until(lambda: drill.query("SELECT state FROM training_run") == [("failed",)])
        assert service.poll() is None
        assert stopped(service) == 0
    assert losses(drill) == []
