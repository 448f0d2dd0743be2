"""The door: tells who asks, lets people in, and makes guessing slow."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from starlette.exceptions import HTTPException
from starlette.requests import Request

from monitor.core.config import Web
from monitor.core.domain import shown_path
from monitor.web.accounts import (
    LONGEST_NAME,
    LONGEST_PASSWORD,
    Accounts,
    Person,
    Role,
    name_key,
    usable_name,
)
from monitor.web.checks import METRICS, address_key, asks_nobody, is_loopback
from monitor.web.people import ASK_FOR_TOKEN, Visitor
from monitor.web.rate_limit import Key, Rule, Waits
from monitor.web.sessions import Kind, Session, Sessions, new_session

logger = logging.getLogger(__name__)

PAIR, NAME, ADDRESS = Rule(5, 60.0), Rule(10, 30.0), Rule(20, 60.0)
"""Wrong passwords for a name from an address, for a name at all, from an address at all."""
TOKENS = Rule(20, 60.0)
MOST_KNOWN = 1024
HASHED_AT_ONCE, HASH_WAIT_SECONDS = 2, 2.0
"""Each takes 19 MiB and a processor: a flood of logins must not take them all."""
BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class Visit:
    """What a request says of who sent it.

    Attributes:
        visitor: None where a login is demanded first.
        session: of a browser; None for a token.
        is_new: the browser does not know this session yet.
    """

    visitor: Visitor | None
    session: Session | None
    is_new: bool = False


class Authentication:
    """Who comes in, and as whom. Safe to share between threads.

    Args:
        clock: the time of day, in UTC.
    """

    def __init__(
        self,
        accounts: Accounts,
        web: Web,
        clock: Callable[[], datetime],
        waits: Waits | None = None,
    ) -> None:
        self._accounts, self._web, self._clock = accounts, web, clock
        self.waits = waits or Waits()
        self._hashing = threading.BoundedSemaphore(HASHED_AT_ONCE)
        self._lock = threading.Lock()
        self._signed: tuple[bytes, Sessions] | None = None
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    @property
    def is_local(self) -> bool:
        """True if only this machine can knock."""
        return is_loopback(self._web.host)

    def is_open(self) -> bool:
        """True where no login is demanded: no account exists, and only this machine can knock."""
        return self.is_local and not self._accounts.exist()

    def asks_nobody(self, request: Request) -> bool:
        """True where the answer is for everybody, whoever asks."""
        client = request.client.host if request.client else ""
        host = request.headers.get("host", "")
        return asks_nobody(request.scope["path"], self._web.metrics, client, host)

    def sessions(self) -> Sessions:
        """Signs with the secret of this station."""
        secret = self._accounts.secret()
        if self._signed is None or self._signed[0] != secret:
            is_tls = self._web.certificate is not None
            self._signed = (secret, Sessions(secret, self._web.session_days, is_tls=is_tls))
        return self._signed[1]

    def visit(self, request: Request) -> Visit:
        """Who sent a request. Raises HTTPException 401 or 429 for a token that is none."""
        said = request.headers.get("authorization", "")
        path = request.scope["path"]
        if said and (path.startswith("/api/") or path == METRICS):
            return Visit(self._bearer(said, request), None)
        sessions, now = self.sessions(), self._clock().timestamp()
        session = sessions.read(request.cookies.get(sessions.cookie_name), now)
        visitor = self._visitor(session, sessions) if session is not None else None
        is_open = self.is_open()
        if session is not None and (
            visitor is not None or (session.kind is Kind.GUEST and not is_open)
        ):
            if sessions.is_due(session, now):
                return Visit(visitor, sessions.renewed(session, now), is_new=True)
            return Visit(visitor, session)
        session = new_session(Kind.LOCAL if is_open else Kind.GUEST, now)
        return Visit(self._visitor(session, sessions), session, is_new=True)

    def csrf(self, session: Session) -> str:
        """What unsafe requests of a session must carry."""
        return self.sessions().csrf(session)

    def log_in(self, name: str, password: str, address: str) -> Session:
        """A new session for whoever knows the password.

        Raises:
            HTTPException: 401 for a wrong name or password, 429 if it must be tried later.
        """
        name, address = name_key(name), address_key(address)
        fits = len(name) <= 3 * LONGEST_NAME and len(password) <= LONGEST_PASSWORD
        name = name if fits else ""
        pair = Key(PAIR, ("pair", name, address))
        shared = [Key(NAME, ("name", name)), Key(ADDRESS, ("address", address))]
        if (name, address) in self._known:
            shared = []  # whoever else guesses does not lock out who came in from here before
        if wait := self.waits.start([pair, *shared]):
            raise too_many(wait)
        with self._one_of_few([pair, *shared]):
            person = self._accounts.check_password(name, password) if fits else None
        if person is None:
            logger.warning("login as '%s' from %s refused", _shown(name), address)
            raise HTTPException(401, "that name and password do not belong together")
        self.waits.succeeded([pair, *shared[:1]], uncount=shared[1:])
        self._remember(name, address)
        logger.info("'%s' has logged in from %s", _shown(person.name), address)
        return self._session_of(person)

    def named(self, session: Session, name: str) -> Session:
        """A local session that says its name. Raises AccountRefused for a name that is none."""
        return replace(session, name=usable_name(name))

    def _session_of(self, person: Person) -> Session:
        now = self._clock().timestamp()
        return new_session(Kind.PERSON, now, person.name, self._accounts.fingerprint(person))

    def _bearer(self, said: str, request: Request) -> Visitor:
        address = address_key(request.client.host if request.client else "")
        text = said[len(BEARER) :].strip() if said.lower().startswith(BEARER) else ""
        token = self._accounts.token(text, self._clock())
        if token is not None:  # a right one never waits: it cannot have been guessed
            return Visitor(token.name, token.role, f"token {token.sha256[:24]}", "")
        if wait := self.waits.start([Key(TOKENS, ("token", address))]):
            raise too_many(wait)
        logger.warning("an unknown or expired token from %s was refused", address)
        raise HTTPException(401, "this token is unknown or has expired", ASK_FOR_TOKEN)

    def _visitor(self, session: Session, sessions: Sessions) -> Visitor | None:
        csrf = sessions.csrf(session)
        if session.kind is Kind.LOCAL and self.is_open():
            return Visitor(session.name, Role.ADMIN, session.identity, csrf)
        person = self._accounts.person(session.name or "") if session.kind is Kind.PERSON else None
        if person is None or self._accounts.fingerprint(person) != session.fingerprint:
            return None
        return Visitor(person.name, person.role, session.identity, csrf, logged_in=True)

    @contextmanager
    def _one_of_few(self, tries: list[Key]) -> Iterator[None]:
        if not self._hashing.acquire(timeout=HASH_WAIT_SECONDS):
            self.waits.succeeded([], uncount=tries)  # it was not judged
            raise HTTPException(
                429, "many log in just now; try again in 2 seconds", {"Retry-After": "2"}
            )
        try:
            yield
        finally:
            self._hashing.release()

    def _remember(self, name: str, address: str) -> None:
        with self._lock:
            self._known.pop((name, address), None)
            self._known[name, address] = None
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)


def _shown(name: str) -> str:
    return shown_path(name.encode(errors="backslashreplace"))


def too_many(wait_seconds: int) -> HTTPException:
    """Come again later."""
    return HTTPException(
        429,
        f"too many wrong tries; try again in {wait_seconds} seconds",
        {"Retry-After": str(wait_seconds)},
    )
