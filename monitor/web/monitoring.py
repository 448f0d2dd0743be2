"""For programs that look after a station: /healthz, /readyz and /metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from monitor.core.domain import TrapwatchError
from monitor.health.metrics import CONTENT_TYPE, exposition
from monitor.health.metrics_measured import measure
from monitor.health.verdict import Finding, Health, Level, health_of
from monitor.web.checks import HEALTH, METRICS, READY
from monitor.web.context import WebContext

T = TypeVar("T")
KEPT_SECONDS = 3.0
"""Whoever asks more often gets the same answer again: asking costs a station nothing."""

router = APIRouter(include_in_schema=False)


class Kept(Generic[T]):
    """What `make` made, made anew when it is too old; by one thread at a time.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, make: Callable[[], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._make, self._clock = make, clock
        self._lock = threading.Lock()
        self._made: tuple[float, T] | None = None

    def get(self) -> T:
        """It, at most KEPT_SECONDS old."""
        with self._lock:
            if self._made is None or self._clock() - self._made[0] >= KEPT_SECONDS:
                made = self._make()
                self._made = (self._clock(), made)
            return self._made[1]


class Monitoring:
    """The answers for one station."""

    def __init__(self, parts: WebContext, clock: Callable[[], float] = time.monotonic) -> None:
        self._parts = parts
        self.health: Kept[Health] = Kept(self._health, clock)
        self.metrics: Kept[bytes] = Kept(self._metrics, clock)

    def _health(self) -> Health:
        """Also where the log cannot be read: that is then the finding."""
        try:
            return health_of(self._parts.settings, self._parts.log, self._parts.clock())
        except TrapwatchError as error:
            return Health([Finding("log", Level.FAILING, str(error), "trapwatch doctor")])

    def _metrics(self) -> bytes:
        parts = self._parts
        return exposition(measure(parts.settings, parts.log, parts.clock()))


@router.get(HEALTH)
def healthz(request: Request) -> Response:
    """How the station is, for everybody: words without names, paths or figures. 503: failing."""
    health = _monitoring(request).health.get()
    answer = {"state": health.state.value, "checks": health.checks}
    return JSONResponse(answer, 503 if health.state is Level.FAILING else 200)


@router.get(READY)
def readyz(request: Request) -> Response:
    """Whether it does what it is for: log open, service alive, a model live or being learnt."""
    health = _monitoring(request).health.get()
    return JSONResponse({"ready": health.is_ready}, 200 if health.is_ready else 503)


@router.get(METRICS)
def metrics(request: Request) -> Response:
    """The station in figures, for Prometheus (`web.metrics` says who may ask)."""
    if request.app.state.parts.settings.web.metrics == "closed":
        raise HTTPException(404, "metrics are not served here (web.metrics)")
    return Response(_monitoring(request).metrics.get(), media_type=CONTENT_TYPE)


def _monitoring(request: Request) -> Monitoring:
    found: Monitoring = request.app.state.monitoring
    return found
