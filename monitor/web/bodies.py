"""Bodies of requests are read whole, before any route runs: bounded in bytes and in time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the server one client may use.

    Attributes:
        head_seconds: from the first sign of a request until its head is whole.
        body_seconds: until its body is whole.
        idle_seconds: how long a connection waits for the next request.
        stalled_seconds: how long an answer waits for a client that takes nothing.
        most_connections: at once, from everywhere.
        most_from_one: at once, from one other machine.
    """

    head_seconds: float = 10.0
    body_seconds: float = 30.0
    idle_seconds: int = 10
    stalled_seconds: float = 60.0
    most_connections: int = 256
    most_from_one: int = 64


MOST_BODY_BYTES = 1024 * 1024
MOST_FORM_BYTES = 64 * 1024
MOST_DRAINED_BYTES, DRAINED_SECONDS = 8 * 1024 * 1024, 5.0
"""A client that still sends cannot hear why it is refused: so much is read and thrown away."""


class Gone(Exception):
    """The client has left; nobody waits for an answer."""


class Body:
    """The body of one request."""

    def __init__(self, receive: Receive, *, follows: bool, seconds: float) -> None:
        self._receive, self._seconds = receive, seconds
        self.is_whole = not follows

    async def read(self, most_bytes: int) -> bytes:
        """All of it. Raises HTTPException 413 or 408, or Gone."""
        content = bytearray()
        try:
            async with asyncio.timeout(self._seconds):
                while not self.is_whole:
                    content += await self._next()
                    if len(content) > most_bytes:
                        raise too_large(most_bytes)
        except TimeoutError:
            raise HTTPException(408, f"the body took longer than {self._seconds:g} s") from None
        return bytes(content)

    async def drain(self) -> None:
        """Read what still comes, within bounds, and forget it."""
        count = 0
        try:
            async with asyncio.timeout(min(self._seconds, DRAINED_SECONDS)):
                while not self.is_whole and count <= MOST_DRAINED_BYTES:
                    count += len(await self._next())
        except TimeoutError:
            return

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Gone
        self.is_whole = not message.get("more_body", False)
        part: bytes = message.get("body", b"")
        return part


def too_large(most_bytes: int) -> HTTPException:
    """More than is taken."""
    return HTTPException(413, f"too large: at most {most_bytes // 1024} KiB are taken")


def replayed(content: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already, then whatever else comes (that the client left)."""
    given = False

    async def once() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": content, "more_body": False}

    return once
