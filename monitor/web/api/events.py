"""/api/v1: events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from monitor.core.events import EventSighting
from monitor.review.event_walk import event_page
from monitor.web.context import Here
from monitor.web.people import Role, Viewer
from monitor.web.searching import NEXT, EventsPage, text_of

router = APIRouter(tags=["events"])


class Events(BaseModel):
    """Some of the independent sightings that fit, newest first."""

    events: list[EventSighting]
    next: Annotated[str | None, NEXT]


@router.get("/events")
def events(here: Here, who: Viewer, asked: Annotated[EventsPage, Query()]) -> Events:
    """Independent sightings, newest first: the frames of one event (a visit) together.

    Those of private species are left out for viewers. A page may be short, even empty, although
    `next` is not null: a search ends after a set time, and goes on with `next`.
    """
    private = here.private.names() if who.role < Role.REVIEWER else frozenset()

    def shown(event: EventSighting) -> bool:
        return event.species is None or event.species.casefold() not in private

    page = event_page(here.log, asked.wanted(here), asked.limit, asked.after, shown=shown)
    return Events(events=list(page.events), next=text_of(page.next))
