"""/api/v1: how the station stands, and its deployments."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from monitor.core.domain import iso_utc
from monitor.health.status import status_of
from monitor.web.context import Here
from monitor.web.people import Viewer

router = APIRouter(tags=["status"])


class Learning(BaseModel):
    """Whether the labels of one species teach the classifier; None: nothing to measure by."""

    species: str
    labels: int
    training_labels: int
    held_out: int
    known: bool = Field(description="Whether the live model knows it.")
    recall: float | None = Field(description="The live model's, on held-out media, 0-1.")
    recall_interval: tuple[float, float] | None = Field(description="Of 95 %, by events.")
    labels_until_learnt: int
    gained: float | None = Field(description="What the last accepted training added to recall.")


class Status(BaseModel):
    """The same document as `trapwatch status --json`."""

    station: str
    now: str
    clock: dict[str, str | None] = Field(description="`problem`: why it cannot be right.")
    health: dict[str, Any]
    service: dict[str, Any]
    engine: dict[str, Any] | None
    media: dict[str, int]
    lag_seconds: float | None
    watch: dict[str, Any] | None
    unreadable: list[dict[str, str]]
    live_model: dict[str, Any] | None
    rescoring: dict[str, Any] | None
    training: dict[str, Any]
    learning: list[Learning]
    labels_until_training: int
    disk: dict[str, Any]
    backup: dict[str, Any]
    rest: dict[str, str]
    power: dict[str, Any] = Field(description="What the classifier rests by, and its battery.")
    log: dict[str, Any] = Field(description="Integrity checks, the last recovery, the journal.")
    today: dict[str, Any]
    silent_deployments: list[dict[str, Any]]
    alerts: dict[str, Any]


@router.get("/status")
def status(here: Here, who: Viewer) -> Status:
    """Counts, live model, training, disk; what came in today; cameras that fell silent."""
    return Status(**status_of(here.settings, here.log, here.clock()))


class DeploymentOut(BaseModel):
    """One camera at one place."""

    name: str
    last_captured_at: str | None


class DeploymentsOut(BaseModel):
    """All deployments, by name."""

    deployments: list[DeploymentOut]


@router.get("/deployments")
def deployments(here: Here, who: Viewer) -> DeploymentsOut:
    """Every deployment, and when its newest readable frame was captured."""
    rows = here.log.last_frames(iso_utc(here.clock()))
    return DeploymentsOut(
        deployments=[
            DeploymentOut(name=row.deployment, last_captured_at=row.captured_at) for row in rows
        ]
    )
