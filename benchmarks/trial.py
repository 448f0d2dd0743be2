"""A station of its own for one measurement, run as the real program in a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STOP_SECONDS = 20.0
KEPT = "weights"
"""In the data folder: verified weights, and beside them the engine that a trial chose."""
CONFIG = """\
station: {{name: benchmark}}
database: {{url: "sqlite:///data/trapwatch.db"}}
watch: {{folders: ["{frames}"], settle_seconds: {settle}}}
classifier: {{engine: {engine}, threads: {threads}}}
training: {{enabled: false}}
models: {{directory: data/models}}
web: {{enabled: {web}, port: {port}}}
"""
_COUNTS = re.compile(r"(\d+) media: (\d+) classified, (\d+) rejected, (\d+) pending")


class TrialFailed(Exception):
    """A run ended in another way than it should; says what it printed last."""


@dataclass(frozen=True, slots=True)
class OneRun:
    """What one `run --once` took, start-up and all.

    Attributes:
        peak_mb: the most memory that was resident.
        counts: media, classified, rejected, pending.
    """

    wall_seconds: float
    processor_seconds: float
    peak_mb: float
    counts: dict[str, int]


class Trial:
    """A station folder with a config.yaml.

    Args:
        root: of the station; made if missing.
        frames: the watched folder, which may lie anywhere.
        engine: `auto`, `keras` or `ncnn`.
        settle_seconds: as in the config.
        threads: as in the config; 0 means all.
        port: where the service serves its pages; None: it does not.
    """

    def __init__(
        self,
        root: Path,
        frames: Path,
        engine: str = "auto",
        settle_seconds: float = 0,
        threads: int = 0,
        port: int | None = None,
    ) -> None:
        self.root, self.frames, self.data = root, frames, root / "data"
        self.config, self.journal = root / "config.yaml", root / "journal.txt"
        for folder in (self.data, frames):
            folder.mkdir(parents=True, exist_ok=True)
        text = CONFIG.format(
            frames=frames,
            engine=engine,
            settle=settle_seconds,
            threads=threads,
            web=str(port is not None).lower(),
            port=port or 0,
        )
        self.config.write_text(text, encoding="utf-8")

    def keep_from(self, other: Trial) -> None:
        """Begin with the verified weights and the engine that `other` chose, as a station has
        them after its first start."""
        shutil.copytree(other.data / KEPT, self.data / KEPT, dirs_exist_ok=True)

    def run_once(self, watch: Callable[[int], None] = lambda pid: None) -> OneRun:
        """`trapwatch run --once` to its end.

        Args:
            watch: called with the process id every half second while it runs.

        Raises:
            TrialFailed: it ended with an error.
        """
        start = time.perf_counter()
        process = self._start("run", "--once")
        try:
            while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
                watch(process.pid)
                _sleep_until_end(process.pid, 0.5)
        except BaseException:
            process.kill()
            process.wait()
            raise
        wall, used = time.perf_counter() - start, ended[2]
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        said = _COUNTS.search(self.journal.read_text(encoding="utf-8", errors="replace"))
        if process.returncode or said is None:
            raise TrialFailed(self.last_words())
        names = ("media", "classified", "rejected", "pending")
        counts = dict(zip(names, map(int, said.groups()), strict=True))
        return OneRun(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, counts)

    @contextmanager
    def service(self) -> Iterator[int]:
        """The running service's process id; ended by SIGTERM, or killed where that is not heard."""
        process = self._start("run")
        try:
            yield process.pid
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def reader(self) -> sqlite3.Connection:
        """A read-only connection to the log, once it is there."""
        path = self.data / "trapwatch.db"
        return sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, timeout=30)

    def last_words(self) -> str:
        """The end of what the program printed."""
        text = self.journal.read_text(encoding="utf-8", errors="replace")
        return text[-2000:] or "it printed nothing"

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "monitor", *words, "--config", str(self.config)]
        environ = {k: v for k, v in os.environ.items() if not k.startswith("TRAPWATCH_")}
        with open(self.journal, "wb") as journal:
            return subprocess.Popen(
                command, stdout=journal, stderr=journal, env=environ, cwd=self.root
            )


def _sleep_until_end(pid: int, seconds: float) -> None:
    """Wait, but not longer than the process runs (a pidfd is readable when it has ended)."""
    import select

    descriptor = os.pidfd_open(pid)
    try:
        select.select([descriptor], [], [], seconds)
    finally:
        os.close(descriptor)
