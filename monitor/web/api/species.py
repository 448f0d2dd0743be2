"""/api/v1: species."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["species"])
