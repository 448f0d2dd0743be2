"""The feature cache, opened by whoever orders frames; there may be none."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from monitor.core.config import Settings
from monitor.log.engine import LogError, choose_sqlite
from monitor.log.species_log import SpeciesLog

if TYPE_CHECKING:
    from monitor.log.features import FeatureStore

logger = logging.getLogger(__name__)
FEATURES_FILE = "features.db"


@contextmanager
def features_of(settings: Settings, log: SpeciesLog) -> Iterator[FeatureStore | None]:
    """The features that the live model (before the first one: the configured backbone) works on.

    None if nothing is cached, or if only an opened backbone could name the layout. Nothing heavy
    is imported then.
    """
    path = settings.data_directory / FEATURES_FILE
    layout = _layout_name(settings, log) if path.is_file() else None
    if layout is None:
        yield None
        return
    from monitor.log.features import FeatureStore
    from monitor.model.backbone import layout_of

    most = settings.classifier.feature_cache_mb * 1024 * 1024
    size = layout_of(settings.classifier.backbone).size
    try:
        store = FeatureStore(path, layout, size, most)
    except (OSError, LogError, choose_sqlite().module.Error) as error:
        logger.warning("%s cannot be used (%s): frames are asked about by turns", path, error)
        yield None
        return
    try:
        yield store
    finally:
        store.close()


def _layout_name(settings: Settings, log: SpeciesLog) -> str | None:
    live = log.live_version()
    if live is not None:
        return live.layout
    if settings.classifier.weights != "imagenet":
        return None  # a user's own weights are part of the name
    from monitor.model.backbone import layout_of

    return layout_of(settings.classifier.backbone).name
