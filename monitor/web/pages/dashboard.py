"""The page: dashboard. How the station stands, at a glance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from monitor.core.domain import Sighting
from monitor.core.privacy import hides, hides_from_viewers
from monitor.core.silence import OutageState
from monitor.health.status import status_of
from monitor.web import station_words as standing
from monitor.web.context import Here, WebContext
from monitor.web.people import Role, Viewer, Visitor
from monitor.web.rendering import page

router = APIRouter(include_in_schema=False)

NEWEST = 12
SPECIES_SHOWN = 8
CHARTS = (
    ("over_time", "Sightings over time"),
    ("activity", "When animals are about"),
    ("accumulation", "Species found so far"),
    ("map", "Where"),
    ("training", "How the models did"),
)
"""Name and title of each chart, in the order of the page."""


@dataclass(frozen=True, slots=True)
class Thumb:
    """One small picture: what it shows and where, in words; `hidden` ones are covered."""

    media_id: int
    says: str
    where: str
    when: str
    hidden: bool


@router.get("/")
def dashboard(request: Request, here: Here, who: Viewer) -> Response:
    """The first page: figures rendered here, charts drawn when they come into view."""
    now = here.clock()
    facts = status_of(here.settings, here.log, now)
    zone = here.settings.station.zone
    return page(
        request,
        "dashboard.html",
        facts=facts,
        zone=zone.key,
        day=now.astimezone(zone).date(),
        at=partial(standing.moment, zone=zone),
        clock=standing.clock(facts["now"], zone),
        words=standing,
        troubles=standing.troubles(facts),
        proposed=sum(one.state is OutageState.PROPOSED for one in here.log.outages()),
        thumbs=_newest(here, who),
        today_species=_by_species(facts["today"]),
        silent=_recent_and_long(facts["silent_deployments"]),
        charts=CHARTS,
        species_names=here.log.species_names(),
    )


def _newest(here: WebContext, who: Visitor) -> list[Thumb]:
    """What was taken in last; nobody sees a person or a vehicle by opening the first page."""
    private = here.private.names()
    hidden = hides if who.role >= Role.REVIEWER else hides_from_viewers
    sightings = here.log.sightings_of(here.log.newest_media(NEWEST))
    return [_thumb(sighting, hidden(sighting, private)) for sighting in sightings]


def _thumb(sighting: Sighting, hidden: bool) -> Thumb:
    says = sighting.species or "not looked at yet"
    if sighting.probability is not None:
        says += f" {standing.share(sighting.probability)}"
    when = sighting.captured_local[:16].replace("T", " ")
    return Thumb(sighting.media_id, says, sighting.deployment, when, hidden)


def _by_species(today: dict[str, Any]) -> list[tuple[str, int]]:
    """The most frequent species of today; the others as one line."""
    pairs = list(today["by_species"].items())
    rest = sum(media for _, media in pairs[SPECIES_SHOWN:])
    return pairs[:SPECIES_SHOWN] + ([("", rest)] if rest else [])


def _recent_and_long(
    silent: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Cameras that somebody should look at, and those that were most likely taken down."""
    recent = [one for one in silent if one["silent_days"] <= standing.LONG_SILENT_DAYS]
    return recent, silent[len(recent) :]
