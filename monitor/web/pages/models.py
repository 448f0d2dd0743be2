"""The pages: models, one model, two models side by side."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from monitor.core.domain import TrapwatchError
from monitor.web import cards
from monitor.web import station_words as standing
from monitor.web.api.models import may_see, plots_of, version_row
from monitor.web.context import Here, WebContext
from monitor.web.people import Viewer
from monitor.web.rendering import page

router = APIRouter(include_in_schema=False)


@router.get("/models")
def models(request: Request, here: Here, who: Viewer) -> Response:
    """Every version, newest first."""
    versions, back = here.log.versions(), cards.rolls_back_to(here.log)
    return page(request, "models.html", versions=versions, back=back, **_words(here))


@router.get("/models/compare")
def compare(request: Request, here: Here, who: Viewer, a: str = "", b: str = "") -> Response:
    """Two versions: which is the better one, and for which species."""
    versions = here.log.versions()
    if not (a and b):
        if len(versions) < 2:
            return RedirectResponse("/models", 303)
        a, b = a or versions[1].name, b or versions[0].name
    rows = version_row(here, a), version_row(here, b)
    read = [_card(here, row.name) for row in rows]
    problems = [problem for _, problem in read if problem]
    sides = [(row.name, card) for row, (card, _) in zip(rows, read, strict=True) if card]
    compared = _compared(*sides) if len(sides) == 2 else None
    return page(
        request,
        "compare.html",
        versions=versions,
        rows=rows,
        problems=problems,
        compared=compared,
        **_words(here),
    )


@router.get("/models/{version}")
def model(request: Request, version: str, here: Here, who: Viewer) -> Response:
    """One version: its card as tables, its plots."""
    row = version_row(here, version)
    card, problem = _card(here, version)
    names, confusion = cards.confusion_rows(card.held_out) if card else ([], [])
    live = here.log.live_version()
    return page(
        request,
        "model.html",
        row=row,
        live=live.name if live else "",
        card=card,
        problem=problem,
        names=names,
        confusion=confusion,
        compared=cards.overall(card.champion[1], card.held_out) if card and card.champion else [],
        plots=cards.pictures(
            [plot for plot in plots_of(here.store, version) if may_see(plot, who)],
            card.tree if card else {},
        ),
        **_words(here),
    )


def _card(here: WebContext, version: str) -> tuple[cards.Card | None, str]:
    """The card of a version; or None and, in words, why it cannot be shown."""
    try:
        return cards.read_card(version, here.store.card(version)), ""
    except TrapwatchError as error:
        return None, str(error)


def _compared(a: tuple[str, cards.Card], b: tuple[str, cards.Card]) -> dict[str, Any]:
    of_a, of_b, same_frames = cards.judged_alike(a, b)
    return {
        "same_frames": same_frames,
        "frames": (of_a.media, of_b.media),
        "overall": cards.overall(of_a, of_b),
        "recall": cards.by_species(of_a, of_b, lambda row: row.recall),
        "precision": cards.by_species(of_a, of_b, lambda row: row.precision),
    }


def _words(here: WebContext) -> dict[str, Any]:
    zone = here.settings.station.zone
    return {"words": standing, "at": partial(standing.moment, zone=zone), "zone": zone.key}
