"""One connection of a browser, with the limits that uvicorn does not have."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from monitor.web.bodies import Limits
from monitor.web.checks import address_key, is_loopback


class Connections:
    """Who is connected. Used by the event loop only."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._from: Counter[str] = Counter()

    def take(self, address: str) -> bool:
        """Count one more, unless it is one too many. This machine may have all there are."""
        most = self.limits.most_connections
        most_from_one = most if is_loopback(address) else self.limits.most_from_one
        if self._from.total() >= most or self._from[address] >= most_from_one:
            return False
        self._from[address] += 1
        return True

    def leave(self, address: str) -> None:
        """Count one less."""
        self._from[address] -= 1
        if self._from[address] <= 0:
            del self._from[address]

    def protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Connection:
        """What uvicorn makes for each connection."""
        return Connection(self, config, server_state, app_state, _loop)


class Connection(H11Protocol):
    """Ends when a request's head does not arrive, or when its client takes no answer."""

    def __init__(
        self,
        all_of_them: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self._all, self._limits = all_of_them, all_of_them.limits
        self._address: str | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or hang up."""
        super().connection_made(transport)
        address = address_key(self.client[0] if self.client else "")
        if not self._all.take(address):
            transport.abort()
            return
        self._address = address
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or was sent away."""
        self._stop_head_timer()
        self._stop_stall_timer()
        if self._address is not None:
            self._all.leave(self._address)
            self._address = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """A piece of a request: the time for its head runs from its first piece."""
        if self.conn.their_state is h11.IDLE and self._head_timer is None:
            self._await_head()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_head_timer()

    def pause_writing(self) -> None:
        """More of the answer waits than is good: the client must take some in time."""
        super().pause_writing()
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(
                self._limits.stalled_seconds, self.transport.abort
            )

    def resume_writing(self) -> None:
        """It did."""
        super().resume_writing()
        self._stop_stall_timer()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.head_seconds, self.transport.abort)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
