"""May the challenger go live? Only if it is better on media that neither model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.config import Gate
from monitor.training.bootstrap import metric_of, paired_interval
from monitor.training.evaluate import Names

MIN_EVENTS = 3
"""Fewer held-out events than this cannot tell a better model from chance."""
METRIC_WORDS = {"accuracy": "accuracy", "macro_recall": "mean recall per species"}


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


@dataclass(frozen=True, slots=True)
class _Comparison:
    """The metric of both, over all held-out media."""

    after: float
    before: float
    interval: tuple[float, float]

    @property
    def difference(self) -> float:
        return self.after - self.before


def majority_baseline(species: Names, n: int) -> Answers:
    """The model that always says what was met most often in training, for n media."""
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
    """Compare on the same held-out media. A species that a model does not know counts as wrong.

    Args:
        truth: species (n,), as people said.
        champion: the live model's answers; None if there is none to compare with.
        baseline: what a first model has to beat.
        groups: event ids (n,).
        seed: of the bootstrap.
    """
    against = champion or baseline
    if missing := _what_is_missing(truth, groups, champion):
        return Verdict(False, missing)
    if np.array_equal(challenger.predicted, against.predicted):
        same = f"it says the same of all {len(truth)} held-out media as {against.name}"
        return Verdict(False, f"no better: {same}")
    compared = _compare(truth, challenger, against, groups, settings, seed)
    chance = compared.interval[0] <= 1e-9  # what sums of fractions leave of a zero
    objections = [f"no better than {against.name} beyond chance"] if chance else []
    if champion is not None:
        objections += _protected_losses(truth, challenger, champion, settings)
        objections += _loss_on_shared(truth, challenger, champion, settings)
    sayings = "; ".join(objections) or f"better than {against.name}"
    notes = [_measured(truth, compared, against, settings)]
    notes += _notes(truth, challenger, champion, groups, settings)
    figures = _figures(truth, compared, against, groups, settings)
    return Verdict(
        not objections,
        f"{sayings}: {'; '.join(notes)}",
        compared.difference,
        compared.interval,
        figures,
    )


def _what_is_missing(
    truth: Names, groups: npt.NDArray[np.int64], champion: Answers | None
) -> str | None:
    species, events = sorted(set(truth.tolist())), _count(groups)
    if not species:
        return (
            "no labelled media is held out, so nothing can be compared; "
            "label frames of one more deployment, or of more events"
        )
    if len(species) == 1:
        return (
            f"the {len(truth)} held-out media all show '{species[0]}', so nothing can be compared; "
            "label other species at the held-out deployments, or label another deployment"
        )
    if champion is not None and events < MIN_EVENTS:
        return (
            f"the held-out media come from {events} event(s), and it takes {MIN_EVENTS} to tell a "
            "better model from chance; label more events at the held-out deployments"
        )
    return None


def _compare(
    truth: Names,
    challenger: Answers,
    against: Answers,
    groups: npt.NDArray[np.int64],
    settings: Gate,
    seed: int,
) -> _Comparison:
    right, other = challenger.predicted == truth, against.predicted == truth
    # Only a first model gets here with so few events: there is nothing that it could make worse.
    drawn = groups if _count(groups) >= MIN_EVENTS else np.arange(len(truth))
    metric, samples = settings.metric, settings.bootstrap_samples
    return _Comparison(
        metric_of(truth, right, metric),
        metric_of(truth, other, metric),
        paired_interval(truth, right, other, drawn, metric, settings.confidence, samples, seed),
    )


def _protected_losses(
    truth: Names, challenger: Answers, champion: Answers, settings: Gate
) -> list[str]:
    found = []
    for species in settings.protected_species:
        chosen = truth == species
        if not chosen.any():
            continue
        before, after = (
            float((model.predicted[chosen] == species).mean()) for model in (champion, challenger)
        )
        if before - after > settings.protected_margin:
            found.append(
                f"the recall of the protected {species} would fall from {before:.2f} to "
                f"{after:.2f} ({int(chosen.sum())} held-out media, "
                f"margin {settings.protected_margin:.2f})"
            )
    return found


def _loss_on_shared(
    truth: Names, challenger: Answers, champion: Answers, settings: Gate
) -> list[str]:
    """New species must not be paid for with those that the live model knows already."""
    shared = np.isin(truth, sorted(set(challenger.classes) & set(champion.classes)))
    if shared.all() or not shared.any():
        return []
    before, after = (
        metric_of(truth[shared], (model.predicted == truth)[shared], settings.metric)
        for model in (champion, challenger)
    )
    if before - after <= settings.protected_margin:
        return []
    return [
        f"on the species that both know it is worse, {after:.3f} against {before:.3f} "
        f"({int(shared.sum())} held-out media, margin {settings.protected_margin:.2f})"
    ]


def _measured(truth: Names, compared: _Comparison, against: Answers, settings: Gate) -> str:
    return (
        f"{METRIC_WORDS[settings.metric]} {compared.after:.3f} against {compared.before:.3f} of "
        f"{against.name} on {len(truth)} held-out media, difference {compared.difference:+.3f}, "
        f"with {settings.confidence:.0%} confidence above {compared.interval[0]:+.3f}"
    )


def _notes(
    truth: Names,
    challenger: Answers,
    champion: Answers | None,
    groups: npt.NDArray[np.int64],
    settings: Gate,
) -> list[str]:
    """What a person should know beside the figures."""
    notes = []
    if champion is not None:
        new = [s for s in challenger.classes if s not in champion.classes and s in truth]
        if new:
            notes.append(f"{champion.name} does not know {', '.join(new)} and is wrong on it")
    if _count(groups) < MIN_EVENTS:
        notes.append(f"the media come from only {_count(groups)} event(s): take it with caution")
    unseen = [s for s in settings.protected_species if s not in truth]
    if champion is not None and unseen:
        notes.append(f"no held-out media shows the protected {', '.join(unseen)}: not checked")
    return notes


def _figures(
    truth: Names,
    compared: _Comparison,
    against: Answers,
    groups: npt.NDArray[np.int64],
    settings: Gate,
) -> dict[str, Any]:
    return {
        "metric": settings.metric,
        "against": against.name,
        "challenger_metric": compared.after,
        "against_metric": compared.before,
        "difference": compared.difference,
        "interval": list(compared.interval),
        "confidence": settings.confidence,
        "held_out_media": len(truth),
        "held_out_events": _count(groups),
    }


def _count(groups: Sequence[int] | npt.NDArray[np.int64]) -> int:
    return len(np.unique(groups))
