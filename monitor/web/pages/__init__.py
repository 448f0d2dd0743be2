"""The pages people look at."""

from __future__ import annotations

from fastapi import APIRouter

from monitor.web.pages import browse, dashboard, login, models, review, species, station

router = APIRouter(include_in_schema=False)
for part in (dashboard, review, browse, models, species, station, login):
    router.include_router(part.router)
