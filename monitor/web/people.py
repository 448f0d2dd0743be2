"""Who asks, and what they may: roles, sessions, tokens."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request


class Role(IntEnum):
    """What somebody may do; each may do what those below may."""

    VIEWER = 1  # look at sightings and charts
    REVIEWER = 2  # label, flag, have hidden frames shown
    ADMIN = 3  # species list, models


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever sent a request.

    Attributes:
        name: under which acts are recorded; None while a browser has not said it (only where no
            password is set: there everybody at this machine may do all).
        role: what they may do.
        session: identifies the browser or the token; holds leases.
        csrf: what unsafe requests of this session must carry in X-CSRF-Token.
    """

    name: str | None
    role: Role
    session: str
    csrf: str


def visitor_of(request: Request) -> Visitor:
    """Who asks. Raises HTTPException 401 where a login is demanded."""
    return Visitor("local", Role.ADMIN, "local", "")


def _at_least(role: Role) -> Any:
    def check(visitor: Annotated[Visitor, Depends(visitor_of)]) -> Visitor:
        if visitor.role < role:
            raise HTTPException(403, f"this needs the role {role.name.lower()}")
        return visitor

    return Depends(check)


Viewer = Annotated[Visitor, _at_least(Role.VIEWER)]
Reviewer = Annotated[Visitor, _at_least(Role.REVIEWER)]
Admin = Annotated[Visitor, _at_least(Role.ADMIN)]
"""For routes: `def route(who: Reviewer)`."""


def name_of(visitor: Visitor) -> str:
    """The name under which an act is recorded. Raises HTTPException 400 if there is none yet."""
    if not visitor.name:
        raise HTTPException(400, "say who you are first: PUT /api/v1/me")
    return visitor.name
