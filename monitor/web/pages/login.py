"""The page: login. Works without JavaScript."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.exceptions import HTTPException

from monitor.web.authentication import Authentication
from monitor.web.checks import local_path
from monitor.web.context import Here
from monitor.web.rendering import page

router = APIRouter(include_in_schema=False)


@router.get("/login")
def login_form(request: Request, here: Here, next: str = "/") -> Response:
    """The form; whoever is in already goes on."""
    if request.state.visitor is not None:
        return RedirectResponse(local_path(next), 303)
    words = "" if here.accounts.book().people else "Nobody has a password here yet."
    return _form(request, next, words=words)


@router.post("/login")
def log_in(
    request: Request,
    name: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/",
) -> Response:
    """Let somebody in, with a session that nobody had before."""
    door: Authentication = request.app.state.door
    try:
        session = door.log_in(name, password, request.client.host if request.client else "")
    except HTTPException as refused:
        shown = _form(request, next, name=name[:200], words=_sentence(str(refused.detail)))
        shown.status_code = refused.status_code
        shown.headers.update(refused.headers or {})
        return shown
    there = RedirectResponse(local_path(next), 303)
    there.headers["Set-Cookie"] = door.sessions().header(session)
    return there


@router.post("/logout")
def log_out(request: Request) -> Response:
    """Take the session away from this browser."""
    door: Authentication = request.app.state.door
    there = RedirectResponse("/login", 303)
    there.headers["Set-Cookie"] = door.sessions().header(None)
    return there


def _form(request: Request, next: str, *, name: str = "", words: str = "") -> HTMLResponse:
    door: Authentication = request.app.state.door
    return page(
        request,
        "login.html",
        next=local_path(next),
        name=name,
        words=words,
        csrf=door.csrf(request.state.session),
    )


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + "."
