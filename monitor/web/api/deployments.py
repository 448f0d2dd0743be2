"""/api/v1: for how long each camera watched, and the outages that wait for a person's word."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from monitor.camera_days import deployments_of, outage_document
from monitor.domain import How, parse_iso_utc
from monitor.log.deployment_acts import UNCHANGED
from monitor.log.engine import LogError
from monitor.moments import moment_of
from monitor.silence import OutageState, Reason
from monitor.web.parts import Here, Parts
from monitor.web.people import Reviewer, Viewer, Visitor, name_of

router = APIRouter(tags=["status"])

When = Annotated[str | None, Query(max_length=40)]
OutageId = Annotated[int, Path(ge=1, le=2**53)]
Words = Annotated[str | None, Field(max_length=1000)]


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


class EffortOut(BaseModel):
    """Camera-days within a period, outages left out, whether confirmed or only proposed."""

    since: str
    until: str
    watched_days: float
    outage_days: float


class WatchedDeployment(BaseModel):
    """One camera: what it sent, for how long it watched, what its clock says."""

    name: str
    start: str | None
    end: str | None
    first_capture: str | None
    last_capture: str | None
    media: int
    effort: EffortOut | None = Field(description="Null where it never sent a frame.")
    clock: dict[str, Any]
    outages: list[OutageOut]


class WatchedDeployments(BaseModel):
    """All deployments, by name: the same as `trapwatch deployments list --json`."""

    deployments: list[WatchedDeployment]


class Confirming(BaseModel):
    """Why a camera did not watch."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason
    note: Words = None


class Dismissing(BaseModel):
    """It was none: the camera watched, and there was nothing."""

    model_config = ConfigDict(extra="forbid")

    note: Words = None


@router.get("/deployments/effort")
def effort(here: Here, who: Viewer, since: When = None, until: When = None) -> WatchedDeployments:
    """For how long each camera watched (within a period), and its outages."""
    zone, now = here.settings.station.zone, here.clock()
    first, last = moment_of(since or None, zone, now), moment_of(until or None, zone, now, end=True)
    rows = deployments_of(
        here.settings,
        here.log,
        now,
        parse_iso_utc(first) if first is not None else None,
        parse_iso_utc(last) if last is not None else None,
    )
    return WatchedDeployments(deployments=[WatchedDeployment(**row) for row in rows])


@router.post("/outages/{outage_id}/confirm")
def confirm(outage_id: OutageId, said: Confirming, here: Here, who: Reviewer) -> OutageOut:
    """Confirm an outage with its reason."""
    changes: dict[str, Any] = {"reason": said.reason}
    return _judge(here, who, outage_id, OutageState.CONFIRMED, said.note, changes)


@router.post("/outages/{outage_id}/dismiss")
def dismiss(outage_id: OutageId, said: Dismissing, here: Here, who: Reviewer) -> OutageOut:
    """Say that the camera watched: its days count."""
    return _judge(here, who, outage_id, OutageState.DISMISSED, said.note, {"reason": None})


def _judge(
    here: Parts,
    who: Visitor,
    outage_id: int,
    state: OutageState,
    note: str | None,
    changes: dict[str, Any],
) -> OutageOut:
    changes |= {"note": note if note is not None else UNCHANGED}
    if all(outage.id != outage_id for outage in here.log.outages()):
        raise HTTPException(404, f"there is no outage {outage_id}")
    try:
        judged = here.log.judge_outage(
            outage_id, state, name_of(who), How.WEB, here.clock(), **changes
        )
    except LogError as error:
        raise HTTPException(409, str(error)) from None
    return OutageOut(**outage_document(judged))
