"""`trapwatch run --once`: take in and classify all there is, then end."""

from __future__ import annotations

import time
from collections.abc import Callable

from monitor.core.config import Settings
from monitor.core.domain import TrapwatchError, utc_now
from monitor.core.pauses import CLASSIFY, INTAKE, resting_lines
from monitor.recovery.integrity import keep_together
from monitor.service.opening import open_station
from monitor.service.station import Station
from monitor.system.locks import LOCK_NAME, OwnerLock
from monitor.system.processor import be_nice, take_cores
from monitor.system.workers import Worker

STOP_SECONDS = 9.0
WATCH_HANGS_SECONDS = 300.0


class StepFailed(TrapwatchError):
    """`run --once` cannot go on; the message says why."""


def run_once(settings: Settings, progress: Callable[[int, int], None]) -> dict[str, int]:
    """Take in and classify all there is, then end.

    Args:
        progress: called with (media done, media known) as it goes.

    Returns:
        the log's counts.

    Raises:
        Busy: a service owns this log.
        StepFailed: the folders cannot be read into the log or do not answer, or work rests (a full
            disk).
    """
    with OwnerLock(
        settings.data_directory / LOCK_NAME, f"the log {settings.database.url}", utc_now()
    ):
        take_cores(settings.classifier)
        be_nice(settings.classifier)
        station = open_station(settings)
        try:
            station.quarantine.run_begins()
            return _run_station(station, progress)
        finally:
            station.quarantine.run_ends()
            station.close()


def _run_station(station: Station, progress: Callable[[int, int], None]) -> dict[str, int]:
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
            resting = station.rest.facts()
            if not busy and (INTAKE in resting or CLASSIFY in resting):
                raise StepFailed("; ".join(resting_lines(resting)))
            if quiet and not busy:
                keep_together(station)
                return station.log.counts()
            if not busy:
                time.sleep(0.05)
            if watcher.problem:
                raise StepFailed(f"files cannot be taken in: {watcher.problem}")
            if watcher.hangs(time.monotonic()):
                where = "; ".join(place.doing() for place in station.places)
                raise StepFailed(f"a watched folder does not answer ({where})")
    finally:
        watcher.stop()
        watcher.join(STOP_SECONDS)
        station.log.checkpoint()
