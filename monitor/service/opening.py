"""Opening a station whose log may have to be restored first."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial

from monitor.core.config import Settings
from monitor.core.domain import utc_now
from monitor.health.alert_news import tell_of_restored_log
from monitor.log.engine import LogDamaged
from monitor.recovery.recovery import make_sound, note_damage
from monitor.service.station import Station


def open_station(settings: Settings, clock: Callable[[], datetime] = utc_now) -> Station:
    """Open the station; its log is made sound first if it is not.

    Call it only as the owner of the log (see `locks`).

    Raises:
        TrapwatchError: as Station; or the log could not be restored, with the reason.
    """
    tell = partial(tell_of_restored_log, settings)
    make_sound(settings, clock(), tell)
    try:
        return Station(settings, clock)
    except LogDamaged as error:
        note_damage(settings, str(error), clock())
    make_sound(settings, clock(), tell)
    return Station(settings, clock)
