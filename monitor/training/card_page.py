"""The model card as Markdown, for a person at the station. docs/model-card.md explains it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def card_page(card: dict[str, Any]) -> str:
    """The card of `build_card`, with what `illustrate` added, as Markdown."""
    verdict = "It went live" if card["accepted"] else "It did not go live"
    parts = [
        f"# Model {card['version']}",
        f"Trained {card['trained_at']} in {card['seconds']:.0f} s ({card['trigger']}).",
        f"**{verdict}**: {card['reason']}.",
        _lacking_evidence(card["gate"]),
        *card["notes"],
        "## Do the labels teach it?",
        _species_table(card),
        _not_learnt(card),
        "## How it was judged",
        _judged(card),
        _figures_table(card),
        _promise(card.get("conformal")),
        _strangers(card.get("unknown")),
        "## What was taken for what",
        "Rows: what people said. Columns: what the model said, in the same order.",
        _confusion(card["held_out"]),
        _pictures(card),
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


def _points(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.0f} points"


def _within(share: float | None, interval: Sequence[float] | None) -> str:
    """A share with its interval: 83% (62% to 94%)."""
    if share is None or interval is None:
        return _share(share)
    return f"{share:.0%} ({interval[0]:.0%} to {interval[1]:.0%})"


def _counted(share: dict[str, Any] | None) -> str:
    """3 of 40 (8%)."""
    if not share or not share["of"]:
        return "–"
    return f"{share['count']} of {share['of']} ({share['count'] / share['of']:.0%})"


def _lacking_evidence(gate: dict[str, Any]) -> str:
    events, labels = gate.get("missing_events"), gate.get("missing_labels")
    if not events or not labels:
        return ""
    return (
        f"Too little is held out to tell: about {events:,} more held-out events "
        f"({labels:,} labels) would show a gain of the size seen."
    )


def _species_table(card: dict[str, Any]) -> str:
    figures = {row["species"]: row for row in card["held_out"]["species"]}
    gained = {row["species"]: row["gained"] for row in card["learning"]}
    rows = []
    for species in card["classes"]:
        row = figures[species]
        rows.append(
            [
                species,
                f"{card['labels'][species]} ({card['label_events'][species]})",
                f"{row['support']} ({row['events']})",
                _within(row["recall"], row["recall_interval"]),
                _points(gained.get(species)),
                _share(row["precision"]),
            ]
        )
    head = ["species", "labels (events)", "held out (events)", "recall", "gained", "precision"]
    words = (
        "Recall: of the held-out frames that show it, the share that is found, with the range that "
        "it lies in 19 times in 20, counting events. Gained: that, less what the model that was "
        "live before finds in the same frames. Precision: of those called so, the share that is."
    )
    return f"{_table(head, rows)}\n\n{words}"


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
    columns = [_column(figures) for _, figures in models]
    head = ["", *(name for name, _ in models)]
    return _table(head, [[label, *(cells[label] for cells in columns)] for label in columns[0]])


def _column(figures: dict[str, Any]) -> dict[str, str]:
    """The figures of one model, each with its name."""
    return {
        "accuracy, frame by frame": _share(figures["accuracy"]),
        "accuracy, event by event": _within(figures["event_accuracy"], figures["event_interval"]),
        "mean recall per species": _share(figures["macro_recall"]),
        "false alarms: blanks called something": _counted(figures["false_alarms"]),
        "missed: animals called blank": _counted(figures["missed"]),
        "negative log-likelihood of species it knows": _number(figures["nll"]),
        "calibration error (0 is perfect)": _number(figures["ece"]),
    }


def _promise(conformal: dict[str, Any] | None) -> str:
    """The species sets, where there are labels enough to promise anything."""
    if not conformal or conformal.get("measured") is None:
        return ""
    rows = [
        [species, str(row.get("media", "–")), _share(row.get("measured")), _size(row)]
        for species, row in conformal.get("by_species", {}).items()
    ]
    words = (
        f"Species sets: promised to hold the truth in {_share(conformal.get('coverage'))} of "
        f"frames, measured {conformal['measured']:.1%}, with {_size(conformal)} species each."
    )
    table = _table(["species", "held-out frames", "set holds it", "species in a set"], rows)
    return f"{words}\n\n{table}" if rows else words


def _size(row: dict[str, Any]) -> str:
    size = row.get("mean_size")
    return "–" if size is None else f"{size:.1f}"


def _strangers(unknown: dict[str, Any] | None) -> str:
    """How well what it never learnt is told from what it did."""
    if not unknown or unknown.get("auroc") is None:
        return ""
    return (
        "Species that it never learnt: told from the others with an AUROC of "
        f"{unknown['auroc']:.2f} (0.5 is chance, 1 perfect), leaving out one species at a time."
    )


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


def _pictures(card: dict[str, Any]) -> str:
    """Links to the files beside the card."""
    lines = []
    for picture in card.get("pictures", ()):
        name, alt = picture["name"], picture["alt"].replace("[", "(").replace("]", ")")
        file = picture["file"]
        lines.append(f"### {picture['title']}\n\n![{alt}]({file})")
        if file.endswith(".svg"):
            lines.append(f"[The same as PNG]({name}.png)")
    return "\n\n".join(lines)


def _made(card: dict[str, Any]) -> str:
    fit, versions = card["fit"], card["versions"]
    return (
        f"- backbone {card['backbone']}, features {card['layout']}, method {card['method']}\n"
        f"- L2 strength {fit['strength']:g}, temperature {fit['temperature']:.2f}, both chosen by "
        f"cross-validation on {fit['judged_media']} media of the training side\n"
        f"- seed {fit['seed']}, trapwatch {versions['trapwatch']}, {versions['engine']}"
    )
