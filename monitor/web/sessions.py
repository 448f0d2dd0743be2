"""Sessions: all that is known of one stands in its signed cookie, so it survives a restart."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from itsdangerous import BadData, URLSafeSerializer

RENEWED_AFTER_SECONDS = 86_400.0
DAY_SECONDS = 86_400.0


class Kind(StrEnum):
    """What a session stands for."""

    GUEST = "guest"  # looks at the login form
    LOCAL = "local"  # a browser at this machine, where no password is set
    PERSON = "person"  # has logged in


@dataclass(frozen=True, slots=True)
class Session:
    """One browser, as its cookie says.

    Attributes:
        identity: random; holds leases, and makes the CSRF token.
        name: of the person; of a local session once it has said one.
        fingerprint: of the person's password; empty for other kinds.
        issued_at: Unix seconds; renewed while the session is used.
    """

    kind: Kind
    identity: str
    issued_at: float
    name: str | None = None
    fingerprint: str = ""


def new_session(kind: Kind, now: float, name: str | None = None, fingerprint: str = "") -> Session:
    """A session that nobody had before."""
    return Session(kind, secrets.token_urlsafe(16), now, name, fingerprint)


class Sessions:
    """Signs and reads sessions.

    Args:
        secret: of this station.
        days: a session that was not used for so long has ended.
        is_tls: cookies travel encrypted only, and belong to this host alone.
    """

    def __init__(self, secret: bytes, days: float, *, is_tls: bool) -> None:
        self._secret, self._life_seconds, self._is_tls = secret, days * DAY_SECONDS, is_tls
        self._signer = URLSafeSerializer(
            secret,
            salt="trapwatch session",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )
        # Cookies know no ports: two stations at one machine must not take each other's.
        mark = hmac.new(secret, b"cookie name", "sha256").hexdigest()[:8]
        self.cookie_name = f"{'__Host-' if is_tls else ''}trapwatch_{mark}"

    def read(self, cookie: str | None, now: float) -> Session | None:
        """The session of a cookie's value; None if it is forged, damaged or has ended."""
        if not cookie:
            return None
        try:
            said: dict[str, Any] = self._signer.loads(cookie)
            session = Session(**{**said, "kind": Kind(said["kind"])})
        except (BadData, TypeError, KeyError, ValueError):
            return None
        # Issued in the future: a station without a clock of its own woke up in the past.
        return None if now - session.issued_at > self._life_seconds else session

    def is_due(self, session: Session, now: float) -> bool:
        """True if the session should be written anew, so that it lasts while it is used."""
        age = now - session.issued_at
        return age < 0 or age > min(RENEWED_AFTER_SECONDS, self._life_seconds / 4)

    def renewed(self, session: Session, now: float) -> Session:
        """The same session, lasting from now on."""
        return replace(session, issued_at=now)

    def header(self, session: Session | None) -> str:
        """The Set-Cookie header that keeps a session, or (None) takes it away."""
        value = "" if session is None else str(self._signer.dumps(asdict(session)))
        seconds = 0 if session is None else int(self._life_seconds)
        secure = "; Secure" if self._is_tls else ""
        return (
            f"{self.cookie_name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"
        )

    def csrf(self, session: Session) -> str:
        """What unsafe requests of this session must carry; another site cannot know it."""
        message = b"csrf " + session.identity.encode()
        return hmac.new(self._secret, message, "sha256").hexdigest()
