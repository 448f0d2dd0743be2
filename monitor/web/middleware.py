"""The guard: sees every request before any route, and every answer after it (ASGI)."""

from __future__ import annotations

import hmac
import logging
from urllib.parse import parse_qsl, quote

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitor.web.accounts import AccountsDamaged, Role
from monitor.web.authentication import Authentication, Visit
from monitor.web.bodies import (
    MOST_BODY_BYTES,
    MOST_FORM_BYTES,
    Body,
    Gone,
    Limits,
    replayed,
    too_large,
)
from monitor.web.checks import (
    METRICS,
    SAFE_METHODS,
    has_body,
    is_foreign,
    is_host,
    is_own_origin,
    names_this_machine,
    wanted_type,
)
from monitor.web.people import ASK_FOR_TOKEN, NOBODY, needs
from monitor.web.problems import answer
from monitor.web.rendering import fingerprint

logger = logging.getLogger(__name__)

LOGIN, LOGOUT, ME = "/login", "/logout", "/api/v1/me"
FOR_ALL = frozenset({LOGIN, LOGOUT, ME})
"""Unsafe requests that do not need the right to review; LOGIN needs no session either."""
CSRF_FIELD, CSRF_HEADER = "csrf_token", "x-csrf-token"
STALE = "this page is out of date, or its cookie is blocked: load the page anew and try again"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "manifest-src 'self'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"permissions-policy",
        b"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
]
FOR_GOOD, NEVER = b"public, max-age=31536000, immutable", b"no-store"


class Middleware:
    """Lets in what may come in; the rest is answered here, in words.

    Args:
        app: all the routes, and what turns their errors into answers.
        door: tells who asks.
    """

    def __init__(self, app: ASGIApp, door: Authentication, limits: Limits) -> None:
        self._app, self._door, self._limits = app, door, limits
        self._static = f"/static/{fingerprint()}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the start and end of the server."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.setdefault("state", {})
        state["visitor"], state["session"], state["session_is_new"] = None, None, False
        request = Request(scope, receive)
        body = Body(receive, follows=has_body(request.headers), seconds=self._limits.body_seconds)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._dress(scope, message)
            await send(message)

        try:
            self._look_at_sender(request)
            admitted = await self._admit(request, body, receive)
        except HTTPException as refused:
            await self._refuse(request, body, refused, guarded)
        except AccountsDamaged as error:
            logger.error("nobody gets in: %s", error)
            words = "the accounts of this station cannot be read; its log says more"
            await self._refuse(request, body, HTTPException(503, words), guarded)
        except Gone:
            return
        else:
            await self._app(scope, admitted, guarded)

    def _look_at_sender(self, request: Request) -> None:
        """Is it sent to us, from us? Before anything else, and also where no login is demanded."""
        host = request.headers.get("host", "")
        if not is_host(host):  # what is not one could pass for a path where a URL is put together
            raise HTTPException(400, "the Host header is none")
        if self._door.is_local and not names_this_machine(host):
            raise HTTPException(421, "this station answers only as localhost or 127.0.0.1")
        if is_foreign(request.method, request.headers):
            raise HTTPException(403, "requests from other sites are not answered")

    async def _admit(self, request: Request, body: Body, receive: Receive) -> Receive:
        path, is_safe = request.scope["path"], request.method in SAFE_METHODS
        if is_safe and not body.is_whole:
            raise HTTPException(400, f"a {request.method} request has no body")
        if is_safe and (path.startswith(self._static) or self._door.asks_nobody(request)):
            return receive
        visit = self._door.visit(request)
        request.state.visitor, request.state.session = visit.visitor, visit.session
        request.state.session_is_new = visit.is_new and (visit.visitor or path == LOGIN)
        if visit.visitor is None and path != LOGIN:
            raise _login_demanded(request)
        if is_safe:
            return receive
        return await self._admit_act(request, visit, body, receive)

    async def _admit_act(
        self, request: Request, visit: Visit, body: Body, receive: Receive
    ) -> Receive:
        """POST, PUT and their like: are they meant by whoever sits at the browser?"""
        path, said = request.scope["path"], request.headers.get(CSRF_HEADER)
        if visit.session is not None:
            if not is_own_origin(request.headers, request.url.scheme):
                raise HTTPException(403, "requests from other sites are not answered")
            if said is not None or path.startswith("/api/"):
                self._check_csrf(visit, said)
        if path not in FOR_ALL and visit.visitor and visit.visitor.role < Role.REVIEWER:
            raise HTTPException(403, needs(Role.REVIEWER))
        content = await _content(request, body)
        if visit.session is not None and said is None and not path.startswith("/api/"):
            self._check_csrf(visit, _form_field(content))
        return replayed(content, receive)

    def _check_csrf(self, visit: Visit, said: str | None) -> None:
        assert visit.session is not None
        wanted = self._door.csrf(visit.session)
        if said is None or not hmac.compare_digest(said.encode(), wanted.encode()):
            raise HTTPException(403, STALE)

    async def _refuse(
        self, request: Request, body: Body, refused: HTTPException, send: Send
    ) -> None:
        headers = dict(refused.headers or {})
        if not body.is_whole:
            headers["Connection"] = "close"
            if "expect" not in request.headers:
                try:
                    await body.drain()
                except Gone:
                    return
        response = answer(request, refused.status_code, str(refused.detail), headers)
        await response(request.scope, request.receive, send)

    def _dress(self, scope: Scope, message: Message) -> None:
        """Add what every answer carries to its head."""
        headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
        names = {name.lower() for name, _ in headers}
        headers += [pair for pair in HEADERS if pair[0] not in names]
        if b"cache-control" not in names:
            is_static = scope["path"].startswith(self._static) and message["status"] in (200, 304)
            headers.append((b"cache-control", FOR_GOOD if is_static else NEVER))
        if scope["state"]["session_is_new"] and not {b"cache-control", b"set-cookie"} & names:
            cookie = self._door.sessions().header(scope["state"]["session"])
            headers.append((b"set-cookie", cookie.encode()))
        message["headers"] = headers


async def _content(request: Request, body: Body) -> bytes:
    if body.is_whole:
        return b""
    path = request.scope["path"]
    wanted = wanted_type(path)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != wanted:
        raise HTTPException(415, f"the body must be {wanted}")
    most_bytes = MOST_BODY_BYTES if path.startswith("/api/") else MOST_FORM_BYTES
    if _declared(request.headers) > most_bytes:
        raise too_large(most_bytes)
    return await body.read(most_bytes)


def _declared(headers: Headers) -> int:
    length = headers.get("content-length", "0")
    return int(length) if length.isdecimal() else 0


def _form_field(content: bytes) -> str | None:
    try:
        fields = parse_qsl(content.decode("latin-1"), max_num_fields=100)
    except ValueError:
        return None
    return dict(fields).get(CSRF_FIELD)


def _login_demanded(request: Request) -> HTTPException:
    """For programs 401, for people the way to the form."""
    path = request.scope["path"]
    if path.startswith("/api/") or path == METRICS:
        return HTTPException(401, NOBODY, ASK_FOR_TOKEN)
    asked = path + (f"?{request.url.query}" if request.url.query else "")
    there = f"?next={quote(asked, safe='')}" if request.method == "GET" and asked != "/" else ""
    return HTTPException(303, NOBODY, {"Location": LOGIN + there})
