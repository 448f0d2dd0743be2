"""A station's years in an hour: frames come and go by the hundred thousand, people label, models
are trained and swapped, and memory, handles, threads and sizes are looked at all the while.

    python -m tests.faults.soak --media 1000000 --trainings 50 [--break leak] [--save]

Real processes: the service with its web pages and its trainings, the `small` backbone. Each frame
has bytes of its own (a comment segment with its number) and a capture time 40 s after the last.
Cards are emptied behind the service: only some thousand files exist at a time. Exit status 1:
something was lost, or it is not flat.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import shutil
import socket
import statistics
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from .drill import COLOURS, Drill, draw_frame
from .losses import losses

TOP = Path(__file__).parents[2]
FIRST_MOMENT = datetime(2024, 5, 1, 6)
EACH = timedelta(seconds=40)
CAMERAS, FOLDER, LOOKS = 20, 500, 40
AHEAD = 4000
"""So many frames may wait for the service."""
LABELLED = 60
"""Media that are labelled for each training."""
LOOK_SECONDS = 2.0
SETTLED_SHARE = 0.2
FLAT_SHARE, FLAT_MB = 0.10, 25.0
"""Grown by less than so much of it, or by so few MB, from a fifth of the way to its end."""
STALLED_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the service: itself, and the process of its web pages."""

    media: int
    seconds: float
    resident_mb: float
    web_mb: float
    handles: int
    threads: int
    log_mb: float
    data_mb: float


class Feeder:
    """Writes frames, and empties the cards of what the service has done.

    Attributes:
        written: frames so far.
    """

    def __init__(self, drill: Drill) -> None:
        self.written = 0
        self._drill = drill
        self._bases = [(species, base) for species in COLOURS for base in _bases(drill, species)]
        self._folders: list[tuple[int, Path]] = []

    def write(self, count: int) -> None:
        """So many more frames."""
        for _ in range(count):
            number = self.written
            folder = self.path_of(number).parent
            if number % FOLDER < CAMERAS:
                folder.mkdir(parents=True, exist_ok=True)
                self._folders.append((number + FOLDER, folder))
            _, base = self._bases[number % len(self._bases)]
            self.path_of(number).write_bytes(frame_bytes(base, number))
            self.written += 1

    def path_of(self, number: int) -> Path:
        """Where a frame is."""
        camera, card = number % CAMERAS, number // FOLDER
        return self._drill.frames / f"camera{camera:02}" / f"{card:06}" / f"IMG_{number:08}.JPG"

    def species_of(self, number: int) -> str:
        """What a frame shows."""
        return self._bases[number % len(self._bases)][0]

    def empty_cards(self, done: int) -> None:
        """Remove the oldest folders, up to one with a frame that still waits.

        Args:
            done: how many frames are done; newer ones are done before older ones.
        """
        if not self._folders or self._folders[0][0] + 2 * AHEAD >= done:
            return
        rows = self._drill.query(
            "SELECT file.path FROM file JOIN media ON media.id = media_id WHERE status = 'pending'"
        )
        waiting = min((int(path[-12:-4]) for (path,) in rows), default=done)
        while self._folders and self._folders[0][0] + 2 * AHEAD < min(done, waiting + AHEAD):
            shutil.rmtree(self._folders.pop(0)[1])


def frame_bytes(base: bytes, number: int) -> bytes:
    """A JPEG with the number in a comment and its own EXIF time."""
    moment = (FIRST_MOMENT + number * EACH).strftime("%Y:%m:%d %H:%M:%S").encode()
    placed = base.replace(FIRST_MOMENT.strftime("%Y:%m:%d %H:%M:%S").encode(), moment)
    return placed[:2] + b"\xff\xfe" + (10).to_bytes(2, "big") + f"{number:08}".encode() + placed[2:]


def _bases(drill: Drill, species: str) -> Iterator[bytes]:
    path = drill.root / "base.jpg"
    for look in range(LOOKS):
        draw_frame(path, species, FIRST_MOMENT, look)
        yield path.read_bytes()
    path.unlink()


class Watch:
    """Looks at the running service now and then."""

    def __init__(self, drill: Drill, pid: int, port: int) -> None:
        self.samples: list[Sample] = []
        self._drill, self._process, self._port = drill, psutil.Process(pid), port
        self._begun = self._looked = time.monotonic()

    def look(self, media: int, *, anew: bool = False) -> None:
        """Note how it stands, if it is time."""
        now = time.monotonic()
        if not anew and now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        self._visit()
        sizes = {p: p.stat().st_size for p in self._drill.data.rglob("*") if p.is_file()}
        log = sum(s for p, s in sizes.items() if p.name.startswith("trapwatch.db"))
        with self._process.oneshot():
            self.samples.append(
                Sample(
                    media,
                    now - self._begun,
                    self._process.memory_info().rss / 1e6,
                    self._web_mb(),
                    self._process.num_fds(),
                    self._process.num_threads(),
                    log / 1e6,
                    sum(sizes.values()) / 1e6,
                )
            )

    def _web_mb(self) -> float:
        found = 0.0
        for child in self._process.children():
            try:
                if "web" in child.cmdline():
                    found += child.memory_info().rss / 1e6
            except psutil.Error:
                continue
        return found

    def _visit(self) -> None:
        """A page is asked for, so that the web process has work, too."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/", timeout=5) as answer:
                answer.read()
        except (OSError, urllib.error.URLError):
            pass  # it starts a little after the service


def growth(samples: Sequence[Sample], what: str) -> tuple[float, float]:
    """By how much a figure grew from `SETTLED_SHARE` of the way to its end, by a least-squares line
    over that part, and its median there."""
    last = samples[-1].media
    late = [s for s in samples if s.media >= SETTLED_SHARE * last]
    values = [float(getattr(s, what)) for s in late]
    if len(late) < 2 or late[0].media == late[-1].media:
        return 0.0, values[-1]
    line = statistics.linear_regression([s.media for s in late], values)
    return line.slope * (last - late[0].media), statistics.median(values)


def faults_of(samples: Sequence[Sample]) -> list[str]:
    """What is not flat, in words."""
    found = []
    for what, unit, least in (
        ("resident_mb", "MB", FLAT_MB),
        ("web_mb", "MB", FLAT_MB),
        ("handles", "handles", 5.0),
        ("threads", "threads", 3.0),
    ):
        grown, usual = growth(samples, what)
        if grown > max(FLAT_SHARE * usual, least):
            found.append(f"{what} grew by {grown:.0f} {unit} from {usual:.0f}")
    return found


def soak(drill: Drill, media: int, trainings: int, broken: str | None) -> dict[str, Any]:
    """Run it all; the figures and whatever was found wrong."""
    port = _free_port()
    drill.configure(schedule="* * * * *", min_new_labels=LABELLED // 2, port=port, nice=15)
    as_it_is = drill.config.read_text().replace("threads: 1, batch_size: 1", "batch_size: 64")
    drill.config.write_text(as_it_is)
    feeder, labelled = Feeder(drill), 0
    command = drill.command("run")
    if broken is not None:
        script = str(Path(__file__).with_name("broken_service.py"))
        command = [sys.executable, script, broken, *command[3:]]
    with drill.service(command=command) as process:
        watch, moved = Watch(drill, process.pid, port), time.monotonic()
        done = told = 0
        while done < media or trainings_of(drill) < trainings:
            before, done = done, _done(drill)
            moved = time.monotonic() if done > before else moved
            if process.poll() is not None or time.monotonic() - moved > STALLED_SECONDS + 60:
                break
            feeder.write(max(0, min(1000, media - feeder.written, AHEAD - feeder.written + done)))
            feeder.empty_cards(done)
            watch.look(done)
            if labelled < trainings and done >= (labelled + 1) * media // (trainings + 1):
                _label(drill, feeder, done)
                labelled, moved = labelled + 1, time.monotonic()
            elif labelled == trainings and done >= media and not _trains(drill):
                _label(drill, feeder, done)  # where trainings came together: one more for each
                time.sleep(LOOK_SECONDS)
            if done - told >= media / 50:
                told = done
                say(done, media, watch, trainings_of(drill))
            if feeder.written - done >= AHEAD or feeder.written == media:
                time.sleep(0.2)
        watch.look(_done(drill), anew=True)
        ended = process.poll()
        process.terminate()
        process.wait(30)
    found = losses(drill) + faults_of(watch.samples)
    if ended is not None:
        found.append(f"the service ended by itself: {ended}")
    if (there := drill.number("SELECT count(*) FROM media")) != media:
        found.append(f"{media} frames were written, {there} are in the log")
    text = drill.output.read_text(errors="replace")
    found += [f"traceback: {line}" for line in text.splitlines() if line.startswith("Traceback")]
    return {
        "media": there,
        "trainings": trainings_of(drill),
        "swaps": drill.number("SELECT count(*) FROM model_version WHERE went_live_at IS NOT NULL"),
        "seconds": watch.samples[-1].seconds,
        "grown": {
            what: growth(watch.samples, what)
            for what in asdict(watch.samples[0])
            if what != "media"
        },
        "found": found,
        "samples": [asdict(s) for s in thinned(watch.samples)],
    }


def thinned(samples: Sequence[Sample], most: int = 200) -> list[Sample]:
    """At most so many, evenly."""
    step = max(1, len(samples) // most)
    return list(samples[::step])


def say(done: int, media: int, watch: Watch, trainings: int) -> None:
    """One line of progress."""
    if watch.samples:
        s = watch.samples[-1]
        print(
            f"[{s.seconds:6.0f} s] {done:,} of {media:,} media, {trainings} trainings, "
            f"{s.resident_mb:.0f} MB + web {s.web_mb:.0f} MB, {s.handles} handles, "
            f"{s.threads} threads, log {s.log_mb:.0f} MB",
            flush=True,
        )


def trainings_of(drill: Drill) -> int:
    """Trainings that came to their end."""
    return drill.number("SELECT count(*) FROM training_run WHERE state = 'succeeded'")


def _trains(drill: Drill) -> bool:
    return drill.number("SELECT count(*) FROM training_run WHERE state = 'running'") > 0


def _done(drill: Drill) -> int:
    return drill.number("SELECT count(*) FROM media WHERE status <> 'pending'")


def _label(drill: Drill, feeder: Feeder, done: int) -> None:
    """Label some of the newest frames that are done, by CSV as a person would."""
    rows = io.StringIO()
    writer = csv.writer(rows)
    writer.writerow(["path", "species"])
    step = 37  # of all cameras and species
    for number in range(max(0, done - AHEAD - LABELLED * step), done - AHEAD, step):
        writer.writerow([feeder.path_of(number), feeder.species_of(number)])
    sheet = drill.root / "labels.csv"
    sheet.write_text(rows.getvalue(), encoding="utf-8")
    said = drill.trapwatch("label", "import", str(sheet), "--by", "Ana", "--new", seconds=600)
    assert said.returncode == 0, said.stderr


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _save(figures: dict[str, Any]) -> None:
    sys.path.insert(0, str(TOP / "benchmarks"))
    import bench

    def draw(axes: Any) -> None:
        media = [s["media"] for s in figures["samples"]]
        axes.plot(media, [s["resident_mb"] for s in figures["samples"]], label="service")
        axes.plot(media, [s["web_mb"] for s in figures["samples"]], label="web pages")
        axes.set_xlabel("media taken in and classified")
        axes.set_ylabel("resident memory, MB")
        axes.set_ylim(0)
        axes.legend(frameon=False)

    title = f"Memory over {figures['media']:,} media and {figures['trainings']} trainings"
    bench.save("soak", figures, title, draw)


def main() -> int:
    """Soak, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--media", type=int, default=20_000)
    parser.add_argument("--trainings", type=int, default=2)
    parser.add_argument("--break", dest="broken", choices=["leak"])
    parser.add_argument("--save", action="store_true", help="figures and plot, into the project")
    chosen = parser.parse_args()
    with TemporaryDirectory(prefix="trapwatch-soak-") as folder:
        figures = soak(Drill(Path(folder)), chosen.media, chosen.trainings, chosen.broken)
    if chosen.save:
        _save(figures)
    print(json.dumps({k: v for k, v in figures.items() if k != "samples"}, indent=1))
    return 1 if figures["found"] else 0


if __name__ == "__main__":
    sys.exit(main())
