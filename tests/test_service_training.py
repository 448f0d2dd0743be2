"""The training that a service runs beside itself: started, ended and remembered."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from faults.drill import HURRIED, Drill, fill
from faults.systemd import Ears, running, stopped, wait_until

from monitor.core.domain import Observation, utc_now
from monitor.log.engine import choose_sqlite
from monitor.log.species_log import SpeciesLog
from monitor.service.training_process import LONGEST_LOOK, SILENT_SECONDS, STILL_SECONDS, Vigil
from monitor.system.locks import TRAINING_LOCK_NAME, OwnerLock, is_held


def label_all(drill: Drill) -> None:
    """Label every frame by its turn in `fill`, a day ago, so that a training is due."""
    rows = drill.query("SELECT id, path FROM media WHERE status = 'classified'")
    with SpeciesLog(drill.data / "trapwatch.db") as log:
        for media_id, path in rows:
            number = int(Path(path).stem.removeprefix("IMG_")) - 1
            species = ("red fox", "roe deer", "blank")[number // 6 % 3]
            yesterday = utc_now() - timedelta(days=1)
            log.label([media_id], [Observation(species)], "Ana", "cli", yesterday, insist=True)


def test_sigterm_ends_the_training_too(drill: Drill, ears: Ears) -> None:
    fill(drill)
    drill.configure(schedule="* * * * *")
    assert drill.trapwatch("run", "--once").returncode == 0
    label_all(drill)
    with running(drill, ears, HURRIED) as service:
        wait_until(lambda: is_held(drill.data / TRAINING_LOCK_NAME))
        (child,) = psutil.Process(service.pid).children()
        assert child.cmdline()[2:4] == ["monitor", "train"]
        time.sleep(0.5)
        assert stopped(service) == 0
        assert not child.is_running()
    assert not is_held(drill.data / TRAINING_LOCK_NAME)
    assert drill.query("SELECT state FROM training_run") in ([("failed",)], [])


def test_a_training_that_is_killed_is_noted_and_waits(drill: Drill, ears: Ears) -> None:
    fill(drill)
    drill.configure(schedule="* * * * *")
    assert drill.trapwatch("run", "--once").returncode == 0
    label_all(drill)
    with running(drill, ears, HURRIED) as service:
        wait_until(lambda: drill.number("SELECT count(*) FROM training_run") == 1)
        psutil.Process(service.pid).children()[0].kill()
        wait_until(lambda: drill.query("SELECT state FROM training_run") == [("failed",)])
        time.sleep(3)  # more than one tick: it would have been started again
        assert psutil.Process(service.pid).children() == []
        assert drill.number("SELECT count(*) FROM training_run") == 1
        assert stopped(service) == 0


def test_a_training_that_cannot_begin_counts_as_failed(drill: Drill, ears: Ears) -> None:
    fill(drill)
    drill.configure(schedule="* * * * *")
    assert drill.trapwatch("run", "--once").returncode == 0
    label_all(drill)
    code = (
        "from monitor.service import training_process as job\n"
        "job.sys = type('s', (), {'executable': '/bin/false'})"
    )
    with running(drill, ears, f"{HURRIED}\n{code}") as service:
        wait_until(lambda: drill.query("SELECT state FROM training_run") == [("failed",)])
        assert stopped(service) == 0
    assert "could not begin" in drill.query("SELECT message FROM training_run")[0][0]


def test_half_written_models_stay_while_another_process_trains(drill: Drill, ears: Ears) -> None:
    partial = drill.data / "models" / ".v0007.partial"
    partial.mkdir(parents=True)
    with OwnerLock(drill.data / TRAINING_LOCK_NAME, "training", utc_now()):
        with running(drill, ears) as service:
            assert stopped(service) == 0
        assert partial.exists()
    with running(drill, ears) as service:
        assert stopped(service) == 0
    assert not partial.exists()
    assert os.listdir(drill.data / "models") == []


def stop_between_writes(drill: Drill, process: psutil.Process) -> None:
    """Stop it where it does not hold the log: else all would wait until it is ended."""
    for _ in range(100):
        process.send_signal(signal.SIGSTOP)
        log = choose_sqlite().module.connect(drill.data / "trapwatch.db", timeout=0.3)
        try:
            log.execute("BEGIN IMMEDIATE")
            log.rollback()
            return
        except choose_sqlite().module.OperationalError:
            process.send_signal(signal.SIGCONT)
            time.sleep(0.01)
        finally:
            log.close()
    raise AssertionError("it holds the log all the time")


def test_a_training_that_stands_still_is_ended_told_and_tried_again_later(
    drill: Drill, ears: Ears
) -> None:
    fill(drill)
    drill.configure(schedule="* * * * *")
    assert drill.trapwatch("run", "--once").returncode == 0
    label_all(drill)
    code = (
        f"{HURRIED}\nfrom monitor.service import training_process\n"
        "training_process.STILL_SECONDS = 3.0"
    )
    with running(drill, ears, code) as service:
        wait_until(lambda: drill.number("SELECT count(*) FROM training_run") == 1)
        (child,) = psutil.Process(service.pid).children()
        stop_between_writes(drill, child)
        wait_until(lambda: drill.query("SELECT state FROM training_run") == [("failed",)])
        wait_until(
            lambda: not is_held(drill.data / TRAINING_LOCK_NAME)
        )  # which the service takes for a moment
        assert service.poll() is None
        assert stopped(service) == 0
    assert "stood still" in drill.query("SELECT message FROM training_run")[0][0]


def seconds_until_ended(
    word: Callable[[float], object], cpu: Callable[[float], float | None]
) -> float:
    """Two days of looks at a training that does this; infinity: it was left alone."""
    vigil, now = Vigil(), 0.0
    while now < 2 * 86_400:
        if vigil.look(now, word(now), cpu(now)) is not None:
            return now
        now += 5
    return float("inf")


def test_only_a_training_that_neither_gets_on_nor_computes_stands_still() -> None:
    assert seconds_until_ended(lambda now: "maps", lambda now: 3.0) == pytest.approx(
        STILL_SECONDS, abs=20
    )
    words_each_hour = seconds_until_ended(lambda now: now // 1700, lambda now: 3.0)
    assert words_each_hour == float("inf"), "what gets on may wait for its disk"
    nice = seconds_until_ended(lambda now: now // 40_000, lambda now: now / 100)
    assert nice == float("inf"), "half a day between two words, behind everybody else"


def test_a_training_that_computes_for_a_day_without_a_word_is_ended_too() -> None:
    ended = seconds_until_ended(lambda now: "maps", lambda now: now)
    assert ended == pytest.approx(SILENT_SECONDS, abs=20)
    assert seconds_until_ended(lambda now: "maps", lambda now: None) == ended, "as far as one knows"


def test_a_machine_that_slept_ends_no_training() -> None:
    vigil = Vigil()
    assert all(vigil.look(week * 604_800.0, "maps", 3.0) is None for week in range(100))
    assert 100 * LONGEST_LOOK < STILL_SECONDS
