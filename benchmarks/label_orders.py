"""Orders in which frames could be asked about, for benchmarks/label_efficiency.py.

`ours` is the product's; the others are what the literature compares with. Each is told the same: a
state of the pool, and how many frames to choose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.log.queues import QueueCandidate
from monitor.review.coverage import most_teaching
from monitor.review.next_frames import MOST_COMPARED
from monitor.review.similarity import Floats, standard_directions
from monitor.review.uncertainty import order_queue

Ints = npt.NDArray[np.int64]
ALTERNATIVES = 5
CLUSTERS = 200


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What is known before a round.

    Attributes:
        features: float32 (n, d), of the whole pool.
        directions: the same, standardised and of length 1.
        events: int64 (n,).
        labelled: bool (n,).
        species: names (n,); only those of `labelled` frames may be looked at.
        classes: names of the columns of `probabilities`.
        probabilities: float32 (n, k), of the head of this round.
    """

    features: Floats
    directions: Floats
    events: Ints
    labelled: npt.NDArray[np.bool_]
    species: npt.NDArray[np.str_]
    classes: tuple[str, ...]
    probabilities: Floats
    random: np.random.Generator

    @property
    def open(self) -> Ints:
        """Rows that may be asked about."""
        return np.flatnonzero(~self.labelled)

    def labels(self) -> dict[str, int]:
        """Species -> labels."""
        names, counts = np.unique(self.species[self.labelled], return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))

    def candidate(self, row: int) -> QueueCandidate:
        """As the log has it."""
        best = np.argsort(-self.probabilities[row])[:ALTERNATIVES]
        said = tuple((self.classes[i], float(self.probabilities[row, i])) for i in best)
        return QueueCandidate(row, int(self.events[row]), 1, said[0][0], said[0][1], "", said)


def at_random(state: State, count: int) -> Ints:
    """Any frame."""
    return state.random.permutation(state.open)[:count]


def ours(state: State, count: int) -> Ints:
    """As `trapwatch label queue` asks: the least sure, by turns, then what teaches most."""
    unsure = sorted(state.open.tolist(), key=lambda row: state.probabilities[row].max())
    found = [state.candidate(row) for row in unsure[:MOST_COMPARED]]
    turns = order_queue(found, state.labels(), MOST_COMPARED)
    rows = np.array([one.media_id for one in turns])
    known = {
        int(event): state.features[state.labelled & (state.events == event)]
        for event in np.unique(state.events[state.labelled])
    }
    labelled = state.features[state.labelled]
    order = most_teaching(turns, state.features[rows], labelled, known, state.labels(), count)
    return rows[order]


def by_turns(state: State, count: int) -> Ints:
    """As the queue asks where no features are cached: unsure and rare, events by turns."""
    found = [state.candidate(int(row)) for row in state.open]
    return np.array([one.media_id for one in order_queue(found, state.labels(), count)])


def least_sure(state: State, count: int) -> Ints:
    """The lowest best probability."""
    return state.open[np.argsort(state.probabilities[state.open].max(axis=1))[:count]]


def margin(state: State, count: int) -> Ints:
    """The smallest difference of the best two (Scheffer et al. 2001)."""
    best = np.sort(state.probabilities[state.open], axis=1)
    return state.open[np.argsort(best[:, -1] - best[:, -2])[:count]]


def entropy(state: State, count: int) -> Ints:
    """The highest entropy."""
    p = np.maximum(state.probabilities[state.open], 1e-9)
    return state.open[np.argsort((p * np.log(p)).sum(axis=1))[:count]]


def core_set(state: State, count: int) -> Ints:
    """The farthest from all labelled ones (k-center greedy; Sener & Savarese 2018)."""
    z = state.directions
    nearest = (z @ z[state.labelled].T).max(axis=1)
    chosen: list[int] = []
    for _ in range(count):
        nearest[state.labelled] = 2.0
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, z @ z[chosen[-1]])
        nearest[chosen] = 2.0
    return np.array(chosen)


def typiclust(state: State, count: int) -> Ints:
    """The most typical of the largest cluster without a label (Hacohen et al. 2022)."""
    from sklearn.cluster import MiniBatchKMeans

    z, clusters = state.directions, min(int(state.labelled.sum()) + count, CLUSTERS)
    seed = int(state.random.integers(2**31))
    means = MiniBatchKMeans(clusters, n_init=1, max_iter=20, batch_size=2048, random_state=seed)
    cluster = means.fit_predict(z)
    covered = np.bincount(cluster[state.labelled], minlength=clusters)
    size, left, chosen = np.bincount(cluster, minlength=clusters), ~state.labelled, []
    for _ in range(count):
        there = np.bincount(cluster[left], minlength=clusters) > 0
        best = min(np.flatnonzero(there), key=lambda one: (covered[one], -size[one]))
        rows, every = np.flatnonzero((cluster == best) & left), np.flatnonzero(cluster == best)
        near = np.sort(z[rows] @ z[every].T, axis=1)[:, ::-1][:, 1:21]
        row = int(rows[near.mean(axis=1).argmax()]) if near.shape[1] else int(rows[0])
        chosen.append(row)
        left[row] = False
        covered[best] += 1
    return np.array(chosen)


def badge(state: State, count: int) -> Ints:
    """k-means++ on the gradients of the last layer (Ash et al. 2020)."""
    p, z = state.probabilities[state.open].copy(), state.directions[state.open]
    p[np.arange(len(p)), p.argmax(axis=1)] -= 1
    squares = (p**2).sum(axis=1)
    chosen = [int(squares.argmax())]
    away = np.full(len(p), np.inf)
    while len(chosen) < count:
        last = chosen[-1]
        from_last = squares + squares[last] - 2 * (p @ p[last]) * (z @ z[last])
        away = np.minimum(away, np.maximum(from_last, 0))
        away[chosen] = 0
        chosen.append(int(state.random.choice(len(p), p=away / away.sum())))
    return state.open[chosen]


def typiclust_then_badge(state: State, count: int) -> Ints:
    """Typiclust while there are fewer than 100 labels, BADGE later."""
    return (typiclust if state.labelled.sum() < 100 else badge)(state, count)


ORDERS: dict[str, Callable[[State, int], Ints]] = {
    "random": at_random,
    "ours": ours,
    "by turns": by_turns,
    "least sure": least_sure,
    "margin": margin,
    "entropy": entropy,
    "core-set": core_set,
    "typiclust": typiclust,
    "BADGE": badge,
    "typiclust, then BADGE": typiclust_then_badge,
}
"""Name -> the order."""

__all__ = ["ORDERS", "State", "standard_directions"]
