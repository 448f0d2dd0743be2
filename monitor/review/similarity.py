"""Which pictures look alike, by their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

SAME_PICTURE = 0.04
"""Two frames are nearly the same picture when their features lie this near: the distance over the
mean of both lengths. Measured (benchmarks/groups.py): noise alone puts consecutive frames of a
resting camera 0.03 apart; at this nearness 97 in 100 grouped frames of the hardest camera there
(small animals at night) show what their group shows, at 0.05 only 92."""


def distances(one: Floats, other: Floats) -> Floats:
    """Relative distances: float32 (n, d), (m, d) -> (n, m), 0 for the same, about 1.4 for unlike.

    Of features as the backbone gives them, neither centred nor scaled.
    """
    a, b = _squares(one), _squares(other)
    squared = a[:, None] + b - 2 * (one @ other.T)
    between = np.sqrt(np.maximum(squared, 0.0, out=squared), out=squared)
    lengths = (np.sqrt(a)[:, None] + np.sqrt(b)) / 2
    return np.asarray(between / np.maximum(lengths, 1e-12), np.float32)


def standard_directions(*parts: Floats) -> list[Floats]:
    """Features centred and scaled over all `parts` together, then brought to length 1: their
    products are cosines."""
    whole = np.concatenate(parts)
    mean, scale = whole.mean(axis=0), whole.std(axis=0)
    scale[scale < 1e-6 * np.maximum(np.abs(mean), 1.0)] = 1.0
    whole -= mean
    whole /= scale
    whole /= np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-6)
    return np.split(whole, np.cumsum([len(part) for part in parts])[:-1])


def one_of_each(vectors: Floats, events: Sequence[int], known: Mapping[int, Floats]) -> list[int]:
    """Of each event, frames of which no two are nearly the same picture, nor one and a known one.

    Args:
        vectors: float32 (n, d), the one to keep first.
        events: of each.
        known: event -> float32 (m, d) of frames of it that need not be asked about.

    Returns:
        rows to keep, in their order.
    """
    of_event: dict[int, list[int]] = {}
    for row, event in enumerate(events):
        of_event.setdefault(event, []).append(row)
    kept: list[int] = []
    for event, rows in of_event.items():
        there = known.get(event)
        if len(rows) == 1 and there is None:
            kept += rows
        else:
            kept += [rows[i] for i in _unlike(vectors[rows], there)]
    return sorted(kept)


def _unlike(vectors: Floats, known: Floats | None) -> list[int]:
    same = distances(vectors, vectors) <= SAME_PICTURE
    done = np.zeros(len(vectors), bool)
    if known is not None and len(known):
        done |= (distances(vectors, known) <= SAME_PICTURE).any(axis=1)
    kept: list[int] = []
    for row in range(len(vectors)):
        if not done[row]:
            kept.append(row)
            done |= same[row]
    return kept


def _squares(vectors: Floats) -> Floats:
    return np.asarray(np.einsum("ij,ij->i", vectors, vectors), np.float32)
