"""What a better metric must not be paid with: blanks, protected species, known species, trust.

A loss counts when it is larger than its margin and larger than luck often makes it: with three
held-out blanks one more false alarm is a third of them, and says nothing. Luck is measured as for
the metric (chance.py), but a guard speaks up much earlier: one chance in four is enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from monitor.core.config import Gate
from monitor.core.domain import BLANK
from monitor.training.comparison import Answers, Bools, Pair, Values
from monitor.training.permutation_test import ROUNDING, luck, signs

GUARD_LUCK = 0.25
"""A loss that equal models show more seldom than this stops the challenger."""
STEPS = 5
"""Bins of the calibration error here: with 15, as in the card, few media leave most bins empty."""


@dataclass(frozen=True, slots=True)
class Check:
    """One guard's finding.

    Attributes:
        objection: why the challenger must not go live; None if it may.
        note: what a person should know all the same; None if nothing.
        figures: before, after, media, events, margin, luck.
    """

    name: str
    objection: str | None = None
    note: str | None = None
    figures: dict[str, Any] | None = None


def checks(pair: Pair, settings: Gate, seed: int) -> list[Check]:
    """Everything that is looked at beside the metric, against a live model."""
    found = [false_alarms(pair, settings.false_alarm_margin, seed)]
    found += [
        protected(pair, species, settings.protected_margin, seed)
        for species in settings.protected_species
    ]
    return [
        *found,
        shared_species(pair, settings, seed),
        calibration(pair, settings.calibration_margin, seed),
        *forgotten(pair, settings),
    ]


def false_alarms(pair: Pair, margin: float, seed: int) -> Check:
    """Held-out blanks that are called an animal."""
    name, blanks = "false alarms", pair.of(BLANK)
    if not len(blanks):
        known = BLANK in {*pair.challenger.classes, *pair.against.classes}
        unseen = "no held-out media is blank: false alarms not checked"
        return Check(name, note=unseen if known else None)
    before, after = 1 - float(blanks.other.mean()), 1 - float(blanks.right.mean())
    return _weigh(
        name,
        f"false alarms on held-out blanks would rise from {before:.2f} to {after:.2f}",
        (before, after),
        blanks,
        _lost(blanks),
        margin,
        seed,
    )


def protected(pair: Pair, species: str, margin: float, seed: int) -> Check:
    """The recall of one protected species. Losing all of it is never put down to luck."""
    name, shown = f"recall of {species}", pair.of(species)
    forgotten = species in set(pair.against.classes) - set(pair.challenger.classes)
    if forgotten:
        return Check(name, f"it no longer knows the protected {species}")
    if not len(shown):
        return Check(name, note=f"no held-out media shows the protected {species}: not checked")
    before, after = float(shown.other.mean()), float(shown.right.mean())
    words = f"the recall of the protected {species} would fall from {before:.2f} to {after:.2f}"
    return _weigh(
        name,
        words,
        (before, after),
        shown,
        _lost(shown),
        margin,
        seed,
        certain=after == 0 < before,
    )


def shared_species(pair: Pair, settings: Gate, seed: int) -> Check:
    """New species must not be paid for with those that the live model knows already."""
    name = "species that both know"
    known = pair.where(pair.known_to_both)
    if len(known) in (0, len(pair)):  # nothing to compare, or the whole comparison
        return Check(name)
    lost = -known.gains(settings.metric)
    weights = known.weights(settings.metric)
    before, after = (float(weights @ model) for model in (known.other, known.right))
    words = f"on the species that both know it is worse, {after:.3f} against {before:.3f}"
    return _weigh(name, words, (before, after), known, lost, settings.protected_margin, seed)


def calibration(pair: Pair, margin: float, seed: int) -> Check:
    """Whether its probabilities mean less than those of the live model.

    The expected calibration error is high on few media whatever the model, but alike for both. To
    see what luck makes of the difference, the two models change places in events at random.
    A proper score (Brier, log-likelihood) would not do: being right more often hides in it that
    a model became too sure of itself.
    """
    name, known = "calibration", pair.where(pair.known_to_both)
    mine, theirs = known.challenger.confidence, known.against.confidence
    if mine is None or theirs is None or not len(known):
        return Check(name)
    new = known.by_event(_gaps(known.challenger, known.right))
    old = known.by_event(_gaps(known.against, known.other))
    after, before = _error(new.sum(axis=0)), _error(old.sum(axis=0))
    words = f"its probabilities would mean less: calibration error {after:.2f}, not {before:.2f}"
    drawn = signs(len(new), seed)
    moved, whole = drawn @ (new - old) / 2, (new + old).sum(axis=0) / 2
    rises = _error(whole + moved) - _error(whole - moved)
    chance = float((rises >= after - before - ROUNDING).mean())
    return _finding(name, words, (before, after), known, after - before, margin, chance)


def forgotten(pair: Pair, settings: Gate) -> list[Check]:
    """Species that the live model knows and the challenger does not; the metric counts them as
    wrong where held-out media show them."""
    lost = set(pair.against.classes) - set(pair.challenger.classes) - {*settings.protected_species}
    found = []
    for species in sorted(lost):
        count = int((pair.truth == species).sum())
        cost = f"wrong on its {count} held-out media" if count else "no held-out media shows it"
        words = f"it no longer knows {species}, which {pair.against.name} does: {cost}"
        found.append(Check(f"forgotten {species}", note=words))
    return found


def _lost(pair: Pair) -> Values:
    """The share of all these media that the challenger loses in each event."""
    return -pair.gains("accuracy")


def _gaps(answers: Answers, right: Bools) -> Values:
    """Right minus confidence of each media, in the column of its bin, as a share: (n, STEPS)."""
    assert answers.confidence is not None
    sure = answers.confidence.astype(float)
    gaps = np.zeros((len(sure), STEPS))
    column = np.clip((sure * STEPS).astype(int), 0, STEPS - 1)
    gaps[np.arange(len(sure)), column] = (right - sure) / len(sure)
    return gaps


def _error(gaps: Values) -> Any:
    """Expected calibration error of summed gaps: (…, STEPS) -> (…)."""
    return np.abs(gaps).sum(axis=-1)


def _weigh(
    name: str,
    words: str,
    shares: tuple[float, float],
    pair: Pair,
    lost: Values,
    margin: float,
    seed: int,
    certain: bool = False,
) -> Check:
    chance = 0.0 if certain else luck(lost, seed)
    return _finding(name, words, shares, pair, float(lost.sum()), margin, chance)


def _finding(
    name: str,
    words: str,
    shares: tuple[float, float],
    pair: Pair,
    loss: float,
    margin: float,
    chance: float,
) -> Check:
    media, events = len(pair), pair.events
    figures = {
        "before": shares[0],
        "after": shares[1],
        "media": media,
        "events": events,
        "margin": margin,
        "luck": chance,
    }
    if loss <= margin + ROUNDING:
        return Check(name, figures=figures)
    seen = f"{words} ({media} held-out media of {events} event(s), margin {margin:.2f})"
    if chance <= GUARD_LUCK:
        return Check(name, objection=seen, figures=figures)
    return Check(name, note=f"{seen}, which may well be luck", figures=figures)
