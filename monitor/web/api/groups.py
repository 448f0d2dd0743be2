"""/api/v1: groups of look-alikes: frames that one decision can label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from monitor.core.domain import How
from monitor.log.labels import RequestTaken
from monitor.log.species import UnknownSpecies
from monitor.review.groups import Group, NoSuchGroup, NotInGroup, label_group
from monitor.web.api.labels import (
    MOST_OBSERVATIONS,
    REQUEST,
    NearMiss,
    Seen,
    near_miss,
)
from monitor.web.api.review import MOST_HELD, MediaId, Nothing
from monitor.web.context import Here, WebContext
from monitor.web.frames import FrameModel, frames_of
from monitor.web.people import Reviewer, Visitor, name_of

router = APIRouter(tags=["review"])

MOST_FRAMES = 500
MOST_PASSED = 1000
GroupId = Annotated[str, Path(pattern="^g[0-9a-f]{8}$")]
Passed = Annotated[str, Field(min_length=1, max_length=20)]


class GroupModel(BaseModel):
    """Frames without a label that look alike."""

    id: str = Field(description="The same as long as the frames are the same.")
    species: str | None = Field(description="What the model says of most of them.")
    probability: float | None = Field(description="The mean of what it says that with.")
    frames: list[FrameModel] = Field(description="The most typical first.")


class Groups(BaseModel):
    """Groups, where most is to be learnt first."""

    groups: list[GroupModel]


class GroupWish(BaseModel):
    """Which groups a reviewer wants to look at."""

    model_config = ConfigDict(extra="forbid")

    frames: int = Field(120, ge=1, le=MOST_FRAMES, description="So many frames are enough.")
    passed: list[Passed] = Field([], max_length=MOST_PASSED, description="Groups not wanted.")


class Held(BaseModel):
    """Frames that are still looked at."""

    model_config = ConfigDict(extra="forbid")

    media_ids: list[MediaId] = Field(max_length=MOST_HELD)


class GroupSaying(BaseModel):
    """A label of all frames of a group that have none."""

    model_config = ConfigDict(extra="forbid")

    observations: list[Seen] = Field(min_length=1, max_length=MOST_OBSERVATIONS)
    without: list[MediaId] = Field([], max_length=MOST_HELD, description="They show another thing.")
    request: str | None = REQUEST
    insist: bool = Field(False, description="The species is a new one, though nearly a known one.")


class GroupSaid(BaseModel):
    """What it came to."""

    act_id: int | None
    media_ids: list[int]
    left_alone: list[int] = Field(description="Frames that somebody had labelled before.")
    new_species: list[str]


@router.get("/review/groups")
def groups(
    here: Here, who: Reviewer, frames: Annotated[int, Query(ge=1, le=MOST_FRAMES)] = 120
) -> Groups:
    """Groups that nobody else looks at now."""
    return _told(here, who, here.groups.free(who.session, frames))


@router.post("/review/groups/take")
def take(wish: GroupWish, here: Here, who: Reviewer) -> Groups:
    """Groups to look at. Their events are yours for ten minutes."""
    return _told(here, who, here.groups.take(who.session, wish.frames, frozenset(wish.passed)))


@router.post("/review/groups/hold")
def hold(held: Held, here: Here, who: Reviewer) -> Nothing:
    """You still look at these frames: their events are yours for ten minutes more."""
    here.groups.hold(who.session, held.media_ids)
    return Nothing()


@router.post(
    "/review/groups/{group_id}/label",
    response_model=GroupSaid,
    responses={409: {"model": NearMiss}},
)
def label(
    group_id: GroupId, saying: GroupSaying, here: Here, who: Reviewer
) -> GroupSaid | JSONResponse:
    """Say what is in all frames of a group that have no label yet, as one act."""
    try:
        done = label_group(
            here.log,
            group_id,
            [seen.observation() for seen in saying.observations],
            name_of(who),
            How.WEB,
            here.clock(),
            without=saying.without,
            insist=saying.insist,
            request=saying.request,
        )
    except UnknownSpecies as error:
        return near_miss(error)
    except NoSuchGroup as error:
        raise HTTPException(404, str(error)) from None
    except (NotInGroup, RequestTaken) as error:
        raise HTTPException(409, str(error)) from None
    here.desk.answered(who.session, done.outcome.media_ids)
    return GroupSaid(
        act_id=done.outcome.act_id,
        media_ids=list(done.outcome.media_ids),
        left_alone=list(done.left_alone),
        new_species=list(done.outcome.new_species),
    )


def _told(here: WebContext, who: Visitor, found: Sequence[Group]) -> Groups:
    media_ids = [media_id for group in found for media_id in group.media_ids]
    frames = {frame.media_id: frame for frame in frames_of(here, who, media_ids)}
    return Groups(
        groups=[
            GroupModel(
                id=group.id,
                species=group.species,
                probability=group.probability,
                frames=[frames[m] for m in group.media_ids if m in frames],
            )
            for group in found
        ]
    )
