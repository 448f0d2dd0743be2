"""Attacks on the pages and the API. Each test names one; docs/security.md lists them."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import httpx2 as httpx
import pytest
from logbook import NOW
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from monitor.core.config import Settings, load_settings
from monitor.web import authentication as door_module
from monitor.web.accounts import Accounts, Role
from monitor.web.bodies import MOST_BODY_BYTES, MOST_FORM_BYTES
from monitor.web.checks import HEALTH, IMPORT_PATH, METRICS, READY, address_key, is_host
from monitor.web.context import open_parts
from monitor.web.middleware import FOR_ALL, HEADERS
from monitor.web.rate_limit import Waits
from monitor.web.rendering import fingerprint
from monitor.web.serving.app import create_app

PASSWORDS = {role: f"three wet {role.name.lower()}s" for role in Role}
NAMES = {Role.VIEWER: "Vera", Role.REVIEWER: "Rui", Role.ADMIN: "Ada"}
LOCAL, LAN = "http://127.0.0.1", "http://station.lan:8700"


class Clock:
    """The station's time, and the seconds since some start: both as a test says."""

    def __init__(self) -> None:
        self.now, self.seconds = NOW, 0.0


class Web:
    """An application as `trapwatch web` serves it, and browsers of people.

    Attributes:
        base: how its visitors write it.
    """

    def __init__(self, settings: Settings, base: str) -> None:
        self.clock, self.base = Clock(), base
        self.parts = open_parts(settings, lambda: self.clock.now)
        self.app = create_app(self.parts)
        self.app.state.door.waits = Waits(lambda: self.clock.seconds)
        self.accounts = Accounts(settings.data_directory)  # as another process sees them

    def browser(self, address: str = "10.0.0.7") -> TestClient:
        """A browser that has been nowhere yet. It follows no redirects."""
        return TestClient(
            self.app,
            self.base,
            raise_server_exceptions=False,
            follow_redirects=False,
            client=(address, 5000),
        )

    def restarted(self) -> Web:
        """The same station after a restart of its server."""
        self.app = create_app(self.parts)
        return self

    def log_in(self, role: Role, address: str = "10.0.0.7") -> TestClient:
        """A browser in which somebody of that role has logged in."""
        browser = self.browser(address)
        answer = try_login(browser, NAMES[role], PASSWORDS[role])
        assert answer.status_code == 303, answer.text
        return browser


def form_token(browser: TestClient) -> str:
    """The CSRF token of the login form."""
    found = re.search(r'name="csrf_token" value="([0-9a-f]+)"', browser.get("/login").text)
    assert found is not None
    return found[1]


def try_login(
    browser: TestClient, name: str, password: str, next: str = "/", **headers: str
) -> httpx.Response:
    """Fill in the form and send it."""
    fields = {"name": name, "password": password, "next": next, "csrf_token": form_token(browser)}
    return browser.post("/login", data=fields, headers=headers)


def csrf_of(browser: TestClient) -> dict[str, str]:
    """The header that acts of this browser carry."""
    return {"X-CSRF-Token": browser.get("/api/v1/me").json()["csrf"]}


@pytest.fixture
def alone(config: Path) -> Iterator[Web]:
    """A station without any account, reached from its own machine only."""
    web = Web(load_settings(config), LOCAL)
    yield web
    web.parts.close()


@pytest.fixture
def shared(config: Path) -> Iterator[Web]:
    """A station on a network, with a viewer, a reviewer and an admin."""
    settings = load_settings(config, {"TRAPWATCH_WEB__HOST": "0.0.0.0"})
    accounts = Accounts(settings.data_directory)
    for role in Role:
        accounts.set_password(NAMES[role], PASSWORDS[role], role)
    web = Web(settings, LAN)
    yield web
    web.parts.close()


def routes_of(routes) -> Iterator[tuple[str, str]]:
    """(method, path) of every route; newer FastAPI keeps those of a router together."""
    for route in routes:
        if inner := getattr(route, "effective_candidates", None):
            yield from routes_of(inner())
        elif methods := getattr(route, "methods", None):
            yield from ((method, route.path) for method in methods if method != "HEAD")


# --- who may do what


REVIEWERS_OWN = {"/api/v1/labels/mine", "/api/v1/review/groups", "/review"}
"""What only shows what a reviewer does; viewers have no acts."""
ADMINS_ONLY = re.compile(r"/api/v1/(species|models)(/.*)?")


def needed(method: str, path: str) -> Role:
    """The least role that a route of the contract is for."""
    if path in REVIEWERS_OWN:
        return Role.REVIEWER
    if method == "GET" or path in FOR_ALL:
        return Role.VIEWER
    return Role.ADMIN if ADMINS_ONLY.fullmatch(path) else Role.REVIEWER


def send(browser: TestClient, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    path = re.sub(r"\{[^}]+\}", "1", path)
    if method == "GET":
        return browser.get(path, headers=headers)
    kind = "text/csv" if path == IMPORT_PATH else "application/json"
    content = "species\n" if path == IMPORT_PATH else "{}"
    return browser.request(method, path, content=content, headers={**headers, "Content-Type": kind})


def test_every_route_asks_for_its_role_and_for_a_login(shared) -> None:
    routes = sorted(set(routes_of(shared.app.routes)) - {("GET", "/login"), ("POST", "/login")})
    routes.remove(("POST", "/logout"))
    for path in (HEALTH, READY):  # one word for everybody: tests/test_web_metrics.py
        routes.remove(("GET", path))
    assert len(routes) > 20
    nobody = shared.browser()
    for method, path in routes:
        answer = send(nobody, method, path, {})
        demanded = 401 if path.startswith("/api/") or path == METRICS else 303
        assert answer.status_code == demanded, (method, path)
    for role in Role:
        browser = shared.log_in(role)
        headers = csrf_of(browser)
        for method, path in routes:
            may = role >= needed(method, path)
            answer = send(browser, method, path, headers)
            assert answer.status_code != 401, (role, method, path)
            assert not answer.headers.get("location", "").startswith("/login"), (role, path)
            assert (answer.status_code != 403) == may, (role, method, path, answer.text)


def test_no_unsafe_route_is_open_to_viewers_but_the_listed_ones(shared) -> None:
    unsafe = {path for method, path in routes_of(shared.app.routes) if method != "GET"}
    assert {"/login", "/logout", "/api/v1/me"} == FOR_ALL
    assert unsafe >= FOR_ALL
    viewer = shared.log_in(Role.VIEWER)
    headers = csrf_of(viewer)
    for path in ("/api/v1/labels", "/api/v1/nowhere", "/api/v1/me/"):  # nor what comes one day
        answer = viewer.post(path, json={}, headers=headers)
        assert answer.status_code == 403
        assert answer.json() == {"error": "this needs the role reviewer"}


def test_tokens_have_the_rights_of_their_role(shared) -> None:
    for role in Role:
        text = shared.accounts.add_token(f"robot {role.name}", role, NOW, None)
        program = shared.browser()
        headers = {"Authorization": f"Bearer {text}"}
        assert program.get("/api/v1/me", headers=headers).json()["role"] == role.name.lower()
        for path in ("/api/v1/labels/undo", "/api/v1/models/rollback"):
            answer = send(program, "POST", path, headers)
            assert (answer.status_code != 403) == (role >= needed("POST", path)), (role, path)
        assert "set-cookie" not in answer.headers


def test_without_accounts_everybody_at_this_machine_may_do_all_under_a_name_of_theirs(
    alone,
) -> None:
    browser = alone.browser("127.0.0.1")
    assert browser.get("/").status_code == 200
    me = browser.get("/api/v1/me").json()
    assert (me["name"], me["role"]) == (None, "admin")
    headers = csrf_of(browser)
    assert browser.put("/api/v1/me", json={"name": " Ana "}, headers=headers).status_code == 200
    assert browser.get("/api/v1/me").json() == {**me, "name": "Ana"}  # the same session
    assert alone.browser("127.0.0.1").get("/api/v1/me").json()["name"] is None
    alone.restarted()
    assert browser.get("/api/v1/me").json()["name"] == "Ana"


def test_the_first_account_closes_the_station_to_all_others_at_once(alone) -> None:
    browser = alone.browser("127.0.0.1")
    headers = csrf_of(browser)
    text = alone.accounts.add_token("robot", Role.VIEWER, NOW, None)
    assert browser.get("/api/v1/me").status_code == 401
    assert browser.get("/review").headers["location"] == "/login?next=%2Freview"
    assert browser.put("/api/v1/me", json={"name": "Eve"}, headers=headers).status_code == 401
    page = browser.get("/login").text
    assert "Nobody has a password here yet." in page
    bearer = {"Authorization": f"Bearer {text}"}
    assert browser.get("/api/v1/me", headers=bearer).status_code == 200
    alone.accounts.remove("robot")
    assert browser.get("/api/v1/me").json()["role"] == "admin"


def test_a_station_on_a_network_whose_accounts_are_gone_opens_to_nobody(shared) -> None:
    browser = shared.log_in(Role.ADMIN)
    shared.accounts.path.unlink()
    assert browser.get("/api/v1/me").status_code == 401
    assert shared.browser("127.0.0.1").get("/api/v1/me").status_code == 401


def test_damaged_accounts_let_nobody_in_and_say_so(alone, caplog) -> None:
    alone.accounts.path.write_text("{")
    for path in ("/", "/login", "/api/v1/me"):
        answer = alone.browser("127.0.0.1").get(path)
        assert answer.status_code == 503
        assert "its log says more" in answer.text
        assert str(alone.accounts.path) not in answer.text
    assert f"{alone.accounts.path} is damaged" in caplog.text


# --- cross-site request forgery


def test_csrf_an_act_without_the_token_of_its_session_is_refused(shared) -> None:
    browser, other = shared.log_in(Role.ADMIN), shared.log_in(Role.ADMIN)
    own, theirs = csrf_of(browser), csrf_of(other)
    assert browser.post("/api/v1/labels/undo", json={}, headers=own).status_code != 403
    for headers in (
        {},
        theirs,  # of another session of the same person
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": own["X-CSRF-Token"][:-1]},
        {"X-CSRF-Token": b"\xff"},
    ):
        answer = browser.post("/api/v1/labels/undo", json={}, headers=headers)
        assert answer.status_code == 403, headers
        assert "load the page anew" in answer.json()["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://station.lan:9999"},
        {"Origin": "http://station.lan:8700.evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://[x"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
        },
    ],
)
def test_csrf_an_act_that_another_site_sent_is_refused_even_with_the_token(shared, headers) -> None:
    browser = shared.log_in(Role.ADMIN)
    own = csrf_of(browser)
    answer = browser.post("/api/v1/labels/undo", json={}, headers={**own, **headers})
    assert answer.status_code == 403
    assert "other sites" in answer.json()["error"]
    good = {**own, "Origin": "http://station.lan:8700", "Sec-Fetch-Site": "same-origin"}
    assert browser.post("/api/v1/labels/undo", json={}, headers=good).status_code != 403


def test_csrf_a_form_of_another_site_cannot_act_where_no_login_is_demanded(alone) -> None:
    browser = alone.browser("127.0.0.1")
    browser.get("/")
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        sent = {"Content-Type": kind, "Origin": "https://evil.example"}
        answer = browser.post("/api/v1/labels/undo", content='{"a":"="}', headers=sent)
        assert answer.status_code == 403


def test_csrf_nobody_is_logged_in_or_out_by_another_site(shared) -> None:
    fields = {"name": NAMES[Role.ADMIN], "password": PASSWORDS[Role.ADMIN]}
    attacker, victim = shared.browser(), shared.browser()
    stolen = {**fields, "csrf_token": form_token(attacker)}
    assert victim.post("/login", data=stolen).status_code == 403  # has no session yet
    form_token(victim)
    assert victim.post("/login", data=stolen).status_code == 403
    assert victim.post("/login", data=fields).status_code == 403
    browser = shared.log_in(Role.ADMIN)
    assert browser.post("/logout").status_code == 403
    assert browser.get("/api/v1/me").status_code == 200


def test_a_page_of_another_site_cannot_even_ask(alone) -> None:
    browser = alone.browser("127.0.0.1")
    embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    framed = {**embedded, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    followed = {**framed, "Sec-Fetch-Dest": "document"}
    assert browser.get("/api/v1/sightings", headers=embedded).status_code == 403
    assert browser.get("/", headers=framed).status_code == 403
    assert browser.get("/", headers=followed).status_code == 200  # a link in a mail


def test_bodies_of_other_kinds_are_refused(alone) -> None:
    browser = alone.browser("127.0.0.1")
    headers = csrf_of(browser)
    for path, kind in (
        ("/api/v1/labels", "text/plain"),
        ("/api/v1/labels", "application/x-www-form-urlencoded"),
        ("/api/v1/labels", ""),
        (IMPORT_PATH, "application/json"),
        ("/logout", "multipart/form-data; boundary=x"),
    ):
        answer = browser.post(path, content="{}", headers={**headers, "Content-Type": kind})
        assert answer.status_code == 415, (path, kind)
        assert "must be" in answer.text


# --- DNS rebinding, Host and path tricks


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8700",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.7:8700",
        "0.0.0.0",
        "[::ffff:10.0.0.7]",
    ],
)
def test_dns_rebinding_a_foreign_name_for_this_machine_is_not_answered(alone, host) -> None:
    for path in ("/", "/api/v1/me", "/login", f"/static/{fingerprint()}/api.js"):
        answer = alone.browser("127.0.0.1").get(path, headers={"Host": host})
        assert answer.status_code == 421
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8700", "[::1]:8700"])
def test_this_machine_may_call_itself_by_its_own_names(alone, host) -> None:
    assert alone.browser("127.0.0.1").get("/api/v1/me", headers={"Host": host}).status_code == 200


def test_a_host_that_reads_like_a_path_opens_nothing(shared) -> None:
    open_to_all = f"/static/{fingerprint()}/"
    for host in (f"x{open_to_all}", f"x{open_to_all}?", "x/login#", "x\\login", "a b", "", "a@b"):
        assert not is_host(host)
        answer = shared.browser().get("/api/v1/me", headers={"Host": host})
        assert answer.status_code == 400, host


def test_paths_that_wind_around_the_guard_open_nothing(shared) -> None:
    for path in (
        f"/static/{fingerprint()}/../../api/v1/me",
        f"/static/{fingerprint()}/%2e%2e/%2e%2e/api/v1/me",
        f"/static/{fingerprint()}/..%2f..%2f..%2fpyproject.toml",
        f"/static/{fingerprint()}//etc/passwd",
        "/static/x/../../api/v1/me",
        "//api/v1/me",
        "/API/v1/me",
        "/login/",
        "/login/../api/v1/me",
        "/api/v1/%6de",
    ):
        answer = shared.browser().get(httpx.URL(LAN, raw_path=path.encode()))
        assert answer.status_code in (303, 401, 404), path
        assert "admin" not in answer.text


# --- redirects and headers


HOSTILE = [
    "//evil.example",
    "///evil.example",
    "https://evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "evil.example",
    "\\evil.example",
    "/\\evil.example",
    "/\t/evil.example",
    "\n//evil.example",
    "/ /evil",
    "/\r\nSet-Cookie: a=b",
    "/é",
    "/" + "x" * 3000,
    "",
]


@pytest.mark.parametrize("there", HOSTILE)
def test_open_redirect_a_login_leads_to_pages_of_this_station_only(shared, there) -> None:
    browser = shared.browser()
    shown = browser.get(f"/login?next={quote(there)}").text
    field = re.search(r'name="next" value="([^"]*)"', shown)
    answer = try_login(browser, NAMES[Role.VIEWER], PASSWORDS[Role.VIEWER], next=there)
    assert answer.status_code == 303
    went = answer.headers["location"]
    assert field is not None
    assert went == field[1] == "/"
    assert "a=b" not in answer.headers.get("set-cookie", "")
    inside = browser.get(f"/login?next={quote(there)}")
    assert inside.headers["location"] == went


def test_a_login_leads_back_to_the_page_that_was_asked_for(shared) -> None:
    browser = shared.browser()
    answer = browser.get("/browse?species=red%20fox&x=1")
    assert answer.status_code == 303
    there = answer.headers["location"]
    assert there == "/login?next=%2Fbrowse%3Fspecies%3Dred%2520fox%26x%3D1"
    wanted = "/browse?species=red%20fox&x=1"
    assert 'value="/browse?species=red%20fox&amp;x=1"' in browser.get(there).text
    done = try_login(browser, NAMES[Role.VIEWER], PASSWORDS[Role.VIEWER], next=wanted)
    assert done.headers["location"] == wanted
    assert browser.get(wanted).status_code == 200


def test_header_injection_no_value_of_a_visitor_makes_a_header(alone) -> None:
    browser = alone.browser("127.0.0.1")
    headers = csrf_of(browser)
    for name in ("Ana\r\nX-Evil: 1", "Ana\nSet-Cookie: a=b", "Ana; Domain=evil.example"):
        answer = browser.put("/api/v1/me", json={"name": name}, headers=headers)
        assert answer.status_code == (200 if ";" in name else 400)
        assert "x-evil" not in answer.headers
        assert "Domain" not in answer.headers.get("set-cookie", "")
    evil = browser.get("/nowhere%0d%0aX-Evil:%201")
    assert "x-evil" not in evil.headers


def test_security_headers_are_on_every_answer(shared, alone, monkeypatch) -> None:
    def broken(self) -> None:
        raise RuntimeError("a secret of the inside")

    admin = shared.log_in(Role.ADMIN)
    nobody = shared.browser()
    static = f"/static/{fingerprint()}/app.css"
    answers = [
        nobody.get("/login"),
        nobody.get("/"),
        nobody.get("/api/v1/me"),
        nobody.get(static),
        nobody.get(f"{static}.none"),
        nobody.get("/", headers={"Host": "a b"}),
        admin.get("/nowhere"),
        admin.get("/api/v1/nowhere"),
        admin.post("/"),
        admin.get("/api/v1/sightings?limit=many"),
        admin.put("/api/v1/me", content="x" * 2**21, headers={"Content-Type": "application/json"}),
        alone.browser("127.0.0.1").get("/", headers={"Host": "evil.example"}),
    ]
    monkeypatch.setattr(type(shared.parts.log), "species", broken)
    answers.append(admin.get("/api/v1/species"))
    assert [answer.status_code for answer in answers] == (
        [200, 303, 401, 200, 404, 400, 404, 404, 403, 422, 403, 421, 500]
    )
    for answer in answers:
        for name, value in HEADERS:
            assert answer.headers[name.decode()] == value.decode(), answer.url
        assert "server" not in answer.headers
        assert "RuntimeError" not in answer.text
        assert "secret" not in answer.text
        assert "style=" not in answer.text
        assert not re.search(r"<script(?![^>]* src=)", answer.text)
    kept = [answer.headers["cache-control"] for answer in answers]
    assert kept.pop(3) == "public, max-age=31536000, immutable"
    assert set(kept) == {"no-store"}
    assert answers[2].headers["www-authenticate"].startswith("Bearer")


# --- cross-site scripting


SCRIPTS = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' autofocus onfocus='"]
HURT = re.compile(r"<script>|<img src=x|' autofocus")


@pytest.mark.parametrize("name", SCRIPTS)
def test_xss_names_are_shown_as_text(alone, name) -> None:
    browser = alone.browser("127.0.0.1")
    headers = csrf_of(browser)
    assert browser.put("/api/v1/me", json={"name": name}, headers=headers).status_code == 200
    for path in ("/", "/nowhere"):
        page = browser.get(path)
        assert page.headers["content-type"].startswith("text/html")
        assert not HURT.search(page.text)
    assert browser.get("/api/v1/me").headers["content-type"] == "application/json"


@pytest.mark.parametrize("name", SCRIPTS)
def test_xss_what_was_typed_into_the_login_form_is_shown_as_text(shared, name) -> None:
    failed = try_login(shared.browser(), name, "wrong wrong wrong", next=f"/{name}")
    assert failed.status_code == 401
    assert 'name="password"' in failed.text
    assert "That name and password do not belong together." in failed.text
    assert not HURT.search(failed.text)
    assert not HURT.search(shared.browser().get(f"/login?next=/{quote(name)}").text)


# --- guessing


def test_brute_force_waits_grow_and_the_right_password_works_later(shared, caplog) -> None:
    caplog.set_level(logging.WARNING)
    browser, name = shared.browser("10.0.0.66"), NAMES[Role.ADMIN]
    codes = [try_login(browser, name, f"wrong {n}").status_code for n in range(5)]
    assert codes == [401] * 5
    held = try_login(browser, name, PASSWORDS[Role.ADMIN])
    assert held.status_code == 429
    assert held.headers["retry-after"] == "1"
    assert "try again in 1 seconds" in held.text
    shared.clock.seconds += 1
    assert try_login(browser, name, "wrong again").status_code == 401
    assert try_login(browser, name, PASSWORDS[Role.ADMIN]).headers["retry-after"] == "2"
    shared.clock.seconds += 2
    assert try_login(browser, name, PASSWORDS[Role.ADMIN]).status_code == 303
    assert "login as 'ada' from 10.0.0.66 refused" in caplog.text
    assert "wrong" not in caplog.text


def test_brute_force_an_attacker_locks_nobody_out_for_long(shared) -> None:
    name, password = NAMES[Role.ADMIN], PASSWORDS[Role.ADMIN]
    at_home = shared.log_in(Role.ADMIN, "10.0.0.7")
    for number in range(40):  # from everywhere, at once
        try_login(shared.browser(f"10.0.1.{number}"), name, "wrong wrong")
    assert try_login(shared.browser("10.0.0.7"), name, password).status_code == 303
    elsewhere = try_login(shared.browser("10.0.0.8"), name, password)
    assert elsewhere.status_code == 429
    assert int(elsewhere.headers["retry-after"]) <= door_module.NAME.longest_seconds <= 30
    shared.clock.seconds += 30
    assert try_login(shared.browser("10.0.0.8"), name, password).status_code == 303
    assert at_home.get("/api/v1/me").status_code == 200


def test_brute_force_many_names_from_one_address_wait_too(shared) -> None:
    browser = shared.browser("10.0.0.66")
    codes = [try_login(browser, f"name {n}", "wrong wrong").status_code for n in range(22)]
    assert codes == [401] * 20 + [429, 429]
    assert try_login(shared.browser("10.0.0.8"), "Nobody", "wrong wrong").status_code == 401


def test_brute_force_a_thousand_tries_at_once_are_not_free(shared) -> None:
    door = shared.app.state.door

    def guess(number: int) -> int:
        try:
            door.log_in(NAMES[Role.ADMIN], f"wrong wrong {number}", "10.0.0.66")
        except HTTPException as refused:
            return refused.status_code
        return 200

    with ThreadPoolExecutor(16) as threads:
        codes = list(threads.map(guess, range(64)))
    assert sorted(codes) == [401] * 5 + [429] * 59


def test_a_flood_of_logins_does_not_take_the_whole_machine(shared, monkeypatch) -> None:
    monkeypatch.setattr(door_module, "HASH_WAIT_SECONDS", 0.05)
    judging, door, browser = shared.accounts.check_password, shared.app.state.door, shared.browser()
    go_on, busy = threading.Event(), threading.Semaphore(0)

    def slowly(name: str, password: str):
        busy.release()
        go_on.wait(10)
        return judging(name, password)

    monkeypatch.setattr(shared.parts.accounts, "check_password", slowly)
    with ThreadPoolExecutor(2) as threads:
        name, password = NAMES[Role.ADMIN], PASSWORDS[Role.ADMIN]
        both = [threads.submit(door.log_in, name, password, f"10.0.0.{n}") for n in (1, 2)]
        assert busy.acquire(timeout=10)
        assert busy.acquire(timeout=10)
        answer = try_login(browser, NAMES[Role.VIEWER], PASSWORDS[Role.VIEWER])
        assert answer.status_code == 429
        assert "Retry-After" in answer.headers
        go_on.set()
        assert all(one.result(10).name == name for one in both)
    assert try_login(browser, NAMES[Role.VIEWER], PASSWORDS[Role.VIEWER]).status_code == 303


def test_brute_force_an_own_account_does_not_free_the_address(shared) -> None:
    browser = shared.browser("10.0.0.66")
    for number in range(20):
        try_login(browser, f"name {number}", "wrong wrong")
    shared.clock.seconds += 1
    assert try_login(shared.browser("10.0.0.66"), "Vera", PASSWORDS[Role.VIEWER]).status_code == 303
    shared.clock.seconds += 1
    assert try_login(browser, "name 99", "wrong wrong").status_code == 401
    assert try_login(browser, "name 99", "wrong wrong").headers["retry-after"] == "2"


def test_a_network_of_ipv6_addresses_counts_as_one() -> None:
    assert address_key("2001:db8::1") == address_key("2001:db8::ffff:2")
    assert address_key("2001:db8:0:1::1") != address_key("2001:db8::1")
    assert address_key("::ffff:10.0.0.7") == address_key("10.0.0.7")
    assert address_key("fe80::1%eth0") == "fe80::/64"
    assert address_key("") == ""


def test_names_with_controls_cannot_forge_lines_of_the_log(shared, caplog) -> None:
    caplog.set_level(logging.WARNING)
    try_login(shared.browser(), "ana\r\n2026 root logged in \x1b[31m", "wrong wrong")
    (record,) = [r for r in caplog.records if r.name == "monitor.web.authentication"]
    assert record.getMessage().isprintable()
    assert "\\r\\n2026 root" in record.getMessage()


def test_tokens_cannot_be_guessed_and_guessing_locks_out_no_right_one(shared, caplog) -> None:
    text = shared.accounts.add_token("robot", Role.VIEWER, NOW, days=1)
    program = shared.browser("10.0.0.66")

    def ask(said: str) -> httpx.Response:
        return program.get("/api/v1/me", headers={"Authorization": said})

    for said in ("Bearer", "Bearer ", "Basic QWRhOng=", text, f"Bearer {text}x", "Bearer null"):
        answer = ask(said)
        assert answer.status_code == 401, said
        assert answer.headers["www-authenticate"].startswith("Bearer")
    codes = [ask(f"Bearer {text[:-2]}{n:02}").status_code for n in range(30)]
    assert codes[-1] == 429
    assert ask(f"Bearer {text}").status_code == 200
    assert text[:-2] not in caplog.text
    shared.clock.now += timedelta(days=1)
    shared.clock.seconds += 60
    assert ask(f"Bearer {text}").status_code == 401


def test_a_token_opens_no_page_and_a_cookie_does_not_help_a_wrong_token(shared) -> None:
    text = shared.accounts.add_token("robot", Role.ADMIN, NOW, None)
    assert shared.browser().get("/", headers={"Authorization": f"Bearer {text}"}).is_redirect
    browser = shared.log_in(Role.ADMIN)
    wrong = {"Authorization": "Bearer nonsense"}
    assert browser.get("/api/v1/me", headers=wrong).status_code == 401


# --- sessions


def test_a_session_survives_a_restart_and_ends_with_its_time(shared) -> None:
    browser = shared.log_in(Role.REVIEWER)
    shared.restarted()
    browser.app = shared.app
    assert browser.get("/api/v1/me").json()["name"] == "Rui"
    shared.clock.now += timedelta(days=10)
    assert "set-cookie" in browser.get("/").headers  # used, so it lasts on
    assert "set-cookie" not in browser.get("/").headers
    shared.clock.now += timedelta(days=10)
    assert browser.get("/api/v1/me").status_code == 200
    shared.clock.now += timedelta(days=14, seconds=1)
    assert browser.get("/api/v1/me").status_code == 401


def test_session_forgery_no_changed_or_foreign_cookie_opens(shared, tmp_path) -> None:
    browser = shared.log_in(Role.VIEWER)
    ((cookie, value),) = browser.cookies.items()
    foreign = Accounts(tmp_path / "other")
    foreign.set_password(NAMES[Role.ADMIN], PASSWORDS[Role.ADMIN])
    payload, _, signature = value.rpartition(".")
    for forged in (f"{payload[:-1]}.{signature}", f".{signature}", payload, value[:-1], "x.y"):
        stranger = shared.browser()
        stranger.cookies.set(cookie, forged)
        assert stranger.get("/api/v1/me").status_code == 401, forged


@pytest.mark.parametrize("act", ["another password", "removed"])
def test_a_changed_password_and_a_removed_account_end_every_session_at_once(shared, act) -> None:
    mine, others = shared.log_in(Role.REVIEWER), shared.log_in(Role.VIEWER)
    if act == "removed":
        shared.accounts.remove("rui")
    else:
        shared.accounts.set_password("Rui", "another good one")
    assert mine.get("/api/v1/me").status_code == 401
    assert mine.get("/").headers["location"] == "/login"
    assert others.get("/api/v1/me").status_code == 200


def test_a_changed_role_counts_at_once(shared) -> None:
    browser = shared.log_in(Role.ADMIN)
    book = json.loads(shared.accounts.path.read_text())
    for person in book["people"]:
        person["role"] = int(Role.VIEWER)
    shared.accounts.path.write_text(json.dumps(book))
    assert browser.get("/api/v1/me").json()["role"] == "viewer"


def test_session_fixation_a_login_begins_a_new_session(shared) -> None:
    browser = shared.browser()
    before = form_token(browser)
    try_login(browser, NAMES[Role.VIEWER], PASSWORDS[Role.VIEWER])
    assert csrf_of(browser)["X-CSRF-Token"] != before


def test_logging_out_takes_the_session_away(shared) -> None:
    browser = shared.log_in(Role.VIEWER)
    page = browser.get("/").text
    assert '<form method="post" action="/logout">' in page
    answer = browser.post("/logout", data={"csrf_token": csrf_of(browser)["X-CSRF-Token"]})
    assert answer.headers["location"] == "/login"
    assert browser.get("/api/v1/me").status_code == 401


def test_who_has_logged_in_cannot_act_under_another_name(shared) -> None:
    browser = shared.log_in(Role.REVIEWER)
    answer = browser.put("/api/v1/me", json={"name": "Ada"}, headers=csrf_of(browser))
    assert answer.status_code == 409
    text = shared.accounts.add_token("robot", Role.REVIEWER, NOW, None)
    headers = {"Authorization": f"Bearer {text}"}
    answer = shared.browser().put("/api/v1/me", json={"name": "Ada"}, headers=headers)
    assert answer.status_code == 409


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(shared) -> None:
    answer = try_login(shared.browser(), NAMES[Role.VIEWER], PASSWORDS[Role.VIEWER])
    assert answer.headers["set-cookie"].endswith(
        "; Path=/; Max-Age=1209600; HttpOnly; SameSite=Lax"
    )


# --- bodies


def test_oversized_bodies_are_refused_declared_or_not(alone) -> None:
    browser = alone.browser("127.0.0.1")
    headers = {**csrf_of(browser), "Content-Type": "application/json"}
    fits = b'{"name": "Ana"' + b" " * (MOST_BODY_BYTES - 15) + b"}"
    assert len(fits) == MOST_BODY_BYTES
    assert browser.put("/api/v1/me", content=fits, headers=headers).status_code == 200
    for content in (fits + b" ", iter([fits, b" "]), b" " * 12 * 2**20):
        answer = browser.put("/api/v1/me", content=content, headers=headers)
        assert answer.status_code == 413
        assert answer.json() == {"error": "too large: at most 1024 KiB are taken"}


def test_forms_are_small(shared) -> None:
    browser = shared.browser()
    answer = try_login(browser, "Ana", "x" * MOST_FORM_BYTES)
    assert answer.status_code == 413
    long = try_login(browser, NAMES[Role.ADMIN], "x" * 2000)
    assert long.status_code == 401
    many = "&".join(f"a{n}=1" for n in range(2000))
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert browser.post("/login", content=many, headers=kind).status_code == 403


def test_requests_that_only_look_have_no_body(alone) -> None:
    answer = alone.browser("127.0.0.1").request("GET", "/", content=b"x" * 100)
    assert answer.status_code == 400
    assert answer.headers["connection"] == "close"


def test_a_web_socket_is_not_opened(alone) -> None:
    with pytest.raises(WebSocketDisconnect) as refused, alone.browser().websocket_connect("/"):
        raise AssertionError("it was opened")
    assert refused.value.code == 1008
