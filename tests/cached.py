"""A feature cache for tests, filled by hand: frames that look alike, or do not, as a test says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from monitor.log.features import FeatureStore
from monitor.log.species_log import SpeciesLog
from monitor.model.backbone import layout_of

LAYOUT = layout_of("small")


def scene(number: int, spread: float = 0.0, seed: int = 0) -> np.ndarray:
    """A picture of scene `number`: pictures of two scenes are unlike, those of one nearly the same
    (spread 0: the same; 0.01: nearly; 0.2: alike, but not the same picture)."""
    base = np.abs(np.random.default_rng(1000 + number).standard_normal(LAYOUT.size))
    noise = np.random.default_rng(seed).standard_normal(LAYOUT.size)
    length = np.linalg.norm(base)
    return (base + spread * length * noise / np.linalg.norm(noise)).astype(np.float32)


def cache(log: SpeciesLog, pictures: Mapping[int, np.ndarray]) -> FeatureStore:
    """The features of these media, in `features.db` beside the log; to be closed by the caller."""
    path = Path(log.path).parent / "features.db"
    store = FeatureStore(path, LAYOUT.name, LAYOUT.size, 2**30)
    shas = {s.media_id: s.sha256 for s in log.sightings_of(list(pictures))}
    store.put([(shas[media_id], vector) for media_id, vector in pictures.items()])
    return store
