"""/api/v1: what to look at next, and flags."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks
from pydantic import BaseModel, ConfigDict, Field

from monitor.core.domain import How
from monitor.web.context import Here
from monitor.web.frames import FrameDetail, details_of
from monitor.web.orders import Asked, Queue
from monitor.web.people import Reviewer, name_of

router = APIRouter(tags=["review"])

MediaId = Annotated[int, Field(ge=1, le=2**53)]
"""Ids stay exact in JavaScript."""
MOST_AT_ONCE = 50
MOST_HELD = 500


class Wish(BaseModel):
    """What a reviewer wants to look at."""

    model_config = ConfigDict(extra="forbid")

    count: int = Field(10, ge=1, le=MOST_AT_ONCE)
    holding: list[MediaId] = Field(
        [], max_length=MOST_HELD, description="Frames you still have: kept for you, not sent again."
    )
    queue: Queue = Queue.INFORMATIVE
    species: str | None = Field(None, min_length=1, max_length=200, description="Predicted so.")
    deployment: str | None = Field(None, min_length=1, max_length=500)


class Handed(BaseModel):
    """Frames that nobody else gets for ten minutes."""

    frames: list[FrameDetail]
    waiting: int = Field(description="Frames that nobody has labelled, counted a moment ago.")
    alike: int = Field(
        description="Of those asked for: not handed out, as they look like others of their event."
    )


class GivenBack(BaseModel):
    """Frames that will not be looked at."""

    model_config = ConfigDict(extra="forbid")

    media_ids: list[MediaId] = Field(max_length=MOST_HELD)


class FlagWish(BaseModel):
    """Whether somebody should look at a frame again."""

    model_config = ConfigDict(extra="forbid")

    flagged: bool


class Nothing(BaseModel):
    """It is done; there is nothing to tell."""


@router.post("/review/next")
def next_frames(wish: Wish, here: Here, who: Reviewer, later: BackgroundTasks) -> Handed:
    """Frames to look at. Their events are yours for ten minutes, and so are those you hold."""
    asked = Asked(wish.queue, wish.species, wish.deployment)
    media_ids = here.desk.next(who.session, wish.count, wish.holding, asked)
    later.add_task(here.desk.renew, asked)
    frames = details_of(here, who, media_ids)
    here.pictures.make_ahead([f.media_id for f in frames if not f.hidden], "screen")
    return Handed(frames=frames, waiting=here.desk.waiting(), alike=here.desk.alike(asked))


@router.post("/review/release")
def release(back: GivenBack, here: Here, who: Reviewer) -> Nothing:
    """Give frames back: others get them at once instead of in ten minutes."""
    here.desk.release(who.session, back.media_ids)
    return Nothing()


@router.put("/flags/{media_id}")
def flag(media_id: MediaId, wish: FlagWish, here: Here, who: Reviewer) -> Nothing:
    """Mark a frame for a second look, or take the mark away. Saying it twice changes nothing."""
    here.log.flag(media_id, wish.flagged, name_of(who), How.WEB, here.clock())
    return Nothing()
