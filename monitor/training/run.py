"""One training run: from labels to a version on disk that is live, or rejected with the reason."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from threadpoolctl import threadpool_limits

from monitor.core.config import Settings
from monitor.core.domain import RunState, TrapwatchError
from monitor.log.engine import LogError
from monitor.log.label_errors import SUSPECTS_KEY
from monitor.log.species_log import SpeciesLog
from monitor.model.backbone.tail import Tail
from monitor.model.versions import ModelStore
from monitor.training.bench import Bench
from monitor.training.card import Circumstances, build_card, figures_of
from monitor.training.card_page import card_page
from monitor.training.card_plots import illustrate
from monitor.training.champion import Champion, answers_of, find_champion, todays_name
from monitor.training.comparison import Answers
from monitor.training.dataset import Dataset, Part, Plan, build_dataset
from monitor.training.evaluate import Evaluation
from monitor.training.finetune import NotTuned
from monitor.training.gate import Verdict, decide, majority_baseline
from monitor.training.gather import (
    Sources,
    TrainingError,
    make_plan,
    unnamed_vectors,
    usable_labels,
)
from monitor.training.head import FittedHead, fit_head
from monitor.training.method import may_fine_tune, tuned_is_better
from monitor.training.mistakes import mistakes_sheet
from monitor.training.outcome import Published, TrainingOutcome, discard, register
from monitor.training.prediction_sets import (
    judged_by,
    promise_figures,
    promise_of_version,
    suspects,
    with_promises,
)
from monitor.training.reporter import Reporter
from monitor.training.similarity import parts_of
from monitor.training.split import is_usable
from monitor.training.tuning import prepare, tune

__all__ = ["Sources", "TrainingError", "TrainingOutcome", "train_once"]
Progress = Callable[[str, float], None]
FEATURES_END, HEAD_END, TUNED_END = 0.3, 0.4, 0.9
"""How much of all is done after each stage, for the progress bar."""
MAY_BE_TOO_SURE = (
    "Its features come from a fine-tuned network that has seen most of these labels already, so "
    "its probabilities may be too sure; the held-out figures below are honest."
)
logger = logging.getLogger(__name__)


def train_once(
    log: SpeciesLog,
    sources: Sources,
    store: ModelStore,
    settings: Settings,
    bench: Bench | None,
    *,
    trigger: str,
    now: Callable[[], datetime],
    progress: Progress,
) -> TrainingOutcome:
    """Train a challenger on all labels, judge it, publish it, and let it go live if it is better.

    The caller holds the training lock: only one process trains.

    Args:
        bench: what fine-tuning works with; None for a backbone that cannot be tuned.
        trigger: why, for the log: `schedule`, `cli` …
        now: the time in UTC.
        progress: told the stage and how much of all is done (0-1).

    Raises:
        TrainingError: too little is labelled; the message says what is missing.
        ModelError: the version cannot be written.
    """
    run_id = log.start_run(settings.training.method, trigger, os.getpid(), now())
    reporter = Reporter(log, run_id, progress)
    try:
        run = _Run(log, sources, store, settings, bench, trigger, now, reporter)
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
    except Exception as second:  # the first error is the one to raise
        told = "the failed training run %s could not be noted in the log: %s"
        logger.error(told, run_id, second, exc_info=not isinstance(second, TrapwatchError))


@dataclass(frozen=True, slots=True, eq=False)
class _Challenger:
    """What was learnt, and the media in the features that it takes."""

    method: str
    fitted: FittedHead
    tail: Tail | None
    dataset: Dataset
    history: tuple[dict[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class _Run:
    log: SpeciesLog
    sources: Sources
    store: ModelStore
    settings: Settings
    bench: Bench | None
    trigger: str
    now: Callable[[], datetime]
    report: Progress

    def train(self) -> TrainingOutcome:
        """All of it, step by step."""
        started, clock = self.now(), time.monotonic()
        self.store.remove_partials()
        labelled = usable_labels(self.log, self.settings)
        usable = [m for m in labelled if is_usable(m)]
        reason = may_fine_tune(self.settings, usable) if self.bench else "no tunable backbone"
        if self.bench is not None and reason is None:
            prepare(self.bench.options)
        champion = find_champion(self.log, self.store, self.sources.kept(None).layout)
        vectors = self.sources.vectors(usable, champion.tail, self._share("features", FEATURES_END))
        plan = make_plan(self.log, self.settings, labelled, vectors)
        dataset = build_dataset(plan, vectors, self.sources.kept(None).size)
        challenger, notes = self._learn(plan, dataset, champion, reason)
        self.report("judging", TUNED_END)
        name = self.store.next_name([row.name for row in self.log.versions()])
        unnamed = unnamed_vectors(self.log, plan, self.sources.kept(challenger.tail))
        data, seen = challenger.dataset, dataset.held_out
        fitted = with_promises(challenger.fitted, data, unnamed, self.settings, challenger.method)
        plan, rows = judged_by(plan, fitted.head, data.held_out, champion, seen, self.log)
        data = replace(data, held_out=data.held_out.where(rows))
        challenger = replace(challenger, fitted=fitted, dataset=data)
        verdict, said, mine, other = self._judge(name, challenger, champion, seen.where(rows))
        circumstances = Circumstances(
            started,
            time.monotonic() - clock,
            self.trigger,
            self.settings.training.seed,
            self.settings.classifier.backbone,
            challenger.method,
            challenger.history,
        )
        notes += [champion.note] if champion.note else []
        compared = (champion.name, other) if champion.name and other else None
        card = build_card(
            name, plan, self.log.split(), fitted, mine, compared, verdict, circumstances, notes
        )
        with threadpool_limits(1):  # see _fit
            card |= promise_figures(data, fitted, unnamed)
        self.report("drawing", 0.92)
        earlier = [(row.name, row.figures) for row in reversed(self.log.versions())]
        mistakes = partial(mistakes_sheet, plan.held_out, said, self.log, self.settings)
        card, files = illustrate(card, earlier, mistakes)
        self.report("publishing", 0.95)
        page = card_page(card)
        sha256 = self.store.publish(name, fitted.head, card, page, files, challenger.tail)
        figures = figures_of(card) | promise_of_version(fitted.head)
        backbone = self.settings.classifier.backbone
        version = Published(name, backbone, fitted.head.layout, sha256, figures)
        try:
            outcome = register(self.log, version, verdict, champion.name, self.trigger, self.now())
        except LogError:
            discard(self.log, self.store, name, self.report)
            raise
        self.log.put_state(SUSPECTS_KEY, suspects(name, plan, fitted), self.now())
        return outcome

    def _learn(
        self, plan: Plan, dataset: Dataset, champion: Champion, reason: str | None
    ) -> tuple[_Challenger, list[str]]:
        """A head on the features of the live model; then fine-tuning, where it is wanted.

        Args:
            dataset: in the features of the live model.
            reason: why fine-tuning is out of the question; None if it is not.
        """
        method = self.settings.training.method
        if reason is not None and method == "finetune":
            raise TrainingError(f"fine-tuning is not possible: {reason}")
        layout = self.sources.kept(champion.tail).layout
        head = _Challenger("head", self._fit(dataset, layout), champion.tail, dataset)
        notes = [MAY_BE_TOO_SURE] if champion.tail is not None else []
        if self.bench is None or (reason is not None and method == "head"):
            return head, notes
        if reason is not None:
            return head, [*notes, f"Only the head was trained: {reason}."]
        try:
            warm, tuned = self._tune(plan, head, champion)
        except NotTuned as error:
            if method == "finetune":
                raise TrainingError(f"fine-tuning is not possible: {error}") from error
            return head, [*notes, f"Only the head was trained: {error}."]
        better, why = tuned_is_better(warm, tuned.fitted, tuned.dataset)
        if method == "auto" and not better:
            return head, [*notes, f"Fine-tuning was tried and left out: {why}."]
        return tuned, [f"Fine-tuned: {why}."]

    def _tune(
        self, plan: Plan, head: _Challenger, champion: Champion
    ) -> tuple[FittedHead, _Challenger]:
        """A head that is warm on the features of the network without a tail, and what it becomes.

        Only with that head can it be compared: another's labels set aside are none, if the tail
        that its features come from has learnt them.
        """
        assert self.bench is not None
        warm, dataset = head.fitted, head.dataset
        if champion.tail is not None:
            frozen = self.sources.vectors(plan.media, None, self._share("features", HEAD_END))
            if any(m.sha256 not in frozen for m in plan.media):
                raise NotTuned("the files of some labelled media cannot be read now")
            dataset = build_dataset(plan, frozen, self.sources.kept(None).size)
            warm = self._fit(dataset, self.sources.kept(None).layout)

        def report(stage: str, done: float) -> None:
            self.report(stage, HEAD_END + (TUNED_END - HEAD_END) * done)

        made = tune(self.bench, plan, dataset, warm, report)
        tuned = _Challenger("finetune", made.fitted, made.tail, made.dataset, made.history)
        return warm, tuned

    def _fit(self, dataset: Dataset, layout: str) -> FittedHead:
        def report(stage: str, done: float) -> None:
            self.report(stage, FEATURES_END + (HEAD_END - FEATURES_END) * done)

        # Two threads of OpenBLAS that wait for each other on busy cores took 145 times as long.
        with threadpool_limits(1):
            return fit_head(dataset, layout, self.settings.training.seed, report, parts_of(layout))

    def _share(self, stage: str, of_all: float) -> Callable[[float], None]:
        return lambda done: self.report(stage, of_all * done)

    def _judge(
        self, name: str, challenger: _Challenger, champion: Champion, seen_by_champion: Part
    ) -> tuple[Verdict, Answers, Evaluation, Evaluation | None]:
        """The verdict, the challenger's answers, and the figures of it and of the champion.

        Args:
            seen_by_champion: the held-out media in the champion's features.
        """
        held = challenger.dataset.held_out
        mine, evaluation = answers_of(name, challenger.fitted.head, held, self.log)
        theirs, other = None, None
        if champion.head is not None and champion.name is not None:
            theirs, other = answers_of(champion.name, champion.head, seen_by_champion, self.log)
        gate = self.settings.training.gate
        protected = tuple(todays_name(species, self.log) for species in gate.protected_species)
        verdict = decide(
            held.species,
            mine,
            theirs,
            majority_baseline(challenger.dataset.train.species, len(held)),
            held.groups,
            gate.model_copy(update={"protected_species": protected}),
            self.settings.training.seed,
        )
        return verdict, mine, evaluation, other
