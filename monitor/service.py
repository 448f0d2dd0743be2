"""What systemd starts: one station's workers, ticks and signals. Wiring, nothing else."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType

from monitor.config import Settings, load_settings
from monitor.domain import TrapwatchError, utc_now
from monitor.duties import DUTIES
from monitor.locks import LOCK_NAME, OwnerLock
from monitor.notify import notify, watchdog_seconds
from monitor.scheduler import Ticks
from monitor.station import Station
from monitor.training_job import TrainingProcess, clear_up_after_training
from monitor.web_process import WebProcess
from monitor.workers import Worker

logger = logging.getLogger(__name__)

STOP_SECONDS = 9.0
TICK_SECONDS = 1.0
HEARTBEAT_SECONDS = 6.0
TRAINING_TICK_SECONDS = 10.0
WATCH_HANGS_SECONDS = 300.0
CLASSIFY_HANGS_SECONDS = 600.0


class Service:
    """Runs one station until it is told to stop.

    Args:
        settings: as read; SIGHUP reads them again from the same file.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._reload = threading.Event()
        self._training = TrainingProcess()
        self._web = WebProcess()
        self._hung: list[str] = []

    def run(self) -> bool:
        """Own the log and work until SIGTERM or SIGINT. True if every worker ended in time.

        Raises:
            Busy: another service owns this log.
        """
        path = self._settings.data_directory / LOCK_NAME
        with OwnerLock(path, f"the log {self._settings.database.url}", utc_now()):
            self._hear_signals()
            station = Station(self._settings)
            while not (ended := self._run_station(station)) or not self._stop.is_set():
                if not ended:
                    _leave()
                station = self._open_anew()
        return ended

    def stop(self) -> None:
        """Ask for the end."""
        self._stop.set()

    def _run_station(self, station: Station) -> bool:
        """Work until the end or a new config. False if a worker did not end in time."""
        _clear_up(station)
        workers = [
            Worker(
                "watch",
                station.watch_step,
                0.1,
                WATCH_HANGS_SECONDS,
                station.watcher.hints.complete,
            ),
            Worker(
                "classify",
                lambda: _classify(station),
                0.2,
                CLASSIFY_HANGS_SECONDS,
                station.taken_in,
            ),
        ]
        ticks = Ticks(
            {
                "training": (TRAINING_TICK_SECONDS, lambda: self._train_if_due(station)),
                **{
                    name: (seconds, partial(duty, station, self._is_ending))
                    for name, (seconds, duty) in DUTIES.items()
                },
            }
        )
        for worker in workers:
            worker.start()
        ticks.start()
        logger.info("station %s is up", station.settings.station.name)
        notify("READY=1")
        self._attend(station, workers, ticks)
        return self._shut_down(station, workers, ticks)

    def _is_ending(self) -> bool:
        return self._stop.is_set() or self._reload.is_set()

    def _attend(self, station: Station, workers: Sequence[Worker], ticks: Ticks) -> None:
        """Until the end, or a new config: heartbeat, status, and what the clock does."""
        told = 0.0
        pause = (watchdog_seconds() or 3 * HEARTBEAT_SECONDS) / 3
        while not self._is_ending():
            if self._all_alive(workers) and time.monotonic() - told >= pause:
                told = time.monotonic()
                notify("WATCHDOG=1")
                _guarded(lambda: self._say_alive(station, workers))
            ticks.check_clock()
            _guarded(lambda: self._reap_training(station))
            _guarded(lambda: self._web.tend(station.settings, time.monotonic()))
            self._stop.wait(min(TICK_SECONDS, pause))

    def _all_alive(self, workers: Sequence[Worker]) -> bool:
        """False if a worker hangs, which is told once: no heartbeat then, and systemd acts."""
        now = time.monotonic()
        hung = [worker.name for worker in workers if worker.hangs(now)]
        if hung and hung != self._hung:
            logger.error("no sign of life from: %s; the heartbeat stops", ", ".join(hung))
        elif self._hung and not hung:
            logger.info("signs of life again from: %s", ", ".join(self._hung))
        self._hung = hung
        return not hung

    def _say_alive(self, station: Station, workers: Sequence[Worker]) -> None:
        notify(f"STATUS={_one_line(station)}")
        problems = {w.name: w.problem for w in workers if w.problem}
        if station.live.problem:
            problems["model"] = station.live.problem
        if self._web.problem:
            problems["web"] = self._web.problem
        facts = {"pid": os.getpid(), "problems": problems}
        station.log.put_state("service", facts, utc_now())

    def _shut_down(self, station: Station, workers: Sequence[Worker], ticks: Ticks) -> bool:
        """End everything: within STOP_SECONDS if the service stops, in peace for a new config."""
        deadline = time.monotonic() + STOP_SECONDS
        for worker in workers:
            worker.stop()
        if self._stop.is_set():
            notify("STOPPING=1")
        self._web.end()
        while not self._stop.is_set() and not all(w.join(TICK_SECONDS) for w in workers):
            deadline = time.monotonic() + STOP_SECONDS
            if self._all_alive(workers):
                notify("WATCHDOG=1")
        if self._stop.is_set() and self._training.end():
            _guarded(lambda: _clear_up(station))
        late = [w.name for w in workers if not w.join(deadline - time.monotonic())]
        ticks.close(wait=not self._stop.is_set())
        if late:
            logger.error("did not end in time: %s; nothing is lost by that", ", ".join(late))
            return False
        _guarded(lambda: _end_tidily(station))
        logger.info("station %s has stopped", station.settings.station.name)
        return True

    def _train_if_due(self, station: Station) -> None:
        self._training.start_if_due(station.settings, station.log, station.store, utc_now())

    def _reap_training(self, station: Station) -> None:
        self._training.reap(station.settings, station.log, station.store, utc_now())

    def _hear_signals(self) -> None:
        def stop(number: int, frame: FrameType | None) -> None:
            self._stop.set()

        def reload(number: int, frame: FrameType | None) -> None:
            self._reload.set()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGHUP, reload)

    def _open_anew(self) -> Station:
        """The station as its config file says now; as it was before, if that cannot be used."""
        self._reload.clear()
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            settings = load_settings(self._settings.source)
            if settings.database != self._settings.database:
                raise TrapwatchError("another database.url needs a restart of the service")
            station = Station(settings)
        except TrapwatchError as error:
            reason = "; ".join(str(error).splitlines())
            logger.error("the config was not taken over, the old one stays: %s", reason)
            return Station(self._settings)
        self._settings = settings
        logger.info("the config was read again")
        return station


def _guarded(act: Callable[[], None]) -> None:
    """The edge of the service's own loop: what fails is told, and tried again the next time."""
    try:
        act()
    except Exception:
        logger.exception("the service goes on, but this failed")


def _classify(station: Station) -> bool:
    """One step; where nothing is to do, the backbone is opened: the next frame need not wait."""
    busy = station.classify_step()
    if not busy:
        station.pipeline.warm_up()
    return busy


def _clear_up(station: Station) -> None:
    clear_up_after_training(station.settings, station.log, station.store, utc_now())


def _end_tidily(station: Station) -> None:
    station.log.checkpoint()
    station.close()


def _leave() -> None:
    """End at once: Python would wait for the thread that hangs. Nothing is lost by that."""
    logging.shutdown()
    os._exit(1)


def _one_line(station: Station) -> str:
    counts = station.log.counts()
    live = station.live.name or "no model yet"
    return f"{counts['media']} media, {counts['pending']} pending, {live}"
