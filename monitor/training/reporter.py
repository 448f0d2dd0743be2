"""How far a training is: told to whoever waits for it, and to the log."""

from __future__ import annotations

import time
from collections.abc import Callable

from monitor.log.species_log import SpeciesLog


class Reporter:
    """Passes progress on; to the log at most once a second, which is a write for each."""

    def __init__(
        self, log: SpeciesLog, run_id: int, progress: Callable[[str, float], None]
    ) -> None:
        self._log, self._run_id, self._progress = log, run_id, progress
        self._stage, self._written = "", 0.0

    def __call__(self, stage: str, done: float) -> None:
        self._progress(stage, done)
        moment = time.monotonic()
        if stage != self._stage or moment - self._written >= 1:
            self._log.run_progress(self._run_id, stage, done)
            self._stage, self._written = stage, moment
