"""The service as systemd sees it: real processes, real signals, a real notify socket."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

import pytest
from faults.drill import Drill, fill
from faults.losses import losses
from faults.systemd import Ears, running, stopped, wait_until

from monitor.system.locks import LOCK_NAME, is_held


def count(drill: Drill, status: str = "classified") -> int:
    return drill.number("SELECT count(*) FROM media WHERE status = ?", status)


def test_a_second_service_is_refused_and_told_who_owns_the_log(drill: Drill, ears: Ears) -> None:
    with running(drill, ears) as service:
        for arguments in (("run",), ("run", "--once")):
            second = drill.trapwatch(*arguments)
            assert second.returncode == 1
            assert f"in use by process {service.pid}" in second.stderr
            assert "Traceback" not in second.stderr
        assert service.poll() is None


def test_a_killed_service_does_not_block_the_next(drill: Drill, ears: Ears) -> None:
    with running(drill, ears) as service:
        service.kill()
        service.wait()
    assert (drill.data / f"{LOCK_NAME}.owner").exists()
    assert not is_held(drill.data / LOCK_NAME)
    assert drill.trapwatch("run", "--once").returncode == 0


def test_sigterm_ends_it_in_time_with_whole_batches(drill: Drill, ears: Ears) -> None:
    fill(drill, each=25, unlabelled=0)
    with running(drill, ears) as service:
        wait_until(lambda: count(drill) > 0)
        assert stopped(service) == 0
    assert "has stopped" in drill.output.read_text()
    done = count(drill)
    assert losses(drill, settled=False) == []
    assert drill.trapwatch("run", "--once").returncode == 0
    assert count(drill) == 225 >= done
    assert losses(drill) == []


def test_sighup_reads_the_config_again(drill: Drill, ears: Ears) -> None:
    fill(drill, each=1, unlabelled=0)
    with running(drill, ears) as service:
        wait_until(lambda: count(drill) == 9)
        other = Drill(drill.root / "other")
        fill(other, each=2, unlabelled=0)
        config = drill.config.read_text()
        drill.config.write_text(config.replace("[frames]", "[frames, other/frames]"))
        service.send_signal(signal.SIGHUP)
        heard = "\n".join(ears.hear(20, until="READY=1"))
        assert "RELOADING=1\nMONOTONIC_USEC=" in heard
        wait_until(lambda: drill.number("SELECT count(*) FROM file") == 10 + 19)
        assert stopped(service) == 0
    assert "the config was read again" in drill.output.read_text()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (("[frames]", "[frames, frames/north]"), "overlap"),
        (("settle_seconds", "setle_seconds"), "the nearest known one is 'settle_seconds'"),
        (("gap", "gap"), "nothing.csv"),
        (("trapwatch.db", "other.db"), "needs a restart"),
    ],
    ids=["overlap", "unknown key", "deployments file that is not there", "another log"],
)
def test_a_faulty_config_keeps_the_old_one(
    drill: Drill, ears: Ears, fault: tuple[str, str], told: str
) -> None:
    with running(drill, ears) as service:
        config = drill.config.read_text().replace(*fault)
        if told == "nothing.csv":
            config = config.replace("deployments: {", "deployments: {file: nothing.csv, ")
        drill.config.write_text(config)
        service.send_signal(signal.SIGHUP)
        ears.hear(20, until="READY=1")
        assert told in drill.output.read_text()
        fill(drill, each=1, unlabelled=0)
        wait_until(lambda: count(drill) == 9)
        assert stopped(service) == 0
    (line,) = [s for s in drill.output.read_text().splitlines() if "was not taken over" in s]
    assert "ERROR" in line and told in line


def test_systemd_hears_of_start_heartbeat_status_and_end(drill: Drill, ears: Ears) -> None:
    fill(drill, each=1, unlabelled=0)
    with running(drill, ears, WATCHDOG_USEC="600000") as service:
        heard = ears.hear(20, until="STATUS=10 media, 0 pending, no model yet")
        beats = [m for m in ears.hear(2.0) if m == "WATCHDOG=1"]
        assert 5 <= len(beats) <= 12, "three for each WATCHDOG_USEC"
        service.send_signal(signal.SIGTERM)
        ears.hear(10, until="STOPPING=1")
        assert service.wait(10) == 0
    assert "WATCHDOG=1" in heard


HANGS_ONCE = """
import os, sys, threading, monitor.service.workers
from monitor.model.backbone.small_engine import SmallBackbone
monitor.service.workers.CLASSIFY_HANGS_SECONDS = 1.0
flag = {flag!r}
def hang(backbone, images, forward=SmallBackbone.features):
    if not os.path.exists(flag):
        open(flag, "w").close()
        threading.Event().wait()
    return forward(backbone, images)
SmallBackbone.features = hang
"""


def test_a_forward_pass_that_hangs_is_named_and_the_service_begins_anew_by_itself(
    drill: Drill, ears: Ears
) -> None:
    fill(drill, each=1, unlabelled=0)
    code = HANGS_ONCE.format(flag=str(drill.root / "flag"))
    with running(drill, ears, code) as service:
        ears.hear(40, until="READY=1")
        wait_until(lambda: count(drill) == 9)
        owner = json.loads((drill.data / f"{LOCK_NAME}.owner").read_text())
        assert owner["pid"] == service.pid, "systemd, or whoever started it, sees no end"
        assert stopped(service) == 0
    (line,) = [s for s in drill.output.read_text().splitlines() if "begins anew" in s]
    assert "CRITICAL" in line
    assert re.search(r"the classifier hangs: .* the forward pass of media \d+ \(.*JPG\)", line)
    (told,) = drill.query("SELECT value FROM state WHERE key = 'restart'")
    assert "the forward pass of media" in told[0]
    assert losses(drill) == []


FAILS = """
import monitor.service.station, monitor.system.workers
monitor.system.workers.FIRST_PAUSE = 0.1
step, left = monitor.service.station.Station.classify_step, [3]
def fail(station):
    if left[0]:
        left[0] -= 1
        raise OSError("no luck\\nERROR and a forged line")
    return step(station)
monitor.service.station.Station.classify_step = fail
"""


def test_an_error_in_a_step_ends_nothing_and_is_one_line_of_the_journal(
    drill: Drill, ears: Ears
) -> None:
    fill(drill, each=1, unlabelled=0)
    (drill.frames / "north" / "a\n<3>forged: line.jpg").write_bytes(b"no image")
    with running(drill, ears, FAILS, JOURNAL_STREAM="8:1") as service:
        wait_until(lambda: count(drill) == 9 and count(drill, "rejected") == 2)
        assert stopped(service) == 0
    lines = drill.output.read_text().splitlines()
    assert [line for line in lines if not re.match(r"<\d>monitor\.[\w.]+: ", line)] == []
    assert sum("a step failed" in line for line in lines) == 3
    assert any("forged: line.jpg" in line and line.startswith("<4>") for line in lines)


def test_a_log_that_cannot_be_written_for_a_while_ends_nothing(drill: Drill, ears: Ears) -> None:
    code = """
import monitor.service.supervisor
from monitor.log.engine import LogError
from monitor.service.supervisor import Service
def fail(*_): raise LogError("disk is full")
Service._say_alive = fail
"""
    fill(drill, each=1, unlabelled=0)
    with running(drill, ears, code, WATCHDOG_USEC="600000") as service:
        wait_until(lambda: count(drill) == 9)
        ears.hear(3, until="WATCHDOG=1")
        assert stopped(service) == 0
    assert "disk is full" in drill.output.read_text()


def test_run_once_says_in_words_what_stops_it(drill: Drill) -> None:
    code = (
        "import sys, monitor.service.station\n"
        "def fail(station): raise OSError('the card is gone')\n"
        "monitor.service.station.Station.watch_step = fail\n"
        f"sys.argv = ['trapwatch', 'run', '--once', '--config', {str(drill.config)!r}]\n"
        "from monitor.cli import main\nmain()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    assert "trapwatch: files cannot be taken in: OSError: the card is gone" in ended.stderr
