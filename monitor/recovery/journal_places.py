"""Where a station keeps its journals of labels, and whether what lies there is its own."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from typing import Any

from monitor.core.config import Settings
from monitor.log.engine import LogError
from monitor.log.learning import IDENTITY
from monitor.log.species_log import SpeciesLog
from monitor.recovery.journal_file import locked
from monitor.system.limited import Step, directly, limited

logger = logging.getLogger(__name__)

NAME = "labels.jsonl"
USUAL_NAME = "station"
"""What a station is called that nobody gave a name."""


class OtherStation(LogError):
    """A journal holds the labels of another station."""


def journal_paths(settings: Settings) -> tuple[Path, ...]:
    """Where this station keeps its journals: beside the log, and on the second path if any."""
    if not settings.journal.enabled:
        return ()
    second = settings.journal.second
    first = settings.data_directory / NAME
    return (first,) if second is None else (first, second)


def step_for(path: Path, settings: Settings) -> Step:
    """How the steps of a journal are taken: with a limit of time for the second."""
    return limited(path) if path == settings.journal.second else directly


def look_at(path: Path, settings: Settings) -> None:
    """The second journal must be on a disk of its own, which may not be there.

    Raises:
        OSError: it is not, in words.
    """
    if path == settings.journal.second:
        step_for(path, settings)(_look_at_second, path, settings.data_directory)


def _look_at_second(path: Path, data: Path) -> None:
    folder, there = path.parent, next(p for p in (data, *data.parents) if p.exists())
    if not folder.is_dir():
        raise OSError(f"{folder} is not there: is the disk mounted?")
    if folder.stat().st_dev == there.stat().st_dev:
        raise OSError(f"{folder} lies on the same disk as the log: is the other one mounted?")


def in_words(error: Exception) -> str:
    """Why a journal cannot be read or written."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def take_mark(log: SpeciesLog, settings: Settings, now: datetime) -> None:
    """Let a log without a mark have that of its journal: it begins anew, or is of an older release.

    The second journal counts only if its station has the same name, which somebody gave it. Where
    no journal has one, it gets a new one.
    """
    if log.state(IDENTITY) is not None:
        return
    found = None
    for path in journal_paths(settings):
        try:
            found = found or mark_in(path, settings)
        except OSError as error:
            logger.warning("%s cannot be asked whose it is: %s", path, in_words(error))
    if found is not None:
        log.put_state(IDENTITY, {"id": found}, now)
    log.identity(now)


def mark_in(path: Path, settings: Settings) -> str | None:
    """The mark of the station whose journal this is, if it is ours by its place or its name."""
    step = step_for(path, settings)
    if not step(path.exists):
        return None
    look_at(path, settings)
    with locked(path, step) as file:
        last = file.last() or {}
    is_first = path != settings.journal.second
    if is_first or is_named(last, settings.station.name):
        return last.get("station")
    return None


def is_named(line: dict[str, Any], name: str) -> bool:
    """Whether a line was written by a station of this name, which somebody gave it."""
    return name != USUAL_NAME and line.get("station_name") == name


def own_mark(
    log: SpeciesLog, last: dict[str, Any], now: datetime, name: str | None
) -> dict[str, str]:
    """What each line says of its station; a log without a mark takes that of the last line.

    Raises:
        OtherStation: the last line has another one.
    """
    if "station" in last and log.state(IDENTITY) is None:
        log.put_state(IDENTITY, {"id": last["station"]}, now)
    own = log.identity(now)
    other = last.get("station", own)
    if other != own:
        known = last.get("station_name")
        whose = f"another station ({known}, " if known else "another station ("
        raise OtherStation(f"it holds labels of {whose}mark {other[:8]}); it is left alone")
    return {"station": own} | ({"station_name": name} if name else {})
