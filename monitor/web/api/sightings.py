"""/api/v1: sightings, searched, as CSV, and one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from monitor.core.csv_rows import sightings_text
from monitor.core.domain import Sighting
from monitor.log.browse import BrowsePage
from monitor.log.filters import BrowseFilter
from monitor.log.reference import NoSuchMedia
from monitor.web.context import Here, WebContext
from monitor.web.frames import FrameDetail, FrameModel, details_of, frames_of
from monitor.web.people import Role, Viewer, Visitor
from monitor.web.picture_access import is_hidden
from monitor.web.searching import (
    MOST_ID,
    NEXT,
    REACHED,
    SightingsPage,
    SightingsSearch,
    text_of,
)

router = APIRouter(tags=["sightings"])
CSV_PAGE = 500


class Sightings(BaseModel):
    """Some of the sightings that fit, newest first."""

    sightings: list[FrameModel]
    next: Annotated[str | None, NEXT]
    reached: Annotated[str | None, REACHED]


@router.get("/sightings")
def sightings(here: Here, who: Viewer, asked: Annotated[SightingsPage, Query()]) -> Sightings:
    """What was seen, newest first: a person's label where there is one, else the live model's word.

    Of hidden frames the path is left out; viewers do not find them by their path either.
    """
    wanted = asked.wanted(here)
    if wanted.path is not None and who.role < Role.REVIEWER:
        wanted = replace(wanted, private=here.private.names())  # or cursors would tell of them
    page = here.log.browse(wanted, asked.limit, asked.after)
    frames = frames_of(here, who, page.media_ids)
    return Sightings(sightings=frames, next=text_of(page.next), reached=page.reached)


@router.get(
    "/sightings.csv",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
def sightings_csv(
    here: Here, who: Viewer, asked: Annotated[SightingsSearch, Query()]
) -> StreamingResponse:
    """All that fits, with the columns of `trapwatch sightings --csv`, sent while it is read.

    Private species are left out; for viewers also what nobody and no model has spoken of. A cell
    of path, species, deployment or labelled_by that a spreadsheet would run as a formula (it begins
    with = + - @, a tab or a return) has a ' before it.
    """
    wanted = asked.wanted(here)
    first = here.log.browse(wanted, CSV_PAGE)  # now, so that what is wrong is told in words
    text = sightings_text(_pages(here, who, wanted, first))
    name = {"Content-Disposition": 'attachment; filename="sightings.csv"'}
    return StreamingResponse(text, media_type="text/csv; charset=utf-8", headers=name)


def _pages(
    here: WebContext, who: Visitor, wanted: BrowseFilter, page: BrowsePage
) -> Iterator[list[Sighting]]:
    while True:
        private = here.private.names()
        found = here.log.sightings_of(page.media_ids)
        yield [sighting for sighting in found if not is_hidden(sighting, who, private)]
        if page.next is None:
            return
        page = here.log.browse(wanted, CSV_PAGE, page.next)


@router.get("/sightings/{media_id}")
def sighting(
    here: Here, who: Viewer, media_id: Annotated[int, Path(ge=1, le=MOST_ID)]
) -> FrameDetail:
    """One frame with the film strip of its event, and what each person said of it."""
    details = details_of(here, who, [media_id])
    if not details:
        raise NoSuchMedia(f"there is no media {media_id}")
    return details[0]
