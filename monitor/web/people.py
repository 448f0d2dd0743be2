"""Who asks, and what they may: roles, sessions, tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request

from monitor.web.accounts import Role

__all__ = ["Admin", "Reviewer", "Role", "Viewer", "Visitor", "name_of", "visitor_of"]

NOBODY = "log in first"
ASK_FOR_TOKEN = {"WWW-Authenticate": 'Bearer realm="trapwatch"'}


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever sent a request.

    Attributes:
        name: under which acts are recorded; None while a browser has not said it (only where no
            password is set: there everybody at this machine may do all).
        role: what they may do.
        session: identifies the browser or the token; holds leases.
        csrf: what unsafe requests of this session must carry in X-CSRF-Token.
        logged_in: with a password, so that logging out means something.
    """

    name: str | None
    role: Role
    session: str
    csrf: str
    logged_in: bool = False


def visitor_of(request: Request) -> Visitor:
    """Who asks, as the guard found out. Raises HTTPException 401 where a login is demanded."""
    visitor: Visitor | None = getattr(request.state, "visitor", None)
    if visitor is None:
        raise HTTPException(401, NOBODY, ASK_FOR_TOKEN)
    return visitor


def _at_least(role: Role) -> Any:
    def check(visitor: Annotated[Visitor, Depends(visitor_of)]) -> Visitor:
        if visitor.role < role:
            raise HTTPException(403, needs(role))
        return visitor

    return Depends(check)


def needs(role: Role) -> str:
    """What somebody is told who may not do something."""
    return f"this needs the role {role.name.lower()}"


Viewer = Annotated[Visitor, _at_least(Role.VIEWER)]
Reviewer = Annotated[Visitor, _at_least(Role.REVIEWER)]
Admin = Annotated[Visitor, _at_least(Role.ADMIN)]
"""For routes: `def route(who: Reviewer)`."""


def name_of(visitor: Visitor) -> str:
    """The name under which an act is recorded. Raises HTTPException 400 if there is none yet."""
    if not visitor.name:
        raise HTTPException(400, "say who you are first: PUT /api/v1/me")
    return visitor.name
