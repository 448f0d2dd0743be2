"""What systemd starts: one station's workers, ticks and signals. Wiring, nothing else."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import FrameType
from typing import NoReturn

from monitor.core.config import Settings, load_settings
from monitor.core.domain import TrapwatchError, iso_utc, utc_now
from monitor.core.pauses import CLASSIFY, TRAIN, resting_lines
from monitor.log.engine import LogError, LogReplaced
from monitor.recovery.recovery import note_damage
from monitor.recovery.replaced_log import save_what_is_open
from monitor.service.cleaning import clean_files, open_when_there_is_room
from monitor.service.opening import open_station
from monitor.service.periodic_tasks import ALONE, HANG_SECONDS, PERIODIC_TASKS
from monitor.service.power import BATTERY, tend_power
from monitor.service.station import Station
from monitor.service.ticks import Ticks
from monitor.service.training_process import TrainingProcess, clear_up_after_training
from monitor.service.web_process import WebProcess
from monitor.service.workers import Crew
from monitor.system.disk import DiskState, disk_lines
from monitor.system.locks import LOCK_NAME, OwnerLock
from monitor.system.memory import take_few_heaps
from monitor.system.processor import be_nice, hand_over_cores, take_cores
from monitor.system.systemd import notify, watchdog_seconds
from monitor.system.workers import tell_failure

logger = logging.getLogger(__name__)

STOP_SECONDS = 9.0
TICK_SECONDS = 1.0
HEARTBEAT_SECONDS = 6.0
TRAINING_TICK_SECONDS = 10.0
NOTE_SECONDS = 5.0
RESTART_KEY = "restart"
"""In the log's `state`: when and why the service last began anew by itself."""


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
        self._rest: dict[str, str] | None = None  # as the log knows it

    def run(self) -> bool:
        """Own the log and work until SIGTERM or SIGINT. True if every worker ended in time.

        Raises:
            Busy: another service owns this log.
        """
        path = self._settings.data_directory / LOCK_NAME
        with OwnerLock(path, f"the log {self._settings.database.url}", utc_now()):
            self._hear_signals()
            take_few_heaps()
            take_cores(self._settings.classifier)
            station = self._open(self._settings)
            if station is None:
                return True
            while not (ended := self._run_or_rescue(station)) or not self._stop.is_set():
                if not ended:
                    _leave()
                station = self._open_anew()
        return ended

    def stop(self) -> None:
        """Ask for the end."""
        self._stop.set()

    def _open(self, settings: Settings) -> Station | None:
        return open_when_there_is_room(
            settings,
            self._stop,
            lambda: _guarded(lambda: self._web.tend(settings, time.monotonic())),
        )

    def _run_or_rescue(self, station: Station) -> bool:
        try:
            return self._run_station(station)
        except LogReplaced as error:
            self._begin_anew(station, str(error))

    def _run_station(self, station: Station) -> bool:
        """Work until the end or a new config. False if a worker did not end in time."""
        _clear_up(station)
        _guarded(station.quarantine.run_begins)
        _guarded(lambda: tend_power(station))
        crew = Crew(station, lambda: _classify(station))
        duties = {
            name: (seconds, partial(duty, station, self._is_ending))
            for name, (seconds, duty) in PERIODIC_TASKS.items()
        }
        training = (TRAINING_TICK_SECONDS, lambda: self._train_if_due(station))
        ticks = Ticks({"training": training, **duties}, HANG_SECONDS, ALONE)
        crew.start()
        ticks.start()
        logger.info("station %s is up", station.settings.station.name)
        notify("READY=1")
        self._attend(station, crew, ticks)
        return self._shut_down(station, crew, ticks)

    def _is_ending(self) -> bool:
        return self._stop.is_set() or self._reload.is_set()

    def _attend(self, station: Station, crew: Crew, ticks: Ticks) -> None:
        """Until the end, or a new config: heartbeat, status, and what the clock does."""
        told = 0.0  # of the monotonic clock
        pause = (watchdog_seconds() or 3 * HEARTBEAT_SECONDS) / 3
        while not self._is_ending():
            if (reason := station.log.replaced() or crew.look(time.monotonic())) is not None:
                self._begin_anew(station, reason)
            if (damage := station.log.damage) is not None:
                note_damage(station.settings, damage, utc_now())
                self._begin_anew(station, f"the log is damaged and is restored: {damage}")
            if time.monotonic() - told >= pause:
                told = time.monotonic()
                notify("WATCHDOG=1")
                _guarded(lambda: self._say_alive(station, crew, ticks))
            if ticks.check_clock():
                told = 0.0  # a heartbeat of before the jump would look ages old
            _guarded(lambda: self._reap_training(station))
            _guarded(lambda: self._web.tend(station.settings, time.monotonic()))
            self._stop.wait(min(TICK_SECONDS, pause))

    def _begin_anew(self, station: Station, reason: str) -> NoReturn:
        """Start this program over in the place of this process, with systemd or without it."""
        if (what := station.log.replaced()) is not None:
            save_what_is_open(station.log, what, utc_now(), partial(self._make_room, station))
            logger.critical("the service begins anew, for %s", what)
        else:
            logger.critical("%s. The service begins anew; nothing is lost by that", reason)
            self._note_restart(station, reason)
        _guarded(self._web.end)
        self._training.end()
        if self._stop.is_set():
            _leave(0)
        _start_over()

    def _make_room(self, station: Station, needed_bytes: int) -> None:
        clean_files(station.settings, station.disk, needed_bytes=needed_bytes)

    def _note_restart(self, station: Station, reason: str) -> None:
        facts = {"reason": reason, "at": iso_utc(utc_now())}
        note = threading.Thread(
            target=_guarded,
            args=[lambda: station.log.put_state(RESTART_KEY, facts, utc_now())],
            daemon=True,
        )
        note.start()
        note.join(NOTE_SECONDS)  # where the log's own disk hangs, it is not noted

    def _say_alive(self, station: Station, crew: Crew, ticks: Ticks) -> None:
        notify(f"STATUS={_one_line(station)}")
        problems = crew.problems(time.monotonic())
        problems |= {f"duty {name}": why for name, why in ticks.problems().items()}
        for name, why in (("web", self._web.problem), ("training", self._training.problem)):
            if why:
                problems[name] = why
        facts = {"pid": os.getpid(), "problems": problems}
        self._put_state(station, "service", facts)
        if (rest := station.rest.facts()) != self._rest:
            self._put_state(station, "rest", rest)
            self._rest = rest

    def _put_state(self, station: Station, key: str, facts: Mapping[str, object]) -> None:
        """What fails here fails every few seconds: a full disk is told by its guard already."""
        try:
            station.log.put_state(key, dict(facts), utc_now())
        except LogError:
            if not station.disk.look().is_out:
                raise

    def _shut_down(self, station: Station, crew: Crew, ticks: Ticks) -> bool:
        """End everything: within STOP_SECONDS if the service stops, in peace for a new config."""
        crew.stop()
        ticks.close()
        if self._stop.is_set():
            notify("STOPPING=1")
        self._web.end()
        deadline = time.monotonic() + STOP_SECONDS
        while (late := crew.join(TICK_SECONDS)) and not crew.only_folders_hang(late):
            if not self._stop.is_set():
                deadline = time.monotonic() + STOP_SECONDS
                if (reason := crew.look(time.monotonic())) is not None:
                    self._begin_anew(station, reason)
                notify("WATCHDOG=1")
            elif time.monotonic() > deadline:
                break
        if self._stop.is_set() and self._training.end():
            _guarded(lambda: _clear_up(station))
        hung = self._wait_for_duties(ticks, deadline)
        if late or hung:
            told = ", ".join([*late, *hung])
            logger.error("did not end in time: %s; nothing is lost by that", told)
            if not crew.only_folders_hang(late):
                return False
            _guarded(station.quarantine.run_ends)
            _leave(0) if self._stop.is_set() else _start_over()
        if (what := station.log.replaced()) is not None:
            self._begin_anew(station, what)
        _guarded(lambda: _end_tidily(station))
        logger.info("station %s has stopped", station.settings.station.name)
        return True

    def _wait_for_duties(self, ticks: Ticks, deadline: float) -> list[str]:
        """Names of those that do not come to an end: before a new config all but those that hang
        are waited for."""
        while late := ticks.join(TICK_SECONDS):
            if self._stop.is_set():
                if time.monotonic() > deadline:
                    break
            elif set(late) <= ticks.hanging():
                break
            notify("WATCHDOG=1")
        return late

    def _train_if_due(self, station: Station) -> None:
        if station.rests(TRAIN):
            if station.rest.is_set(BATTERY):
                self._training.interrupt()
            return
        self._training.start_if_due(station.settings, station.log, station.store, utc_now())

    def _reap_training(self, station: Station) -> None:
        self._training.look(station.log, time.monotonic())
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
            take_cores(settings.classifier)
            station = open_station(settings)
        except TrapwatchError as error:
            reason = "; ".join(str(error).splitlines())
            logger.error("the config was not taken over, the old one stays: %s", reason)
            take_cores(self._settings.classifier)
            return open_station(self._settings)
        self._settings = settings
        logger.info("the config was read again")
        return station


def _guarded(act: Callable[[], None]) -> None:
    """The edge of the service's own loop: what fails is told, and tried again the next time."""
    try:
        act()
    except Exception as error:  # noqa: BLE001  told
        tell_failure(logger, error, "the service goes on, but this failed: %s", error)


def _classify(station: Station) -> bool:
    """One step; where nothing is to do, the backbone is opened: the next frame need not wait."""
    be_nice(station.settings.classifier)  # and so are all threads that it starts
    busy = station.classify_step()
    if not busy and not station.rests(CLASSIFY):
        station.pipeline.warm_up()
    return busy


def _clear_up(station: Station) -> None:
    clear_up_after_training(station.settings, station.log, station.store, utc_now())


def _end_tidily(station: Station) -> None:
    station.quarantine.run_ends()
    station.log.checkpoint()
    station.close()


def _leave(code: int = 1) -> NoReturn:
    """End at once: Python would wait for the thread that hangs. Nothing is lost by that."""
    logging.shutdown()
    os._exit(code)


def _start_over() -> NoReturn:
    """The same command in the same process: its locks, threads and memory are gone by that."""
    logging.shutdown()
    hand_over_cores()
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except OSError:
        os._exit(1)


def _one_line(station: Station) -> str:
    counts = station.log.counts()
    live = station.live.name or "no model yet"
    resting = resting_lines(station.rest.facts())
    disk = [] if station.disk.look().state is DiskState.FULL else disk_lines(station.disk.look())
    counted = f"{counts['media']} media, {counts['pending']} pending, {live}"
    return "; ".join([counted, *disk, *resting])
