"""/api/v1: me."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["me"])
