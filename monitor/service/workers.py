"""The workers of a running station, and what is done when one of them hangs.

A watched folder that does not answer is named and left alone: the other folders and the classifier
go on, and it is looked at anew until it answers. A classifier that hangs sits in native code, which
no program can break off: then the whole process must begin anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from monitor.core.pauses import INTAKE
from monitor.pipeline.places import Place
from monitor.service.station import Station
from monitor.system.workers import Worker

logger = logging.getLogger(__name__)

WATCH_HANGS_SECONDS = 120.0
CLASSIFY_HANGS_SECONDS = 600.0
"""The first start tries every engine, which takes minutes; later see `workers.SLOWER`."""
LOOKS_UNTIL_SURE = 3
"""So many looks in a row must find a worker hung: after a machine slept, all seem to be for one."""
MOST_LEFT = 3
"""So many threads of one folder may be left hanging; then it is waited for one to come back."""
DISK_HANGS_SECONDS = 30.0
"""A disk that slept and wakes up is not worth a word."""
WATCH_IDLE_SECONDS, CLASSIFY_IDLE_SECONDS = 0.1, 0.2


class Crew:
    """One worker for each watched folder, and one that classifies.

    Args:
        classify: one step of it.
    """

    def __init__(self, station: Station, classify: Callable[[], bool]) -> None:
        self._station = station
        self._watchers = {place: self._watcher(place) for place in station.places}
        self._classifier = Worker(
            "classify",
            classify,
            CLASSIFY_IDLE_SECONDS,
            CLASSIFY_HANGS_SECONDS,
            station.taken_in,
            station.pipeline.doing,
        )
        self._hung: set[Place] = set()
        self._left: list[Worker] = []  # to themselves
        self._looks = 0

    def start(self) -> None:
        """Begin."""
        for worker in self._all():
            worker.start()

    def look(self, now: float) -> str | None:
        """Look after all of them; call about once a second.

        Args:
            now: monotonic seconds.

        Returns:
            why the process must begin anew, in words; None as long as it need not.
        """
        for place, worker in list(self._watchers.items()):
            self._look_at_folder(place, worker, now)
        self._looks = self._looks + 1 if self._classifier.hangs(now) else 0
        if self._looks < LOOKS_UNTIL_SURE:
            return None
        return f"the classifier hangs: {self._classifier.words(now)}"

    def problems(self, now: float) -> dict[str, str]:
        """Who has a problem -> which, in words."""
        found: dict[str, str | None] = {
            worker.name: worker.problem for worker in self._all() if worker.problem
        }
        found |= {f"folder {folder}": why for folder, why in self._station.patience.stuck().items()}
        found |= {
            f"folder {place.folder}": f"{self._watchers[place].words(now)}; the others go on"
            for place in self._hung
        }
        station = self._station
        found |= {
            f"disk {path}": why for path, why in station.disk.hanging(DISK_HANGS_SECONDS).items()
        }
        found |= {"model": station.live.problem, "model card": station.live.card_problem}
        if station.gpu_problem:
            found["GPU"] = f"{station.gpu_problem} The processor goes on in its place"
        return {who: why for who, why in found.items() if why}

    def stop(self) -> None:
        """Ask all for the end after the step under way."""
        for worker in self._all():
            worker.stop()

    def join(self, seconds: float) -> list[str]:
        """Wait for the end of all. Names of those that did not come to one."""
        deadline = time.monotonic() + seconds
        return [w.name for w in self._all() if not w.join(deadline - time.monotonic())]

    def only_folders_hang(self, names: Sequence[str]) -> bool:
        """Whether all of these are folders that were known to hang: nobody waits for them."""
        return set(names) <= {self._watchers[place].name for place in self._hung}

    def _all(self) -> list[Worker]:
        return [*self._watchers.values(), self._classifier]

    def _watcher(self, place: Place) -> Worker:
        def step() -> bool:
            return False if self._station.rests(INTAKE) else place.step()

        return Worker(
            f"watch {place.folder}",
            step,
            WATCH_IDLE_SECONDS,
            WATCH_HANGS_SECONDS,
            place.watcher.hints.complete,
            place.doing,
            place.at,
        )

    def _look_at_folder(self, place: Place, worker: Worker, now: float) -> None:
        if not worker.hangs(now):
            if place in self._hung:
                self._hung.discard(place)
                logger.info("watched folder %s answers again", place.folder)
                place.watcher.request_reconcile()
            return
        if place not in self._hung:
            self._hung.add(place)
            logger.error(
                "watched folder %s hangs: %s. The others go on; it is taken up when it answers",
                place.folder,
                worker.words(now),
            )
        self._left = [other for other in self._left if not other.join(0)]
        same = sum(other.name == worker.name for other in self._left)
        if same < MOST_LEFT and place.answers(now):
            self._begin_anew(place, worker)

    def _begin_anew(self, place: Place, worker: Worker) -> None:
        """The folder answers, but its thread waits for what was mounted there before."""
        logger.warning("watched folder %s answers anew; it is taken up again", place.folder)
        worker.stop()
        self._left.append(worker)
        self._hung.discard(place)
        del self._watchers[place]
        threading.Thread(target=place.close, daemon=True).start()  # which may hang as well
        new = self._station.new_place(place)
        self._watchers[new] = self._watcher(new)
        self._watchers[new].start()
