"""/api/v1: sightings."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["sightings"])
