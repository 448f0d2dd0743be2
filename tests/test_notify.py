"""sd_notify: to a real socket, and silence where there is none."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from monitor.system.systemd import notify, watchdog_seconds


def test_systemd_hears_it(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        assert notify("READY=1\nSTATUS=fine", {"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert ear.recv(100) == b"READY=1\nSTATUS=fine"


def test_an_abstract_socket_is_found_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind("\0trapwatch-test-notify")
        assert notify("READY=1", {"NOTIFY_SOCKET": "@trapwatch-test-notify"})
        assert ear.recv(100) == b"READY=1"


def test_without_systemd_nothing_happens(tmp_path: Path) -> None:
    assert not notify("READY=1", {})
    assert not notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "gone")})


def test_a_systemd_that_does_not_listen_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.system.systemd.SEND_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        assert notify("WATCHDOG=1", environ)
        assert any(not notify("WATCHDOG=1", environ) for _ in range(5000)), "it never blocks"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("180000000", 180.0), ("", None), ("0", None), ("-5", None), ("soon", None)],
)
def test_the_watchdog_interval_is_read(text: str, seconds: float | None) -> None:
    assert watchdog_seconds({"WATCHDOG_USEC": text}) == seconds
