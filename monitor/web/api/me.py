"""/api/v1: me."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, Field

from monitor.web.accounts import LONGEST_NAME
from monitor.web.authentication import Authentication
from monitor.web.people import Viewer

router = APIRouter(tags=["me"])


class Me(BaseModel):
    """Who asks."""

    name: str | None
    role: str
    csrf: str = Field(description="What unsafe requests of this session carry in X-CSRF-Token.")


class NewName(BaseModel):
    """Under which name a browser's acts are to be recorded."""

    name: str = Field(min_length=1, max_length=LONGEST_NAME)


@router.get("/me")
def me(who: Viewer) -> Me:
    """Who you are here, and what you may do."""
    return Me(name=who.name, role=who.role.name.lower(), csrf=who.csrf)


@router.put("/me")
def say_name(request: Request, response: Response, new: NewName, who: Viewer) -> Me:
    """Say who you are; only where no password is set, elsewhere the login says it."""
    session = request.state.session
    if session is None or who.logged_in:
        raise HTTPException(409, f"you are {who.name} here: that is the name of your login")
    door: Authentication = request.app.state.door
    named = door.named(session, new.name)
    response.headers["Set-Cookie"] = door.sessions().header(named)
    return Me(name=named.name, role=who.role.name.lower(), csrf=who.csrf)
