"""One training: in this process, or in one of its own beside the service."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import psutil

from monitor.core.config import Settings
from monitor.core.domain import RunState, TrapwatchError, utc_now
from monitor.core.pauses import TRAIN
from monitor.log.runs import ENDED_FROM_OUTSIDE
from monitor.log.species_log import SpeciesLog
from monitor.model.versions import ModelStore
from monitor.service.station import Station
from monitor.system.locks import TRAINING_LOCK_NAME, Busy, OwnerLock, is_held
from monitor.system.processor import take_cores
from monitor.training.schedule import TrainingFacts, is_due, training_due_at, training_facts

if TYPE_CHECKING:
    from monitor.training.run import TrainingOutcome

logger = logging.getLogger(__name__)

END_SECONDS = 3.0
STILL_SECONDS = 1800.0
"""A training that neither says how far it is nor computes for so long stands still. Between two
words of it the slowest machine may compute for hours, so that alone ends none …"""
SILENT_SECONDS = 86_400.0
"""… but a whole day of computing without a word is no training of any machine."""
LEAST_SHARE = 0.001
"""Of one core: who uses less does not compute. Behind everybody else (nice 19) it still gets ten
times as much."""
LONGEST_LOOK = 10.0
"""A machine that slept between two looks adds no more than this to either."""


class Resting(TrapwatchError):
    """No training now: the message says why, and when it goes on."""


class TooFewNewLabels(TrapwatchError):
    """There is little new to learn from."""


def train_now(
    settings: Settings, *, trigger: str, force: bool, progress: Callable[[str, float], None]
) -> TrainingOutcome:
    """Train once, in this process.

    Raises:
        Busy: another process trains.
        Resting: the disk is full, or became so meanwhile.
        TooFewNewLabels: fewer than `training.min_new_labels`, and `force` is False.
        TrainingError: the labels are not enough to learn from.
    """
    from monitor.training.run import Sources, train_once  # the service, too, imports this page

    def unless_it_rests(stage: str, done: float) -> None:
        if done < 1 and (why := station.rests(TRAIN)) is not None:
            raise Resting(f"training rests: {why}; it is tried again when there is room")
        progress(stage, done)

    lock = settings.data_directory / TRAINING_LOCK_NAME
    take_cores(settings.classifier)
    with OwnerLock(lock, "training", utc_now()):
        station = Station(settings)
        try:
            unless_it_rests("starting", 0.0)
            _clear_up(station.log, station.store, utc_now())
            new = training_facts(station.log).new_labels
            if new < settings.training.min_new_labels and not force:
                raise TooFewNewLabels(
                    f"{new} new labels since the last training, and training.min_new_labels is "
                    f"{settings.training.min_new_labels}; label more, or insist with --force"
                )
            return train_once(
                station.log,
                Sources(station.features_with, station.features_of),
                station.store,
                settings,
                station.bench(),
                trigger=trigger,
                now=utc_now,
                progress=unless_it_rests,
            )
        finally:
            station.close()


def clear_up_after_training(
    settings: Settings,
    log: SpeciesLog,
    store: ModelStore,
    now: datetime,
    why: str = ENDED_FROM_OUTSIDE,
) -> bool:
    """Close the runs and remove the half-written models of a training that was killed.

    Args:
        why: it was, in words.

    Returns:
        False if a process is training, so that nothing is left over yet.
    """
    try:
        with OwnerLock(settings.data_directory / TRAINING_LOCK_NAME, "training", now):
            _clear_up(log, store, now, why)
    except Busy:
        return False
    return True


def _clear_up(
    log: SpeciesLog, store: ModelStore, now: datetime, why: str = ENDED_FROM_OUTSIDE
) -> None:
    if log.close_interrupted_runs(now, why):
        logger.warning("%s; it is tried again later", why)
    try:
        removed = store.remove_partials()
    except OSError as error:
        logger.warning("an unfinished model version cannot be removed: %s", error)
        return
    if removed:
        logger.info("removed unfinished model versions: %s", ", ".join(removed))


class Vigil:
    """For how long one process has neither got on nor computed. Pure: told by whoever looks."""

    def __init__(self) -> None:
        self._word: object = None
        self._looked: float | None = None
        self._silent, self._still, self._cpu = 0.0, 0.0, 0.0

    def look(self, now: float, word: object, cpu_seconds: float | None) -> str | None:
        """Why it is to be ended, in words; None as long as it need not. Call every second or so.

        Args:
            now: monotonic seconds.
            word: changes when it gets on.
            cpu_seconds: that it has used since its start; None: nobody knows.
        """
        passed = min(now - self._looked, LONGEST_LOOK) if self._looked is not None else 0.0
        self._looked = now
        self._silent, self._still = self._silent + passed, self._still + passed
        if word != self._word:
            self._word, self._silent, self._still = word, 0.0, 0.0
            self._cpu = cpu_seconds or 0.0
        elif cpu_seconds is None or cpu_seconds - self._cpu > LEAST_SHARE * STILL_SECONDS:
            self._still, self._cpu = 0.0, cpu_seconds or 0.0
        if self._still > STILL_SECONDS:
            return f"the training stood still for {self._still / 60:.0f} minutes and was ended"
        if self._silent > SILENT_SECONDS:
            return f"the training did not get on for {self._silent / 3600:.0f} h and was ended"
        return None


class TrainingProcess:
    """The training that a service runs beside itself: at most one, ended with the service, or when
    it stands still.

    Attributes:
        problem: why it was ended, in words, until it has gone.
    """

    def __init__(self) -> None:
        self.problem: str | None = None
        self._vigil = Vigil()
        self._child: subprocess.Popen[bytes] | None = None
        self._run_before = 0
        self._lock = threading.Lock()
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The process that trains now."""
        return self._child.pid if self._child is not None else None

    def start_if_due(
        self, settings: Settings, log: SpeciesLog, store: ModelStore, now: datetime
    ) -> bool:
        """Start a training if the log says that one is due. True if one was started."""
        with self._lock:
            if self._closed or self._child is not None:
                return False
            facts = training_facts(log)
            if facts.newest is not None and facts.newest.state is RunState.RUNNING:
                if not clear_up_after_training(settings, log, store, now):
                    return False
                facts = training_facts(log)
            due = training_due_at(facts, settings.training, settings.station.zone)
            if not is_due(due, now, facts):
                return False
            if is_held(settings.data_directory / TRAINING_LOCK_NAME):
                return False
            self._start(settings, facts)
            return True

    def _start(self, settings: Settings, facts: TrainingFacts) -> None:
        logger.info("a training is due: starting it beside the service")
        command = [sys.executable, "-m", "monitor", "train", "--trigger", "schedule", "--quiet"]
        if settings.source is not None:
            command += ["--config", str(settings.source)]
        self._run_before = facts.newest.id if facts.newest is not None else 0
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._vigil = Vigil()

    def look(self, log: SpeciesLog, now: float) -> None:
        """End a training that stands still; call every second or so.

        Args:
            now: monotonic seconds.
        """
        with self._lock:
            child = self._child
            if child is None or child.poll() is not None or self.problem is not None:
                return
            run = next((run for run in log.runs(1) if run.id > self._run_before), None)
            word = (run.stage, run.progress) if run is not None else None
            self.problem = self._vigil.look(now, word, _cpu_seconds(child.pid))
            if self.problem is not None:
                logger.error("%s; it is tried again later", self.problem)
                child.kill()  # one that is stopped hears nothing else

    def reap(self, settings: Settings, log: SpeciesLog, store: ModelStore, now: datetime) -> None:
        """Take note of a training that has ended, however it ended."""
        with self._lock:
            if self._child is None or self._child.poll() is None:
                return
            code, pid, self._child = self._child.returncode, self._child.pid, None
            why, self.problem = self.problem, None
            logger.log(
                logging.INFO if code == 0 else logging.ERROR,
                "the training has ended (exit status %d); see: trapwatch models list",
                code,
            )
            why = why or ENDED_FROM_OUTSIDE
            if clear_up_after_training(settings, log, store, now, why) and code != 0:
                self._note_false_start(settings, log, pid, code, now)

    def _note_false_start(
        self, settings: Settings, log: SpeciesLog, pid: int, code: int, now: datetime
    ) -> None:
        """A training that failed before its first line in the log counts as failed, too:
        else it would be due again at once, for ever."""
        newest = training_facts(log).newest
        if newest is None or newest.id <= self._run_before:
            run = log.start_run(settings.training.method, "schedule", pid, now)
            message = f"the training process could not begin (exit status {code}); see the journal"
            log.finish_run(run, RunState.FAILED, message, now)

    def interrupt(self) -> None:
        """End the training that runs; it counts as one that was ended from outside, and is tried
        again."""
        with self._lock:
            if self._child is not None and self._child.poll() is None:
                logger.warning("the training that runs is ended; it is tried again later")
                self._child.terminate()

    def end(self) -> bool:
        """End the training that runs, and start no other. True if one was running."""
        with self._lock:
            self._closed = True
            if self._child is None:
                return False
            self._child.terminate()
            try:
                self._child.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
            self._child = None
        return True


def _cpu_seconds(pid: int) -> float | None:
    """Of the processor, by a process and by what it started; None: nobody knows."""
    try:
        process = psutil.Process(pid)
        return sum(sum(one.cpu_times()[:4]) for one in (process, *process.children(True)))
    except (psutil.Error, OSError):
        return None
