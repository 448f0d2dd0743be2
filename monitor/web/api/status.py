"""/api/v1: status."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["status"])
