"""What a periodic task of a station works with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from monitor.core.config import Settings
from monitor.log.species_log import SpeciesLog


class Context(Protocol):
    """A station's settings, its log and its clock; a running `Station` is one."""

    @property
    def settings(self) -> Settings:
        """As they were read."""

    @property
    def log(self) -> SpeciesLog:
        """The open log."""

    @property
    def clock(self) -> Callable[[], datetime]:
        """The present, in UTC."""
