"""The web pages beside a service: a process of their own, kept up, ended with the service.

Whatever happens to it, frames are taken in and classified; and a page never waits for Python code
that classifies.
"""

from __future__ import annotations

import logging
import subprocess
import sys

from monitor.config import Settings

logger = logging.getLogger(__name__)

END_SECONDS = 3.0
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 300.0
STEADY_SECONDS = 60.0
"""What ran for so long has not failed at its start: the next pause is a short one again."""


class WebProcess:
    """At most one `trapwatch web`; started again, after growing pauses, when it ends by itself."""

    def __init__(self) -> None:
        self.problem: str | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._started, self._not_before = 0.0, 0.0
        self._pause = FIRST_PAUSE

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
            self._note_end(self._child, now)
        if settings.web.enabled and self._child is None and now >= self._not_before:
            self._start(settings, now)
        elif self._child is not None and now - self._started > STEADY_SECONDS:
            self.problem, self._pause = None, FIRST_PAUSE

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
        self._started = now

    def _note_end(self, child: subprocess.Popen[bytes], now: float) -> None:
        code, self._child = child.returncode, None
        _let_go(child)
        self.problem = f"the web pages ended (exit status {code}); the journal says why"
        self._not_before = now + self._pause
        logger.error("%s; they are started again in %.0f s", self.problem, self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)


def _let_go(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.stdin.close()
