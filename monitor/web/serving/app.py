"""The application: every room of the web put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from monitor import __version__
from monitor.web import api, monitoring, pages
from monitor.web.authentication import Authentication
from monitor.web.bodies import Limits
from monitor.web.context import WebContext
from monitor.web.middleware import Middleware
from monitor.web.problems import tell_problems
from monitor.web.rendering import STATIC, fingerprint

THREADS = 8
"""Requests worked on at once: more only wait for the same two processors."""


class _Guarded(FastAPI):
    """Routes behind a guard: outermost, so that no answer, not even to an error, passes it by."""

    def build_middleware_stack(self) -> ASGIApp:
        return Middleware(super().build_middleware_stack(), self.state.door, self.state.limits)


def create_app(
    parts: WebContext, limits: Limits = Limits(), end: Callable[[], object] = lambda: None
) -> FastAPI:
    """The web of one station. `parts` stays the caller's, to be closed after the server ended.

    Args:
        end: called when the pages cannot go on.
    """
    app = _Guarded(
        title="trapwatch",
        version=__version__,
        description="Sightings, labels and models of one station.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.parts, app.state.limits, app.state.end = parts, limits, end
    app.state.door = Authentication(parts.accounts, parts.settings.web, parts.clock)
    app.state.monitoring = monitoring.Monitoring(parts)
    tell_problems(app)
    app.include_router(api.router)
    app.include_router(pages.router)
    app.include_router(monitoring.router)
    app.mount(f"/static/{fingerprint()}", StaticFiles(directory=STATIC))
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield
