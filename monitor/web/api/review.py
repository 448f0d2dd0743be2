"""/api/v1: review."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["review"])
