"""The pages that list frames: one by one (browse), and many to be labelled at once (grid)."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from monitor.web.context import Here
from monitor.web.people import Viewer
from monitor.web.rendering import page

router = APIRouter(include_in_schema=False)


@router.get("/browse")
def browse(request: Request, here: Here, who: Viewer) -> HTMLResponse:
    """Every frame, filtered; the filter is in the address."""
    versions = [version.name for version in here.log.versions()]
    return page(request, "browse.html", versions=versions)


@router.get("/grid")
def grid(request: Request, who: Viewer) -> HTMLResponse:
    """Frames that nobody labelled yet, many at once."""
    return page(request, "grid.html")
