"""The training that a service runs beside itself: started, ended and remembered."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import psutil
from faults.drill import HURRIED, Drill, fill
from faults.systemd import Ears, running, stopped, wait_until

from monitor.domain import Observation, utc_now
from monitor.locks import TRAINING_LOCK_NAME, OwnerLock, is_held
from monitor.log.species_log import SpeciesLog


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
        "import monitor.training_job as job; job.sys = type('s', (), {'executable': '/bin/false'})"
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
