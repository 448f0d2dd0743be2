"""Shares that hang, through the fault library: named, left alone, taken up again; others go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from .drill import Drill, draw_frame
from .losses import losses
from .shim import preloaded, why_not
from .systemd import wait_until

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

IMPATIENT = """
import monitor.service.workers, monitor.system.reads, monitor.pipeline.places
monitor.service.workers.WATCH_HANGS_SECONDS = 1.0
monitor.service.workers.DISK_HANGS_SECONDS = 1.0
monitor.system.reads.READ_SECONDS = 1.0
monitor.pipeline.places.PROBE_SECONDS = 1.0
"""
ONE_THREAD_FOR_ALL = """
import threading
from monitor.pipeline.places import Place
lock, step = threading.Lock(), Place.step
def in_turn(place):
    with lock:
        return step(place)
Place.step = in_turn
"""


class Shares:
    """A station with two watched folders, one of which can be made to hang."""

    def __init__(self, root: Path) -> None:
        self.drill = Drill(root)
        self.card, self.share = self.drill.frames / "card", self.drill.frames / "share"
        self.control = root / "control"
        for folder in (self.card, self.share, self.control):
            folder.mkdir()
        text = self.drill.config.read_text().replace("[frames]", "[frames/card, frames/share]")
        self.drill.config.write_text(text)
        self._hang = self.control / "hang"
        self._seed = 0

    def put(self, folder: Path, count: int = 3) -> None:
        for _ in range(count):
            self._seed += 1
            at = datetime(2024, 5, 1, 6) + timedelta(minutes=45 * self._seed)
            draw_frame(folder / "cam" / f"IMG_{self._seed:04}.JPG", "red fox", at, self._seed)

    def hang(self, folder: Path | None = None) -> None:
        partial = self.control / "partial"
        partial.write_text(str(folder or self.share))
        os.replace(partial, self._hang)

    def answer(self) -> None:
        self._hang.unlink()

    def classified(self, folder: Path | None = None) -> int:
        where = f"{folder or self.drill.frames}/%"
        sql = "SELECT count(*) FROM media WHERE status = 'classified' AND path LIKE ?"
        return self.drill.number(sql, where)

    def problems(self) -> dict[str, str]:
        rows = self.drill.query("SELECT value FROM state WHERE key = 'service'")
        return json.loads(rows[0][0])["problems"] if rows else {}

    @contextmanager
    def service(self, code: str = "") -> Iterator[object]:
        told = ["trapwatch", "run", "--config", str(self.drill.config)]
        start = f"import sys\nsys.argv = {told}\nfrom monitor.cli import main\nmain()"
        command = [sys.executable, "-c", f"{IMPATIENT}\n{code}\n{start}"]
        environ = preloaded({"SHIM_CONTROL": str(self.control), "WATCHDOG_USEC": "600000"})
        with self.drill.service(environ, command) as process:
            yield process


@pytest.fixture
def shares(tmp_path: Path) -> Shares:
    return Shares(tmp_path / "station")


def test_a_folder_that_hangs_is_named_and_the_others_go_on(shares: Shares) -> None:
    shares.put(shares.card)
    shares.put(shares.share)
    with shares.service() as process:
        wait_until(lambda: shares.classified() == 6, 30)
        shares.hang()
        shares.put(shares.share)
        shares.put(shares.card)
        wait_until(lambda: shares.classified(shares.card) == 6, 30)
        wait_until(lambda: f"folder {shares.share}" in shares.problems(), 30)
        told = shares.problems()[f"folder {shares.share}"]
        assert f"at {shares.share}" in told and "the others go on" in told
        assert shares.classified(shares.share) == 3
        assert process.poll() is None
        shares.answer()
        wait_until(lambda: shares.classified() == 12, 30)
        wait_until(lambda: f"folder {shares.share}" not in shares.problems(), 30)
    text = shares.drill.output.read_text()
    assert f"watched folder {shares.share} hangs" in text
    assert "begins anew" not in text, "a share is no reason to start over"
    assert losses(shares.drill) == []


def test_with_one_thread_for_all_folders_the_others_would_stand_still(shares: Shares) -> None:
    """The negative control of the test above."""
    shares.put(shares.card)
    with shares.service(ONE_THREAD_FOR_ALL):
        wait_until(lambda: shares.classified() == 3, 30)
        shares.hang()
        shares.put(shares.share)
        wait_until(lambda: f"folder {shares.share}" in shares.problems(), 30)
        shares.put(shares.card)
        time.sleep(4)
        assert shares.classified() == 3


def test_frames_that_wait_on_a_share_that_hangs_hold_up_nobody(shares: Shares) -> None:
    """They are the newest, so that their turn comes first, and there is but one lane."""
    shares.put(shares.card)
    shares.put(shares.share, 5)
    hour = (datetime.now() + timedelta(hours=5)).hour
    text = shares.drill.config.read_text()
    rests = f"threads: 1, active_hours: ['{hour:02}:00-{hour:02}:01']"
    shares.drill.config.write_text(text.replace("threads: 1", rests))
    with shares.service():
        wait_until(lambda: shares.drill.number("SELECT count(*) FROM media") == 8, 30)
    assert shares.classified() == 0
    shares.drill.config.write_text(text)
    shares.hang()
    with shares.service():
        wait_until(lambda: shares.classified() == 3, 40)
        assert shares.classified(shares.card) == 3
        shares.answer()
        wait_until(lambda: shares.classified() == 8, 40)
    assert "does not answer" in shares.drill.output.read_text()
    assert losses(shares.drill) == []


def test_the_service_ends_in_time_although_a_share_hangs(shares: Shares) -> None:
    shares.put(shares.card)
    shares.put(shares.share)
    with shares.service() as process:
        wait_until(lambda: shares.classified() == 6, 30)
        shares.hang()
        shares.put(shares.share)
        wait_until(lambda: f"folder {shares.share}" in shares.problems(), 30)
        process.terminate()
        assert process.wait(10) == 0, "nobody waits for it"
    (row,) = shares.drill.query("SELECT value FROM state WHERE key = 'run'")
    assert row[0] == '{"tidy": true}', "so the next start need not be careful"


@pytest.fixture
def stick(shares: Shares) -> Path:
    """Where second copies of backups are to go."""
    stick = shares.drill.root / "usb" / "backups"
    stick.mkdir(parents=True)
    with shares.drill.config.open("a") as config:
        config.write(f"backup: {{second_folder: {stick}}}\n")
    return stick


@pytest.mark.parametrize("from_the_start", [True, False])
def test_a_stick_for_backups_that_hangs_is_named_and_everything_goes_on(
    shares: Shares, stick: Path, from_the_start: bool
) -> None:
    shares.put(shares.card)
    if from_the_start:
        shares.hang(stick)
    with shares.service() as process:
        wait_until(lambda: shares.classified() == 3, 30)
        shares.hang(stick)
        shares.put(shares.card)
        wait_until(lambda: shares.classified() == 6, 30)
        wait_until(lambda: f"disk {stick}" in shares.problems(), 30)
        assert "all else goes on" in shares.problems()[f"disk {stick}"]
        shares.answer()
        wait_until(lambda: f"disk {stick}" not in shares.problems(), 30)
        shares.hang(stick)
        process.terminate()
        assert process.wait(12) == 0, "nobody waits for it"
    assert "begins anew" not in shares.drill.output.read_text()
    assert losses(shares.drill) == []


def test_whoever_asks_after_the_backups_waits_a_moment_for_a_stick_that_hangs(
    shares: Shares, stick: Path
) -> None:
    shares.put(shares.card)
    assert shares.drill.trapwatch("run", "--once").returncode == 0
    with shares.drill.config.open("a") as config:
        config.write(f"journal: {{second: {stick}/labels.jsonl}}\n")
    shares.hang(stick)
    environ = preloaded({"SHIM_CONTROL": str(shares.control)})
    asked = [
        subprocess.Popen(
            shares.drill.command(*words),
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for words in (("doctor",), ("backup", "--list"))
    ]
    doctor, listed = (process.communicate(timeout=60)[0] for process in asked)
    assert f"{stick}: the disk does not answer" in doctor
    assert f"{stick}/labels.jsonl" in doctor, "the second journal lies there, too"
    assert f"{stick}: the disk does not answer" in listed
    assert [process.returncode for process in asked] == [0, 0]
    shares.hang()
    command = shares.drill.command("doctor")
    told = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert f"{shares.share}: the disk does not answer" in told.stdout
    assert told.returncode == 0, "the service goes on without it"
