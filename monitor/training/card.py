"""The model card: what a model knows, from what, how well, and why it went live or not.

`build_card` gives JSON values, `card_page` the same facts for a person at the station.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import monitor
from monitor.domain import iso_utc
from monitor.log.learning import LabelledMedia, SplitRow
from monitor.training.dataset import Plan
from monitor.training.evaluate import Evaluation
from monitor.training.gate import Verdict
from monitor.training.head import FittedHead
from monitor.training.split import DEPLOYMENT, EVENT


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Of one training: when, for how long, why, with what seed and backbone."""

    started_at: datetime
    seconds: float
    trigger: str
    seed: int
    backbone: str


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
        "method": "head",
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
            "epochs": fitted.epochs,
            "validation_media": fitted.validation_media,
            "validation_nll": fitted.validation_nll,
            "temperature": fitted.head.temperature,
            "seed": circumstances.seed,
        },
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


def card_page(card: dict[str, Any]) -> str:
    """The card as Markdown."""
    verdict = "It went live" if card["accepted"] else "It did not go live"
    parts = [
        f"# Model {card['version']}",
        f"Trained {card['trained_at']} in {card['seconds']:.0f} s ({card['trigger']}).",
        f"**{verdict}**: {card['reason']}.",
        *card["notes"],
        "## What it knows",
        _species_table(card),
        _not_learnt(card),
        "## How it was judged",
        _judged(card),
        _figures_table(card),
        "## What was taken for what",
        "Rows: what people said. Columns: what the model said, in the same order.",
        _confusion(card["held_out"]),
        "## How it was made",
        _made(card),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(c.replace("|", r"\|") for c in row) + " |" for row in lines)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _species_table(card: dict[str, Any]) -> str:
    figures = {row["species"]: row for row in card["held_out"]["species"]}
    rows = []
    for species in card["classes"]:
        row = figures[species]
        rows.append(
            [
                species,
                f"{card['labels'][species]} ({card['label_events'][species]})",
                str(row["support"]),
                _share(row["recall"]),
                _share(row["precision"]),
            ]
        )
    head = ["species", "labels (events)", "held-out frames", "recall", "precision"]
    return _table(head, rows)


def _not_learnt(card: dict[str, Any]) -> str:
    lines = [
        f"- {row['species']}: {row['labels']} of {row['needed']} labels, "
        f"{row['needed'] - row['labels']} more needed"
        + (f" ({row['held_out']} are held out and never trained on)" if row["held_out"] else "")
        for row in card["not_yet_learnt"]
    ]
    left = [f"- {count} frames left out: {why}" for why, count in card["left_out"].items()]
    if lines:
        lines = ["Not yet learnt:", "", *lines, ""]
    return "\n".join(lines + left).strip()


def _judged(card: dict[str, Any]) -> str:
    split = card["split"]
    whole = ", ".join(split["held_out_deployments"]) or "none"
    text = (
        f"On {split['held_out_media']} frames ({split['held_out_events']} events) that are never "
        f"trained on; it learnt from {split['train_media']} others. "
        f"Deployments held out whole: {whole}."
    )
    if split["deployments_split_by_event"]:
        shared = ", ".join(split["deployments_split_by_event"])
        text += (
            f" Split by event, so that the model knows the place already and the figures flatter "
            f"it: {shared}."
        )
    return text


def _figures_table(card: dict[str, Any]) -> str:
    models = [(f"{card['version']} (this)", card["held_out"])]
    if card["champion"]:
        models.append((f"{card['champion']['version']} (live then)", card["champion"]["held_out"]))
    rows = [
        (label, [show(figures[key]) for _, figures in models])
        for label, key, show in (
            ("accuracy", "accuracy", _share),
            ("mean recall per species", "macro_recall", _share),
            ("negative log-likelihood of species it knows", "nll", _number),
            ("calibration error (0 is perfect)", "ece", _number),
        )
    ]
    return _table(["", *(name for name, _ in models)], [[label, *cells] for label, cells in rows])


def _confusion(held_out: dict[str, Any]) -> str:
    """A plain text table; species that neither side named are left out."""
    names, matrix = held_out["names"], held_out["confusion"]
    used = [i for i in range(len(names)) if any(matrix[i]) or any(row[i] for row in matrix)]
    if not used:
        return "Nothing was held out."
    wide = max(len(names[i]) for i in used)
    cell = max(len(str(matrix[i][j])) for i in used for j in used) + 1
    lines = [
        names[i].ljust(wide) + " " + "".join(str(matrix[i][j]).rjust(cell) for j in used)
        for i in used
    ]
    return "\n".join(["```", *lines, "```"])


def _made(card: dict[str, Any]) -> str:
    fit, versions = card["fit"], card["versions"]
    return (
        f"- backbone {card['backbone']}, features {card['layout']}, method {card['method']}\n"
        f"- L2 strength {fit['strength']:g}, {fit['epochs']} epochs, temperature "
        f"{fit['temperature']:.2f} "
        f"(chosen on {fit['validation_media']} media of the training side)\n"
        f"- seed {fit['seed']}, trapwatch {versions['trapwatch']}, {versions['engine']}"
    )
