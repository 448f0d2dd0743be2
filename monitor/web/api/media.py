"""/api/v1: media."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["media"])
