"""Kills a running service again and again while frames arrive and it trains; counts what is lost.

python -m tests.faults.random_kill --kills 50
python -m tests.faults.random_kill --kills 8 --break intake    must report a loss
python -m tests.faults.random_kill --kills 200 --reads         another program reads the log, too
python -m tests.faults.random_kill --kills 8 --reads --break closing    must report a loss
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import psutil
from PIL import Image

from monitor.core.domain import Observation, utc_now
from monitor.log.engine import choose_sqlite
from monitor.log.species_log import SpeciesLog
from monitor.system.locks import TRAINING_LOCK_NAME, is_held

from . import foreign, shim
from .broken_service import HURRIED_BACKUPS
from .drill import COLOURS, Drill, draw_frame, snapshot
from .losses import losses

REAL_FRAMES = Path(__file__).parents[3] / "shared" / "data" / "camera-traps"
PROTECTIONS = ("intake", "closing")
READ_SECONDS = 0.5
UP_SHARE = 0.8
"""Of the kills: those that come after the service is up, not while it starts."""


@dataclass(slots=True)
class Report:
    """What a drill came to."""

    kills: int = 0
    in_training: int = 0
    files: int = 0
    media: Counter[str] = field(default_factory=Counter)
    labels: int = 0
    labels_said: int = 0
    versions: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    reads: int = 0
    backups: int = 0
    seconds: float = 0.0
    losses: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"machine: {processor_name()}",
            f"kills: {self.kills} ({self.in_training} while a training ran), {self.seconds:.0f} s",
            f"files written: {self.files}; media: {dict(self.media)}",
            f"labels: {self.labels} of {self.labels_said} said",
            f"trainings: {dict(self.runs)}; versions: {dict(self.versions)}",
            *(
                [f"reads by another program: {self.reads}; backups: {self.backups}"]
                * (self.reads > 0)
            ),
            f"losses: {len(self.losses)}",
            *(f"  {loss}" for loss in self.losses[:20]),
        ]
        return "\n".join(lines)


def processor_name() -> str:
    """As the system calls it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


class Camera:
    """A thread that keeps writing frames: real ones, drawn ones, broken ones, doubles."""

    def __init__(self, folder: Path, seed: int, most: int, pause: float) -> None:
        self._folder, self._rng, self._most, self._pause = folder, random.Random(seed), most, pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.written = 0

    def __enter__(self) -> Camera:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        real = sorted(REAL_FRAMES.rglob("*.[jJ][pP][gG]")) if REAL_FRAMES.is_dir() else []
        while not self._stop.wait(self._rng.uniform(0, 2 * self._pause)):
            if self.written < self._most:
                self._write(self.written, real)
                self.written += 1

    def _write(self, number: int, real: list[Path]) -> None:
        camera = self._folder / self._rng.choice(("north", "south", "west"))
        camera.mkdir(parents=True, exist_ok=True)
        path = camera / f"F{number:05d}.JPG"
        dice = self._rng.random()
        if dice < 0.08:
            path.write_bytes(self._rng.randbytes(self._rng.randrange(2000)))
        elif dice < 0.16 and real:
            self._slowly(self._rng.choice(real), path)
        else:
            species = self._rng.choice(tuple(COLOURS))
            at = datetime(2024, 5, 1) + timedelta(minutes=40 * number)
            draw_frame(path, species, at, number)

    def _slowly(self, source: Path, path: Path) -> None:
        """As a camera's Wi-Fi does: in pieces, under its final name; each copy its own bytes."""
        content = source.read_bytes() + f" copy {path.name}".encode()
        with path.open("wb") as file:
            for start in range(0, len(content), 200_000):
                file.write(content[start : start + 200_000])
                file.flush()
                self._stop.wait(0.02)


def drill_kills(
    root: Path,
    kills: int,
    *,
    seed: int = 0,
    broken: str | None = None,
    trainings: bool = True,
    reads: bool = False,
) -> Report:
    """Kill a service `kills` times while its folder fills, let it settle, count.

    Args:
        broken: the protection to take away first; see `PROTECTIONS`.
        trainings: label frames from outside, so that trainings run and are killed, too.
        reads: another program reads the log all the time, and the service makes a backup each
            second; whoever takes the locks off the log is reported, too.
    """
    drill, report, rng = Drill(root), Report(), random.Random(seed)
    drill.configure(schedule="* * * * *", min_new_labels=4)
    hurried = HURRIED_BACKUPS if reads and broken is None else None
    command = drill.command("run", broken=broken, code=hurried)
    lost_locks, count = root / "lost-locks.txt", root / "reads.txt"
    environ = shim.preloaded({"SHIM_LOCKS": str(lost_locks)}) if reads else None
    log = drill.data / "trapwatch.db"
    started = time.monotonic()
    said: dict[int, str] = {}
    with ExitStack() as around:
        camera = around.enter_context(Camera(drill.frames, seed, 40 * kills, 0.06))
        if reads:
            around.enter_context(foreign.reading(log, count, READ_SECONDS))
        for number in range(kills):
            _let_a_day_pass(drill)
            ups = _ups(drill)
            with drill.service(environ, command) as service:
                if rng.random() < UP_SHARE:
                    _wait_until_up(drill, ups)
                time.sleep(rng.uniform(0.2, 2.0))
                said |= _label_some(drill, rng) if trainings else {}
                if trainings and number % 3 == 2:
                    _wait_for_training(drill, rng.uniform(0, 3))
                report.in_training += _is_training(drill)
                _kill(service.pid, its_training_too=rng.random() < 0.7)
                service.wait()
                report.kills += 1
        report.files = camera.written
    before = snapshot(drill.frames)
    settle(drill)
    report.losses = losses(drill) + lost_labels(drill, said)
    if snapshot(drill.frames) != before:
        report.losses.append("a user's file was changed")
    if reads:
        report.reads = count.stat().st_size
        report.backups = drill.output.read_bytes().count(b"backup written")
        closed = [line for line in lost_locks.read_text().splitlines() if "lost lock" in line]
        report.losses += [f"lost locks: {len(closed)}, first {closed[0]}"] if closed else []
    report.labels_said = len(said)
    _count(drill, report)
    report.seconds = time.monotonic() - started
    return report


def settle(drill: Drill) -> None:
    """Let the last service's training end, take in and classify what is left."""
    for _ in range(60):
        done = drill.trapwatch("run", "--once")
        if done.returncode == 0:
            return
        time.sleep(0.5)
    raise AssertionError(done.stderr)


def lost_labels(drill: Drill, said: dict[int, str]) -> list[str]:
    """Labels that `label set` said it had recorded, and the log does not show."""
    rows = drill.query(
        "SELECT label.media_id, species.name, count(*) FROM label "
        "JOIN observation ON observation.label_id = label.id "
        "JOIN species ON species.id = observation.species_id GROUP BY 1, 2"
    )
    there = {(media, species): count for media, species, count in rows}
    return [
        f"label of media {media} as {species}: {there.get((media, species), 0)} times"
        for media, species in said.items()
        if there.get((media, species), 0) != 1
    ]


def _kill(pid: int, *, its_training_too: bool) -> None:
    """As the kernel would (the one process), or as a power cut would (all of them)."""
    process = psutil.Process(pid)
    children = process.children(recursive=True) if its_training_too else []
    for one in (process, *children):
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


def _let_a_day_pass(drill: Drill) -> None:
    """Move the training runs into the past, so that one is due again at once."""
    if drill.query("SELECT 1 FROM training_run LIMIT 1"):
        connection = choose_sqlite().module.connect(str(drill.data / "trapwatch.db"), timeout=30)
        for column in ("started_at", "finished_at"):
            connection.execute(
                f"UPDATE training_run SET {column} = "
                f"strftime('%Y-%m-%dT%H:%M:%fZ', {column}, '-1 day')"
            )
        connection.commit()
        connection.close()


def _label_some(drill: Drill, rng: random.Random) -> dict[int, str]:
    """Label up to six media by their true colour, from outside, through the log."""
    rows = drill.query(
        "SELECT id, path FROM media WHERE status = 'classified' AND label_id IS NULL AND "
        "width = 96 ORDER BY id DESC LIMIT 200"
    )
    said = {}
    if rows:
        with SpeciesLog(drill.data / "trapwatch.db") as log:
            for media_id, path in rng.sample(rows, min(6, len(rows))):
                species = true_species(Path(path))
                now = utc_now() - timedelta(days=1)  # a training is due
                log.label([media_id], [Observation(species)], "drill", "cli", now, insist=True)
                said[media_id] = species
    return said


def true_species(path: Path) -> str:
    """By the mean colour of a drawn frame."""
    with Image.open(path) as image:
        seen = image.convert("RGB").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    assert isinstance(seen, tuple)

    def distance(species: str) -> float:
        return sum(abs(a - b) for a, b in zip(seen, COLOURS[species], strict=True))

    return min(COLOURS, key=distance)


def _ups(drill: Drill) -> int:
    """How often the service said that it is up."""
    return drill.output.read_bytes().count(b" is up") if drill.output.exists() else 0


def _wait_until_up(drill: Drill, before: int) -> None:
    """A machine that is busy starts it slowly, and a kill before the first file shows little."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and _ups(drill) == before:
        time.sleep(0.05)


def _wait_for_training(drill: Drill, then: float) -> None:
    deadline = time.monotonic() + 12  # it is looked for every ten seconds
    while time.monotonic() < deadline and not _is_training(drill):
        time.sleep(0.1)
    time.sleep(then)


def _is_training(drill: Drill) -> bool:
    return is_held(drill.data / TRAINING_LOCK_NAME)


def _count(drill: Drill, report: Report) -> None:
    report.media = Counter(dict(drill.query("SELECT status, count(*) FROM media GROUP BY 1")))
    report.labels = drill.number("SELECT count(*) FROM label")
    report.versions = Counter(
        dict(drill.query("SELECT state, count(*) FROM model_version GROUP BY 1"))
    )
    report.runs = Counter(dict(drill.query("SELECT state, count(*) FROM training_run GROUP BY 1")))


def main(arguments: Sequence[str] | None = None) -> int:
    """The long form. Exit status 1 on any loss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--break", dest="broken", choices=PROTECTIONS)
    parser.add_argument("--reads", action="store_true", help="another program reads the log, too")
    parser.add_argument("--keep", type=Path, help="a new folder to work in, kept afterwards")
    chosen = parser.parse_args(arguments)
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="random-kill-"))
    options = {"seed": chosen.seed, "broken": chosen.broken, "reads": chosen.reads}
    report = drill_kills(folder, chosen.kills, **options)
    print(report)
    if not chosen.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return int(bool(report.losses))


if __name__ == "__main__":
    sys.exit(main())
