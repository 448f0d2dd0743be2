"""The same inside one process: its wall clock moved by time-machine, the rest of it real."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import time_machine

from monitor.core.config import Settings, load_settings
from monitor.core.domain import RunState
from monitor.service.station import Station
from monitor.service.ticks import Ticks
from monitor.service.training_process import TrainingProcess
from monitor.training.schedule import TrainingFacts

from .clocks import BERLIN, BOOT, EACH, SAO_PAULO, Report, Stage, Story, stages
from .drill import Drill

PATIENCE_SECONDS = 60.0
TICK_SECONDS = 0.2


class FakeTraining(TrainingProcess):
    """A training that is over at once: what is due, and when, is what is looked at here."""

    def __init__(self, station: Station) -> None:
        super().__init__()
        self._station = station

    def _start(self, settings: Settings, facts: TrainingFacts) -> None:
        log, now = self._station.log, self._station.clock
        run = log.start_run("head", "schedule", 1, now())
        log.finish_run(run, RunState.SUCCEEDED, "", now())


def jumps(count: int, seed: int) -> list[Stage]:
    """Every stage of both zones, then times from 1970 to 2099 at random."""
    today = datetime.now(UTC)
    listed = stages(BERLIN, today) + stages(SAO_PAULO, today)[1:]
    rng = random.Random(seed)
    start = datetime(1970, 1, 2, tzinfo=UTC)
    others = []
    last = listed[-1].at
    while len(listed) + len(others) < count:
        at = start + timedelta(seconds=rng.randrange(129 * 365 * 86_400))
        if abs(at - last) > timedelta(days=1):
            others.append(Stage(f"at random, {len(others)}", at))
            last = at
    return [*listed, *others][:count]


def drill_inside(root: Path, count: int, seed: int = 0) -> Report:
    """Take frames in and ask what is due, while the clock jumps `count` times."""
    drill, report = Drill(root), Report()
    drill.configure(schedule="* * * * *", min_new_labels=EACH)
    text = drill.config.read_text().replace("reconcile_seconds: 2", "reconcile_seconds: 1")
    drill.config.write_text(text)
    all_stages = [BOOT, *jumps(count, seed)]  # by the true clock
    with time_machine.travel(BOOT.at, tick=True) as traveller:
        station = Station(load_settings(drill.config))
        training, ticked = FakeTraining(station), [0]

        def tick() -> None:
            ticked[0] += 1
            parts = (station.settings, station.log, station.store, station.clock())
            training.start_if_due(*parts)

        ticks = Ticks({"training": (TICK_SECONDS, tick)})
        story = Story(drill, station.clock, report)
        ticks.start()
        story.frames()
        try:
            for stage in all_stages:
                is_first = stage is BOOT
                if not is_first:
                    story.frames()
                    story.label()
                    traveller.move_to(stage.at)
                report.stages += 1
                before, expected = ticked[0], report.stages - 1
                deadline = time.monotonic() + PATIENCE_SECONDS
                while time.monotonic() < deadline:
                    ticks.check_clock()
                    station.watch_step()
                    station.classify_step()
                    done = ticked[0] > before + 1 and story.all_classified()
                    if done and (is_first or story.runs() >= expected):
                        break
                    time.sleep(0.01)
                else:
                    report.faults.append(
                        f"{stage.name} ({stage.at:%Y-%m-%d}): stalled; ticks {ticked[0] - before}, "
                        f"trainings {story.runs()} of {expected}"
                    )
                    break
            time.sleep(5 * TICK_SECONDS)
            if story.runs() > report.stages - 1:
                report.faults.append(f"{story.runs()} trainings of {report.stages - 1} due")
        finally:
            ticks.close()
            ticks.join(60)
            station.close()
    story.count(broken=None)
    return report
