"""May the challenger go live? Only if it is better on media that neither model was trained on.

The difference of the metric is judged by a paired bootstrap over events: frames of one event are
nearly the same picture, so they are drawn together (Efron & Tibshirani 1993). With few events a
percentile interval is too narrow; it is widened as in Hesterberg 2015, "What Teachers Should Know
About the Bootstrap", section 5.1 (t quantile, and n / (n - 1)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.config import Gate
from monitor.training.evaluate import Names

MIN_EVENTS = 3
"""Fewer held-out events than this say nothing of chance."""
METRIC_WORDS = {"accuracy": "accuracy", "macro_recall": "mean recall per species"}

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What one model said of the held-out media.

    Attributes:
        name: of the model, for the reason.
        predicted: species (n,).
        classes: every species it can answer.
    """

    name: str
    predicted: Names
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the challenger goes live, and why.

    Attributes:
        reason: for people, with figures.
        difference: challenger minus champion (or baseline) in the metric; None if not measured.
        interval: (low, high), each bound one-sided at `confidence`.
        figures: the same as JSON values.
    """

    accepted: bool
    reason: str
    difference: float | None = None
    interval: tuple[float, float] | None = None
    figures: dict[str, Any] = field(default_factory=dict)


def majority_baseline(species: Names, n: int) -> Answers:
    """The model that always says the species most often met in training (n answers)."""
    names, counts = np.unique(species, return_counts=True)
    most = str(names[counts.argmax()])
    return Answers(f"always saying '{most}'", np.full(n, most), (most,))


def decide(
    truth: Names,
    challenger: Answers,
    champion: Answers | None,
    baseline: Answers,
    groups: npt.NDArray[np.int64],
    settings: Gate,
    seed: int = 0,
) -> Verdict:
    """Compare on the same held-out media.

    Args:
        truth: species (n,), as people said.
        champion: the live model's answers; None if there is none to compare with.
        baseline: what a first model has to beat.
        groups: event ids (n,).
        seed: of the bootstrap.
    """
    if missing := _what_is_missing(truth, groups, champion):
        return Verdict(False, missing)
    against = champion or baseline
    if np.array_equal(challenger.predicted, against.predicted):
        return Verdict(False, f"no better: it says the same as {against.name} of {_all(truth)}")
    # A first model has nothing to replace: with few events its media are drawn one by one.
    few = len(np.unique(groups)) < MIN_EVENTS
    drawn = np.arange(len(truth)) if few else groups
    pair = (challenger.predicted == truth, against.predicted == truth)
    difference, interval = bootstrap(truth, *pair, drawn, settings, seed)
    words = _measured(truth, pair, against, difference, interval, settings)
    if few:
        words += f"; only {len(np.unique(groups))} held-out event(s), so chance is underestimated"
    objections = _objections(truth, challenger, champion, settings)
    if interval[0] <= 0:
        objections.insert(0, f"no better than {against.name} beyond chance")
    new = _new_species(truth, challenger, champion)
    if new:
        words += f"; it knows {_list(new)}, which {against.name} does not"
    unseen = [s for s in settings.protected_species if s not in truth]
    if unseen:
        words += f"; no held-out media shows the protected {_list(unseen)}, so it was not checked"
    verdict = "; ".join(objections) if objections else f"better than {against.name}"
    figures = {
        "metric": settings.metric,
        "against": against.name,
        "challenger": metric_of(truth, pair[0], settings.metric),
        "champion": metric_of(truth, pair[1], settings.metric),
        "difference": difference,
        "interval": list(interval),
        "confidence": settings.confidence,
        "held_out_media": len(truth),
        "held_out_events": len(np.unique(groups)),
        "new_species": new,
    }
    return Verdict(not objections, f"{verdict}: {words}", difference, interval, figures)


def _what_is_missing(
    truth: Names, groups: npt.NDArray[np.int64], champion: Answers | None
) -> str | None:
    species, events = sorted(set(truth.tolist())), len(np.unique(groups))
    if not species:
        return (
            "no labelled media is held out, so nothing can be compared; "
            "label frames of one more deployment, or of more events"
        )
    if len(species) == 1:
        return (
            f"the {len(truth)} held-out media all show {species[0]}, so nothing can be compared; "
            "label other species at the held-out deployments, or label another deployment"
        )
    if champion is not None and events < MIN_EVENTS:
        return (
            f"the held-out media come from {events} event(s); it takes {MIN_EVENTS} to tell a "
            "better model from chance; label more events at the held-out deployments"
        )
    return None


def metric_of(truth: Names, right: npt.NDArray[np.bool_], metric: str) -> float:
    """The metric of one model: accuracy, or the mean over species of their recall."""
    species = np.unique(truth) if metric == "macro_recall" else [...]
    return float(np.mean([right[truth == s if metric == "macro_recall" else s].mean() for s in species]))


def bootstrap(
    truth: Names,
    right: npt.NDArray[np.bool_],
    other: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.int64],
    settings: Gate,
    seed: int,
) -> tuple[float, tuple[float, float]]:
    """The metric of `right` minus that of `other`, and its interval over resampled groups.

    Args:
        right, other: bool (n,), whether each model was right.

    Returns:
        difference, (low, high).
    """
    kinds = truth if settings.metric == "macro_recall" else np.full(len(truth), "all")
    _, kind = np.unique(kinds, return_inverse=True)
    _, group = np.unique(groups, return_inverse=True)
    shape = (int(group.max()) + 1, int(kind.max()) + 1)
    support, gain = np.zeros(shape), np.zeros(shape)
    np.add.at(support, (group, kind), 1)
    np.add.at(gain, (group, kind), right.astype(float) - other.astype(float))
    n = shape[0]
    draws = np.random.default_rng(seed).multinomial(
        n, np.full(n, 1 / n), settings.bootstrap_samples
    )
    differences = _mean_gain(draws @ gain, draws @ support)
    tail = _tail(n, settings.confidence)
    low, high = np.quantile(differences, (tail, 1 - tail))
    observed = _mean_gain(gain.sum(0)[None], support.sum(0)[None])[0]
    return float(observed), (float(low), float(high))


def _mean_gain(gain: Floats, support: Floats) -> Floats:
    """Mean over the species that were drawn: (b, k) -> (b,)."""
    drawn = support > 0
    shares = np.divide(gain, support, out=np.zeros_like(gain), where=drawn)
    means: Floats = shares.sum(axis=1) / drawn.sum(axis=1)
    return means


def _tail(n: int, confidence: float) -> float:
    """The quantile of the bootstrap that stands for 1 - confidence, corrected for n groups."""
    t = student_t_quantile(confidence, n - 1)
    return NormalDist().cdf(-t * math.sqrt(n / (n - 1)))


def student_t_quantile(p: float, freedom: int) -> float:
    """Quantile of Student's t, for p > 0.5: exact for 1 and 2 degrees, else Abramowitz & Stegun
    26.7.5 (error below 0.01 at p = 0.9)."""
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


def _objections(
    truth: Names, challenger: Answers, champion: Answers | None, settings: Gate
) -> list[str]:
    """What speaks against the challenger beside the metric over all media."""
    if champion is None:
        return []
    margin, found = settings.protected_margin, []
    for species in settings.protected_species:
        chosen = truth == species
        if chosen.any():
            before, after = (
                float((a.predicted[chosen] == species).mean()) for a in (champion, challenger)
            )
            if before - after > margin:
                found.append(
                    f"the recall of the protected {species} would fall from {before:.2f} to "
                    f"{after:.2f} ({int(chosen.sum())} held-out media, margin {margin:.2f})"
                )
    both = np.isin(truth, [s for s in challenger.classes if s in champion.classes])
    if both.any() and not both.all():
        before, after = (
            metric_of(truth[both], (a.predicted == truth)[both], settings.metric)
            for a in (champion, challenger)
        )
        if before - after > margin:
            found.append(
                f"on the species that both know it is worse: {after:.3f} against {before:.3f} "
                f"(margin {margin:.2f})"
            )
    return found


def _new_species(truth: Names, challenger: Answers, champion: Answers | None) -> list[str]:
    known = champion.classes if champion is not None else challenger.classes
    return [s for s in challenger.classes if s not in known and s in truth]


def _measured(
    truth: Names,
    pair: Sequence[npt.NDArray[np.bool_]],
    against: Answers,
    difference: float,
    interval: tuple[float, float],
    settings: Gate,
) -> str:
    after, before = (metric_of(truth, right, settings.metric) for right in pair)
    return (
        f"{METRIC_WORDS[settings.metric]} {after:.3f} against {before:.3f} of {against.name} on "
        f"{_all(truth)}, difference {difference:+.3f}, at {settings.confidence:.0%} confidence "
        f"above {interval[0]:+.3f}"
    )


def _all(truth: Names) -> str:
    return f"{len(truth)} held-out media"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
