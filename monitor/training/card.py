"""The model card as JSON values: what a model knows, from what, how well, and why it went live or
not. `card_page` tells the same to a person at the station.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np

import monitor
from monitor.core.domain import iso_utc
from monitor.log.learning import LabelledMedia, SplitRow
from monitor.training.dataset import NotLearnt, Plan
from monitor.training.evaluate import Evaluation
from monitor.training.gate import Verdict
from monitor.training.head import FittedHead
from monitor.training.split import DEPLOYMENT, EVENT


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Of one training: when, for how long, why, and how; `history` has a row for each epoch."""

    started_at: datetime
    seconds: float
    trigger: str
    seed: int
    backbone: str
    method: str
    history: tuple[dict[str, float], ...] = ()


def build_card(
    name: str,
    plan: Plan,
    split: Sequence[SplitRow],
    fitted: FittedHead,
    evaluation: Evaluation,
    champion: tuple[str, Evaluation] | None,
    verdict: Verdict,
    circumstances: Circumstances,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Everything worth knowing of a version, as JSON values.

    Args:
        champion: name and figures of the live model on the same held-out media.
        notes: what else a person should be told.
    """
    labels = Counter(media.species for media in plan.train)
    events = {s: len({m.event_id for m in plan.train if m.species == s}) for s in plan.classes}
    return {
        "version": name,
        "trained_at": iso_utc(circumstances.started_at),
        "seconds": round(circumstances.seconds, 1),
        "trigger": circumstances.trigger,
        "method": circumstances.method,
        "history": list(circumstances.history),
        "backbone": circumstances.backbone,
        "layout": fitted.head.layout,
        "classes": list(plan.classes),
        "labels": {species: labels[species] for species in plan.classes},
        "label_events": events,
        "not_yet_learnt": [asdict(row) for row in plan.not_learnt],
        "left_out": dict(plan.left_out),
        "split": _split(plan, split),
        "fit": {
            "strength": fitted.strength,
            "tried": [list(pair) for pair in fitted.tried],
            "steps": fitted.steps,
            "folds": len(np.unique(fitted.folds)),
            "judged_media": int(fitted.judged.sum()),
            "aside_nll": fitted.aside_nll,
            "temperature": fitted.head.temperature,
            "seed": circumstances.seed,
        },
        "learning": learning_rows(plan, evaluation, champion[1] if champion else None),
        "held_out": evaluation.to_json(),
        "champion": {"version": champion[0], "held_out": champion[1].to_json()}
        if champion
        else None,
        "accepted": verdict.accepted,
        "reason": verdict.reason,
        "gate": verdict.figures,
        "notes": list(notes),
        "versions": {"trapwatch": monitor.__version__, "engine": fitted.engine},
    }


def learning_rows(
    plan: Plan, evaluation: Evaluation, champion: Evaluation | None
) -> list[dict[str, Any]]:
    """What the labels of each species have taught: JSON values, by name.

    `gained` is its recall less that of the champion on the same held-out media; None where there
    was no champion, or no held-out media shows it. A species that is not `known` is not yet learnt.
    """
    learnt = Counter(media.species for media in plan.train)
    lacking = {row.species: row for row in plan.not_learnt}
    figures = {row.species: row for row in evaluation.species}
    rows = []
    for name in sorted({*plan.classes, *lacking}):
        judged = figures.get(name)
        recall = judged.recall if judged else None
        before = champion.recall_of(name) if champion else None
        rows.append(
            {
                "species": name,
                "known": name in plan.classes,
                "training_labels": lacking[name].labels if name in lacking else learnt[name],
                "held_out": judged.support if judged else 0,
                "held_out_events": judged.events if judged else 0,
                "recall": recall,
                "recall_interval": judged.recall_interval if judged else None,
                "labels_until_learnt": _missing(lacking.get(name)),
                "gained": None if recall is None or before is None else recall - before,
            }
        )
    return rows


def _missing(row: NotLearnt | None) -> int:
    return max(0, row.needed - row.labels) if row is not None else 0


def _split(plan: Plan, split: Sequence[SplitRow]) -> dict[str, Any]:
    units = {row.media_id: row.unit for row in split}

    def sites(media: Sequence[LabelledMedia], unit: str) -> list[str]:
        return sorted({m.deployment for m in media if units[m.media_id] == unit})

    return {
        "train_media": len(plan.train),
        "held_out_media": len(plan.held_out),
        "held_out_events": len({m.event_id for m in plan.held_out}),
        "train_deployments": sorted({m.deployment for m in plan.train}),
        "held_out_deployments": sites(plan.held_out, DEPLOYMENT),
        "deployments_split_by_event": sites(plan.held_out, EVENT),
    }


def figures_of(card: dict[str, Any]) -> dict[str, Any]:
    """The part of the card that the log keeps: what lists of versions and `status` show."""
    held, champion = card["held_out"], card["champion"]
    keys = ("media", "accuracy", "macro_recall", "nll", "ece")
    by_event = ("events", "event_accuracy", "event_interval", "false_alarms", "missed")
    return {
        "train_media": card["split"]["train_media"],
        "species": len(card["classes"]),
        "held_out": {key: held[key] for key in keys + by_event},
        "champion": {key: champion["held_out"][key] for key in keys} if champion else None,
        "learning": card["learning"],
        "gate": card["gate"],
        "seconds": card["seconds"],
    }
