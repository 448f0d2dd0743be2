"""One training run: from labels to a version on disk that is live, or rejected with the reason."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from monitor.classifier import Floats, Head
from monitor.config import Settings
from monitor.domain import ModelState, RunState, TrapwatchError
from monitor.log.features import FeatureStore
from monitor.log.species_log import SpeciesLog
from monitor.models import ModelStore
from monitor.training.card import Circumstances, build_card, card_page
from monitor.training.champion import Champion, answers_of, find_champion, todays_name
from monitor.training.dataset import Dataset, Plan, build_dataset, plan_learning
from monitor.training.evaluate import Evaluation
from monitor.training.gate import Verdict, decide, majority_baseline
from monitor.training.head import FitOptions, FittedHead, fit_head
from monitor.training.split import assign_sides

ComputeMissing = Callable[[Sequence[int]], Mapping[str, Floats]]
Progress = Callable[[str, float], None]
COMPUTE_AT_ONCE = 64
"""Media whose features are computed between two writes to the cache: what a kill can cost."""
SHARE_OF_FEATURES = 0.6
SHARE_OF_FIT = 0.3
logger = logging.getLogger(__name__)


class TrainingError(TrapwatchError):
    """There is not enough to learn from yet; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """What a training came to: a version that is live (`accepted`) or rejected, and why."""

    version: str | None
    accepted: bool
    reason: str
    figures: dict[str, Any]


def train_once(
    log: SpeciesLog,
    features: FeatureStore,
    store: ModelStore,
    settings: Settings,
    compute_missing: ComputeMissing,
    *,
    trigger: str,
    now: Callable[[], datetime],
    progress: Progress,
) -> TrainingOutcome:
    """Train a challenger on all labels, judge it, publish it, and let it go live if it is better.

    The caller holds the training lock: only one process trains.

    Args:
        features: cached features; their layout is the one that is trained on.
        compute_missing: media ids -> {SHA-256: float32 (features.size,)}; media that cannot be
            read may be left out.
        trigger: why, for the log: `schedule`, `cli` …
        now: the time in UTC.
        progress: told the stage and how much of all is done (0-1).

    Raises:
        TrainingError: too little is labelled; the message says what is missing.
        ModelError: the version cannot be written.
    """
    run_id = log.start_run(settings.training.method, trigger, os.getpid(), now())
    reporter = _Reporter(log, run_id, progress)
    try:
        run = _Run(log, features, store, settings, compute_missing, trigger, now, reporter)
        outcome = run.train()
        log.finish_run(run_id, RunState.SUCCEEDED, outcome.reason, now(), outcome.version)
    except BaseException as error:
        _note_failure(log, run_id, error, now())
        raise
    progress("done", 1.0)
    return outcome


def _note_failure(log: SpeciesLog, run_id: int, error: BaseException, now: datetime) -> None:
    in_words = isinstance(error, TrapwatchError)
    message = str(error) if in_words else f"{type(error).__name__}: {error}".rstrip(": ")
    try:
        log.finish_run(run_id, RunState.FAILED, message, now)
    except Exception:  # the first error is the one to raise
        logger.exception("the failed training run %s could not be noted in the log", run_id)


class _Reporter:
    """Passes progress on; to the log at most once a second, which is a write for each."""

    def __init__(self, log: SpeciesLog, run_id: int, progress: Progress) -> None:
        self._log, self._run_id, self._progress = log, run_id, progress
        self._stage, self._written = "", 0.0

    def __call__(self, stage: str, done: float) -> None:
        self._progress(stage, done)
        moment = time.monotonic()
        if stage != self._stage or moment - self._written >= 1:
            self._log.run_progress(self._run_id, stage, done)
            self._stage, self._written = stage, moment


@dataclass(frozen=True, slots=True)
class _Run:
    log: SpeciesLog
    features: FeatureStore
    store: ModelStore
    settings: Settings
    compute_missing: ComputeMissing
    trigger: str
    now: Callable[[], datetime]
    report: Progress

    def train(self) -> TrainingOutcome:
        """All of it, step by step."""
        started, clock = self.now(), time.monotonic()
        self.store.remove_partials()
        plan = self._plan()
        vectors = self._vectors(plan)
        plan = self._without(plan, vectors)
        dataset = build_dataset(plan, vectors, self.features.size, self.settings.training.seed)
        fitted = self._fit(dataset)
        self.report("judging", SHARE_OF_FEATURES + SHARE_OF_FIT)
        champion = find_champion(self.log, self.store, self.features.layout)
        name = self.store.next_name([row.name for row in self.log.versions()])
        verdict, mine, other = self._judge(name, dataset, fitted.head, champion)
        circumstances = Circumstances(
            started,
            time.monotonic() - clock,
            self.trigger,
            self.settings.training.seed,
            self.settings.classifier.backbone,
        )
        notes = [champion.note] if champion.note else []
        compared = (champion.name, other) if champion.name and other else None
        card = build_card(
            name, plan, self.log.split(), fitted, mine, compared, verdict, circumstances, notes
        )
        self.report("publishing", 0.95)
        sha256 = self.store.publish(name, fitted.head, card, card_page(card))
        return self._register(name, sha256, verdict, champion.name, _figures(card))

    def _plan(self) -> Plan:
        """Who learns and who judges. Sides are written down before anything is trained."""
        training = self.settings.training
        labelled, existing = self.log.labelled(), self.log.split()
        least = training.min_labels_per_species
        new = assign_sides(labelled, existing, training.holdout_fraction, training.seed, least)
        plan = plan_learning(labelled, [*existing, *new], least)
        _check_enough(plan)
        self.log.add_split(new)
        return plan

    def _vectors(self, plan: Plan) -> dict[str, Floats]:
        """Features of the plan's media: from the cache, else computed and kept there."""
        self.report("features", 0.0)
        vectors = self.features.get([m.sha256 for m in plan.media])
        missing = [m.media_id for m in plan.media if m.sha256 not in vectors]
        for start in range(0, len(missing), COMPUTE_AT_ONCE):
            found = self.compute_missing(missing[start : start + COMPUTE_AT_ONCE])
            self.features.put(list(found.items()))
            # rounded as the cache does, so that the same labels give the same head either way
            vectors |= {sha: _as_cached(vector) for sha, vector in found.items()}
            self.report("features", SHARE_OF_FEATURES * start / len(missing))
        return vectors

    def _without(self, plan: Plan, vectors: Mapping[str, Floats]) -> Plan:
        """The plan for those media alone whose features could be had."""
        lost = sum(m.sha256 not in vectors for m in plan.media)
        if not lost:
            return plan
        there = [m for m in self.log.labelled() if m.sha256 in vectors]
        least = self.settings.training.min_labels_per_species
        smaller = plan_learning(there, self.log.split(), least)
        left_out = {**plan.left_out, "their file could not be read": lost}
        smaller = replace(smaller, left_out=left_out)
        _check_enough(smaller)
        return smaller

    def _fit(self, dataset: Dataset) -> FittedHead:
        training, classifier = self.settings.training, self.settings.classifier
        options = FitOptions(
            training.max_epochs, training.seed, classifier.device, classifier.threads
        )

        def report(stage: str, done: float) -> None:
            self.report(stage, SHARE_OF_FEATURES + SHARE_OF_FIT * done)

        report("starting Keras", 0.0)
        return fit_head(dataset, self.features.layout, options, report)

    def _judge(
        self, name: str, dataset: Dataset, head: Head, champion: Champion
    ) -> tuple[Verdict, Evaluation, Evaluation | None]:
        """The verdict, and the figures of the challenger and of the champion."""
        held = dataset.held_out
        mine, evaluation = answers_of(name, head, held, self.log)
        theirs, other = None, None
        if champion.head is not None and champion.name is not None:
            theirs, other = answers_of(champion.name, champion.head, held, self.log)
        gate = self.settings.training.gate
        protected = tuple(todays_name(species, self.log) for species in gate.protected_species)
        verdict = decide(
            held.species,
            mine,
            theirs,
            majority_baseline(dataset.train.species, len(held)),
            held.groups,
            gate.model_copy(update={"protected_species": protected}),
            self.settings.training.seed,
        )
        return verdict, evaluation, other

    def _register(
        self,
        name: str,
        sha256: str,
        verdict: Verdict,
        champion: str | None,
        figures: dict[str, Any],
    ) -> TrainingOutcome:
        """Enter the version in the log, and let it go live if it may."""
        state = ModelState.CANDIDATE if verdict.accepted else ModelState.REJECTED
        backbone, layout = self.settings.classifier.backbone, self.features.layout
        reason, now = verdict.reason, self.now()
        self.log.add_version(name, state, backbone, layout, sha256, reason, figures, now)
        if not verdict.accepted:
            return TrainingOutcome(name, False, reason, figures)
        how = f"training, {self.trigger}"
        changed = self.log.go_live(name, reason, "training", now, how=how, instead_of=champion)
        return TrainingOutcome(name, changed is None, changed or reason, figures)


def _check_enough(plan: Plan) -> None:
    if len(plan.classes) >= 2:
        return
    learnt = ", ".join(plan.classes) or "none"
    lacking = "; ".join(str(row) for row in plan.not_learnt)
    raise TrainingError(
        f"a classifier needs at least two species with enough labels; so far: {learnt}. "
        + (f"Still lacking: {lacking}" if lacking else "Label frames of one more species")
    )


def _as_cached(vector: Floats) -> Floats:
    return np.asarray(vector, np.float16).astype(np.float32)


def _figures(card: dict[str, Any]) -> dict[str, Any]:
    """The part of the card that lists of versions show."""
    held, champion = card["held_out"], card["champion"]
    keys = ("media", "accuracy", "macro_recall", "nll", "ece")
    return {
        "train_media": card["split"]["train_media"],
        "species": len(card["classes"]),
        "held_out": {key: held[key] for key in keys},
        "champion": {key: champion["held_out"][key] for key in keys} if champion else None,
        "gate": card["gate"],
        "seconds": card["seconds"],
    }
