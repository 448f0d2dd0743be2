"""The pages where frames are labelled: one after the other, or one given frame."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import HTMLResponse

from monitor.web.context import Here
from monitor.web.people import Reviewer, Viewer
from monitor.web.rendering import page
from monitor.web.searching import MOST_ID

router = APIRouter(include_in_schema=False)


@router.get("/review")
def review(request: Request, who: Reviewer) -> HTMLResponse:
    """One frame after the other, as the review desk hands them out."""
    return page(request, "review.html", media_id=None)


@router.get("/media/{media_id}")
def one_frame(
    request: Request, here: Here, who: Viewer, media_id: Annotated[int, Path(ge=1, le=MOST_ID)]
) -> HTMLResponse:
    """The same page for one given frame and its event."""
    if not here.log.sightings_of([media_id]):
        raise HTTPException(404, f"there is no frame {media_id}")
    return page(request, "review.html", media_id=media_id)
