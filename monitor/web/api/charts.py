"""/api/v1: charts."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["charts"])
