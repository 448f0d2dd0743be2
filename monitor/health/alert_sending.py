"""One message over one channel, by Apprise. It is imported when there is something to send: it
takes some 35 MB, which a station that tells nobody anything need not have.

Addresses are secrets, and libraries write them into their messages: those are kept from the logs,
and what they say of a failure is told with every part of the address taken out.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from pydantic import SecretStr

from monitor.core.config.alerts import scheme_of
from monitor.core.domain import TrapwatchError

CONNECT_SECONDS, READ_SECONDS = 15.0, 45.0
"""For one answer of the other side, where the address itself says nothing (`cto=`, `rto=`)."""
LONGEST_PROBLEM = 300
_CAUSE = re.compile(r"Socket Exception: .*?\(Caused by \w+\([\"'](?:\w+\(.*?\): )?(.*?)[\"']\)\)")
"""Of what the HTTP library says of a line that is down, the end is for people."""
NO_SERVICE = (
    "Apprise does not understand this address, or needs one more package for it (docs/alerts.md): "
    "look at its spelling"
)
CHATTY = ("apprise", "urllib3", "requests", "requests_oauthlib", "oauthlib", "paho")
"""Loggers whose messages may hold addresses."""


class NotSent(TrapwatchError):
    """A message was not taken; says why, without the address."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: words, and perhaps a JPEG."""

    subject: str
    body: str
    picture: bytes | None = None


def send(url: SecretStr, message: Message) -> None:
    """Send; returns once the other side has taken it.

    Raises:
        NotSent: see there.
    """
    secret = url.get_secret_value()
    with _overheard() as said:
        try:
            done = _notify(secret, message)
        except NotSent:
            raise
        except Exception as error:  # noqa: BLE001 of some hundred plugins, each with its own
            said.append(f"{type(error).__name__}: {error}")
            done = False
    if not done:
        problem = _CAUSE.sub(r"\1", " ".join(said)) or f"{scheme_of(secret)} gave no reason"
        raise NotSent(without_secrets(problem, secret))


def without_secrets(text: str, url: str) -> str:
    """A text with every part of the address but its scheme taken out, and in one line."""
    rest = url.partition("://")[2]
    parts = {url, rest, *re.split(r"[/:@?&=,#]+", rest)}
    parts |= {unquote(part) for part in parts}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) > 2:
            text = text.replace(part, "…")
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_PROBLEM else f"{text[:LONGEST_PROBLEM]}…"


def _notify(secret: str, message: Message) -> bool:
    from apprise import Apprise, AppriseAttachment, NotifyFormat
    from apprise.attachment import memory

    service: Any = Apprise.instantiate(secret, asset=_asset(), suppress_exceptions=False)
    if service is None:
        raise NotSent(NO_SERVICE)
    for name, seconds in (("connect", CONNECT_SECONDS), ("read", READ_SECONDS)):
        attribute = f"socket_{name}_timeout"
        if attribute not in vars(service):  # the address says nothing of it
            setattr(service, attribute, seconds)
    attached = None
    if message.picture is not None:
        attached = AppriseAttachment()
        in_memory: Any = memory.AttachMemory
        attached.add(in_memory(message.picture, name="frame.jpg", mimetype="image/jpeg"))
    one = Apprise(asset=service.asset)
    one.add(service)
    return bool(
        one.notify(
            body=message.body,
            title=message.subject,
            attach=attached,
            body_format=NotifyFormat.TEXT,
        )
    )


def _asset() -> Any:
    """What Apprise does besides: no pictures from elsewhere, nothing on the disk, and no threads
    of its own, which the program would have to wait for at its end."""
    from apprise import AppriseAsset, PersistentStoreMode

    return AppriseAsset(
        app_id="trapwatch",
        app_desc="trapwatch",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        async_mode=False,
        pgp_autogen=False,
        pem_autogen=False,
        service_timeout=0,
        storage_mode=PersistentStoreMode.MEMORY,
    )


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """What the libraries say in this thread: kept here, and from every log."""
    said: list[str] = []
    ear = _Ear(said)
    for name in CHATTY:
        chatty = logging.getLogger(name)
        chatty.propagate = False
        chatty.setLevel(logging.DEBUG)
        if not chatty.handlers:
            chatty.addHandler(logging.NullHandler())  # or Python itself would print warnings
        chatty.addHandler(ear)
    try:
        yield said
    finally:
        for name in CHATTY:
            logging.getLogger(name).removeHandler(ear)


class _Ear(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._said, self._thread = said, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Warnings, and of the rest what names an exception: `Connection refused` helps people."""
        words = record.getMessage()
        tells = record.levelno >= logging.WARNING or "Exception:" in words
        if record.thread == self._thread and tells and words not in self._said:
            self._said.append(words)
