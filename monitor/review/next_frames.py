"""Which frames to ask about next, from the log and the feature cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from monitor.log.queues import QueueCandidate
from monitor.log.species_log import SpeciesLog
from monitor.review.uncertainty import order_queue

if TYPE_CHECKING:
    from monitor.log.features import FeatureStore
    from monitor.review.similarity import Floats

MOST_COMPARED = 2000
"""So many candidates, and so many labelled frames, are compared with each other: 0.6 s."""
MOST_KNOWN = 5000
"""Labelled frames of the candidates' own events."""


def ask_next(
    log: SpeciesLog, found: Sequence[QueueCandidate], features: FeatureStore | None, limit: int
) -> list[QueueCandidate]:
    """The candidates to ask about, best first.

    With features: what teaches most first; of nearly the same pictures of one event only one, and
    none if one of them is labelled. Without: by turns (`order_queue`).

    Args:
        found: unlabelled media, from the log.
    """
    labels = log.label_counts()
    if features is None or not found:
        return order_queue(found, labels, limit)
    import numpy as np

    from monitor.review.coverage import event_of, most_teaching

    chosen = order_queue(found, labels, MOST_COMPARED)
    turns = log.candidates([candidate.media_id for candidate in chosen])
    vectors = features.get([candidate.sha256 for candidate in turns])
    seen = [candidate for candidate in turns if candidate.sha256 in vectors]
    unseen = [candidate for candidate in turns if candidate.sha256 not in vectors]
    if not seen:
        return turns[:limit]
    frames = np.stack([vectors.pop(candidate.sha256) for candidate in seen])
    labelled = list(features.get(log.newest_labelled(MOST_COMPARED)).values())
    known = _known(log, features, [event_of(candidate) for candidate in seen])
    there = np.stack(labelled) if labelled else frames[:0]
    order = most_teaching(seen, frames, there, known, labels, limit)
    return [*(seen[row] for row in order), *unseen][:limit]


def _known(log: SpeciesLog, features: FeatureStore, events: Sequence[int]) -> dict[int, Floats]:
    """Event -> features of its labelled frames."""
    import numpy as np

    rows = log.labelled_in_events(sorted(set(events)))[:MOST_KNOWN]
    vectors = features.get([sha256 for _, sha256 in rows])
    known: dict[int, list[Floats]] = {}
    for event, sha256 in rows:
        if sha256 in vectors:
            known.setdefault(event, []).append(vectors[sha256])
    return {event: np.stack(some) for event, some in known.items()}
