"""What systemd starts: one station's workers, ticks and signals. Wiring, nothing else."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from monitor.config import ConfigError, Settings, load_settings
from monitor.domain import utc_now
from monitor.locks import LOCK_NAME, TRAINING_LOCK_NAME, OwnerLock, is_held
from monitor.notify import notify, watchdog_seconds
from monitor.scheduler import Ticks, is_due, training_due_at, training_facts
from monitor.station import Station
from monitor.watch import stamp_of
from monitor.workers import Worker

logger = logging.getLogger(__name__)

STOP_SECONDS = 9.0
TICK_SECONDS = 1.0
TRAINING_TICK_SECONDS = 10.0
HOUSEKEEPING_SECONDS = 3600.0
WATCH_HANGS_SECONDS = 300.0
CLASSIFY_HANGS_SECONDS = 600.0
HISTORY_PAGE = 2000


class Service:
    """Runs one station until it is told to stop.

    Args:
        settings: as read; SIGHUP reads them again from the same file.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._reload = threading.Event()
        self._training: subprocess.Popen[bytes] | None = None

    def run(self) -> bool:
        """Own the log and work until SIGTERM or SIGINT. True if every worker ended in time.

        Raises:
            Busy: another service owns this log.
        """
        path = self._settings.data_directory / LOCK_NAME
        with OwnerLock(path, f"the log {self._settings.database.url}", utc_now()):
            self._hear_signals()
            ended = True
            while not self._stop.is_set():
                self._reload.clear()
                ended = self._run_station(Station(self._settings))
                if self._reload.is_set() and not self._stop.is_set():
                    self._read_settings_again()
            notify("STOPPING=1")
        return ended

    def stop(self) -> None:
        """Ask for the end."""
        self._stop.set()

    def _run_station(self, station: Station) -> bool:
        if not is_held(station.settings.data_directory / TRAINING_LOCK_NAME):
            station.log.close_interrupted_runs(utc_now())
        removed = station.store.remove_partials()
        if removed:
            logger.info("removed unfinished model versions: %s", ", ".join(removed))
        workers = [
            Worker("watch", station.watch_step, 0.1, WATCH_HANGS_SECONDS),
            Worker("classify", station.classify_step, 0.2, CLASSIFY_HANGS_SECONDS),
        ]
        ticks = Ticks(
            {
                "training": (TRAINING_TICK_SECONDS, lambda: self._train_if_due(station)),
                "housekeeping": (HOUSEKEEPING_SECONDS, lambda: housekeeping(station)),
            }
        )
        for worker in workers:
            worker.start()
        ticks.start()
        logger.info("station %s is up", station.settings.station.name)
        notify("READY=1")
        self._attend(station, workers, ticks)
        return self._shut_down(station, workers, ticks)

    def _attend(self, station: Station, workers: list[Worker], ticks: Ticks) -> None:
        """Until the end, or a new config: heartbeat, status, and what the clock does."""
        told = 0.0
        while not (self._stop.is_set() or self._reload.is_set()):
            now = time.monotonic()
            hung = [worker.name for worker in workers if worker.hangs(now)]
            if hung:
                logger.error("no sign of life from: %s; systemd will start anew", ", ".join(hung))
            elif now - told >= (watchdog_seconds() or 20.0) / 3:
                told = now
                notify(f"WATCHDOG=1\nSTATUS={_one_line(station)}")
                self._say_alive(station, workers)
            ticks.check_clock()
            self._reap_training()
            self._stop.wait(TICK_SECONDS)

    def _say_alive(self, station: Station, workers: list[Worker]) -> None:
        problems = {w.name: w.problem for w in workers if w.problem}
        if station.live.problem:
            problems["model"] = station.live.problem
        facts = {"pid": os.getpid(), "problems": problems}
        station.log.put_state("service", facts, utc_now())

    def _shut_down(self, station: Station, workers: list[Worker], ticks: Ticks) -> bool:
        deadline = time.monotonic() + STOP_SECONDS
        for worker in workers:
            worker.stop()
        if self._stop.is_set():
            self._end_training()
        ended = [worker.join(deadline - time.monotonic()) for worker in workers]
        if not all(ended):
            late = [w.name for w, done in zip(workers, ended, strict=True) if not done]
            logger.error("did not end in time: %s; nothing is lost by that", ", ".join(late))
            return False
        ticks.close()
        station.log.checkpoint()
        station.close()
        logger.info("station %s has stopped", station.settings.station.name)
        return True

    def _train_if_due(self, station: Station) -> None:
        if self._training is not None:
            return
        facts = training_facts(station.log)
        settings = station.settings
        due = training_due_at(facts, settings.training, settings.station.zone)
        if not is_due(due, utc_now(), facts.newest):
            return
        if is_held(station.settings.data_directory / TRAINING_LOCK_NAME):
            return
        logger.info("a training is due: starting it beside the service")
        command = [sys.executable, "-m", "monitor", "train", "--trigger", "schedule", "--quiet"]
        if station.settings.source is not None:
            command += ["--config", str(station.settings.source)]
        self._training = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def _reap_training(self) -> None:
        if self._training is not None and self._training.poll() is not None:
            code, self._training = self._training.returncode, None
            logger.log(
                logging.INFO if code == 0 else logging.ERROR,
                "the training has ended (exit status %d); see: trapwatch models list",
                code,
            )

    def _end_training(self) -> None:
        if self._training is None:
            return
        self._training.terminate()
        try:
            self._training.wait(3)
        except subprocess.TimeoutExpired:
            self._training.kill()
            self._training.wait()

    def _hear_signals(self) -> None:
        def stop(number: int, frame: FrameType | None) -> None:
            self._stop.set()

        def reload(number: int, frame: FrameType | None) -> None:
            self._reload.set()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGHUP, reload)

    def _read_settings_again(self) -> None:
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            settings = load_settings(self._settings.source)
        except ConfigError as error:
            logger.error("the config was not taken over, the old one stays: %s", error)
            return
        if settings.database != self._settings.database:
            logger.error("another database.url needs a restart; the old config stays")
            return
        self._settings = settings
        logger.info("the config was read again")


def housekeeping(station: Station) -> None:
    """What keeps a log small and well over the years."""
    while station.log.drop_unchanged_history(HISTORY_PAGE) == HISTORY_PAGE:
        pass
    gone = [path for path in station.log.unreadable_paths() if stamp_of(path) is None]
    station.log.forget_unreadable(gone)
    station.log.checkpoint()


def run_once(settings: Settings, progress: Callable[[int, int], None]) -> dict[str, int]:
    """Take in and classify all there is, then end.

    Args:
        progress: called with (media done, media known) as it goes.

    Returns:
        the log's counts.
    """
    with OwnerLock(
        settings.data_directory / LOCK_NAME, f"the log {settings.database.url}", utc_now()
    ):
        station = Station(settings)
        try:
            return _run_station_once(station, progress)
        finally:
            station.close()


def _one_line(station: Station) -> str:
    counts = station.log.counts()
    live = station.live.name or "no model yet"
    return f"{counts['media']} media, {counts['pending']} pending, {live}"


def _run_station_once(station: Station, progress: Callable[[int, int], None]) -> dict[str, int]:
    watcher = Worker("watch", station.watch_step, 0.05, WATCH_HANGS_SECONDS)
    watcher.start()
    try:
        told = 0.0
        while True:
            quiet = station.quiet  # asked before the step: what came last is classified too
            busy = station.classify_step()
            if time.monotonic() - told > 1.0 or not busy:
                told = time.monotonic()
                counts = station.log.counts()
                done = counts["classified"] + counts["rejected"]
                progress(done, counts["media"] - counts["waiting_for_their_file"])
            if quiet and not busy:
                return station.log.counts()
            if not busy:
                time.sleep(0.05)
            if watcher.problem:
                raise RuntimeError(watcher.problem)
    finally:
        watcher.stop()
        watcher.join(STOP_SECONDS)
        station.log.checkpoint()
