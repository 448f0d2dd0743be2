"""The JSON API under /api/v1: the same words as the command line's --json."""

from __future__ import annotations

from fastapi import APIRouter

from monitor.web.api import (
    alerts,
    charts,
    deployments,
    events,
    groups,
    labels,
    me,
    media,
    models,
    outages,
    review,
    sightings,
    species,
    status,
)
from monitor.web.problems import RESPONSES

router = APIRouter(prefix="/api/v1", responses=RESPONSES)
for part in (
    deployments,
    outages,
    alerts,
    sightings,
    events,
    labels,
    review,
    groups,
    species,
    models,
    status,
    media,
    charts,
    me,
):
    router.include_router(part.router)
