"""What systemd does: start a service, hear it, send it signals."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .drill import Drill

STOPS_WITHIN = 10.0


class Ears:
    """The socket on which systemd listens."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))

    def hear(self, seconds: float, until: str | None = None) -> list[str]:
        """What comes in `seconds`, or up to and with the message that holds `until`."""
        heard: list[str] = []
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                heard.append(self._socket.recv(4096).decode())
            except TimeoutError:
                break
            if until is not None and until in heard[-1]:
                return heard
        assert until is None, f"never heard {until}, only {heard}"
        return heard

    def close(self) -> None:
        self._socket.close()


@contextmanager
def running(
    drill: Drill, ears: Ears, code: str | None = None, **environ: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The service, up and ready; `code` is run in it before its start."""
    command = drill.command("run", code=code)
    with drill.service({"NOTIFY_SOCKET": str(ears.path), **environ}, command) as service:
        ears.hear(30, until="READY=1")
        yield service


def wait_until(true: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def stopped(service: subprocess.Popen[bytes]) -> int:
    """SIGTERM, and the exit status, which must come in time."""
    service.send_signal(signal.SIGTERM)
    return service.wait(STOPS_WITHIN)
