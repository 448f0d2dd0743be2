"""The review desk: hands frames to reviewers, each event to one of them at a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from monitor.log.species_log import SpeciesLog


class Desk:
    """Which frames come next, for each reviewer."""

    def __init__(self, log: SpeciesLog, clock: Callable[[], datetime]) -> None:
        self._log, self._clock = log, clock
