"""The frames that teach most: they stand for many others of which the model is unsure.

Greedy coverage, weighted by uncertainty and rarity: every frame counts as known as far as the most
similar labelled (or already chosen) frame is similar to it; the next to ask about is the one that
adds most to that, where it matters. Before there is a model all weigh the same, and the most
typical frames come first. After Bae et al. 2025, "Uncertainty Herding: One Active Learning Method
for All Label Budgets", with a fixed kernel; compared with others in benchmarks/label_efficiency.py.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence

import numpy as np

from monitor.log.queues import QueueCandidate
from monitor.review.similarity import Floats, one_of_each, standard_directions

WIDTH = 0.2
"""Of the kernel exp((cosine - 1) / WIDTH)."""
ROWS_AT_ONCE = 256


def most_teaching(
    candidates: Sequence[QueueCandidate],
    vectors: Floats,
    labelled: Floats,
    labelled_of_event: Mapping[int, Floats],
    labels: Mapping[str, int],
    limit: int,
) -> list[int]:
    """Which candidates to ask about, the one that teaches most first; of nearly the same pictures
    of one event at most one, and none if one of them is labelled.

    Args:
        vectors: float32 (n, d), as the backbone gives them; the one to keep of a burst first.
        labelled: float32 (m, d), of labelled frames.
        labelled_of_event: event -> float32 (m, d), of its labelled frames.
        labels: how many labels each species has.

    Returns:
        rows of `candidates`.
    """
    kept = one_of_each(vectors, [event_of(one) for one in candidates], labelled_of_event)
    frames, known = standard_directions(vectors[kept], labelled)
    weights = weights_of([candidates[row] for row in kept], labels)
    return [kept[row] for row in order_by_teaching(frames, known, weights, limit)]


def event_of(candidate: QueueCandidate) -> int:
    """An event is named by its first frame; a frame without one is its own."""
    return candidate.event_id if candidate.event_id is not None else candidate.media_id


def weights_of(candidates: Sequence[QueueCandidate], labels: Mapping[str, int]) -> Floats:
    """How much it matters that a frame is understood: float32 (n,), at most 1.

    Uncertainty, 1 - (best - second probability), times rarity, 1 / sqrt(1 + expected labels of
    what it may be). What was never predicted is as unsure as can be, and may be anything.

    Args:
        labels: how many labels each species has.
    """
    usual = sum(labels.values()) / max(1, len(labels))
    return np.array([_weight(c.alternatives, labels, usual) for c in candidates], np.float32)


def _weight(said: Sequence[tuple[str, float]], labels: Mapping[str, int], usual: float) -> float:
    if not said:
        return 1 / math.sqrt(1 + usual)
    probabilities = sorted((p for _, p in said), reverse=True)
    margin = probabilities[0] - (probabilities[1] if len(probabilities) > 1 else 0.0)
    expected = sum(p * labels.get(name, 0) for name, p in said)
    return (1 - margin) / math.sqrt(1 + expected)


def order_by_teaching(frames: Floats, labelled: Floats, weights: Floats, limit: int) -> list[int]:
    """Which frames to ask about, the one that teaches most first.

    Args:
        frames: float32 (n, d), of length 1 (`alike.standard_directions`).
        labelled: float32 (m, d), as `frames`.
        weights: float32 (n,), of `frames`.

    Returns:
        rows of `frames`, at most `limit`.
    """
    kernel = _kernel(frames, frames)
    known = _kernel(frames, labelled).max(axis=1, initial=0.0)
    # What a frame would add only shrinks while others are chosen: an old sum is a bound, and only
    # the sums that lead are worked out again (Minoux 1978, lazy greedy).
    bounds = [(-gain, row, 0) for row, gain in enumerate(_gains(kernel, known, weights))]
    heapq.heapify(bounds)
    chosen: list[int] = []
    while bounds and len(chosen) < limit:
        _, row, made_after = bounds[0]
        if made_after == len(chosen):
            heapq.heappop(bounds)
            chosen.append(row)
            np.maximum(known, kernel[row], out=known)
        else:
            gain = float(weights @ np.maximum(kernel[row] - known, 0.0))
            heapq.heapreplace(bounds, (-gain, row, len(chosen)))
    return chosen


def _kernel(one: Floats, other: Floats) -> Floats:
    cosines = one @ other.T
    cosines -= 1
    cosines /= WIDTH
    return np.asarray(np.exp(cosines, out=cosines), np.float32)


def _gains(kernel: Floats, known: Floats, weights: Floats) -> list[float]:
    """What each frame alone would add: the kernel is symmetric, so its rows serve as columns."""
    gains: list[float] = []
    for start in range(0, len(kernel), ROWS_AT_ONCE):
        added = np.maximum(kernel[start : start + ROWS_AT_ONCE] - known, 0.0)
        gains += (added @ weights).tolist()
    return gains
