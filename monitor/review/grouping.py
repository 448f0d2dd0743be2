"""Groups of look-alikes: frames that one decision can label together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from monitor.core.domain import UNKNOWN
from monitor.log.queues import QueueCandidate
from monitor.review.similarity import SAME_PICTURE, Floats, distances, standard_directions

SURE = 0.97
"""What a model is at least this sure of, it may gather from pictures that are less alike."""
LEARNT = 50
"""Labels of a species below which it may not: with 25 of each, 7 in 100 frames of such groups
showed something else, with 50 fewer than 5 (benchmarks/groups.py)."""
ALIKE = 0.3
"""Cosine of standardised features from which two pictures are that much alike."""
FEWEST, MOST = 2, 200
"""Frames of a group: one alone is no group, more than a screen or two nobody looks through."""


def group(
    candidates: Sequence[QueueCandidate], vectors: Floats, labels: Mapping[str, int] = {}
) -> list[list[int]]:
    """Frames that belong together: every two of a group are nearly the same picture, or a model
    is sure that both show the same and they are alike. What a model calls by different names is
    never in one group.

    Args:
        vectors: float32 (n, d), as the backbone gives them.
        labels: how many labels each species has.

    Returns:
        rows of each group, the most typical frame first; the largest group first.
    """
    together = _together(candidates, vectors, labels)
    neighbours = together.sum(axis=1)
    groups: list[list[int]] = []
    while neighbours.max(initial=0) >= FEWEST:  # a frame goes together with itself
        found = _around(int(neighbours.argmax()), together)
        neighbours -= together[found].sum(axis=0)
        neighbours[found] = 0
        together[:, found] = together[found] = False
        if len(found) >= FEWEST:
            groups.append(found)
    return sorted(groups, key=len, reverse=True)


def _together(
    candidates: Sequence[QueueCandidate], vectors: Floats, labels: Mapping[str, int]
) -> npt.NDArray[np.bool_]:
    """bool (n, n): which two may be decided at once."""
    names = {name: number for number, name in enumerate({c.species for c in candidates})}
    said = np.array([names[c.species] for c in candidates])
    silent = np.array([c.species in (None, UNKNOWN) for c in candidates])
    learnt = np.array([labels.get(c.species or "", 0) >= LEARNT for c in candidates])
    sure = np.array([(c.probability or 0.0) >= SURE for c in candidates]) & learnt & ~silent
    (directions,) = standard_directions(vectors)
    together = sure[:, None] & sure & (directions @ directions.T >= ALIKE)
    together |= distances(vectors, vectors) <= SAME_PICTURE
    together &= (said[:, None] == said) | (silent[:, None] & silent)
    return np.asarray(together, np.bool_)


def _around(best: int, together: npt.NDArray[np.bool_]) -> list[int]:
    """A frame, and of those that go together with it such as all go together with each other."""
    fits = together[best].copy()
    among = np.flatnonzero(fits)
    shared = together[among][:, among].sum(axis=1)
    shared[among == best] = len(together) + 1
    found: list[int] = []
    for row in among[np.argsort(-shared, kind="stable")].tolist():
        if fits[row]:
            found.append(row)
            fits &= together[row]
            if len(found) == MOST:
                break
    return found
