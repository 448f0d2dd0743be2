"""Who comes to a station's pages in tests: a client that is let in as somebody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from fastapi import FastAPI
from logbook import NOW
from starlette.testclient import TestClient

from monitor.core.config import load_settings
from monitor.web.accounts import Role
from monitor.web.context import open_parts
from monitor.web.serving.app import create_app

PASSWORD = "a long enough password"


@contextmanager
def pages(config: Path, now: datetime = NOW) -> Iterator[FastAPI]:
    """The web of the station of this config, at this time."""
    parts = open_parts(load_settings(config), clock=lambda: now)
    try:
        yield create_app(parts)
    finally:
        parts.close()


def visit(app: FastAPI, role: Role | None = None) -> TestClient:
    """A browser that is in: as `role` with a password, or (None) as Ana at this machine, who may
    do all where nobody has a password."""
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    if role is not None:
        name = role.name.capitalize()
        app.state.parts.accounts.set_password(name, PASSWORD, role)
        token = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/login").text)
        assert token is not None
        form = {"name": name, "password": PASSWORD, "csrf_token": token[1], "next": "/"}
        answer = client.post("/login", data=form, follow_redirects=False)
        assert answer.status_code == 303, answer.text
    else:
        client.get("/")
    client.headers["X-CSRF-Token"] = client.get("/api/v1/me").json()["csrf"]
    if role is None:
        assert client.put("/api/v1/me", json={"name": "Ana"}).status_code == 200
    return client
