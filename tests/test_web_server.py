"""The real server over real sockets: who may reach it, how it bears slow clients, how it ends."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx2 as httpx
import pytest
from playwright.sync_api import sync_playwright
from webstation import browser, faults_of

from monitor.core.config import load_settings
from monitor.core.domain import utc_now
from monitor.health.certificate import ends_at, running_out
from monitor.health.doctor import examine
from monitor.health.verdict import health_of
from monitor.log.species_log import SpeciesLog
from monitor.web.accounts import Accounts
from monitor.web.bodies import Limits
from monitor.web.checks import is_loopback
from monitor.web.connections import Connections
from monitor.web.serving.server import CannotServe, is_safe_to_bind, serve, tls_context

START_SECONDS, END_SECONDS = 60.0, 15.0
SHORT = (
    "Limits(head_seconds=0.5, body_seconds=0.5, idle_seconds=1, stalled_seconds=0.5, "
    "most_connections=12)"
)
PROGRAM = f"""\
import logging, sys
from pathlib import Path
from monitor.core.config import load_settings
from monitor.health.doctor import examine
from monitor.core.domain import utc_now
from monitor.health.certificate import ends_at, running_out
from monitor.health.verdict import health_of
from monitor.log.species_log import SpeciesLog
from monitor.web.bodies import Limits
from monitor.web.serving.server import serve
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
serve(load_settings(Path(sys.argv[1]), {{"TRAPWATCH_WEB__PORT": "0"}}), limits={SHORT})
"""
GOOD = "three wet badgers"


@dataclass
class Served:
    """A server process."""

    process: subprocess.Popen[bytes]
    journal: Path
    url: str

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def connect(self) -> socket.socket:
        """A raw connection; what it waits for must come soon."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)


@contextmanager
def served(config: Path, *command: str, **streams: int) -> Iterator[Served]:
    """A real server in a process of its own."""
    journal = config.parent / "journal.txt"
    words = command or ("-c", PROGRAM, str(config))
    with journal.open("wb") as out:
        process = subprocess.Popen([sys.executable, *words], stdout=out, stderr=out, **streams)
    try:
        yield Served(process, journal, _address(process, journal))
    finally:
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _address(process: subprocess.Popen[bytes], journal: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        for line in journal.read_text().splitlines():
            if " serving " in line:
                return line.rsplit(" ", 1)[1]
        assert process.poll() is None, journal.read_text()
        time.sleep(0.02)
    raise AssertionError(f"not served: {journal.read_text()}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all tests that leave it as it was."""
    root = tmp_path_factory.mktemp("served")
    config = root / "config.yaml"
    config.write_text("classifier: {backbone: small}\n")
    with served(config) as server:
        yield server


def heard(sock: socket.socket) -> bytes:
    """All that comes until the server closes. Raises TimeoutError if it does not."""
    found = b""
    try:
        while part := sock.recv(65_536):
            found += part
    except ConnectionResetError:
        pass
    return found


def asked(sock: socket.socket) -> int:
    """The status of one whole answer; the connection stays."""
    sock.sendall(b"GET /api/v1/me HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    found = b""
    while not found.endswith(b"}"):
        found += sock.recv(65_536)
    return status_of(found)


def status_of(answer: bytes) -> int:
    """The status of a raw answer."""
    return int(answer.split(b" ", 2)[1])


def still_answers(server: Served) -> bool:
    return httpx.get(f"{server.url}/api/v1/me", timeout=5).status_code == 200


HEAD = b"POST /api/v1/labels HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


def test_slowloris_a_head_that_does_not_arrive_ends_the_connection(server) -> None:
    for start in (b"", b"G", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"):
        with server.connect() as sock:
            sock.sendall(start)
            before = time.monotonic()
            assert heard(sock) == b""
            assert time.monotonic() - before < 2
    assert still_answers(server)


def test_slowloris_a_drop_now_and_then_does_not_help(server) -> None:
    with server.connect() as sock:
        before = time.monotonic()
        with pytest.raises(OSError, match=r"reset|pipe"):
            while time.monotonic() - before < 3:
                sock.sendall(b"G")
                time.sleep(0.1)
        assert 0.4 < time.monotonic() - before < 2


def test_slowloris_the_second_request_of_a_connection_is_watched_too(server) -> None:
    with server.connect() as sock:
        assert asked(sock) == 200
        sock.sendall(b"GET /api")
        before = time.monotonic()
        heard(sock)
        assert time.monotonic() - before < 2


def test_an_idle_connection_is_closed_and_a_busy_one_is_kept(server) -> None:
    with server.connect() as sock:
        for _ in range(3):
            assert asked(sock) == 200
            time.sleep(0.4)
        before = time.monotonic()
        assert heard(sock) == b""
        assert time.monotonic() - before < 2.5


def csrf(server: Served) -> bytes:
    """Headers of a browser that may act."""
    answer = httpx.get(f"{server.url}/api/v1/me")
    ((name, value),) = answer.cookies.items()
    return f"Cookie: {name}={value}\r\nX-CSRF-Token: {answer.json()['csrf']}\r\n".encode()


def test_a_slow_body_is_answered_408_and_the_connection_closed(server) -> None:
    with server.connect() as sock:
        sock.sendall(HEAD + csrf(server) + b'Content-Length: 100\r\n\r\n{"a')
        before = time.monotonic()
        answer = heard(sock)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer.lower()
        assert time.monotonic() - before < 2.5


def test_a_body_that_nobody_may_send_is_not_waited_for(server) -> None:
    with server.connect() as sock:
        sock.sendall(HEAD + b"Content-Length: 100\r\n\r\n")
        before = time.monotonic()
        answer = heard(sock)
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"connection: close" in answer.lower()
        assert time.monotonic() - before < 2


@pytest.mark.parametrize("kind", ["declared", "chunked"])
def test_an_oversized_body_is_answered_413_and_the_connection_closed(server, kind) -> None:
    with server.connect() as sock:
        if kind == "declared":
            sock.sendall(HEAD + csrf(server) + b"Content-Length: 2000000\r\n\r\n")
            sock.sendall(b" " * 2_000_000)
        else:
            sock.sendall(HEAD + csrf(server) + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(20):
                sock.sendall(b"186a0\r\n" + b" " * 100_000 + b"\r\n")
            sock.sendall(b"0\r\n\r\n")
        answer = heard(sock)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"at most 1024 KiB" in answer


def test_an_endless_body_is_cut_off(server) -> None:
    sent, before = 0, time.monotonic()
    with server.connect() as sock:
        sock.sendall(HEAD + csrf(server) + b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError, match=r"reset|pipe"):
            while time.monotonic() - before < 10:
                sock.sendall(b"10000\r\n" + b" " * 65_536 + b"\r\n")
                sent += 65_536
    assert sent < 64 * 2**20
    assert still_answers(server)


def test_who_announces_a_body_and_waits_is_refused_before_sending_it(server) -> None:
    with server.connect() as sock:
        sock.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n")
        before = time.monotonic()
        assert heard(sock).startswith(b"HTTP/1.1 403 ")
        assert time.monotonic() - before < 0.4


def test_a_client_that_takes_no_answer_is_let_go(server) -> None:
    with server.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ask = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        before = time.monotonic()
        with pytest.raises(OSError, match=r"reset|pipe|timed out") as ended:
            while time.monotonic() - before < 10:
                sock.sendall(ask * 50)
        assert not isinstance(ended.value, TimeoutError)
    assert still_answers(server)


def test_too_many_connections_are_refused_and_others_come_in_later(server) -> None:
    held = [server.connect() for _ in range(12)]
    try:
        time.sleep(0.1)
        with server.connect() as one_more:
            before = time.monotonic()
            assert heard(one_more) == b""
            assert time.monotonic() - before < 0.3
    finally:
        for sock in held:
            sock.close()
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        try:
            assert still_answers(server)
            return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the places were not given back")


def test_one_other_machine_cannot_take_all_connections() -> None:
    all_of_them = Connections(Limits(most_connections=10, most_from_one=4))
    assert [all_of_them.take("10.0.0.7") for _ in range(5)] == [True] * 4 + [False]
    assert [all_of_them.take("127.0.0.1") for _ in range(7)] == [True] * 6 + [False]
    all_of_them.leave("10.0.0.7")
    assert all_of_them.take("10.0.0.8")
    assert not all_of_them.take("10.0.0.9")


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\x00b\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_rubbish_is_refused_and_leaves_no_trace_in_the_journal(server, rubbish) -> None:
    before = server.journal.read_text()
    with server.connect() as sock:
        sock.sendall(rubbish)
        answer = heard(sock)
    assert answer == b"" or status_of(answer) in range(200, 500)
    assert b"evil.example" not in answer
    assert server.journal.read_text() == before
    assert still_answers(server)


def test_the_server_does_not_say_what_it_is(server) -> None:
    answer = httpx.get(f"{server.url}/api/v1/me")
    assert not {"server", "date", "x-powered-by"} & set(answer.headers)


def test_nobody_can_claim_to_come_from_elsewhere(server) -> None:
    claims = {"X-Forwarded-For": "10.0.0.7", "X-Forwarded-Proto": "https", "Forwarded": "for=x"}
    answer = httpx.get(f"{server.url}/api/v1/me", headers=claims)
    assert answer.status_code == 200
    assert "Secure" not in answer.headers["set-cookie"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_tidily_within_seconds_whoever_is_connected(config, number) -> None:
    words = ("-m", "monitor", "web", "--port", "0", "--config", str(config))
    with served(config, *words) as server, server.connect() as silent, server.connect() as kept:
        silent.sendall(b"GET / HTT")
        assert asked(kept) == 200
        before = time.monotonic()
        server.process.send_signal(number)
        assert server.process.wait(30) == 0
        assert time.monotonic() - before < Limits().idle_seconds - 2  # did not wait for them
    assert "the pages are closed" in server.journal.read_text()
    assert "Traceback" not in server.journal.read_text()


def test_the_command_serves_until_its_stdin_ends(config) -> None:
    words = ("-m", "monitor", "web", "--port", "0", "--until-stdin-ends", "--config", str(config))
    with served(config, *words, stdin=subprocess.PIPE) as server:
        assert still_answers(server)
        assert server.process.stdin is not None
        server.process.stdin.close()
        assert server.process.wait(END_SECONDS) == 0


def test_the_command_ends_on_a_signal_too(config) -> None:
    words = ("-m", "monitor", "web", "--port", "0", "--host", "localhost", "--config", str(config))
    with served(config, *words) as server:
        assert server.url.startswith("http://localhost:")
        assert still_answers(server)
        server.process.terminate()
        assert server.process.wait(END_SECONDS) == 0


def test_a_password_set_while_it_runs_closes_it(config) -> None:
    with served(config) as server:
        assert still_answers(server)
        Accounts(config.parent / "data").set_password("Ana", GOOD)
        assert httpx.get(f"{server.url}/api/v1/me").status_code == 401
        assert httpx.get(f"{server.url}/").headers["location"] == "/login"


def test_the_login_form_works_without_javascript_and_is_accessible(config) -> None:
    Accounts(config.parent / "data").set_password("Ana", GOOD)
    with served(config) as server, sync_playwright() as playwright, browser(playwright) as opened:
        page = opened.new_context(java_script_enabled=False).new_page()
        page.goto(f"{server.url}/browse?species=badger")
        for password in ("wrong wrong", GOOD):
            page.get_by_label("Name").fill("Ana")
            page.get_by_label("Password").fill(password)
            page.get_by_role("button", name="Log in").click()
        assert page.url == f"{server.url}/browse?species=badger"
        page.get_by_role("button", name="Log out").click()
        assert page.url == f"{server.url}/login"
        page = opened.new_context(bypass_csp=True).new_page()
        page.goto(f"{server.url}/login")
        assert faults_of(page) == []


# --- where it may serve


@pytest.mark.parametrize(
    ("host", "only_here"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.7", False),
        ("station.lan", False),
        ("localhost.evil.example", False),
        ("::ffff:10.0.0.7", False),
        ("", False),
    ],
)
def test_what_others_can_reach_needs_an_account(host, only_here) -> None:
    assert is_loopback(host) == only_here
    assert is_safe_to_bind(host, accounts_exist=False) == only_here
    assert is_safe_to_bind(host, accounts_exist=True)


def test_serving_everybody_without_a_password_is_refused(config) -> None:
    words = ["web", "--host", "0.0.0.0", "--port", "0", "--config", str(config)]
    done = subprocess.run(
        [sys.executable, "-m", "monitor", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no password is set. Set one first: trapwatch web password" in done.stderr
    Accounts(config.parent / "data").set_password("Ana", GOOD)
    with served(config, "-m", "monitor", *words) as server:
        assert httpx.get(f"http://127.0.0.1:{server.port}/api/v1/me").status_code == 401


def test_a_port_that_is_taken_is_named(config) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = load_settings(config, {"TRAPWATCH_WEB__PORT": str(port)})
        with pytest.raises(CannotServe, match=f"port {port} of 127.0.0.1 is taken"):
            serve(settings)


@pytest.mark.parametrize("host", ["203.0.113.9", "no.such.host.invalid", "a..b"])
def test_an_address_of_another_machine_is_named(config, host) -> None:
    Accounts(config.parent / "data").set_password("Ana", GOOD)
    settings = load_settings(config, {"TRAPWATCH_WEB__HOST": host, "TRAPWATCH_WEB__PORT": "0"})
    with pytest.raises(CannotServe, match=f"'{host}' is no address of this machine"):
        serve(settings)


# --- https


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost, and its key."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    words = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run(
        [*words.split(), "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    return certificate, key


def test_https_serves_with_cookies_that_travel_encrypted_only(config) -> None:
    cert, key = certificate(config.parent)
    config.write_text(
        f"classifier: {{backbone: small}}\nweb: {{certificate: {cert}, key: {key}}}\n"
    )
    context = ssl.create_default_context(cafile=str(cert))
    with served(config) as server:
        assert server.url.startswith("https://127.0.0.1:")
        answer = httpx.get(f"https://localhost:{server.port}/api/v1/me", verify=context)
        assert answer.status_code == 200
        assert answer.headers["set-cookie"].startswith("__Host-trapwatch_")
        assert "; Secure" in answer.headers["set-cookie"]
        headers = {
            "X-CSRF-Token": answer.json()["csrf"],
            "Origin": f"http://localhost:{server.port}",
        }
        with httpx.Client(verify=context, cookies=answer.cookies) as browser:
            url = f"https://localhost:{server.port}/api/v1/me"
            assert browser.put(url, json={"name": "Ana"}, headers=headers).status_code == 403
            headers["Origin"] = f"https://localhost:{server.port}"
            assert browser.put(url, json={"name": "Ana"}, headers=headers).status_code == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://localhost:{server.port}/api/v1/me")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.TransportError):
            httpx.get(f"https://localhost:{server.port}/", verify=old)


def test_a_certificate_that_ends_soon_is_told(config) -> None:
    cert, key = certificate(config.parent)
    ends = ends_at(cert)
    assert ends is not None and timedelta(days=1) < ends - utc_now() < timedelta(days=3)
    assert ends_at(key) is ends_at(config.parent / "none.pem") is ends_at(None) is None
    (soon,) = running_out(ends, utc_now())
    assert f"ends on {ends:%Y-%m-%d}" in soon.words
    (over,) = running_out(ends, ends + timedelta(seconds=1))
    assert "browsers warn" in over.words
    assert list(running_out(ends, ends - timedelta(days=31))) == []
    assert list(running_out(None, utc_now())) == []
    config.write_text(
        f"classifier: {{backbone: small}}\nweb: {{certificate: {cert}, key: {key}}}\n"
    )
    settings = load_settings(config)
    with SpeciesLog(settings.data_directory / "trapwatch.db", create=True) as log:
        found = health_of(settings, log, utc_now())
        assert "certificate" in found.checks
    assert "certificate of the pages ends" in str(examine(settings))


def test_certificates_that_cannot_be_used_are_named(config) -> None:
    cert, key = certificate(config.parent)
    web = load_settings(config).web
    assert tls_context(web) is None
    assert tls_context(web.model_copy(update={"certificate": cert, "key": key})) is not None
    wrong = [
        ({"key": key}, "web.certificate is not"),
        ({"certificate": cert}, "cannot be used"),
        ({"certificate": config.parent / "none.pem", "key": key}, r"none\.pem .*cannot be used"),
        ({"certificate": key, "key": cert}, "cannot be used"),
    ]
    for values, words in wrong:
        with pytest.raises(CannotServe, match=words):
            tls_context(web.model_copy(update=values))
