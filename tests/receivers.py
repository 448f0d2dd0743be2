"""Who is told something: a real web server and a real mail server, which a test can take down."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Webhook:
    """Takes what Apprise posts to json://127.0.0.1:PORT.

    Attributes:
        got: the documents, in the order in which they came.
        status: what it answers.
        refuses: what it answers 500 to, if the title has it.
    """

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.got: list[dict[str, Any]] = []
        self.status = 200
        self.refuses: str | None = None
        self._server: ThreadingHTTPServer | None = None

    @property
    def subjects(self) -> list[str]:
        """Of all that came."""
        return [one["title"] for one in self.got]

    def url(self, secret: str = "geheim-4711") -> str:
        """Its address, with a password and a token in the path."""
        return f"json://ranger:{secret}@127.0.0.1:{self.port}/hook/token-0815"

    def up(self) -> None:
        """Listen."""
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                document = json.loads(body)
                refused = hook.refuses is not None and hook.refuses in document["title"]
                status = 500 if refused else hook.status
                if status == 200:
                    hook.got.append(document)
                self.send_response(status)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def down(self) -> None:
        """Listen no more: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@contextmanager
def webhook() -> Iterator[Webhook]:
    """One that listens, until the end of the test."""
    hook = Webhook()
    hook.up()
    try:
        yield hook
    finally:
        hook.down()


@contextmanager
def silence() -> Iterator[int]:
    """The port of somebody who takes connections and never says a word."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(16)
        yield int(deaf.getsockname()[1])


class MailServer:
    """Just enough of SMTP (RFC 5321) to take a message. `mails` are those that came, as bytes."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as line:
                self._talk(line)

    def _talk(self, line: Any) -> None:
        def say(words: bytes) -> None:
            line.write(words + b"\r\n")
            line.flush()

        say(b"220 test")
        while command := line.readline():
            if command.upper().startswith(b"DATA"):
                say(b"354 go on")
                mail = []
                while (one := line.readline()) != b".\r\n":
                    mail.append(one)
                self.mails.append(b"".join(mail))
            elif command.upper().startswith(b"QUIT"):
                say(b"221 bye")
                return
            say(b"250 OK")


@contextmanager
def mail_server() -> Iterator[MailServer]:
    """One that listens, until the end of the test."""
    server = MailServer()
    try:
        yield server
    finally:
        server.close()
