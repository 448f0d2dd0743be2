"""The picture that goes with an alert: small, without any place in it, and never a private one."""

from __future__ import annotations

import io
import logging

from monitor.core.config import Settings
from monitor.core.privacy import PrivateSpecies, hides_from_viewers
from monitor.images.decode import ImageRejected, shrink
from monitor.images.frame_reader import frame_reader
from monitor.log.species_log import SpeciesLog
from monitor.model.options import decode_rules

logger = logging.getLogger(__name__)

LONGEST_SIDE, QUALITY = 800, 75
"""Pixels and JPEG quality: some 60 KB, which a bad line carries."""


def picture_of(settings: Settings, log: SpeciesLog, media_id: int) -> bytes | None:
    """The frame as a JPEG; None if it may not be sent by what is known of it now, or not read."""
    if not settings.alerts.pictures:
        return None
    private = PrivateSpecies(settings.web.private_species, log.called_today).names()
    sightings = log.sightings_of([media_id])
    if not sightings or hides_from_viewers(sightings[0], private):
        return None
    media = log.find_media([media_id])[0]
    data = frame_reader(tuple(settings.watch.folders)).read(media.paths, media.sha256)
    if data is None:
        return None
    stream = io.BytesIO()
    try:
        picture = shrink(data, decode_rules(settings), LONGEST_SIDE)
    except ImageRejected as error:
        logger.info("the alert about media %d goes without its picture: %s", media_id, error)
        return None
    picture.save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()
