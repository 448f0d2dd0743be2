"""Serving the pages: one process, one port, sane limits, a quick and orderly end."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from types import FrameType

import uvicorn

from monitor.core.config import Settings, Web
from monitor.core.domain import TrapwatchError
from monitor.web.accounts import Accounts
from monitor.web.bodies import Limits
from monitor.web.checks import is_loopback
from monitor.web.connections import Connections
from monitor.web.context import open_parts
from monitor.web.serving.app import create_app

logger = logging.getLogger(__name__)

END_SECONDS = 2
"""What is not answered by then is cut off; the service waits three."""
HANDSHAKE_SECONDS = 10.0
MOST_HEAD_BYTES = 16 * 1024
WAITING = 128
ENDING = (signal.SIGTERM, signal.SIGINT)


class CannotServe(TrapwatchError):
    """The pages cannot be served like this; the message says what to change."""


def serve(
    settings: Settings, stop: threading.Event | None = None, limits: Limits = Limits()
) -> None:
    """Serve until `stop` is set, or (without one, in the main thread) until SIGTERM or SIGINT.

    Says "serving http://…" in the log once it does.

    Raises:
        CannotServe: not safe, or not possible; AccountsDamaged: nobody could get in.
    """
    web = settings.web
    if not is_safe_to_bind(web.host, accounts_exist=Accounts(settings.data_directory).exist()):
        raise CannotServe(
            f"web.host is {web.host}: others could reach this station, and no password is set. "
            "Set one first: trapwatch web password (or leave web.host at 127.0.0.1)"
        )
    context = tls_context(web)
    end = stop or threading.Event()
    with _listening(web.host, web.port) as sock, closing(open_parts(settings)) as parts:
        server = _Server(
            uvicorn.Config(
                create_app(parts, limits, end.set),
                loop="asyncio",
                http=Connections(limits).protocol,  # type: ignore[arg-type]  # it is only called
                ws="none",
                lifespan="on",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                backlog=WAITING,
                timeout_keep_alive=limits.idle_seconds,
                timeout_graceful_shutdown=END_SECONDS,
                h11_max_incomplete_event_size=MOST_HEAD_BYTES,
            ),
            end,
            context,
            _url(web, sock),
        )
        with ending_on_signals(server.stop) if stop is None else nullcontext():
            server.run(sockets=[sock])
        if (what := parts.log.replaced()) is not None:
            raise CannotServe(f"{what} while the pages were served; start them again")
    logger.info("the pages are closed")


def is_safe_to_bind(host: str, *, accounts_exist: bool) -> bool:
    """True if serving there lets nobody in who should not be."""
    return accounts_exist or is_loopback(host)


def tls_context(web: Web) -> ssl.SSLContext | None:
    """Certificate and key, ready to use; None for http. Raises CannotServe."""
    if web.certificate is None:
        if web.key is not None:
            raise CannotServe("web.key is set but web.certificate is not: https needs both")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(web.certificate, web.key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        files = " and ".join(str(file) for file in (web.certificate, web.key) if file)
        raise CannotServe(f"web.certificate, web.key: {files} cannot be used: {error}") from None
    return context


class _Server(uvicorn.Server):
    """uvicorn with an end that others may ask for, and a limit for TLS handshakes."""

    def __init__(
        self,
        config: uvicorn.Config,
        stop: threading.Event,
        context: ssl.SSLContext | None,
        url: str,
    ) -> None:
        super().__init__(config)
        self.stop, self._context, self._url = stop, context, url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. uvicorn's own way gives a client a whole minute to shake hands."""
        await self.lifespan.startup()
        assert sockets is not None
        loop = asyncio.get_running_loop()
        config, state = self.config, self.lifespan.state
        listening = await loop.create_server(
            lambda: config.http_protocol_class(config, self.server_state, state),  # type: ignore[call-arg]
            sock=sockets[0],
            ssl=self._context,
            ssl_handshake_timeout=HANDSHAKE_SECONDS if self._context else None,
            backlog=config.backlog,
        )
        self.servers = [listening]
        self.started = True
        logger.info("serving %s", self._url)

    async def on_tick(self, counter: int) -> bool:
        """True when it is time to end; asked ten times a second."""
        return await super().on_tick(counter) or self.stop.is_set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """`ending_on_signals` hears them: uvicorn's way ends the process by the signal itself."""
        yield


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket bound to the first address of a host. Raises CannotServe."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            "127.0.0.1" if host.lower() == "localhost" else host,
            port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )[0]
    except (OSError, UnicodeError):
        raise CannotServe(f"web.host: '{host}' is no address of this machine") from None
    with socket.socket(family, kind, proto) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
            sock.listen(WAITING)
        except OSError as error:
            raise CannotServe(_why_not_bound(host, port, error)) from None
        yield sock


def _why_not_bound(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} of {host} is taken: another program, or another trapwatch, serves there; "
            "set web.port or --port to another number"
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs rights that this user lacks: set web.port to 1024 or above"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"web.host: '{host}' is no address of this machine"
    return f"port {port} of {host} cannot be used: {os.strerror(error.errno or 0)}"


def _url(web: Web, sock: socket.socket) -> str:
    host = f"[{web.host}]" if ":" in web.host else web.host
    scheme = "https" if web.certificate is not None else "http"
    return f"{scheme}://{host}:{sock.getsockname()[1]}"


def _no_password() -> str:
    raise ValueError("the key is locked with a password; trapwatch cannot ask for it at its start")


@contextmanager
def ending_on_signals(stop: threading.Event) -> Iterator[None]:
    """Inside, SIGTERM and SIGINT set `stop`. In the main thread only."""

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, end) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
