"""Taking turns: the order of the queue that needs no features. Unsure and rare frames first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from monitor.log.queues import QueueCandidate


def order_queue(
    candidates: Sequence[QueueCandidate], labels: Mapping[str, int], limit: int
) -> list[QueueCandidate]:
    """The candidates to ask about, best first.

    Uncertainty (1 - probability) plus rarity (few labels of the predicted species so far), and
    diversity by turns: one frame of an event before a second one of any, one deployment after
    the other.

    Args:
        candidates: unlabelled media.
        labels: how many labels each species has.
    """
    ranked = sorted(candidates, key=lambda c: (-_worth(c, labels), c.media_id))
    of_event: Counter[int | None] = Counter()
    of_deployment: Counter[tuple[int, int]] = Counter()
    turns = []
    for place, candidate in enumerate(ranked):
        round_of_event = of_event[candidate.event_id]
        of_event[candidate.event_id] += 1
        turn = of_deployment[candidate.deployment_id, round_of_event]
        of_deployment[candidate.deployment_id, round_of_event] += 1
        turns.append((round_of_event, turn, place, candidate))
    return [candidate for *_, candidate in sorted(turns, key=lambda t: t[:3])[:limit]]


def _worth(candidate: QueueCandidate, labels: Mapping[str, int]) -> float:
    if candidate.probability is None:
        return 1.0
    rarity = 1.0 / math.sqrt(1 + labels.get(candidate.species or "", 0))
    return 1.0 - candidate.probability + 0.5 * rarity
