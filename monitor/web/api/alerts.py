"""/api/v1: what people were told, and whether it gets through."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from monitor.health.alert_outbox import STATE_KEY
from monitor.log.species_log import SpeciesLog
from monitor.web.context import Here
from monitor.web.people import Viewer

router = APIRouter(tags=["status"])

MOST = 500


class DeliveryOut(BaseModel):
    """Where an alert is on one channel."""

    channel: str
    state: str = Field(description="waiting, sent, or failed: it was given up.")
    attempts: int = Field(description="Tries so far.")
    next_try_at: str
    sent_at: str | None
    problem: str | None = Field(description="Why the last try failed.")


class AlertOut(BaseModel):
    """One alert and its ways to people."""

    id: int
    at: str
    kind: str
    key: str = Field(description="What it is about: a species at a place, a camera, the disk …")
    subject: str
    body: str
    media_id: int | None
    deliveries: list[DeliveryOut]


class ChannelOut(BaseModel):
    """How one channel does, by the last tries."""

    name: str
    last_sent: str | None
    failing_since: str | None = Field(description="Null while it works.")
    problem: str | None


class AlertsOut(BaseModel):
    """The last alerts, the newest first, as `trapwatch alerts list --json`, and the channels."""

    on: bool = Field(description="Whether there is anybody to tell.")
    channels: list[ChannelOut] = Field(description="Those over which something was tried.")
    alerts: list[AlertOut]


@router.get("/alerts")
def alerts(here: Here, who: Viewer, limit: Annotated[int, Query(ge=1, le=MOST)] = 50) -> AlertsOut:
    """What was told last, and where it is on each channel."""
    return AlertsOut(
        on=here.settings.alerts.is_on,
        channels=channels(here.log),
        alerts=[AlertOut(**asdict(row)) for row in here.log.alerts(limit)],
    )


def channels(log: SpeciesLog) -> list[ChannelOut]:
    """The channels over which something was tried, by name."""
    known = (log.state(STATE_KEY) or {}).get("channels") or {}
    wanted = ("last_sent", "failing_since", "problem")
    return [
        ChannelOut(name=name, **{key: facts.get(key) for key in wanted})
        for name, facts in sorted(known.items())
    ]
