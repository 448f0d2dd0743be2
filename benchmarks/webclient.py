"""A reviewer without a browser: asks a station's web pages as its JavaScript does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

START_SECONDS = 30.0


class Asked:
    """One connection that is kept open, as browsers keep theirs.

    Args:
        name: under which labels are recorded.
    """

    def __init__(self, port: int, name: str = "benchmark") -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers: dict[str, str] = {}
        self._headers["X-CSRF-Token"] = self.json("GET", "/api/v1/me")["csrf"]
        self.json("PUT", "/api/v1/me", {"name": name})
        self._headers["X-CSRF-Token"] = self.json("GET", "/api/v1/me")["csrf"]

    def get(self, path: str) -> bytes:
        """The body of a page or a picture. Raises RuntimeError unless it is answered with 200."""
        return self._ask("GET", path, None)

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """A question to the API."""
        return json.loads(self._ask(method, path, body))

    def label(self, media_id: int, species: str, request: str | None = None) -> Any:
        """Say what is in a frame."""
        said = {"media_ids": [media_id], "observations": [{"species": species}], "scope": "frame"}
        said |= {"request": request or uuid.uuid4().hex, "insist": True, "exact": False}
        return self.json("POST", "/api/v1/labels", said)

    def next(self, count: int, holding: list[int]) -> Any:
        """The next frames of the review queue."""
        wanted = {"count": count, "holding": holding, "queue": "informative"}
        return self.json("POST", "/api/v1/review/next", wanted)

    def _ask(self, method: str, path: str, body: Any) -> bytes:
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else json.dumps(body)
        self._connection.request(method, path, data, headers)
        answer = self._connection.getresponse()
        if cookie := answer.getheader("Set-Cookie"):
            self._headers["Cookie"] = cookie.split(";")[0]
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:300]!r}")
        return content


@contextmanager
def served(config: Path, port: int, command: str = "web") -> Iterator[None]:
    """`trapwatch web` on a station (or `run`, the whole service), in a process of its own."""
    words = [sys.executable, "-m", "monitor", command, "--config", str(config)]
    environ = {**os.environ, "TRAPWATCH_WEB__PORT": str(port)}
    with subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environ) as server:
        try:
            until_served(port)
            yield
        finally:
            server.terminate()


def until_served(port: int) -> None:
    """Wait until the pages answer."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            Asked(port)
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"no pages within {START_SECONDS:.0f} s")
