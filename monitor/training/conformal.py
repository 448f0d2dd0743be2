"""Species sets that hold the truth as often as promised: conformal prediction.

A species belongs to the set of a frame if its probability reaches the threshold of that species:
the smallest sets of all that keep the promise (Sadinle, Lei & Wasserman 2019, "Least Ambiguous
Set-Valued Classifiers with Bounded Error Levels"). Thresholds come from answers of heads that had
not seen a frame's fold (cross-conformal: Vovk 2015), a species' own where it has labels enough
(Mondrian: Vovk et al. 2005). Frames of one event are nearly the same picture; what is exchangeable
is events, so that the frames of an event count as one together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.model.head import Floats, in_set

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Names = npt.NDArray[np.str_]

ENOUGH_FOR_ITS_OWN = 5.0
"""Events of a species, times the share that may be missed, from which its threshold is its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Promise:
    """From which probability each species belongs to a set.

    Attributes:
        coverage: share of frames, of an event picked by chance, whose set shall hold the truth.
        thresholds: float32 (k,).
        own: bool (k,), species whose threshold comes from their own labels alone.
        events: of which the thresholds come.
    """

    coverage: float
    thresholds: Floats
    own: Bools
    events: int


def promise_of(
    aside: Floats, y: Ints, groups: Ints, judged: Bools, coverage: float
) -> Promise | None:
    """Thresholds that keep a promise; None where so few events can promise nothing.

    Args:
        aside: float32 (n, k), probabilities from heads that had not seen the row.
        y: int64 (n,), the true column.
        groups: int64 (n,), events.
        judged: bool (n,), the rows that count.
        coverage: 0-1, both left out.
    """
    missed = 1 - coverage
    y, groups = y[judged], groups[judged]
    chosen = aside[judged][np.arange(len(y)), y].astype(np.float64)
    weights = event_weights(groups)
    k = aside.shape[1]
    events = np.bincount(y, weights, k)
    own = events * missed >= ENOUGH_FOR_ITS_OWN
    common = _common(chosen, weights, ~own[y], missed)
    if common is None and not own.all():
        return None
    thresholds = np.full(k, common or 0.0)
    for species in np.flatnonzero(own):
        found = threshold(chosen[y == species], weights[y == species], missed)
        assert found is not None
        thresholds[species] = found
    # rounded down, so that who reached it still does
    lower = np.nextafter(thresholds.astype(np.float32), np.float32(0))
    return Promise(coverage, lower, own, len(np.unique(groups)))


def _common(
    chosen: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], rest: Bools, missed: float
) -> float | None:
    """The threshold for species without one of their own: from theirs, where they are enough."""
    found = threshold(chosen[rest], weights[rest], missed)
    return threshold(chosen, weights, missed) if found is None else found


def threshold(
    chosen: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], missed: float
) -> float | None:
    """The highest threshold below which no more than `missed` of a new frame's true probability
    falls; None where so few cannot tell.

    The quantile with the correction for a finite sample (Vovk et al. 2005): of n events at most
    missed x (n + 1) - 1 may lie below.

    Args:
        chosen: float64 (n,), probabilities of the truth.
        weights: float64 (n,), of each row; an event's add up to one.
    """
    allowed = missed * (weights.sum() + 1) - 1
    if allowed < 0:
        return None
    values, place = np.unique(chosen, return_inverse=True)
    below = np.concatenate([[0.0], np.cumsum(np.bincount(place, weights))[:-1]])
    return float(values[np.flatnonzero(below <= allowed + 1e-9)[-1]])


def event_weights(groups: Ints) -> npt.NDArray[np.float64]:
    """float64 (n,): one shared by the rows of each event."""
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / counts[place], np.float64)


def coverage_figures(
    truth: Names,
    probabilities: Floats,
    names: Sequence[str],
    groups: Ints,
    thresholds: Floats | None,
    coverage: float | None,
) -> dict[str, Any] | None:
    """How often the sets of held-out media hold the truth, as JSON values; None without sets.

    Media of species that the model does not know are counted, and left out of everything else: no
    set can hold them.

    Args:
        truth: species (n,).
        probabilities: float32 (n, k).
        names: what the list calls the species of each column; may repeat.
        groups: int64 (n,), events; an event counts as one in every share.
    """
    if thresholds is None or coverage is None:
        return None
    inside, names_array = in_set(probabilities, thresholds), np.array(names, np.str_)
    hit = (inside & (truth[:, None] == names_array)).any(axis=1)
    known = np.isin(truth, names_array)
    sizes = inside.sum(axis=1)
    figures: dict[str, Any] = {
        "coverage": coverage,
        "media": int(known.sum()),
        "unknown_species": int((~known).sum()),
        **_measured(hit, sizes, groups, known),
        "by_species": {},
    }
    for species in sorted(set(truth[known].tolist())):
        rows = truth == species
        count = {"media": int(rows.sum())}
        figures["by_species"][species] = count | _measured(hit, sizes, groups, rows)
    return figures


def _measured(hit: Bools, sizes: npt.NDArray[np.intp], groups: Ints, rows: Bools) -> dict[str, Any]:
    if not rows.any():
        return {"measured": None, "mean_size": None, "events": 0}
    weights = event_weights(groups[rows])
    return {
        "measured": float(np.average(hit[rows], weights=weights)),
        "mean_size": float(np.average(sizes[rows], weights=weights)),
        "events": len(np.unique(groups[rows])),
    }
