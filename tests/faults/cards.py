"""Cards that are pulled, cards that die, shares that hang: the service goes on, and loses nothing.

python -m tests.faults.cards --tries 100
python -m tests.faults.cards --tries 10 --break reading    must report losses

One service watches two folders. Something happens to the one, while frames arrive in both; those
of the other must be classified meanwhile, and all once it is over.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from . import shim
from .drill import COLOURS, Drill, draw_frame
from .losses import losses
from .random_kill import processor_name
from .shim import preloaded

PROTECTIONS = ("reading",)
GOES_ON_SECONDS = 30.0
"""So long a frame of the other folder may take on a slow machine, and so long the return."""
IN_1970, IN_2099 = 86_400.0, 4_070_908_800.0


@dataclass(slots=True)
class Report:
    """What a number of mishaps came to."""

    tries: Counter[str] = field(default_factory=Counter)
    frames: int = 0
    longest_wait: float = 0.0
    losses: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [
            f"mishaps: {self.tries.total()} {dict(self.tries)}, {self.frames} frames, "
            f"{self.seconds:.0f} s",
            f"longest wait of the other folder's frames meanwhile: {self.longest_wait:.1f} s",
            f"lost, double or held up: {len(self.losses)}; crashes: {len(self.crashes)}",
            *(f"  {line}" for line in (*self.losses[:20], *self.crashes[:20])),
        ]
        return "\n".join(lines)


class Field:
    """A station with a folder that is well, `local`, and one that is not, `card`."""

    def __init__(self, root: Path, seed: int) -> None:
        self.drill, self.rng = Drill(root / "station"), random.Random(seed)
        self.local, self.card = self.drill.frames / "local", self.drill.frames / "card"
        self.store, self.control = root / "store", root / "control"
        for folder in (self.local, self.card, self.store, self.control):
            folder.mkdir(parents=True, exist_ok=True)
        text = self.drill.config.read_text(encoding="utf-8")
        both = text.replace("folders: [frames]", "folders: [frames/local, frames/card]")
        self.drill.config.write_text(both, encoding="utf-8")
        self.written, self._said = 0, 0

    def arrive(self, folder: Path, number: int, mtime: float | None = None) -> list[Path]:
        """New frames in a folder."""
        paths = []
        for _ in range(number):
            self.written += 1
            path = folder / f"IMG_{self.written:05d}.JPG"
            at = datetime(2024, 5, 1) + timedelta(minutes=40 * self.written)
            draw_frame(path, self.rng.choice(tuple(COLOURS)), at, self.written)
            if mtime is not None:
                os.utime(path, (mtime, mtime))
            paths.append(path)
        return paths

    @contextmanager
    def fault(self, name: str, below: str) -> Iterator[None]:
        """While in here, the library does this to all paths that start with `below`."""
        file = self.control / name
        file.with_suffix(".new").write_text(below, encoding="utf-8")
        file.with_suffix(".new").rename(file)
        try:
            yield
        finally:
            file.unlink()

    def journal(self) -> str:
        """What the service has said so far."""
        return self.drill.output.read_text(encoding="utf-8", errors="replace")

    def listen(self) -> None:
        """What the service says from now on is of interest."""
        self._said = len(self.journal())

    def wait_for(self, words: str) -> bool:
        """Whether it says this in time; a regular expression."""
        return _until(lambda: re.search(words, self.journal()[self._said :]), GOES_ON_SECONDS)

    def classified(self, paths: Sequence[Path]) -> bool:
        """Whether these frames are through."""
        query = "SELECT count(*) FROM file JOIN media ON media.id = file.media_id "
        query += "WHERE status = 'classified' AND path_bytes IN "
        marks = ",".join("?" * len(paths))
        return self.drill.number(f"{query}({marks})", *map(os.fsencode, paths)) == len(paths)


def _is_mounting_possible() -> bool:
    """Whether this user may mount and unmount here."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "none", folder], capture_output=True, check=False
        )
        if done.returncode == 0:
            subprocess.run(["umount", "-l", folder], check=True)
    return done.returncode == 0


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


@contextmanager
def pulled(field: Field) -> Iterator[str]:
    """The card is unmounted while it is read."""
    _mount("--bind", field.store, field.card)
    field.wait_for(f"watched folder {field.card} is another one now")
    field.arrive(field.card, 6)
    time.sleep(field.rng.uniform(0, 0.6))
    field.listen()
    subprocess.run(["umount", "-l", str(field.card)], check=True)
    try:
        yield f"watched folder {field.card} is another one now"
    finally:
        for path in field.store.iterdir():  # it comes back
            shutil.move(path, field.card / path.name)


@contextmanager
def renamed(field: Field) -> Iterator[str]:
    """The folder is renamed away while it is read."""
    field.arrive(field.card, 6)
    time.sleep(field.rng.uniform(0, 0.6))
    away = field.card.with_name(".away")
    field.card.rename(away)
    try:
        yield f"watched folder {field.card} is not there"
    finally:
        away.rename(field.card)


@contextmanager
def unreadable(field: Field) -> Iterator[str]:
    """Some files cannot be read (EIO), and later they can."""
    start = field.card / f"IMG_{field.written + 2:05d}"
    with field.fault("eio", str(start)):
        paths = field.arrive(field.card, 4)
        yield f"{paths[1]} cannot be read"


@contextmanager
def short(field: Field) -> Iterator[str]:
    """Reads return less than was asked for, as they may."""
    with field.fault("short", str(field.card)):
        field.arrive(field.card, 4)
        yield ""


@contextmanager
def readonly(field: Field) -> Iterator[str]:
    """The card is write-protected: nobody ever wanted to write to it."""
    with field.fault("readonly", str(field.card)):
        field.arrive(field.card, 4)
        yield ""


@contextmanager
def hanging(field: Field) -> Iterator[str]:
    """The share does not answer, wherever one looks or reads, and later it does."""
    field.arrive(field.card, 3)
    time.sleep(field.rng.uniform(0, 0.4))
    with field.fault("hang", str(field.card)):
        field.arrive(field.card, 3)
        yield f"{field.card} (hangs|does not answer)"


@contextmanager
def skewed(field: Field) -> Iterator[str]:
    """The server's clock is wrong by decades."""
    field.arrive(field.card, 2, IN_1970)
    field.arrive(field.card, 2, IN_2099)
    yield ""


MISHAPS: dict[str, Callable[[Field], object]] = {
    mishap.__name__: mishap
    for mishap in (pulled, renamed, unreadable, short, readonly, hanging, skewed)
}


def drill_cards(
    root: Path,
    tries: int,
    *,
    seed: int = 0,
    kinds: Sequence[str] = tuple(MISHAPS),
    broken: str | None = None,
) -> Report:
    """Let one mishap after the other befall a running service, then end it and count.

    Args:
        kinds: of `MISHAPS`; `pulled` only where this user may mount.
        broken: the protection to take away first; see `PROTECTIONS`.
    """
    field, report, started = Field(root, seed), Report(), time.monotonic()
    able = [kind for kind in kinds if kind != "pulled" or _is_mounting_possible()]
    script = str(Path(__file__).with_name("card_service.py"))
    config = str(field.drill.config)
    command = [sys.executable, script, broken or "whole", "run", "--config", config]
    told = {"SHIM_CONTROL": str(field.control), "SHIM_FOLDER": str(field.card)}
    environ = preloaded(told)
    with field.drill.service(environ, command) as service:
        first = field.arrive(field.local, 2)
        if not _until(lambda: field.classified(first), 120.0):
            raise AssertionError(field.journal()[-2000:])
        for number in range(tries):
            kind = able[number % len(able)]
            report.tries[kind] += 1
            report.losses += [f"{kind} {number}: {loss}" for loss in _try(field, kind, report)]
            if service.poll() is not None:
                report.crashes.append(f"{kind} {number}: exit status {service.returncode}")
                break
        service.send_signal(signal.SIGTERM)
        if service.wait(30) != 0:
            report.crashes.append(f"at its end: exit status {service.returncode}")
    report.losses += losses(field.drill)
    journal = field.journal()
    if "Traceback" in journal:
        report.crashes.append(journal[journal.index("Traceback") :][:1500])
    report.frames, report.seconds = field.written, time.monotonic() - started
    return report


def _try(field: Field, kind: str, report: Report) -> Iterator[str]:
    """One mishap: what went wrong."""
    field.listen()
    with MISHAPS[kind](field) as name:  # type: ignore[attr-defined]
        began = time.monotonic()
        meanwhile = field.arrive(field.local, 2)
        if not _until(lambda: field.classified(meanwhile), GOES_ON_SECONDS):
            yield "the other folder waits"
        report.longest_wait = max(report.longest_wait, time.monotonic() - began)
        if not field.wait_for(name):
            yield f"nobody says: {name}"
    there = [path for path in field.drill.files() if path.parent == field.card]
    if not _until(lambda: field.classified(there), GOES_ON_SECONDS):
        yield "not all came back"
        yield from losses(field.drill)[:3]


def _until(true: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """The long form. Exit status 1 on any loss or crash."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=tuple(MISHAPS), default=tuple(MISHAPS))
    parser.add_argument("--break", dest="broken", choices=PROTECTIONS)
    chosen = parser.parse_args(arguments)
    if reason := shim.why_not():
        parser.error(reason)
    folder = Path(tempfile.mkdtemp(prefix="cards-"))
    try:
        report = drill_cards(
            folder, chosen.tries, seed=chosen.seed, kinds=chosen.kinds, broken=chosen.broken
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"machine: {processor_name()}\n{report}")
    return int(bool(report.losses or report.crashes))


if __name__ == "__main__":
    sys.exit(main())
