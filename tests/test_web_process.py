"""The pages beside the service: there when it is, gone when it is, never in its way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest
from faults.drill import Drill
from faults.systemd import running, stopped, wait_until
from webstation import free_port

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
