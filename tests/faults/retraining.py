"""A service that retrains on schedule while frames keep arriving: does any frame wait?"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from monitor.core.domain import Observation, parse_iso_utc, utc_now
from monitor.log.species_log import SpeciesLog
from monitor.system.locks import TRAINING_LOCK_NAME, is_held

from .drill import Drill
from .losses import losses

PATIENCE_SECONDS = 300.0
LONGER = 3.0


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds from a file's arrival to its classification, sorted."""

    seconds: tuple[float, ...]

    def at(self, share: float) -> float:
        """The wait that `share` of the frames did not exceed."""
        return self.seconds[min(len(self.seconds) - 1, int(share * len(self.seconds)))]

    def __str__(self) -> str:
        median, p95 = self.at(0.5), self.at(0.95)
        number, longest = len(self.seconds), self.seconds[-1]
        return f"{number} frames: median {median:.2f} s, p95 {p95:.2f} s, max {longest:.2f} s"


@dataclass(slots=True)
class Outcome:
    """What the drill came to."""

    before: Waits
    during: Waits
    training_seconds: float
    live: list[str]
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        longest, usual = self.during.seconds[-1], self.before
        lines = [
            f"before the training: {self.before}",
            f"while it ran ({self.training_seconds:.1f} s): {self.during}",
            f"longest wait / usual (median): {longest / usual.at(0.5):.2f}, "
            f"/ usual maximum: {longest / usual.seconds[-1]:.2f}",
            f"live: {self.live}",
            f"faults: {len(self.faults)}",
            *(f"  {fault}" for fault in self.faults),
        ]
        return "\n".join(lines)


class Feeder:
    """Lets the frames of a pool arrive one by one, each whole, and notes when."""

    def __init__(self, frames: Sequence[Path], pool: Path, target: Path, every: float) -> None:
        self._frames, self._pool, self._target, self._every = frames, pool, target, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.arrived: dict[str, float] = {}

    def __enter__(self) -> Feeder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        for frame in self._frames:
            if self._stop.wait(self._every):
                return
            self.arrived[str(self._target / frame)] = arrive(frame, self._pool, self._target)


def arrive(frame: Path, pool: Path, target: Path) -> float:
    """One frame appears in the watched folder; returns when."""
    final = target / frame
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}")
    shutil.copy2(pool / frame, partial)
    os.rename(partial, final)
    return time.time()


def retrain_while_frames_arrive(
    drill: Drill,
    pool: Path,
    truth: Mapping[Path, str],
    *,
    labelled: int,
    every: float,
    usual_seconds: float,
    code: str | None = None,
) -> Outcome:
    """Label `labelled` frames of a running service and watch it train and swap.

    Args:
        drill: configured with its backbone and the schedule `* * * * *`.
        pool: folder of rendered frames.
        truth: path below `pool` -> species, in the order of arrival.
        every: seconds between two arrivals.
        usual_seconds: how long to watch what is usual, before the labels.
        code: run in the service before its start.
    """
    frames = list(truth)
    for frame in frames[:labelled]:
        arrive(frame, pool, drill.frames)
    with drill.service(command=drill.command("run", code=code)):
        _wait(lambda: _classified(drill) >= labelled, "the first frames are classified")
        with Feeder(frames[labelled:], pool, drill.frames, every) as feeder:
            time.sleep(usual_seconds)
            _label(drill, {f: truth[f] for f in frames[:labelled]})
            _wait(lambda: is_held(drill.data / TRAINING_LOCK_NAME), "a training begins")
            began = time.time()
            _wait(lambda: not is_held(drill.data / TRAINING_LOCK_NAME), "it ends")
            ended = time.time()
            time.sleep(min(10.0, usual_seconds))
            arrived = dict(feeder.arrived)
        _wait(lambda: _classified(drill) >= labelled + len(arrived), "all is classified")
        _wait(lambda: _old_sightings(drill) == 0, "past media are scored by the new version")
    return _outcome(drill, arrived, began, ended)


def _outcome(drill: Drill, arrived: Mapping[str, float], began: float, ended: float) -> Outcome:
    done = {
        path: parse_iso_utc(at).timestamp()
        for path, at in drill.query("SELECT path, classified_at FROM media")
    }
    waits = {path: done[path] - at for path, at in arrived.items() if path in done}
    # a training's process needs a second or two before it takes its lock
    before = sorted(w for path, w in waits.items() if done[path] < began - 3)
    during = sorted(
        w for path, w in waits.items() if done[path] > began - 3 and arrived[path] < ended + 3
    )
    live = [name for (name,) in drill.query("SELECT name FROM model_version WHERE state = 'live'")]
    outcome = Outcome(Waits(tuple(before)), Waits(tuple(during)), ended - began, live)
    outcome.faults = losses(drill)
    if missing := set(arrived) - set(waits):
        outcome.faults.append(f"dropped: {sorted(missing)}")
    if not live:
        reasons = drill.query("SELECT state, reason FROM model_version")
        runs = drill.query("SELECT state, message FROM training_run")
        outcome.faults.append(f"no version went live: {reasons} {runs}")
    return outcome


def _classified(drill: Drill) -> int:
    return drill.number("SELECT count(*) FROM media WHERE status = 'classified'")


def _old_sightings(drill: Drill) -> int:
    """Unlabelled media whose sighting does not name the live version."""
    return drill.number(
        "SELECT count(*) FROM sightings WHERE source <> 'label' AND status = 'classified' AND "
        "model_version IS NOT (SELECT name FROM model_version WHERE state = 'live')"
    )


def _label(drill: Drill, truth: Mapping[Path, str]) -> None:
    ids = {path: number for number, path in drill.query("SELECT id, path FROM media")}
    yesterday = utc_now() - timedelta(days=1)  # a training is due at the next tick
    with SpeciesLog(drill.data / "trapwatch.db") as log:
        for frame, species in truth.items():
            said = [Observation(species)]
            log.label(
                [ids[str(drill.frames / frame)]], said, "drill", "cli", yesterday, insist=True
            )


def _wait(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)
