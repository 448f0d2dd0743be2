"""/api/v1: the outages of cameras: what the station proposes, and what people say of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from monitor.core.domain import How, parse_iso_utc
from monitor.core.moments import moment_of
from monitor.core.silence import Outage, OutageState, Reason
from monitor.log.deployment_acts import UNCHANGED
from monitor.log.engine import LogError
from monitor.report.camera_days import outage_document
from monitor.web.context import Here, WebContext
from monitor.web.people import Reviewer, Viewer, Visitor, name_of

router = APIRouter(tags=["status"])

MOST = 500
OutageId = Annotated[int, Path(ge=1, le=2**53)]
Words = Annotated[str | None, Field(max_length=1000)]
When = Annotated[str, Field(max_length=40)]
START = "2026-05-01 or 2026-05-01T14:30, by the station's clock."
END = "The same; a day counts whole. Null while it lasts."


class OutageOut(BaseModel):
    """A time in which a camera did not watch; `by` is null while only the station says so."""

    id: int
    deployment: str
    start: str
    end: str | None = Field(description="Null while it lasts.")
    state: OutageState
    reason: Reason | None
    note: str | None
    by: str | None
    said_at: str


class OutagesOut(BaseModel):
    """Outages, the latest first, as `trapwatch deployments outage list --json`."""

    outages: list[OutageOut]


class Adding(BaseModel):
    """When a camera did not watch, and why."""

    model_config = ConfigDict(extra="forbid")

    deployment: Annotated[str, Field(max_length=1000)]
    start: When = Field(description=START)
    end: When | None = Field(None, description=END)
    reason: Reason
    note: Words = None


class Confirming(BaseModel):
    """Why a camera did not watch, and when, where the station is wrong about it."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason
    start: When | None = Field(None, description=f"{START} Left out or null: as it was.")
    end: When | None = Field(None, description=f"{END} Left out: as it was.")
    note: Words = None


class Dismissing(BaseModel):
    """It was none: the camera watched, and there was nothing."""

    model_config = ConfigDict(extra="forbid")

    note: Words = None


@router.get("/outages")
def outages(
    here: Here,
    who: Viewer,
    state: OutageState | None = None,
    deployment: Annotated[str | None, Query(max_length=1000)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
) -> OutagesOut:
    """All outages: those the station proposes, those people confirmed, those they dismissed."""
    found = [one for one in here.log.outages(deployment) if state is None or one.state is state]
    found.sort(key=lambda one: (one.start, one.id), reverse=True)
    return OutagesOut(outages=[OutageOut(**outage_document(one)) for one in found[:limit]])


@router.post("/outages")
def add(said: Adding, here: Here, who: Reviewer) -> OutageOut:
    """Say that a camera did not watch."""
    outage = Outage(
        0,
        said.deployment,
        _moment(here, said.start),
        _end(here, said.end),
        OutageState.CONFIRMED,
        said.reason,
        said.note or None,
        name_of(who),
        here.clock(),
    )
    try:
        return OutageOut(**outage_document(here.log.say_outage(outage, How.WEB)))
    except LogError as error:
        raise HTTPException(409, str(error)) from None


@router.post("/outages/{outage_id}/confirm")
def confirm(outage_id: OutageId, said: Confirming, here: Here, who: Reviewer) -> OutageOut:
    """Confirm an outage with its reason, or correct one; what is left out stays."""
    changes: dict[str, Any] = {"reason": said.reason}
    if said.start is not None:
        changes["start"] = _moment(here, said.start)
    if "end" in said.model_fields_set:
        changes["end"] = _end(here, said.end)
    return _judge(here, who, outage_id, OutageState.CONFIRMED, said.note, changes)


@router.post("/outages/{outage_id}/dismiss")
def dismiss(outage_id: OutageId, said: Dismissing, here: Here, who: Reviewer) -> OutageOut:
    """Say that the camera watched: its days count."""
    return _judge(here, who, outage_id, OutageState.DISMISSED, said.note, {"reason": None})


def _judge(
    here: WebContext,
    who: Visitor,
    outage_id: int,
    state: OutageState,
    note: str | None,
    changes: dict[str, Any],
) -> OutageOut:
    changes["note"] = UNCHANGED if note is None else note or None
    if all(outage.id != outage_id for outage in here.log.outages()):
        raise HTTPException(404, f"there is no outage {outage_id}, or its frames came after all")
    try:
        judged = here.log.judge_outage(
            outage_id, state, name_of(who), How.WEB, here.clock(), **changes
        )
    except LogError as error:
        raise HTTPException(409, str(error)) from None
    return OutageOut(**outage_document(judged))


def _moment(here: WebContext, text: str, *, end: bool = False) -> datetime:
    """A time on the station's clock. Raises NoMoment."""
    found = moment_of(text, here.settings.station.zone, here.clock(), end=end)
    assert found is not None
    return parse_iso_utc(found)


def _end(here: WebContext, text: str | None) -> datetime | None:
    return _moment(here, text, end=True) if text is not None else None
