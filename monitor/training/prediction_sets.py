"""What is said beside an answer: its species set, `unknown`, and which labels are doubted."""

from __future__ import annotations

from dataclasses import replace
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.core.config import Settings
from monitor.log.sightings import CONFORMAL
from monitor.log.species_log import SpeciesLog
from monitor.model.head import Floats, Head
from monitor.training.champion import Champion, todays_name
from monitor.training.conformal import coverage_figures, promise_of
from monitor.training.dataset import Dataset, Part, Plan
from monitor.training.distance import strange_above, unknown_figures, with_unnamed
from monitor.training.event_labels import SURE, rows_to_judge_by
from monitor.training.head import FittedHead
from monitor.training.label_errors import doubts

Bools = npt.NDArray[np.bool_]
BLANK_LOOKING = "looks blank, and only its event was labelled"
STEPS = 100_000
"""Alternatives are kept with five digits after the point, and so are thresholds, rounded down."""


def with_promises(
    fitted: FittedHead, dataset: Dataset, unnamed: Floats, settings: Settings, method: str
) -> FittedHead:
    """The fitted head with the limits of its sets and of `unknown`.

    Args:
        dataset: the features that `fitted` takes.
        unnamed: float32 (m, d), the same of media without a label; see `with_unnamed`.
        method: after `finetune` the rows that are judged were not learnt from, so that the head
            itself can be asked.
    """
    train = dataset.train
    judged = fitted.judged & (fitted.shares >= SURE)
    if method == "finetune":
        fitted = replace(fitted, strangeness=fitted.head.strangeness(train.features))
    fitted = with_unnamed(replace(fitted, judged=judged), train, unnamed)
    strange = fitted.strangeness
    index = {name: i for i, name in enumerate(dataset.classes)}
    y = np.array([index[name] for name in train.species.tolist()], np.int64)
    promise = promise_of(fitted.aside, y, train.groups, judged, settings.training.coverage)
    head = replace(
        fitted.head,
        thresholds=promise.thresholds if promise else None,
        coverage=promise.coverage if promise else None,
        strange_above=strange_above(
            strange, train.groups, judged, settings.classifier.unknown_share
        ),
    )
    return replace(fitted, head=head)


def promise_figures(dataset: Dataset, fitted: FittedHead, unnamed: Floats) -> dict[str, Any]:
    """The entries of the card: `conformal` (None where nothing is promised), `unknown`, and
    `blank_looking`, how many media of the training side were hardly believed."""
    held, head = dataset.held_out, fitted.head
    probabilities = head.probabilities(held.features)
    return {
        CONFORMAL: coverage_figures(
            held.species,
            probabilities,
            head.classes,
            held.groups,
            head.thresholds,
            head.coverage,
        ),
        "unknown": unknown_figures(dataset, fitted, unnamed),
        "blank_looking": int((fitted.shares < SURE).sum()),
    }


def promise_of_version(head: Head) -> dict[str, Any]:
    """What the log keeps of a version, for whoever reads its predictions; see `log.sightings`."""
    if head.thresholds is None:
        return {CONFORMAL: None}
    lower = np.floor(head.thresholds.astype(np.float64) * STEPS) / STEPS
    thresholds = dict(zip(head.classes, lower.tolist(), strict=True))
    return {CONFORMAL: {"coverage": head.coverage, "thresholds": thresholds}}


def suspects(name: str, plan: Plan, fitted: FittedHead) -> dict[str, Any]:
    """The labels of the training side that look wrong, as the log keeps them."""
    species = [media.species for media in plan.train]
    ids = [media.media_id for media in plan.train]
    found = doubts(fitted.aside, species, fitted.judged, ids, plan.classes)
    return {"version": name, "media": found}


def judged_by(
    plan: Plan, head: Head, held: Part, champion: Champion, seen: Part, log: SpeciesLog
) -> tuple[Plan, Bools]:
    """The plan without the held-out media that say nothing of the models; see `rows_to_judge_by`.

    Args:
        head: the challenger.
        held, seen: the held-out side of the plan in its features, and in the champion's.

    Returns:
        the plan, and which rows of its held-out side stayed: bool (n,).
    """
    opinions = [(head.probabilities(held.features), head.classes)] if len(held) else []
    if champion.head is not None and len(held):
        names = tuple(todays_name(species, log) for species in champion.head.classes)
        opinions.append((champion.head.probabilities(seen.features), names))
    rows = rows_to_judge_by(held, opinions)
    if rows.all():
        return plan, rows
    left_out = {**plan.left_out, BLANK_LOOKING: int((~rows).sum())}
    kept = tuple(compress(plan.held_out, rows))
    return replace(plan, held_out=kept, left_out=left_out), rows
