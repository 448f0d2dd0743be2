"""What the pages and the API work with, put together once from the settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import Depends, Request

from monitor.core.config import Settings
from monitor.core.domain import utc_now
from monitor.core.privacy import PrivateSpecies
from monitor.images.pictures import PICTURES_FOLDER, Pictures
from monitor.log.species_log import SpeciesLog, open_log
from monitor.model.activation_map import ActivationMaps
from monitor.model.options import backbone_options, decode_rules
from monitor.model.versions import ModelStore
from monitor.recovery.label_journal import keep_journal
from monitor.report.charts.kept import KeptDetections
from monitor.review.features import features_of
from monitor.system.disk import MEGABYTE
from monitor.web.accounts import Accounts
from monitor.web.group_queue import GroupQueue
from monitor.web.reveals import Reveals
from monitor.web.review_queue import ReviewQueue


@dataclass(frozen=True, slots=True)
class WebContext:
    """One station, as its web pages see it. Safe to share between threads."""

    settings: Settings
    log: SpeciesLog
    store: ModelStore
    accounts: Accounts
    pictures: Pictures
    looks: ActivationMaps
    desk: ReviewQueue
    groups: GroupQueue
    detections: KeptDetections
    private: PrivateSpecies
    reveals: Reveals
    clock: Callable[[], datetime]

    def close(self) -> None:
        """Let go of threads, files and memory."""
        self.detections.close()
        self.pictures.close()
        self.looks.close()
        self.log.close()


def open_parts(settings: Settings, clock: Callable[[], datetime] = utc_now) -> WebContext:
    """Open the log (made if it is new) and everything that works on it."""
    data = settings.data_directory
    log = keep_journal(open_log(settings.database.url, create=True), settings, clock)
    rules = decode_rules(settings)
    most_bytes = settings.web.picture_cache_mb * 1024 * 1024
    private = PrivateSpecies(settings.web.private_species, log.called_today)
    features = partial(features_of, settings, log)
    return WebContext(
        settings,
        log,
        ModelStore(settings.models.directory),
        Accounts(data),
        Pictures(
            log.find_media,
            data / PICTURES_FOLDER,
            most_bytes,
            rules,
            folders=settings.watch.folders,
            spare_bytes=settings.disk.stop_mb * MEGABYTE,
            is_deadly=log.is_set_aside,
        ),
        ActivationMaps(backbone_options(settings), rules),
        ReviewQueue(log, clock, features),
        GroupQueue(log, clock, features),
        KeptDetections(log.detections, private.names),
        private,
        Reveals(clock),
        clock,
    )


def _parts(request: Request) -> WebContext:
    parts: WebContext = request.app.state.parts
    return parts


Here = Annotated[WebContext, Depends(_parts)]
"""For routes: `def route(here: Here)`."""
