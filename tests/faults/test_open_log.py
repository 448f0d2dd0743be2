"""The live log is never opened behind SQLite's back, and anybody may read it at any time."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from monitor.core.domain import Observation, utc_now
from monitor.log.species_log import SpeciesLog

from . import foreign, shim
from .drill import Drill, draw_frame
from .losses import losses
from .systemd import Ears, running, stopped
from .systemd import wait_until as wait_for

TOP = Path(__file__).parents[2]
FIXTURES = TOP / "tests" / "fixtures"
HURRIED = (
    "from monitor.service import supervisor; supervisor.PERIODIC_TASKS = {"
    "name: (0.3, task) for name, (_, task) in supervisor.PERIODIC_TASKS.items()}"
)
"""Run in a service before its start: each periodic task is looked at three times a second."""
PAGES = ("", "review", "browse", "grid", "species", "models", "station", "api/v1/sightings")


def wait_until(true: Callable[[], object], seconds: float = 90.0) -> None:
    """Beside other tests a command takes ten times as long as alone."""
    wait_for(true, seconds)


needs_shim = pytest.mark.skipif(shim.why_not() is not None, reason=str(shim.why_not()))
pytestmark = pytest.mark.slow


class Watched:
    """A running service whose log is read by others after everything that it does."""

    def __init__(self, drill: Drill) -> None:
        self.drill, self.log = drill, drill.data / "trapwatch.db"
        self.lost = drill.root / "lost-locks.txt"
        self.frames, self.labels = 0, 0

    def environ(self) -> dict[str, str]:
        return shim.preloaded({"SHIM_LOCKS": str(self.lost)})

    def add_frame(self) -> None:
        self.frames += 1
        at = datetime(2024, 5, 1) + timedelta(hours=self.frames)
        path = self.drill.frames / "north" / f"F{self.frames:04d}.JPG"
        draw_frame(path, "red fox", at, self.frames)

    def count(self, sql: str) -> int:
        return int(foreign.read(self.log, sql))

    def media(self) -> int:
        return self.count("SELECT count(*) FROM media WHERE status = 'classified'")

    def said(self) -> int:
        return self.count("SELECT count(*) FROM label")

    def command(self, *words: str, code: int = 0) -> str:
        done = self.drill.trapwatch(*words)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def is_well(self, after: str) -> None:
        """All locks are held, others may read, and what is written then is seen by everyone."""
        users = foreign.who_has_open(self.log)
        assert users, "the service has it open"
        assert foreign.who_locks(self.log) >= users, f"a lock was lost by: {after}"
        wal = self.log.with_name("trapwatch.db-wal")
        inode = wal.stat().st_ino
        assert self.media() == self.frames
        assert wal.stat().st_ino == inode, f"a plain read deleted it after: {after}"
        self.add_frame()
        with SpeciesLog(self.log) as log:
            self.labels += 1
            log.label([self.labels], [Observation("red fox")], "drill", "cli", utc_now())
        wait_until(lambda: self.media() == self.frames)
        assert self.said() == self.labels
        assert not self.lost.exists() or self.lost.read_text() == ""


@pytest.fixture
def watched(drill: Drill) -> Watched:
    return Watched(drill)


@pytest.fixture
def second_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    folder = Path(tempfile.mkdtemp(dir=shared_memory))
    yield folder
    shutil.rmtree(folder)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def page(port: int, name: str) -> str:
    """What a page says; nothing while it is not served."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=60) as answer:
            return answer.read().decode()
    except (ConnectionError, urllib.error.URLError):
        return ""


def add_to_config(drill: Drill, text: str) -> None:
    with drill.config.open("a", encoding="utf-8") as file:
        file.write(text)


@needs_shim
def test_nothing_that_a_station_does_takes_the_locks_off_its_log(
    watched: Watched, second_disk: Path, ears: Ears
) -> None:
    drill, port = watched.drill, free_port()
    drill.configure(port=port, enabled=False)
    add_to_config(drill, f"backup: {{second_folder: {second_disk}}}\n")
    backups = drill.data / "backups"

    def is_checked() -> bool:
        found = drill.query("SELECT value FROM state WHERE key = 'integrity'")
        return bool(found) and json.loads(found[0][0]).get("full_at") is not None

    def pages() -> None:
        assert all(page(port, name) for name in PAGES)

    def reload() -> None:
        os.kill(service.pid, signal.SIGHUP)
        wait_until(lambda: b"the config was read again" in drill.output.read_bytes())

    def serves() -> bool:
        return bool(page(port, "healthz"))

    for _ in range(2):
        watched.add_frame()
    deeds: dict[str, Callable[[], object]] = {
        "backup by the service": lambda: wait_until(lambda: list(backups.glob("*.db"))),
        "second backup": lambda: wait_until(lambda: list(second_disk.glob("*.db"))),
        "integrity check": lambda: wait_until(is_checked),
        "backup by hand": lambda: watched.command("backup", str(drill.root / "copy.db")),
        "list of backups": lambda: watched.command("backup", "--list"),
        "doctor": lambda: drill.trapwatch("doctor"),
        "status": lambda: watched.command("status"),
        "report": lambda: watched.command("report", "--out", str(drill.root / "r.html")),
        "pages": pages,
        "refused restore": lambda: watched.command(
            "restore", str(drill.root / "copy.db"), "--yes", code=1
        ),
        "refused second service": lambda: watched.command("run", "--once", code=1),
        "SIGHUP": reload,
        "pages after SIGHUP": lambda: (wait_until(serves, 60), pages()),
    }
    with running(drill, ears, HURRIED, **watched.environ()) as service:
        wait_until(lambda: watched.log.exists() and watched.media() == 2)
        wait_until(serves)
        for name, do in deeds.items():
            do()
            watched.is_well(name)
        assert stopped(service) == 0
    assert foreign.read(watched.log, "PRAGMA integrity_check") == "ok"
    assert (watched.media(), watched.said()) == (watched.frames, watched.labels)
    assert losses(drill) == []


@needs_shim
def test_an_upgrade_takes_no_lock_off_the_log(watched: Watched, ears: Ears) -> None:
    drill = watched.drill
    drill.data.mkdir()
    with closing(sqlite3.connect(watched.log)) as old:
        old.executescript((FIXTURES / "log-0003.sql").read_text(encoding="utf-8"))
        before = old.execute("SELECT count(*) FROM label").fetchone()[0]
    with running(drill, ears, **watched.environ()) as service:
        users = foreign.who_has_open(watched.log)
        assert users <= foreign.who_locks(watched.log)
        assert watched.said() == before
        watched.add_frame()
        wait_until(lambda: watched.count("SELECT count(*) FROM media WHERE width = 96") == 1)
        assert stopped(service) == 0
    assert foreign.read(watched.log, "PRAGMA integrity_check") == "ok"
    assert list((drill.data / "backups").glob("trapwatch-before-*.db"))
    assert watched.lost.read_text() == ""


@needs_shim
@pytest.mark.parametrize(
    "closes",
    [
        "open(path, 'rb').close()",
        "os.close(os.open(path, os.O_RDONLY))",
        "shutil.copyfile(path, path + '.copy')",
        "sqlite3.connect(path).execute('SELECT 1 FROM media').connection.close()",
        "open(path + '-shm', 'rb').close()",
    ],
)
def test_whoever_closes_a_descriptor_of_the_live_log_is_found(
    closes: str, tmp_path: Path, watched: Watched
) -> None:
    path = tmp_path / "trapwatch.db"
    code = f"""
import os, shutil, sqlite3
from pathlib import Path
from monitor.log.species_log import SpeciesLog
path = {str(path)!r}
with SpeciesLog(Path(path), create=True) as log:
    log.counts()
    {closes}
"""
    subprocess.run([sys.executable, "-c", code], env=watched.environ(), cwd=TOP, check=True)
    told = watched.lost.read_text()
    assert "lost lock: process" in told
    assert str(path) in told


REPLACED = ("deleted", "replaced")


def remove(*paths: Path) -> None:
    for path in paths:
        path.unlink()


def put_older_log(watched: Watched) -> None:
    os.replace(watched.drill.root / "older.db", watched.log)


def side(watched: Watched, suffix: str) -> Path:
    return watched.log.with_name(f"trapwatch.db{suffix}")


DEEDS: dict[str, Callable[[Watched], object]] = {
    "write-ahead log deleted": lambda w: remove(side(w, "-wal"), side(w, "-shm")),
    "all deleted": lambda w: remove(w.log, side(w, "-wal"), side(w, "-shm")),
    "older log in its place": put_older_log,
}


@pytest.mark.parametrize("replace", DEEDS.values(), ids=DEEDS.keys())
def test_a_log_whose_files_are_replaced_is_opened_again_and_nothing_is_lost(
    replace: Callable[[Watched], object], watched: Watched, ears: Ears
) -> None:
    drill, port = watched.drill, free_port()
    drill.configure(enabled=False, port=port)
    for _ in range(3):
        watched.add_frame()
    with running(drill, ears, HURRIED) as service:
        wait_until(lambda: watched.log.exists() and watched.media() == 3)
        watched.command("backup", str(drill.root / "older.db"))
        watched.add_frame()
        wait_until(lambda: watched.media() == 4)
        watched.command("label", "set", "4", "red fox")
        newest = drill.frames / "north" / "F0004.JPG"
        newest.unlink()  # its card has gone: only the log knows it
        replace(watched)
        watched.add_frame()
        ears.hear(60, until="READY=1")
        wait_until(lambda: watched.media() == 5)
        assert watched.said() == 1
        watched.command("label", "set", "2", "roe deer")
        assert watched.said() == 2
        status = json.loads(watched.command("status", "--json"))
        words = status["log"]["recovery"]["words"]
        assert any(f"was {word} by another program" in words for word in REPLACED)
        assert "nothing is lost" in words
        wait_until(lambda: "roe deer" in page(port, "api/v1/sightings"))
        assert stopped(service) == 0
    assert foreign.read(watched.log, "PRAGMA integrity_check") == "ok"
    assert losses(drill) == []
    assert not list(drill.data.glob("*.was-open")) and not (drill.data / "replaced.json").exists()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
@pytest.mark.parametrize("replace", ["all deleted", "older log in its place"])
def test_a_signal_right_after_does_not_come_before_the_rescue(
    replace: str, number: signal.Signals, watched: Watched, ears: Ears
) -> None:
    drill = watched.drill
    drill.configure(enabled=False)
    for _ in range(3):
        watched.add_frame()
    with running(drill, ears) as service:
        wait_until(lambda: watched.log.exists() and watched.media() == 3)
        watched.command("backup", str(drill.root / "older.db"))
        watched.add_frame()
        wait_until(lambda: watched.media() == 4)
        (drill.frames / "north" / "F0004.JPG").unlink()
        DEEDS[replace](watched)
        service.send_signal(number)
        if number is signal.SIGHUP:
            ears.hear(60, until="READY=1")
            wait_until(lambda: watched.media() == 4)
            assert stopped(service) == 0
        assert service.wait(60) == 0
    assert drill.trapwatch("run", "--once").returncode == 0
    assert watched.media() == 4
    words = json.loads(watched.command("status", "--json"))["log"]["recovery"]["words"]
    assert "nothing is lost" in words
    assert losses(drill) == []


def test_pages_that_are_served_alone_end_when_their_log_is_replaced(watched: Watched) -> None:
    drill, port = watched.drill, free_port()
    drill.configure(port=port)
    watched.add_frame()
    assert drill.trapwatch("run", "--once").returncode == 0
    with drill.service(command=drill.command("web")) as pages:
        wait_until(lambda: page(port, "api/v1/sightings"))
        os.rename(watched.log, drill.root / "moved.db")
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/sightings", timeout=60)
        assert pages.wait(60) == 1
    assert "start them again" in drill.output.read_text()
