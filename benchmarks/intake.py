"""Taking files in (hash, EXIF, row): speed, and how it grows with files, log and cameras.

Real frames in the page cache, taken in by `Station.watch_step` until the station is quiet; each
time with a new log. Growth is the exponent of a fit: 1 is linear, 0 does not matter.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench
import plots
from bench import Spread, exponent, say
from fill_log import fill
from frames import linked, real_frames
from trial import Trial, TrialFailed

from monitor.core.config import load_settings
from monitor.service.station import Station

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
"""Sizes of the intakes, seen from the largest."""
MEDIA = (0, 10_000, 100_000, 1_000_000)
CAMERAS = (1, 10, 100)
FILES = 500
"""So many are taken in where the log or the cameras grow."""
LOG_CAMERAS = 100


@dataclass(frozen=True, slots=True)
class Taken:
    """One intake."""

    files: int
    wall_seconds: float
    processor_seconds: float


class Intake:
    """Takes the same frames into one new station after another.

    Args:
        work: on the file system of the frames, which are linked.
        paths: the frames.
        rounds: of each measurement.
    """

    def __init__(self, work: Path, paths: Sequence[Path], rounds: int) -> None:
        self._work, self._paths, self._rounds, self._number = work, paths, rounds, 0

    def seconds(self, files: int, *, cameras: int = 4, log: Path | None = None) -> float:
        """Median wall seconds with all cores."""
        taken = self.take(files, 0, cameras=cameras, log=log)
        found = statistics.median(one.wall_seconds for one in taken)
        start = "a filled log" if log is not None else "an empty log"
        say(f"{files:,} files of {cameras} cameras into {start}: {found:.2f} s")
        return found

    def take(
        self, files: int, threads: int, *, cameras: int = 4, log: Path | None = None
    ) -> list[Taken]:
        """Take in the first `files` frames, once a round.

        Args:
            threads: 0 means all cores.
            log: a filled log to begin with.
        """
        found = []
        for _ in range(self._rounds):
            self._number += 1
            root = self._work / f"station{self._number}"
            trial = Trial(root, root / "frames", "keras", threads=threads)
            linked(self._paths[:files], trial.frames, cameras)
            if log is not None:
                shutil.copyfile(log, trial.data / "trapwatch.db")
            found.append(_until_quiet(trial, files))
            shutil.rmtree(root)
        return found


def _until_quiet(trial: Trial, files: int) -> Taken:
    station = Station(load_settings(trial.config, {}))
    try:
        before = station.log.counts()["media"]
        station.places[0].watcher.idle()  # it is made, and listens
        wall, used = time.perf_counter(), time.process_time()
        while not station.quiet:
            if not station.watch_step():
                time.sleep(0.001)
        wall, used = time.perf_counter() - wall, time.process_time() - used
        if (taken := station.log.counts()["media"] - before) != files:
            raise TrialFailed(f"{taken} of {files} files were taken in")
        return Taken(files, wall, used)
    finally:
        station.close()


def speed(intake: Intake, files: int) -> dict[str, Spread]:
    """Files per second: one thread and one core's time, then all cores."""
    one = intake.take(files, 1)
    every = intake.take(files, 0)
    rates = [files / taken.wall_seconds for taken in every]
    return {
        "one_thread_per_core_second": Spread.of([files / t.processor_seconds for t in one]),
        "all_cores_per_second": Spread.of(rates),
        "all_cores_per_second_and_core": Spread.of([rate / bench.cores() for rate in rates]),
        "all_cores_per_core_second": Spread.of([files / t.processor_seconds for t in every]),
    }


def growth_with_files(intake: Intake, most: int) -> dict[str, Any]:
    """Seconds of ever more files into an empty log."""
    sizes = [max(1, round(share * most)) for share in SHARES]
    return _growth("files", sizes, sizes, [intake.seconds(size) for size in sizes])


def growth_with_log(intake: Intake, work: Path, media: int, files: int) -> dict[str, Any]:
    """Seconds of the same files into ever larger logs."""
    sizes = [size for size in MEDIA if size < media] + [media]
    costs = []
    for size in sizes:
        log = None
        if size:
            log = work / f"log{size}.db"
            fill(log, size, LOG_CAMERAS)
        costs.append(intake.seconds(files, log=log))
        if log is not None:
            log.unlink()
    return _growth("media in the log", sizes, [size + files for size in sizes], costs)


def growth_with_cameras(intake: Intake, files: int) -> dict[str, Any]:
    """Seconds of the same files from ever more cameras."""
    costs = [intake.seconds(files, cameras=cameras) for cameras in CAMERAS]
    return _growth("cameras", CAMERAS, CAMERAS, costs)


def _growth(
    what: str, shown: Sequence[int], sizes: Sequence[int], costs: Sequence[float]
) -> dict[str, Any]:
    """`sizes` are what the fit sees: a log of 0 media has those that were taken in."""
    power = exponent(sizes, costs)
    say(f"seconds grow with {what} ({shown[0]:,} to {shown[-1]:,}) to the power of {power:.2f}")
    return {"sizes": list(sizes), "seconds": list(costs), "exponent": power}


def _plot(axes: Any, growths: dict[str, dict[str, Any]]) -> None:
    lines = {
        f"{name} (exponent {one['exponent']:.2f})": (one["sizes"], one["seconds"])
        for name, one in growths.items()
    }
    plots.growth(axes, lines)
    axes.set_xlabel("files, media in the log, cameras")
    axes.set_ylabel("seconds")


def main() -> None:
    parser = bench.options(__doc__, "python benchmarks/intake.py --most 4000 --media 1000000")
    parser.add_argument(
        "--most", type=int, default=4000, help="files of the largest intake, at least 16"
    )
    parser.add_argument("--media", type=int, default=100_000, help="media of the largest log")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with bench.workplace(chosen.work) as work:
        copied = real_frames(chosen.most, work / "cards", source=chosen.source)
        say(f"frames: {copied.about}")
        intake = Intake(work, copied.paths, chosen.rounds)
        files = min(FILES, chosen.most)
        intake.seconds(min(100, files))  # imports, and the disk is awake
        figures = speed(intake, min(1000, chosen.most))
        growths = {
            "files": growth_with_files(intake, chosen.most),
            "media in the log": growth_with_log(intake, work, chosen.media, files),
            "cameras": growth_with_cameras(intake, files),
        }
    for name, spread in figures.items():
        print(f"{name:30} {spread}")
    for name, one in growths.items():
        print(f"{'exponent, ' + name:30} {one['exponent']:.2f}")
    bench.save(
        "intake",
        {"frames": copied.about, "files_per_second": figures, "growth": growths},
        f"Intake of {copied.about}",
        lambda axes: _plot(axes, growths),
        chosen.save_in,
        3.4,
    )


if __name__ == "__main__":
    main()
