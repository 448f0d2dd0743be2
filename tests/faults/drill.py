"""A small whole station for drills."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from PIL import Image, ImageDraw

from monitor.log.engine import choose_sqlite

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"})
COLOURS = {"red fox": (200, 60, 30), "roe deer": (40, 170, 60), "blank": (60, 70, 200)}
HURRIED = (
    "import monitor.service.supervisor; monitor.service.supervisor.TRAINING_TICK_SECONDS = 1.0"
)
"""Run in a service before its start: it looks each second whether a training is due."""
CONFIG = """
database: {{url: "sqlite:///data/trapwatch.db"}}
watch: {{folders: [frames], settle_seconds: 0.1, reconcile_seconds: 2}}
deployments: {{event_gap_minutes: {gap}}}
classifier: {{backbone: {backbone}, unknown_below: 0.0, threads: 1, batch_size: 1}}
training:
  schedule: "{schedule}"
  min_new_labels: {min_new_labels}
  min_labels_per_species: 2
  enabled: {enabled}
  nice: {nice}
models: {{directory: data/models}}
disk: {{warn_mb: {warn_mb}, stop_mb: {stop_mb}}}
web: {{enabled: {web}, port: {port}}}
"""


class Drill:
    """A station in a folder of its own.

    Args:
        root: made if missing; holds config.yaml, frames/, sorted/ and data/.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.frames, self.sorted, self.data = root / "frames", root / "sorted", root / "data"
        self.config, self.output = root / "config.yaml", root / "output.txt"
        self.frames.mkdir(parents=True, exist_ok=True)
        self.configure()

    def configure(
        self,
        *,
        gap: int = 30,
        backbone: str = "small",
        schedule: str = "0 2 * * *",
        enabled: bool = True,
        min_new_labels: int = 1,
        nice: int = 0,
        port: int | None = None,
        warn_mb: int = 2,
        stop_mb: int = 1,
    ) -> None:
        """Write config.yaml; the web pages are served only where a port is given.

        Args:
            nice: how far a training steps back; by default not at all, for beside other tests,
                which keep every core busy, it would hardly ever get a turn.
        """
        text = CONFIG.format(
            gap=gap,
            backbone=backbone,
            schedule=schedule,
            enabled=str(enabled).lower(),
            min_new_labels=min_new_labels,
            nice=nice,
            web=str(port is not None).lower(),
            port=port or 0,
            warn_mb=warn_mb,
            stop_mb=stop_mb,
        )
        self.config.write_text(text, encoding="utf-8")

    def trapwatch(
        self, *arguments: str, seconds: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """One command in a process of its own."""
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=seconds, check=False
        )

    def command(
        self, *arguments: str, code: str | None = None, broken: str | None = None
    ) -> list[str]:
        """What to start for `trapwatch ARGUMENTS` on this station; `code` is run in it before.

        Args:
            broken: the protection to take away first; see `broken_service.BREAKS`.
        """
        words = [*arguments, "--config", str(self.config)]
        if broken is not None:
            script = str(Path(__file__).with_name("broken_service.py"))
            return [sys.executable, script, broken, *words]
        if code is None:
            return [sys.executable, "-m", "monitor", *words]
        start = f"import sys\nsys.argv = {['trapwatch', *words]}\nfrom monitor.cli import main"
        return [sys.executable, "-c", f"{code}\n{start}\nmain()"]

    @contextmanager
    def service(
        self, environ: Mapping[str, str] | None = None, command: Sequence[str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """The running service, its journal in output.txt; killed at the end if it still runs."""
        with open(self.output, "ab") as journal:
            process = subprocess.Popen(
                list(command or self.command("run")),
                stdout=journal,
                stderr=journal,
                env={**os.environ, **(environ or {})},
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows straight from the file; none where there is no log yet."""
        if not (self.data / "trapwatch.db").exists():
            return []
        connection = choose_sqlite().module.connect(str(self.data / "trapwatch.db"), timeout=30)
        try:
            return list(connection.execute(sql, values).fetchall())
        except choose_sqlite().module.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise
        finally:
            connection.close()

    def number(self, sql: str, *values: object) -> int:
        """The one number that `sql` answers; 0 where there is no log yet."""
        rows = self.query(sql, *values)
        return int(rows[0][0]) if rows else 0

    def files(self) -> dict[Path, str]:
        """Every image below frames/ and sorted/ that can be read, with its SHA-256."""
        found = {}
        for folder in (self.frames, self.sorted):
            for path in sorted(folder.rglob("*")):
                if path.suffix.lower() in SUFFIXES and path.is_file() and path.name[0] != ".":
                    try:
                        found[path] = hashlib.sha256(path.read_bytes()).hexdigest()
                    except OSError:
                        continue
        return found


class Zygote:
    """Runs trapwatch commands in forks of one process that has imported everything already."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("crasher.py")), "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        drill: Drill,
        *arguments: str,
        kill: tuple[str, str, int] | None = None,
        broken: str | None = None,
    ) -> int:
        """The exit status of a command; -9 if it was killed. Its output goes to output.txt.

        Args:
            broken: the protection to take away first; see `crasher.BREAKS`.
        """
        special = arguments[0] in ("render", "write-weights", "keep-picture")
        calls = ("housekeeping", "review", "propose", "tell", "replace-log")
        if len(arguments) == 1 and arguments[0] in calls:
            arguments = (*arguments, str(drill.config))
        elif not special:
            arguments = (*arguments, "--config", str(drill.config))
        output = str(drill.output)
        request = {"arguments": arguments, "kill": kill, "output": output, "broken": broken}
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(json.loads(self._process.stdout.readline()))

    def kill(self) -> None:
        """kill -9 for the command that another thread runs."""
        for child in psutil.Process(self._process.pid).children():
            child.kill()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def draw_frame(path: Path, species: str, at: datetime, seed: int) -> None:
    """A small JPEG in the colour of its species, with noise and an EXIF time."""
    rng = random.Random(seed)
    colour = tuple(min(255, max(0, c + rng.randint(-25, 25))) for c in COLOURS[species])
    image = Image.new("RGB", (96, 72), colour)
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = rng.randrange(96), rng.randrange(72)
        draw.ellipse((x, y, x + 9, y + 6), fill=tuple(rng.randrange(256) for _ in range(3)))
    exif = Image.Exif()
    exif[0x0132] = at.strftime("%Y:%m:%d %H:%M:%S")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    image.save(partial, "JPEG", quality=85, exif=exif)
    os.replace(partial, path)


def fill(drill: Drill, *, each: int = 4, unlabelled: int = 2) -> None:
    """Frames of three cameras and every species; copies of most of them, sorted by species."""
    at, seed = datetime(2024, 5, 1, 6), 0
    for camera in ("north", "south", "west"):
        for species in COLOURS:
            for number in range(each + unlabelled):
                at, seed = at + timedelta(minutes=45), seed + 1
                path = drill.frames / camera / f"IMG_{seed:04d}.JPG"
                draw_frame(path, species, at, seed)
                if number < each:
                    copy = drill.sorted / species.replace(" ", "_") / f"{camera}-{path.name}"
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(path, copy)
    (drill.frames / "north" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photograph")


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    """Content and mtime of everything in a folder: to see that nobody touched it."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
