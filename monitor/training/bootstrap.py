"""How sure a difference between two models is: a paired bootstrap over groups of media.

Frames of one event are nearly the same picture, so whole events are drawn (Efron & Tibshirani
1993, "An Introduction to the Bootstrap"). With few groups a percentile interval is too narrow; it
is widened as in Hesterberg 2015, "What Teachers Should Know About the Bootstrap" (t quantile and
n / (n - 1)).
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from monitor.training.evaluate import Names

Metric = Literal["accuracy", "macro_recall"]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def metric_of(truth: Names, right: Bools, metric: Metric) -> float:
    """The metric of one model: accuracy, or the mean over species of their recall.

    Args:
        truth: species (n,).
        right: bool (n,), whether the model was right.
    """
    if metric == "accuracy":
        return float(right.mean())
    return float(np.mean([right[truth == species].mean() for species in np.unique(truth)]))


def paired_interval(
    truth: Names,
    right: Bools,
    other: Bools,
    groups: npt.NDArray[np.int64],
    metric: Metric,
    confidence: float,
    samples: int,
    seed: int,
) -> tuple[float, float]:
    """One-sided bounds, each at `confidence`, of the metric of `right` minus that of `other`.

    Args:
        truth: species (n,).
        right, other: bool (n,), whether each of the two models was right.
        groups: int64 (n,), what is drawn together; at least two different ones.
        samples: how many resamples.
    """
    kinds = truth if metric == "macro_recall" else np.full(len(truth), "all")
    _, kind = np.unique(kinds, return_inverse=True)
    _, group = np.unique(groups, return_inverse=True)
    shape = (int(group.max()) + 1, int(kind.max()) + 1)
    support, gain = np.zeros(shape), np.zeros(shape)
    np.add.at(support, (group, kind), 1)
    np.add.at(gain, (group, kind), right.astype(float) - other.astype(float))
    n = shape[0]
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), samples)
    differences = _mean_gain(draws @ gain, draws @ support)
    tail = _tail(_worth((support > 0).sum(axis=0)), confidence)
    low, high = np.quantile(differences, (tail, 1 - tail))
    return float(low), float(high)


def _mean_gain(gain: Floats, support: Floats) -> Floats:
    """Mean over the species that were drawn: (b, k) -> (b,)."""
    drawn = support > 0
    shares = np.divide(gain, support, out=np.zeros_like(gain), where=drawn)
    means: Floats = shares.sum(axis=1) / drawn.sum(axis=1)
    return means


def _worth(groups: npt.NDArray[np.int64]) -> int:
    """How many evenly spread groups would tell as much: k^2 / sum(1 / n of each species).

    A species seen in one event weighs as much in a mean over species as one seen in fifty.
    """
    return max(2, int(len(groups) ** 2 / (1 / groups).sum()))


def _tail(n: int, confidence: float) -> float:
    """The quantile of the bootstrap that stands for 1 - confidence, corrected for n groups."""
    t = student_t_quantile(confidence, n - 1)
    return NormalDist().cdf(-t * math.sqrt(n / (n - 1)))


def student_t_quantile(p: float, freedom: int) -> float:
    """Quantile of Student's t: exact for 1 and 2 degrees of freedom, else Abramowitz & Stegun
    26.7.5 (within 0.01 at p = 0.9 and 3 degrees, closer with more)."""
    if freedom == 1:
        return math.tan(math.pi * (p - 0.5))
    if freedom == 2:
        return (2 * p - 1) * math.sqrt(2 / (4 * p * (1 - p)))
    z = NormalDist().inv_cdf(p)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
