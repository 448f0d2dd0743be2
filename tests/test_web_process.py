"""The pages beside the service: there when it is, gone when it is, never in its way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest
from faults.drill import Drill
from faults.systemd import running, stopped, wait_until
from webstation import free_port

from monitor.service.web_process import ASK_SECONDS, MOST_UNANSWERED, Pulse, says_anything

pytestmark = pytest.mark.slow


@pytest.fixture
def drill(tmp_path: Path) -> Drill:
    drill = Drill(tmp_path)
    drill.configure(port=free_port(), enabled=False)
    return drill


def port_of(drill: Drill) -> int:
    return int(drill.config.read_text().rsplit("port: ", 1)[1].split("}")[0])


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/api/v1/me", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def web_of(service: psutil.Process) -> psutil.Process | None:
    for child in service.children():
        if "web" in child.cmdline():
            return child
    return None


def test_the_service_serves_its_pages_and_takes_them_along_when_it_ends(drill, ears) -> None:
    port = port_of(drill)
    with running(drill, ears) as service:
        wait_until(lambda: answers(port))
        web = web_of(psutil.Process(service.pid))
        assert web is not None
        assert stopped(service) == 0
        assert not web.is_running()
    assert not answers(port)


def test_pages_do_not_outlive_a_service_that_was_killed(drill, ears) -> None:
    port = port_of(drill)
    with running(drill, ears) as service:
        wait_until(lambda: answers(port))
        service.kill()
        service.wait()
        wait_until(lambda: not answers(port), 8)


def test_pages_that_end_are_told_of_and_come_back(drill, ears) -> None:
    port = port_of(drill)
    with running(drill, ears) as service:
        wait_until(lambda: answers(port))
        web = web_of(psutil.Process(service.pid))
        assert web is not None
        web.kill()
        wait_until(lambda: not answers(port))
        wait_until(lambda: answers(port))
        wait_until(lambda: "web" in problems(drill))
        assert stopped(service) == 0
    assert "the web pages ended (exit status -9)" in drill.output.read_text()


IMPATIENT = """
import monitor.service.web_process as pages
pages.ASK_SECONDS, pages.ANSWER_SECONDS, pages.MOST_UNANSWERED = 1.0, 0.5, 20
"""


def test_pages_that_hang_are_ended_told_of_and_come_back(drill, ears) -> None:
    port = port_of(drill)
    with running(drill, ears, IMPATIENT) as service:
        wait_until(lambda: answers(port))
        web = web_of(psutil.Process(service.pid))
        assert web is not None
        web.suspend()
        wait_until(lambda: not web.is_running(), 80)
        wait_until(lambda: "web" in problems(drill))
        assert stopped(service) == 0
    assert "the web pages did not answer any more and were ended" in drill.output.read_text()


class Server:
    """Listens, and does with each connection what a test says."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port, self._serve = self._socket.getsockname()[1], serve
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            self._serve(connection)

    def says_anything(self) -> bool:
        with self._socket:
            return says_anything("127.0.0.1", self.port, 0.3)


def test_whatever_a_server_says_it_is_there() -> None:
    assert Server(lambda connection: connection.sendall(b"HTTP/1.1 503 busy")).says_anything()
    assert Server(lambda connection: None).says_anything(), "it hangs up"
    assert not Server(lambda connection: time.sleep(1)).says_anything()
    assert not says_anything("127.0.0.1", free_port(), 0.3), "nobody listens"


def pulse_of(server: Server | None, questions: int) -> Pulse:
    pulse = Pulse(0.0)
    port = server.port if server is not None else free_port()
    for number in range(1, questions + 1):
        pulse.feel("127.0.0.1", port, number * ASK_SECONDS)
        pulse.feel("127.0.0.1", port, number * ASK_SECONDS + 1)
        assert pulse._asking is not None
        pulse._asking.join(5)
    return pulse


def test_only_many_questions_in_a_row_without_an_answer_tell_that_pages_hang() -> None:
    silent = pulse_of(None, 3)
    assert (silent.unanswered, silent.has_answered) == (3, False)
    server = Server(lambda connection: connection.sendall(b"x"))
    silent.feel("127.0.0.1", server.port, 4 * ASK_SECONDS)
    assert silent._asking is not None
    silent._asking.join(5)
    assert (silent.unanswered, silent.has_answered) == (0, True)
    assert MOST_UNANSWERED * ASK_SECONDS >= 300, "never for a few busy minutes"


def test_a_port_that_is_taken_does_not_stop_the_service(drill, ears) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port_of(drill)))
        taken.listen()
        with running(drill, ears) as service:
            wait_until(lambda: "web" in problems(drill))
            assert service.poll() is None
            assert stopped(service) == 0
    assert f"{port_of(drill)}" in drill.output.read_text()


def test_a_new_config_moves_the_pages(drill, ears) -> None:
    before, after = port_of(drill), free_port()
    with running(drill, ears) as service:
        wait_until(lambda: answers(before))
        drill.configure(port=after, enabled=False)
        service.send_signal(signal.SIGHUP)
        wait_until(lambda: answers(after))
        assert not answers(before)
        assert stopped(service) == 0


def test_a_service_whose_pages_are_switched_off_has_none(drill, ears) -> None:
    drill.configure(enabled=False)
    with running(drill, ears) as service:
        assert web_of(psutil.Process(service.pid)) is None
        assert stopped(service) == 0


def problems(drill: Drill) -> dict[str, str]:
    """What `status` says is wrong with the service."""
    return dict(json.loads(drill.trapwatch("status", "--json").stdout)["service"]["problems"])


def test_pages_that_nobody_needs_any_more_end_by_themselves(drill) -> None:
    """`trapwatch web` under a service ends when the pipe does, whatever ended the service."""
    reading, writing = os.pipe()
    port = port_of(drill)
    command = [*drill.command("web"), "--until-stdin-ends"]
    with subprocess.Popen(command, stdin=reading) as web:
        os.close(reading)
        try:
            wait_until(lambda: answers(port))
            os.close(writing)
            assert web.wait(8) == 0
        finally:
            web.kill()
