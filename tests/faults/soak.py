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
import socket
import statistics
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from .drill import Drill
from .losses import losses
from .soak_frames import AHEAD, Feeder

TOP = Path(__file__).parents[2]
LABELLED = 60
"""Media that are labelled for each training."""
SWAPPED = 5
"""After so many trainings people promote the newest version, if the gate kept it out."""
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


class People:
    """Label some frames for each training, and now and then prefer another version themselves.

    Args:
        trainings: how many there shall be, evenly over so many media.
    """

    def __init__(self, drill: Drill, feeder: Feeder, media: int, trainings: int) -> None:
        self._drill, self._feeder = drill, feeder
        self._media, self._trainings = media, trainings
        self._labelled = self._trained = self._looked = 0

    def act(self, done: int) -> bool:
        """Do what it is time for; say whether that was to label."""
        trained = trainings_of(self._drill)
        if trained >= self._looked + SWAPPED:
            self._looked = trained
            self._promote()
        due = done >= (self._labelled + 1) * self._media // (self._trainings + 1)
        if self._labelled >= self._trainings:  # where trainings came together: one more for each
            due = self._trained < trained < self._trainings
        if due:
            self._label(done)
            self._labelled += 1
            self._trained = trained
        return due

    def _promote(self) -> None:
        newest = "SELECT name, state FROM model_version ORDER BY id DESC LIMIT 1"
        for name, state in self._drill.query(newest):
            if state == "rejected":
                said = self._drill.trapwatch("models", "promote", name, "--by", "Ana", seconds=600)
                assert said.returncode == 0, said.stderr

    def _label(self, done: int) -> None:
        """Some of the newest frames that are done, by CSV."""
        rows = io.StringIO()
        writer = csv.writer(rows)
        writer.writerow(["path", "species"])
        step, end = (
            37,
            done - AHEAD - self._labelled,
        )  # of all cameras and species, each time others
        for number in range(max(0, end - LABELLED * step), end, step):
            writer.writerow([self._feeder.path_of(number), self._feeder.species_of(number)])
        sheet = self._drill.root / "labels.csv"
        sheet.write_text(rows.getvalue(), encoding="utf-8")
        words = ("label", "import", str(sheet), "--by", "Ana", "--new")
        said = self._drill.trapwatch(*words, seconds=600)
        assert said.returncode == 0, said.stderr


def trainings_of(drill: Drill) -> int:
    """Trainings that came to their end."""
    return drill.number("SELECT count(*) FROM training_run WHERE state = 'succeeded'")


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
    feeder = Feeder(drill)
    people = People(drill, feeder, media, trainings)
    with drill.service(command=drill.command("run", broken=broken)) as process:
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
            if people.act(done):
                moved = time.monotonic()
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


def _done(drill: Drill) -> int:
    pending = "SELECT count(*) FROM media WHERE status = 'pending'"
    return drill.number(f"SELECT coalesce(max(id), 0) - ({pending}) FROM media")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _save(figures: dict[str, Any]) -> None:
    sys.path.insert(0, str(TOP / "benchmarks"))
    import bench

    def draw(axes: Any) -> None:
        minutes = [s["seconds"] / 60 for s in figures["samples"]]
        axes.plot(minutes, [s["resident_mb"] for s in figures["samples"]], label="service")
        axes.plot(minutes, [s["web_mb"] for s in figures["samples"]], label="web pages")
        axes.set_xlabel("minutes")
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
