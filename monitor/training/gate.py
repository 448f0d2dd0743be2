"""May the challenger go live? Only if it is better on media that neither model was trained on.

The metric must rise by more than luck makes it (chance.py), and nothing that counts may be paid
for it (guards.py). What comes out is explained for people in docs/gate.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from monitor.core.config import Gate
from monitor.training.bootstrap import metric_of, paired_interval
from monitor.training.comparison import Answers, Pair, Values
from monitor.training.evaluate import Names
from monitor.training.guards import Check, checks
from monitor.training.permutation_test import ROUNDING, events_needed, fewest, luck

__all__ = ["Answers", "Verdict", "decide", "majority_baseline"]
Kind = Literal["better", "not better", "too little data"]
WORTHWHILE = 0.01
"""A smaller gain that luck may explain is called none; a larger one is worth more labels."""
METRIC_WORDS = {"accuracy": "accuracy", "macro_recall": "mean recall per species"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the challenger goes live, and why.

    Attributes:
        kind: only `better` goes live.
        reason: for people, with figures.
        difference: challenger minus champion (or baseline) in the metric; None if not measured.
        interval: (low, high), each bound one-sided at `confidence`, by a paired bootstrap.
        missing_events, missing_labels: how many more held-out ones would tell a gain of the size
            seen; None unless there is too little data.
        figures: the same as JSON values.
    """

    kind: Kind
    reason: str
    difference: float | None = None
    interval: tuple[float, float] | None = None
    missing_events: int | None = None
    missing_labels: int | None = None
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        return self.kind == "better"


@dataclass(frozen=True, slots=True)
class _Comparison:
    """The metric of both over all held-out media, and what luck has to do with it.

    Attributes:
        gains: float64 (events,), what each event adds to the difference on species that both know.
        certain: what the others add to it: there one model cannot be right, so luck has no say.
        differing: in how many events the two are not equally right.
    """

    after: float
    before: float
    interval: tuple[float, float]
    gains: Values
    certain: float
    luck: float
    differing: int

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
        seed: of the draws.
    """
    pair = Pair(truth, groups, challenger, champion or baseline)
    first = champion is None
    if (verdict := _nothing_to_compare(pair, first, settings)) is not None:
        return _with_counts(verdict, pair)
    compared, drawn = _compare(pair, first, settings, seed)
    found = [] if first else checks(pair, settings, seed)
    verdict = _judge(drawn, compared, [c.objection for c in found if c.objection], settings)
    notes = [check.note for check in found if check.note]
    notes += _notes(pair, first, by_media=drawn is not pair)
    figures = _figures(compared, found, pair, settings)
    verdict = replace(verdict, reason="; ".join([verdict.reason, *notes]), figures=figures)
    return _with_counts(verdict, pair)


def _nothing_to_compare(pair: Pair, first: bool, settings: Gate) -> Verdict | None:
    """The verdict where no comparison can be made at all, or none is needed."""
    species, least = sorted(set(pair.truth.tolist())), fewest(settings.confidence)
    if not species:
        return Verdict(
            "too little data",
            "too little held-out data to tell: no labelled media is held out, so nothing can be "
            "compared; label frames of one more deployment, or of more events",
        )
    if len(species) == 1:
        return Verdict(
            "too little data",
            f"too little held-out data to tell: the {len(pair)} held-out media all show "
            f"'{species[0]}', so nothing can be compared; label other species at the held-out "
            "deployments, or label another deployment",
        )
    if np.array_equal(pair.challenger.predicted, pair.against.predicted):
        same = f"it says the same of all {len(pair)} held-out media as {pair.against.name}"
        return Verdict("not better", f"no better: {same}")
    if not first and pair.events < least:
        return _missing(
            f"too little held-out data to tell: the {len(pair)} held-out media come from "
            f"{pair.events} event(s), and it takes {least} to tell a better model from chance; "
            "label more events at the held-out deployments",
            least - pair.events,
            pair,
        )
    return None


def _compare(pair: Pair, first: bool, settings: Gate, seed: int) -> tuple[_Comparison, Pair]:
    """The comparison, and the pair with what was one piece of evidence in it."""
    metric, drawn = settings.metric, pair
    telling = np.abs(pair.gains(metric)) > ROUNDING
    if first and telling.sum() < fewest(settings.confidence):
        # Media by media: there is no live model yet that it could be worse than.
        drawn = replace(pair, groups=np.arange(len(pair)))
    # The majority names one species: a first model gets no credit for naming the others.
    known = np.full(len(drawn), True) if first else drawn.known_to_both
    gains, rest = (drawn.gains(metric, only) for only in (known, ~known))
    chosen = (drawn.truth, drawn.right, drawn.other, drawn.groups)
    compared = _Comparison(
        metric_of(pair.truth, pair.right, metric),
        metric_of(pair.truth, pair.other, metric),
        paired_interval(*chosen, metric, settings.confidence, settings.bootstrap_samples, seed),
        gains,
        float(rest.sum()),
        luck(gains, seed, float(rest.sum())),
        int(((np.abs(gains) > ROUNDING) | (np.abs(rest) > ROUNDING)).sum()),
    )
    return compared, drawn


def _judge(drawn: Pair, compared: _Comparison, objections: list[str], settings: Gate) -> Verdict:
    """The verdict, without notes and figures."""
    name, shown = drawn.against.name, _measured(drawn, compared, settings)
    seen = compared.difference, compared.interval
    if objections:
        return Verdict(
            "not better", f"no better than {name}: {'; '.join(objections)}; {shown}", *seen
        )
    if compared.difference > ROUNDING and compared.luck <= 1 - settings.confidence + ROUNDING:
        return Verdict("better", f"better than {name}: {shown}", *seen)
    if compared.difference < WORTHWHILE:
        return Verdict("not better", f"no better than {name} beyond chance: {shown}", *seen)
    needed = events_needed(compared.gains, settings.confidence, compared.certain)
    missing = max(1, needed - len(compared.gains))
    lead = f"too little held-out data to tell whether it is better than {name}: {shown}"
    verdict = _missing(lead, missing, drawn)
    return replace(verdict, difference=seen[0], interval=seen[1])


def _missing(reason: str, events: int, pair: Pair) -> Verdict:
    """Too little data: so many more events, and as many labels as such events hold."""
    labels = round(events * len(pair) / pair.events)
    words = f"about {_rounded(events)} more held-out events ({_rounded(labels)} labels) would tell"
    return Verdict(
        "too little data", f"{reason}; {words}", missing_events=events, missing_labels=labels
    )


def _rounded(count: int) -> str:
    """Two digits are all that an estimate is worth."""
    return f"{int(float(f'{count:.2g}')):,}"


def _measured(pair: Pair, compared: _Comparison, settings: Gate) -> str:
    return (
        f"{METRIC_WORDS[settings.metric]} {compared.after:.3f} against {compared.before:.3f} of "
        f"{pair.against.name} on {len(pair)} held-out media, "
        f"difference {compared.difference:+.3f}; by luck alone so much or more in "
        f"{_percent(compared.luck)} of cases ({_percent(1 - settings.confidence)} allowed), "
        f"as they differ in {compared.differing} events"
    )


def _percent(share: float) -> str:
    return "less than 0.1%" if share < 0.001 else f"{100 * share:.2g}%"


def _notes(pair: Pair, first: bool, by_media: bool) -> list[str]:
    """What a person should know beside the figures."""
    if by_media:
        few = f"too few of the {pair.events} held-out event(s) differ"
        return [f"judged frame by frame, as {few}: take it with caution"]
    shown = set(pair.truth.tolist())
    new = sorted(shown & set(pair.challenger.classes) - set(pair.against.classes))
    if first or not new:
        return []
    return [f"{pair.against.name} does not know {', '.join(new)} and is wrong on it"]


def _figures(
    compared: _Comparison, found: list[Check], pair: Pair, settings: Gate
) -> dict[str, Any]:
    return {
        "metric": settings.metric,
        "against": pair.against.name,
        "challenger_metric": compared.after,
        "against_metric": compared.before,
        "difference": compared.difference,
        "interval": list(compared.interval),
        "confidence": settings.confidence,
        "luck": compared.luck,
        "gain_on_species_of_one": compared.certain,
        "differing_events": compared.differing,
        "checks": {check.name: check.figures for check in found if check.figures},
        "objections": [check.objection for check in found if check.objection],
    }


def _with_counts(verdict: Verdict, pair: Pair) -> Verdict:
    figures = {
        "verdict": verdict.kind,
        "missing_events": verdict.missing_events,
        "missing_labels": verdict.missing_labels,
        "held_out_media": len(pair),
        "held_out_events": pair.events,
    }
    return replace(verdict, figures={**verdict.figures, **figures})
