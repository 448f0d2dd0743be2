"""The web pages beside a service: a process of their own, kept up, ended with the service.

Whatever happens to it, frames are taken in and classified; and a page never waits for Python code
that classifies.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
from contextlib import suppress

from monitor.core.config import Settings

logger = logging.getLogger(__name__)

END_SECONDS = 3.0
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0
STEADY_SECONDS = 60.0
"""What ran for so long has not failed at its start: the next pause is a short one again."""

ASK_SECONDS, ANSWER_SECONDS = 30.0, 10.0
"""So often it is asked whether it is there, and so long it has to say anything."""
MOST_UNANSWERED = 10
"""So many in a row without a word: it hangs. Five minutes: pages that are merely busy, or that
start on a slow machine, say something long before."""
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
QUESTION = b"OPTIONS /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
"""It costs the pages nothing: no thread, no look into the log."""


class Pulse:
    """Whether the pages say anything at all, asked now and then in a thread of its own.

    Attributes:
        unanswered: how many questions in a row nobody answered.
        has_answered: at least one was.
    """

    def __init__(self, now: float) -> None:
        self.unanswered, self.has_answered = 0, False
        self._asked = now
        self._asking: threading.Thread | None = None

    def feel(self, host: str, port: int, now: float) -> None:
        """Ask, if it is time to. Returns at once."""
        is_asking = self._asking is not None and self._asking.is_alive()
        if port and not is_asking and now - self._asked >= ASK_SECONDS:
            self._asked = now
            self._asking = threading.Thread(target=self._ask, args=(host, port), daemon=True)
            self._asking.start()

    def _ask(self, host: str, port: int) -> None:
        if says_anything(host, port, ANSWER_SECONDS):
            self.unanswered, self.has_answered = 0, True
        else:
            self.unanswered += 1


def says_anything(host: str, port: int, seconds: float) -> bool:
    """Whether a server says a word, whatever it is; that it hangs up is one, too."""
    try:
        connection = socket.create_connection((EVERYWHERE.get(host, host), port), seconds)
    except OSError:
        return False
    with connection:
        try:
            with suppress(BrokenPipeError):
                connection.sendall(QUESTION)
            connection.recv(1)
        except ConnectionError:
            return True
        except OSError:
            return False
    return True


class WebProcess:
    """At most one `trapwatch web`; started again, after growing pauses, when it ends by itself, or
    is ended because it does not answer any more."""

    def __init__(self) -> None:
        self.problem: str | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._started, self._not_before = 0.0, 0.0
        self._pause = FIRST_PAUSE
        self._pulse = Pulse(0.0)

    @property
    def pid(self) -> int | None:
        """The process that serves now."""
        return self._child.pid if self._child is not None else None

    def tend(self, settings: Settings, now: float) -> None:
        """Start it if the config wants it and it is not up.

        Args:
            now: monotonic seconds.
        """
        if self._child is not None and self._child.poll() is not None:
            self._note_end(
                f"ended (exit status {self._child.returncode}); the journal says why", now
            )
        if self._child is not None:
            self._pulse.feel(settings.web.host, settings.web.port, now)
            if self._pulse.unanswered >= MOST_UNANSWERED:
                self._note_end("did not answer any more and were ended", now)
        if settings.web.enabled and self._child is None and now >= self._not_before:
            self._start(settings, now)
        elif self._child is not None and self._is_steady(settings, now):
            self.problem, self._pause = None, FIRST_PAUSE

    def _is_steady(self, settings: Settings, now: float) -> bool:
        answers = self._pulse.has_answered or not settings.web.port
        return answers and now - self._started > STEADY_SECONDS

    def end(self) -> None:
        """End it; `tend` starts it again, with the config of then."""
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        _let_go(child)

    def _start(self, settings: Settings, now: float) -> None:
        command = [sys.executable, "-m", "monitor", "web", "--until-stdin-ends"]
        if settings.source is not None:
            command += ["--config", str(settings.source)]
        # Nothing is ever written into this pipe: it ends when the service does, even by SIGKILL.
        # A group of its own: Ctrl-C is the service's to hear, which ends both in order.
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0)
        self._started, self._pulse = now, Pulse(now)

    def _note_end(self, how: str, now: float) -> None:
        self.end()
        self.problem = f"the web pages {how}"
        self._not_before = now + self._pause
        logger.error("%s; they are started again in %.0f s", self.problem, self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)


def _let_go(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.stdin.close()
