"""/api/v1: media: pictures of frames, their files, and where the model looked."""

from __future__ import annotations

import asyncio
from functools import lru_cache, partial
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from monitor.core.domain import How, Sighting
from monitor.images.decode import ImageRejected
from monitor.images.pictures import WAIT_SECONDS, Size, not_ready
from monitor.log.versions import VersionRow
from monitor.model.activation_map import GRID, Look, NoLook, check_head
from monitor.model.backbone import BackboneError
from monitor.model.head import Head
from monitor.model.versions import ModelStore
from monitor.web.api.models import version_row
from monitor.web.context import Here, WebContext
from monitor.web.people import Reviewer, Viewer, Visitor, name_of
from monitor.web.picture_access import is_hidden, shown, sighting_of
from monitor.web.searching import MOST_ID

router = APIRouter(tags=["media"])

MediaId = Annotated[int, Path(ge=1, le=MOST_ID)]
KEPT_SECONDS = 86_400
"""A browser asks again after a day: a frame may have been hidden since."""
SHOWN_INLINE = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
HANDED_OUT = {"image/tiff": "tif", "image/heif": "heic"}
UNTRUSTED = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
}
JPEG_ANSWER: dict[int | str, dict[str, object]] = {
    200: {"content": {"image/jpeg": {}}},
    304: {"description": "The browser's copy is still right"},
}
FILE_ANSWER: dict[int | str, dict[str, object]] = {
    200: {"content": {kind: {} for kind in (*SHOWN_INLINE, *HANDED_OUT)}},
    304: {"description": "The browser's copy is still right"},
}


@router.get("/media/{media_id}/thumb.jpg", response_class=Response, responses=JPEG_ANSWER)
async def thumb(media_id: MediaId, request: Request, here: Here, who: Viewer) -> Response:
    """The frame as an upright JPEG, 320 pixels at most."""
    return await _picture(media_id, "thumb", request, here, who)


@router.get("/media/{media_id}/screen.jpg", response_class=Response, responses=JPEG_ANSWER)
async def screen(media_id: MediaId, request: Request, here: Here, who: Viewer) -> Response:
    """The frame as an upright JPEG, 1600 pixels at most."""
    return await _picture(media_id, "screen", request, here, who)


@router.get("/media/{media_id}/original", response_class=Response, responses=FILE_ANSWER)
def original(media_id: MediaId, request: Request, here: Here, who: Viewer) -> Response:
    """The file as it was taken in, byte for byte."""
    sighting, hidden = shown(media_id, who, here)
    headers = _headers(sighting, "original", hidden) | UNTRUSTED
    if _has_it(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    data, kind = here.pictures.original(media_id)
    ending = SHOWN_INLINE.get(kind) or HANDED_OUT.get(kind, "bin")
    way = "inline" if kind in SHOWN_INLINE else "attachment"
    # A name of our own: those on memory cards may hold anything.
    headers["Content-Disposition"] = f'{way}; filename="{media_id}.{ending}"'
    return Response(data, media_type=kind, headers=headers)


class LookAnswer(BaseModel):
    """Where the model looked: the numbers of the map, row by row, and `constant` sum to `logit`."""

    species: str
    logit: float
    constant: float
    probability: float
    rows: int
    columns: int
    map: list[float]


@router.get("/media/{media_id}/look")
def look(
    media_id: MediaId,
    response: Response,
    here: Here,
    who: Viewer,
    species: Annotated[str | None, Query(max_length=200)] = None,
    version: Annotated[str | None, Query(max_length=20)] = None,
) -> LookAnswer:
    """Where in the frame a model (the live one, if none is named) sees a species.

    If no species is named, it is the first alternative of the sighting.
    """
    sighting, _ = shown(media_id, who, here)
    response.headers["Cache-Control"] = "no-store"
    row = _version(version, here)
    head = _head(here.store.directory, row.name, row.weights_sha256)
    try:
        check_head(head)
        data, _ = here.pictures.original(media_id)
        name = _class_of(species, sighting, head, here)
        tail = partial(here.store.load_tail, row.name, head)
        return _answer(here.looks.look(data, head, name, tail))
    except ImageRejected as error:
        raise HTTPException(404, f"media {media_id} cannot be shown: {error}") from error
    except (NoLook, BackboneError) as error:
        raise HTTPException(409, f"{row.name}: {error}") from error


class RevealRequest(BaseModel):
    """The hidden frame to show."""

    media_id: int = Field(ge=1, le=MOST_ID)


@router.post("/reveals")
def reveal(wanted: RevealRequest, here: Here, who: Reviewer) -> dict[str, str]:
    """Show this session a hidden frame for an hour. Who had it shown is recorded."""
    sighting = sighting_of(wanted.media_id, here)
    if not is_hidden(sighting, who, here.private.names()):
        return {}
    if not here.reveals.is_revealed(who.session, wanted.media_id):
        here.log.reveal(wanted.media_id, name_of(who), How.WEB, here.clock())
        here.reveals.add(who.session, wanted.media_id)
    return {}


async def _picture(
    media_id: int, size: Size, request: Request, here: WebContext, who: Visitor
) -> Response:
    """Waits without a thread: a page asks for a hundred at once, and a network share that hangs
    must not take every thread of the server."""
    sighting, hidden = await run_in_threadpool(shown, media_id, who, here)
    headers = _headers(sighting, size, hidden)
    if _has_it(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    promise = await run_in_threadpool(here.pictures.promise, media_id, size)
    waiting = asyncio.wrap_future(promise)
    waiting.add_done_callback(_looked_at)
    await asyncio.wait([waiting], timeout=WAIT_SECONDS)  # unlike wait_for, this cancels nothing
    if not waiting.done():
        raise not_ready(media_id)
    return Response(waiting.result(), media_type="image/jpeg", headers=headers)


def _looked_at(waiting: asyncio.Future[bytes]) -> None:
    """No complaint about an error that nobody heard, because the browser had left."""
    if not waiting.cancelled():
        waiting.exception()


def _headers(sighting: Sighting, kind: str, hidden: bool) -> dict[str, str]:
    kept = "no-store" if hidden else f"private, max-age={KEPT_SECONDS}, immutable"
    return {"ETag": f'"{sighting.sha256}-{kind}"', "Cache-Control": kept}


def _has_it(request: Request, etag: str) -> bool:
    """True if the browser has exactly this (RFC 9110, 13.1.2: compared weakly)."""
    given = [tag.strip() for tag in request.headers.get("If-None-Match", "").split(",")]
    return "*" in given or etag in [tag.removeprefix("W/") for tag in given]


def _version(name: str | None, here: WebContext) -> VersionRow:
    if name is not None:
        return version_row(here, name)
    live = here.log.live_version()
    if live is None:
        raise HTTPException(409, "no model is live yet, so none has looked at anything")
    return live


@lru_cache(maxsize=8)
def _head(directory: FilePath, name: str, sha256: str) -> Head:
    """A version's weights; published versions never change."""
    return ModelStore(directory).load_head(name, sha256)


def _class_of(species: str | None, sighting: Sighting, head: Head, here: WebContext) -> str | None:
    """What the model calls this species, which may have been renamed since it was trained."""
    if species is None:
        best = [name for name, _ in sighting.alternatives if name in head.classes]
        return best[0] if best else None
    if species in head.classes:
        return species
    today = here.log.called_today(species)
    same = [name for name in head.classes if today & here.log.called_today(name)]
    return same[0] if same else species


def _answer(found: Look) -> LookAnswer:
    return LookAnswer(
        species=found.species,
        logit=found.logit,
        constant=found.constant,
        probability=found.probability,
        rows=GRID,
        columns=GRID,
        map=[round(float(cell), 7) for cell in found.map.ravel()],
    )
