"""People at a station's API, in one process: each with a token, a role and a clock by hand."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from logbook import NOW
from starlette.testclient import TestClient

from monitor.core.config import load_settings
from monitor.web.accounts import Role
from monitor.web.context import open_parts
from monitor.web.serving.app import create_app


class Clock:
    """The time of day; moves only when a test says so."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def passes(self, **time: float) -> None:
        self.now += timedelta(**time)


class Web:
    """The web of a station without a server; a second one at the same folder is a restart."""

    def __init__(self, config: Path, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.parts = open_parts(load_settings(config), self.clock)
        self.log = self.parts.log
        self._app = create_app(self.parts)

    def person(self, name: str, role: Role = Role.REVIEWER) -> Person:
        """Somebody who may do so much."""
        token = self.parts.accounts.add_token(name, role, self.clock(), None)
        return self.again(token)

    def again(self, token: str) -> Person:
        """Somebody who was here before: after a restart of the service."""
        return Person(TestClient(self._app, base_url="http://127.0.0.1"), token)

    def close(self) -> None:
        self.parts.close()


class Person:
    """Sends requests; `ok` answers the document, `refused` (status, words)."""

    def __init__(self, client: TestClient, token: str) -> None:
        self.client, self.token = client, token
        client.headers["Authorization"] = f"Bearer {token}"

    def ask(self, method: str, path: str, body: object = None, **more: object):
        return self.client.request(method, f"/api/v1{path}", json=body, **more)

    def get(self, path: str):
        return self._ok(self.ask("GET", path))

    def post(self, path: str, **body: object):
        return self._ok(self.ask("POST", path, body))

    def put(self, path: str, **body: object):
        return self._ok(self.ask("PUT", path, body))

    def refused(self, method: str, path: str, **body: object) -> tuple[int, str]:
        answer = self.ask(method, path, body or None)
        assert answer.status_code >= 400, answer.text
        return answer.status_code, answer.json()["error"]

    def next(self, count: int = 10, holding: object = (), **more: object) -> list[int]:
        """The frames that come next."""
        answer = self.post("/review/next", count=count, holding=list(holding), **more)
        return [frame["media_id"] for frame in answer["frames"]]

    def say(self, media_id: int, *species: str, **more: object):
        """Label one frame."""
        observations = [{"species": name} for name in species]
        return self.post("/labels", media_ids=[media_id], observations=observations, **more)

    @staticmethod
    def _ok(answer):
        assert answer.status_code == 200, answer.text
        return answer.json()
