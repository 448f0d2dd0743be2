"""/api/v1: what people say of frames, and taking it back."""

from __future__ import annotations

import unicodedata
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, HTTPException
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from monitor.core.domain import How, Observation, Scope
from monitor.log.labels import RequestTaken
from monitor.log.species import LONGEST_NAME, UnknownSpecies
from monitor.log.undoing import NotTheirs
from monitor.web.api.review import MediaId
from monitor.web.context import Here, WebContext
from monitor.web.people import Reviewer, Role, name_of

router = APIRouter(tags=["labels"])

MOST_MEDIA = 500
MOST_OBSERVATIONS = 20
MOST_ACTS = 50
LARGEST_COUNT = 999_999


def _one_line(text: str) -> str:
    """Text without line ends, and without controls, which no field or table can show."""
    line = " ".join(text.split())
    if any(unicodedata.category(character) == "Cc" for character in line):
        raise ValueError("it holds control characters")
    return line


Line = Annotated[str, AfterValidator(_one_line)]


class Sex(StrEnum):
    """Camtrap DP's terms; leave it out where nobody can tell."""

    FEMALE = "female"
    MALE = "male"


class LifeStage(StrEnum):
    """Camtrap DP's terms; leave it out where nobody can tell."""

    ADULT = "adult"
    SUBADULT = "subadult"
    JUVENILE = "juvenile"


class Seen(BaseModel):
    """One species in a frame, and what else can be said of it."""

    model_config = ConfigDict(extra="forbid")

    species: Line = Field(min_length=1, max_length=LONGEST_NAME, description="Any of its names.")
    count: int | None = Field(None, ge=1, le=LARGEST_COUNT)
    sex: Sex | None = None
    life_stage: LifeStage | None = None
    behaviour: Line | None = Field(None, max_length=200)

    def observation(self) -> Observation:
        """The same in the words of the log."""
        return Observation(
            self.species, self.count, self.sex, self.life_stage, self.behaviour or None
        )


REQUEST = Field(
    None,
    pattern=r"^[A-Za-z0-9_-]{1,64}$",
    description="Your own name for this act: sent again after a lost answer, it counts once.",
)


class Saying(BaseModel):
    """A label: what is in these frames."""

    model_config = ConfigDict(extra="forbid")

    media_ids: list[MediaId] = Field(min_length=1, max_length=MOST_MEDIA)
    observations: list[Seen] = Field(min_length=1, max_length=MOST_OBSERVATIONS)
    scope: Scope = Field(Scope.FRAME, description="event: of every frame of their events.")
    request: str | None = REQUEST
    insist: bool = Field(False, description="The species is a new one, though nearly a known one.")
    exact: bool = Field(False, description="What is left out is forgotten, not kept from before.")


class Said(BaseModel):
    """What a label came to."""

    act_id: int | None
    media_ids: list[int]
    new_species: list[str]


class NearMiss(BaseModel):
    """Why nothing was said."""

    error: str
    nearest: str | None = Field(None, description="The known species that may be meant.")


class Undoing(BaseModel):
    """What to take back; nothing given: the last act of yours."""

    model_config = ConfigDict(extra="forbid")

    act_id: Annotated[int, Field(ge=1, le=2**53)] | None = None
    media_id: MediaId | None = None


class Undone(BaseModel):
    """The frames whose label changed."""

    media_ids: list[int]


class OwnAct(BaseModel):
    """One of your label acts that still counts."""

    act_id: int
    at: str
    scope: Scope
    species: list[str]
    media_ids: list[int] = Field(description="At most the first 50.")
    count: int = Field(description="Of how many frames it counts.")


class OwnActs(BaseModel):
    """What undoing will take back, in this order."""

    acts: list[OwnAct]


@router.post("/labels", response_model=Said, responses={409: {"model": NearMiss}})
def label(saying: Saying, here: Here, who: Reviewer) -> Said | JSONResponse:
    """Say what is in some frames, as one act."""
    by, now = name_of(who), here.clock()
    _refuse_rejected(here, saying.media_ids)
    try:
        outcome = here.log.label(
            saying.media_ids,
            [seen.observation() for seen in saying.observations],
            by,
            How.WEB,
            now,
            scope=saying.scope,
            insist=saying.insist,
            keep=not saying.exact,
            request=saying.request,
        )
    except UnknownSpecies as error:
        return near_miss(error)
    except RequestTaken as error:
        raise HTTPException(409, str(error)) from None
    here.desk.answered(who.session, outcome.media_ids)
    return Said(
        act_id=outcome.act_id,
        media_ids=list(outcome.media_ids),
        new_species=list(outcome.new_species),
    )


@router.post("/labels/undo")
def undo(here: Here, who: Reviewer, undoing: Undoing = Undoing()) -> Undone:
    """Take back a label act whole; what was said before counts again. Nothing is deleted."""
    by = name_of(who)
    anybodys = who.role >= Role.ADMIN and (undoing.act_id or undoing.media_id)
    try:
        media_ids = here.log.undo(
            undoing.media_id,
            by,
            How.WEB,
            here.clock(),
            act=undoing.act_id,
            of=None if anybodys else by,
        )
    except NotTheirs as error:
        raise HTTPException(403, str(error)) from None
    return Undone(media_ids=list(media_ids))


@router.get("/labels/mine")
def own_acts(here: Here, who: Reviewer) -> OwnActs:
    """Your last label acts that still count, the newest first."""
    acts = here.log.acts_of(name_of(who), MOST_ACTS)
    return OwnActs(acts=[OwnAct(**asdict(act)) for act in acts])


def _refuse_rejected(here: WebContext, media_ids: list[int]) -> None:
    standing = here.log.standing(media_ids, here.clock())
    rejected = sorted(media_id for media_id, one in standing.items() if one.rejected)
    if rejected:
        named = ", ".join(str(media_id) for media_id in rejected[:5])
        raise HTTPException(
            409, f"media {named} cannot be labelled: the file was rejected, there is no picture"
        )


def near_miss(error: UnknownSpecies) -> JSONResponse:
    """The answer to a name that nobody knows."""
    words = str(error)
    if error.nearest is not None:
        words = f"no species is called that, but there is '{error.nearest}': is it meant?"
    return JSONResponse({"error": words, "nearest": error.nearest}, 409)
