"""Does my work teach it? For each species: its labels, what the live model makes of it, and how
many labels are missing."""

from __future__ import annotations

from typing import Any

from monitor.core.config import Training
from monitor.core.domain import UNKNOWN
from monitor.log.learning import LabelCount
from monitor.log.species import UnknownSpecies
from monitor.log.species_log import SpeciesLog
from monitor.log.versions import VersionRow

MOST_LINES = 10


def learning_of(
    log: SpeciesLog, settings: Training, live: VersionRow | None
) -> list[dict[str, Any]]:
    """One row a species that has a label, or that the live model knows, by name: JSON values.

    `labels` are media that show the species alone; of these, `training_labels` may be learnt from
    and `held_out` are only judged by. `recall` (0-1) with its 95 % interval is the live model's on
    the held-out media of its training, and `gained` what that training added to it: None where
    there was nothing to compare with. `labels_until_learnt` is 0 where the labels suffice.
    """
    counts = {row.species: row for row in log.labels_by_side() if row.species != UNKNOWN}
    judged = _judged(log, live)
    nothing = LabelCount("", 0, 0, 0)
    names = sorted(counts.keys() | judged.keys())
    return [_row(name, counts.get(name, nothing), judged.get(name, {}), settings) for name in names]


def _judged(log: SpeciesLog, live: VersionRow | None) -> dict[str, dict[str, Any]]:
    """The live model's figures by today's names; older versions have none."""
    rows = live.figures.get("learning", []) if live is not None else []
    return {_todays_name(log, row["species"]): row for row in rows}


def _todays_name(log: SpeciesLog, name: str) -> str:
    try:
        return log.species_named(name)
    except UnknownSpecies:
        return name


def _row(
    name: str, count: LabelCount, judged: dict[str, Any], settings: Training
) -> dict[str, Any]:
    training = count.labels - count.held_out
    return {
        "species": name,
        "labels": count.labels,
        "training_labels": training,
        "held_out": count.held_out,
        "known": bool(judged.get("known")),
        "recall": judged.get("recall"),
        "recall_interval": judged.get("recall_interval"),
        "labels_until_learnt": max(0, settings.min_labels_per_species - training),
        "gained": judged.get("gained"),
    }


def learning_lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The same for people, in a few lines: (what, how it stands).

    Args:
        facts: with `learning` and `labels_until_training` of `status_of`.
    """
    rows, until = facts["learning"], facts["labels_until_training"]
    lacking = [row for row in rows if row["labels_until_learnt"]]
    known = [row for row in rows if row["known"]]
    waiting = [r for r in rows if not r["known"] and not r["labels_until_learnt"]]
    words = [f"{len(known)} species known to the live model"]
    words += [f"{len(waiting)} more with enough labels for the next training"] if waiting else []
    words += [f"{len(lacking)} not yet learnt"] if lacking else []
    missing = f"{until} more labels" if until != 1 else "1 more label"
    words += [f"{missing} until the next training"] if until else []
    found = [row for row in known if row["recall"] is not None]
    lines = [("learning", "; ".join(words))]
    if found:
        weakest = min(found, key=lambda row: (row["recall"], row["species"]))
        lines.append(("finds least well", f"{weakest['species']}: {recall_words(weakest)}"))
    lines += [("not yet learnt", lacking_words(row)) for row in lacking[:MOST_LINES]]
    if len(lacking) > MOST_LINES:
        lines.append(("not yet learnt", f"and {len(lacking) - MOST_LINES} more species"))
    return lines


def recall_words(row: dict[str, Any]) -> str:
    """Its recall with the interval: 83% (62% to 94%); a dash where nothing is held out."""
    if row["recall"] is None:
        return "–"
    interval = row["recall_interval"]
    within = f" ({interval[0]:.0%} to {interval[1]:.0%})" if interval else ""
    return f"{row['recall']:.0%}{within}"


def lacking_words(row: dict[str, Any]) -> str:
    """What a species that cannot be learnt yet lacks."""
    aside = f" ({row['held_out']} more are held out)" if row["held_out"] else ""
    return (
        f"{row['species']}: {row['training_labels']} labels to learn from{aside}, "
        f"{row['labels_until_learnt']} more needed"
    )
