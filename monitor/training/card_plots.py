"""What is drawn for a model card: plots of its own numbers, and a sheet of its worst mistakes.

A picture that cannot be made is told in the card; it never costs a training its model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from monitor.model.versions import MISTAKES_FILE
from monitor.report.charts.paper import Chart, png, svg
from monitor.training.curves import ByLabels, Epochs, Strengths
from monitor.training.evaluate import Evaluation
from monitor.training.plots import ConfusionMatrix, RecallBySpecies, Reliability

logger = logging.getLogger(__name__)

Earlier = Sequence[tuple[str, dict[str, Any]]]
Files = dict[str, bytes]


def illustrate(
    card: dict[str, Any], earlier: Earlier, mistakes: Callable[[], bytes | None]
) -> tuple[dict[str, Any], Files]:
    """The card with what it shows entered in it, and the pictures as files.

    Args:
        card: of `build_card`.
        earlier: (name, figures) of the versions before, oldest first.
        mistakes: makes the contact sheet (PNG); None where there is nothing to show.
    """
    files: Files = {}
    shown: list[dict[str, str]] = []
    notes: list[str] = []
    for name, make in _makers(card, earlier, mistakes):
        try:
            title, alt, made = make()
        except Exception as error:  # the model is what counts
            logger.exception("%s of %s cannot be drawn", name, card["version"])
            notes.append(
                f"The picture '{name}' could not be made: {type(error).__name__}: {error}."
            )
            continue
        if made:
            files |= made
            file = next(iter(made))
            shown.append({"name": name, "file": file, "title": title, "alt": alt})
    return card | {"pictures": shown, "notes": card["notes"] + notes}, files


Make = Callable[[], tuple[str, str, Files]]


def _makers(
    card: dict[str, Any], earlier: Earlier, mistakes: Callable[[], bytes | None]
) -> Iterator[tuple[str, Make]]:
    for name, chart in charts_of(card, earlier).items():
        yield name, lambda name=name, chart=chart: _drawn(name, chart)  # type: ignore[misc]
    yield MISTAKES_FILE.removesuffix(".png"), lambda: _sheet(mistakes())


def _drawn(name: str, chart: Chart) -> tuple[str, str, Files]:
    return chart.title, chart.alt, {f"{name}.svg": svg(chart), f"{name}.png": png(chart)}


def _sheet(made: bytes | None) -> tuple[str, str, Files]:
    files = {MISTAKES_FILE: made} if made else {}
    return "Its surest mistakes", "Held-out frames with what was said and what was right.", files


def charts_of(card: dict[str, Any], earlier: Earlier) -> dict[str, Chart]:
    """The plots that a card has numbers for: file name without ending -> chart.

    Args:
        card: of `build_card`.
        earlier: (name, figures) of the versions before, oldest first.
    """
    held_out = Evaluation.from_json(card["held_out"])
    against = card.get("champion")
    champion = (against["version"], Evaluation.from_json(against["held_out"])) if against else None
    plots: dict[str, Chart] = {
        "confusion": ConfusionMatrix(held_out),
        "reliability": Reliability(held_out),
        "recall": RecallBySpecies(card["version"], held_out, champion),
        "labels": ByLabels(_points(card, earlier)),
    }
    if len(card.get("history", ())) > 1:
        plots["training"] = Epochs(tuple(card["history"]))
    elif len(card.get("fit", {}).get("tried", ())) > 1:
        tried = tuple((float(s), float(nll)) for s, nll in card["fit"]["tried"])
        plots["training"] = Strengths(tried, float(card["fit"]["strength"]))
    return plots


def _points(card: dict[str, Any], earlier: Earlier) -> tuple[tuple[str, int, float, float], ...]:
    this = {"train_media": card["split"]["train_media"], "held_out": card["held_out"]}
    points = []
    for name, figures in (*earlier, (card["version"], this)):
        held, media = figures.get("held_out") or {}, figures.get("train_media")
        if media and held.get("accuracy") is not None and held.get("macro_recall") is not None:
            points.append((name, int(media), held["accuracy"], held["macro_recall"]))
    return tuple(points)
