"""/api/v1: for how long each camera watched."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from monitor.core.domain import parse_iso_utc
from monitor.core.moments import moment_of
from monitor.report.camera_days import deployments_of
from monitor.web.api.outages import OutageOut
from monitor.web.context import Here
from monitor.web.people import Viewer

router = APIRouter(tags=["status"])

When = Annotated[str | None, Query(max_length=40)]


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
