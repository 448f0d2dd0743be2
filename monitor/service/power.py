"""Little power: hours of work, and a battery that runs low.

Only classifying, re-scoring and training rest; frames are taken in all the time, so that nothing
is lost when a card is pulled. The clock on the wall of the station decides, so a day on which
daylight saving begins or ends needs no rule of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from monitor.core.clock_check import clock_problem
from monitor.core.config.power import DAY, HOURS_NOT_KEPT, NO_BATTERY, Span
from monitor.core.pauses import CLASSIFY, TRAIN, Reason
from monitor.service.station import Station
from monitor.system.battery import Battery, read_battery

logger = logging.getLogger(__name__)

LOOK_SECONDS = 30.0
RECOVERED_PERCENT = 5.0
"""So much above the limit work goes on again: a battery recovers a little as soon as it rests."""
HOURS, BATTERY = "hours of work", "battery"
POWER_KEY, HOURS_KEY = "power", "hours of work"
RESTING_WORK = frozenset({CLASSIFY, TRAIN})


def is_active(spans: Sequence[Span], local: datetime) -> bool:
    """Whether this is an hour of work. `local` is the wall clock of the station."""
    return not spans or any(span.holds(local.time()) for span in spans)


def next_start(spans: Sequence[Span], local: datetime) -> str:
    """When work begins next, such as `20:00`, by the wall clock of the station."""
    now = local.hour * 60 + local.minute
    start = min((span.start for span in spans), key=lambda start: (start - now - 1) % DAY)
    return f"{start // 60:02}:{start % 60:02}"


def hours_words(spans: Sequence[Span], local: datetime) -> str | None:
    """Why classifying rests at this hour; None if it does not."""
    if is_active(spans, local):
        return None
    return f"until {next_start(spans, local)} (classifier.active_hours)"


def battery_words(
    battery: Battery | None, below: float | None, *, resting: bool = False
) -> str | None:
    """Why classifying rests with this battery; None if it does not, or none is known.

    Args:
        below: `classifier.rest_below_battery_percent`.
        resting: it rests already, and goes on a little above the limit only.
    """
    if battery is None or below is None or battery.on_mains:
        return None
    enough = min(below + RECOVERED_PERCENT, 100.0)
    if battery.percent >= (enough if resting else below):
        return None
    return (
        f"battery at {battery.percent:.0f} %, goes on at {enough:.0f} % "
        "(classifier.rest_below_battery_percent)"
    )


def tend_power(
    station: Station,
    is_ending: Callable[[], bool] = lambda: False,
    read: Callable[[], Battery | None] = read_battery,
) -> None:
    """Look at the clock and the battery, and let classifying and training rest or go on."""
    settings = station.settings.classifier
    _tend_hours(station, settings.active_spans)
    if settings.rest_below_battery_percent is None:
        _rest(station, BATTERY, None)
        return
    battery = read()
    resting = station.rest.is_set(BATTERY)
    words = battery_words(battery, settings.rest_below_battery_percent, resting=resting)
    _rest(station, BATTERY, words)
    facts = {
        "battery_percent": round(battery.percent) if battery is not None else None,
        "on_mains": battery.on_mains if battery is not None else None,
    }
    _tell(station, POWER_KEY, facts, NO_BATTERY if battery is None else None)


def _tend_hours(station: Station, spans: Sequence[Span]) -> None:
    """A clock that stands at 1970 would let work rest by day and go on by night, or never."""
    now, wrong = station.clock(), None
    if spans:
        wrong = clock_problem(now, station.log.newest_written_at())
        warning = f"{HOURS_NOT_KEPT}; {wrong}" if wrong is not None else None
        _tell(station, HOURS_KEY, {"kept": wrong is None}, warning)
    local = now.astimezone(station.settings.station.zone)
    _rest(station, HOURS, hours_words(spans, local) if wrong is None else None)


def _rest(station: Station, name: str, words: str | None) -> None:
    station.rest.set(name, Reason(RESTING_WORK, words) if words is not None else None)


def _tell(station: Station, key: str, facts: dict[str, Any], warning: str | None) -> None:
    """Let other processes know; warn where this is news."""
    if facts != station.log.state(key):
        station.log.put_state(key, facts, station.clock())
        if warning is not None:
            logger.warning("%s", warning)
