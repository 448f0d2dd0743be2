"""Telling people: what is worth it, over which channels, and that it gets there."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from monitor.core.config import Settings
from monitor.health.alert_channels import ChannelsError, channels_of
from monitor.log.species_log import SpeciesLog

__all__ = ["is_cooling", "raise_alert"]

logger = logging.getLogger(__name__)


def is_cooling(last: datetime | None, now: datetime, pause: timedelta) -> bool:
    """True while the same was told less than `pause` ago. An alert from the future was told
    before the clock was set back: it keeps nobody silent."""
    return last is not None and timedelta() <= now - last < pause


def raise_alert(
    log: SpeciesLog,
    settings: Settings,
    kind: str,
    key: str,
    subject: str,
    body: str,
    now: datetime,
    media_id: int | None = None,
) -> bool:
    """Tell people something, soon; returns at once, for it is only put into the outbox.

    Args:
        kind: as in `config_alerts.Kind`; those in `alerts.leave_out` are told to nobody.
        key: what it is about: the same kind and key is not told again within the cool-down.
        media_id: a frame that is sent along, unless it is private.

    Returns:
        False if nothing was put there: within the cool-down, not wanted, or no channel.
    """
    alerts = settings.alerts
    if not alerts.is_on or kind in alerts.leave_out:
        return False
    if is_cooling(log.last_alert_at(kind, key), now, alerts.cool_down):
        return False
    try:
        channels = tuple(channels_of(settings))
    except ChannelsError as error:
        logger.error("nobody can be told that %s: %s", subject, error)
        return False
    if channels:
        log.add_alert(kind, key, subject, body, channels, now, media_id)
    return bool(channels)
