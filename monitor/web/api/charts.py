"""/api/v1: charts, drawn here: as pictures, as tables, in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.responses import Response
from pydantic import BaseModel

from monitor.core.domain import parse_iso_utc
from monitor.core.moments import moment_of
from monitor.log.detected import Detections
from monitor.report.charts import paper
from monitor.report.charts.catalogue import NAMES, ChartName, Choice, chart
from monitor.report.charts.paper import Chart
from monitor.web.context import Here, WebContext
from monitor.web.people import Viewer
from monitor.web.problems import Problem

router = APIRouter(tags=["charts"])

Kind = Literal["svg", "png", "csv"]
WAYS: dict[Kind, tuple[str, Callable[[Chart], bytes]]] = {
    "svg": ("image/svg+xml", paper.svg),
    "png": ("image/png", paper.png),
    "csv": ("text/csv; charset=utf-8", paper.table),
}
RETRY_SECONDS = 3
FRESH_SECONDS = 30
SAFE_SVG = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""An SVG opened by itself is a document: it may style itself, and nothing else."""

ANSWERS: dict[int | str, dict[str, object]] = {
    200: {"content": {"image/svg+xml": {}, "image/png": {}, "text/csv": {}}},
    503: {
        "model": Problem,
        "description": "The log is being read for the first time; Retry-After says when to ask",
    },
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the charts of a request speak of, as it was written."""

    since: Annotated[str | None, Query(max_length=40)] = None
    until: Annotated[str | None, Query(max_length=40)] = None
    species: Annotated[tuple[Annotated[str, Query(max_length=200)], ...], Query(max_length=20)] = ()
    deployment: Annotated[str | None, Query(max_length=500)] = None


Filters = Annotated[Asked, Depends()]


class ChartWords(BaseModel):
    """One chart, in words."""

    name: ChartName
    title: str
    alt: str


class Charts(BaseModel):
    """Every chart there is; `as_of`: when the log was read for them."""

    as_of: str
    charts: list[ChartWords]


@router.get("/charts", responses={503: ANSWERS[503]})
def charts(here: Here, who: Viewer, asked: Filters) -> Charts:
    """What each chart shows, in a sentence: text for those who do not see the pictures."""
    detections = _detections(here)
    choice, versions = _choice(here, asked), here.log.versions()
    made = [(name, chart(name, detections, versions, choice)) for name in NAMES]
    words = [ChartWords(name=name, title=one.title, alt=one.alt) for name, one in made]
    return Charts(as_of=detections.as_of, charts=words)


@router.get("/charts/{name}.{kind}", response_class=Response, responses=ANSWERS)
def draw(
    name: ChartName, kind: Kind, here: Here, who: Viewer, asked: Filters, download: bool = False
) -> Response:
    """One chart: drawn (SVG, PNG) or its numbers (CSV)."""
    detections = _detections(here)
    choice, versions = _choice(here, asked), here.log.versions()
    media_type, way = WAYS[kind]
    known = tuple((row.name, row.state) for row in versions) if name == "training" else ()
    key = (name, kind, asked, choice.species, detections.as_of, here.private.names(), known)
    content = here.detections.drawn(key, lambda: way(chart(name, detections, versions, choice)))
    headers = {"Cache-Control": f"private, max-age={FRESH_SECONDS}"}
    if kind == "svg":
        headers["Content-Security-Policy"] = SAFE_SVG
    if download:
        headers["Content-Disposition"] = f'attachment; filename="{name}.{kind}"'
    return Response(content, media_type=media_type, headers=headers)


def _detections(here: WebContext) -> Detections:
    detections = here.detections.get()
    if detections is None:
        raise HTTPException(
            503,
            "the log is being read for the charts; ask again in some seconds",
            {"Retry-After": str(RETRY_SECONDS)},
        )
    return detections


def _choice(here: WebContext, asked: Asked) -> Choice:
    """The request's words as values. Raises NoMoment, UnknownSpecies."""
    zone, now = here.settings.station.zone, here.clock()

    def moment(text: str | None, end: bool) -> datetime | None:
        found = moment_of(text or None, zone, now, end=end)
        return parse_iso_utc(found) if found is not None else None

    names = tuple(dict.fromkeys(here.log.species_named(name) for name in asked.species if name))
    return Choice(
        moment(asked.since, False), moment(asked.until, True), names, asked.deployment or None
    )
