"""Errors as answers: what went wrong in words, never a trace."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from monitor.core.domain import TrapwatchError
from monitor.images.pictures import PictureMissing
from monitor.log.engine import LogReplaced
from monitor.log.reference import NoSuchMedia
from monitor.log.species import UnknownSpecies
from monitor.web.rendering import page

logger = logging.getLogger(__name__)


class Problem(BaseModel):
    """Why a request came to nothing, in words."""

    error: str


RESPONSES: dict[int | str, dict[str, object]] = {
    status: {"model": Problem}
    for status in (400, 401, 403, 404, 408, 409, 413, 415, 421, 422, 429, 503)
}
"""What any route of the API may answer instead of a result."""


def tell_problems(app: FastAPI) -> None:
    """Let `app` answer every error in words: as JSON below /api, as a page elsewhere."""

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        return answer(request, error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> Response:
        faults = [
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors()
        ]
        return answer(request, 422, "; ".join(faults))

    @app.exception_handler(LogReplaced)
    def another_log(request: Request, error: LogReplaced) -> Response:
        logger.critical("%s. The pages end, and are to be started again", error)
        request.app.state.end()
        return answer(request, 503, str(error))

    @app.exception_handler(TrapwatchError)
    def in_words(request: Request, error: TrapwatchError) -> Response:
        return answer(request, _status_of(error), str(error))

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> Response:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return answer(request, 500, "trapwatch failed here; its log says more")


def _status_of(error: TrapwatchError) -> int:
    if isinstance(error, NoSuchMedia | PictureMissing):
        return 404
    if isinstance(error, UnknownSpecies):
        return 409
    return 400


def answer(
    request: Request, status: int, words: str, headers: dict[str, str] | None = None
) -> Response:
    """An error in words: as JSON below /api, as a page elsewhere."""
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": words}, status, headers)
    html = page(request, "problem.html", status=status, words=words)
    return HTMLResponse(html.body, status, headers)
