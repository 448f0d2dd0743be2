"""Memory of `trapwatch run --once` over many frames: it should be flat once the engine is open.

Resident memory and the number of finished frames are sampled every half second. The slope is a
least-squares line over the last 80 % of the frames.
"""

from __future__ import annotations

import shutil
import sqlite3
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench
from bench import say, short
from frames import find_originals, real_frames
from trial import OneRun, Trial

DONE = "SELECT count(*) FROM media WHERE status IN ('classified', 'rejected')"
SETTLED_SHARE = 0.2
MOST_POINTS = 400
TELL_SECONDS = 30.0
FREE_SHARE = 0.7
"""At most so much of the free disk is filled with frames."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the process."""

    done: int
    resident_mb: float


class Samples:
    """Looks at a running trial; `look` is called every half second."""

    def __init__(self, trial: Trial, frames: int) -> None:
        self.seen: list[Sample] = []
        self._trial, self._frames, self._told = trial, frames, time.monotonic()

    def look(self, pid: int) -> None:
        """Note resident memory and finished frames."""
        resident = _resident_mb(pid)
        if resident is None:
            return
        self.seen.append(Sample(self._done(), resident))
        if time.monotonic() - self._told > TELL_SECONDS:
            self._told = time.monotonic()
            say(f"{self.seen[-1].done:,} of {self._frames:,} frames, {resident:.0f} MB")

    def _done(self) -> int:
        """0 until the log and its tables are there."""
        if not (self._trial.data / "trapwatch.db").exists():
            return 0
        reader = self._trial.reader()
        try:
            return int(reader.execute(DONE).fetchone()[0])
        except sqlite3.OperationalError:
            return 0
        finally:
            reader.close()


def _resident_mb(pid: int) -> float | None:
    """VmRSS; None when the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(one.split()[1]) / 1024 for one in lines if one.startswith("VmRSS")), None)


def slope_kb(samples: Sequence[Sample], frames: int) -> float:
    """KB per 1,000 frames, over the last 80 % of the frames."""
    late = [one for one in samples if one.done >= SETTLED_SHARE * frames]
    if len({one.done for one in late}) < 2:
        raise SystemExit("too few frames for a slope: ask for more --frames")
    fit = statistics.linear_regression(
        [one.done for one in late], [1024 * one.resident_mb for one in late]
    )
    return 1000 * fit.slope


def summary(samples: Sequence[Sample], run: OneRun, frames: int) -> dict[str, Any]:
    """What the samples say."""
    busy = [one for one in samples if one.done]

    def at(share: float) -> float:
        reached = [one for one in busy if one.done >= share * frames]
        return (reached or busy)[0].resident_mb

    return {
        "first_frame_mb": busy[0].resident_mb,
        "at_10_percent_mb": at(0.1),
        "at_50_percent_mb": at(0.5),
        "at_100_percent_mb": busy[-1].resident_mb,
        "peak_mb": run.peak_mb,
        "slope_kb_per_1000_frames": slope_kb(samples, frames),
        "end_per_half": busy[-1].resident_mb / at(0.5),
        "images_per_second_with_start": run.counts["media"] / run.wall_seconds,
    }


def affordable(wanted: int, work: Path, originals: Sequence[bytes]) -> int:
    """How many frames the disk has room for."""
    size = statistics.mean(map(len, originals))
    most = int(FREE_SHARE * shutil.disk_usage(work).free / size)
    if most < wanted:
        say(f"the disk has room for {most:,} frames only, not for {wanted:,}")
    return min(wanted, most)


def _plot(axes: Any, samples: Sequence[Sample]) -> None:
    step = max(1, len(samples) // MOST_POINTS)
    some = samples[::step]
    axes.plot([one.done for one in some], [one.resident_mb for one in some], color="#2a6f4e")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("frames classified")
    axes.set_ylabel("resident memory, MB")
    axes.grid()


def main() -> None:
    parser = bench.options(__doc__, "python benchmarks/memory.py --frames 10000 --engine ncnn")
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--engine", default="auto", choices=("auto", "keras", "ncnn"))
    chosen = parser.parse_args()
    with bench.workplace(chosen.work) as work:
        originals, _ = find_originals(8.0, chosen.source)
        wanted = affordable(chosen.frames, work, originals)
        first = Trial(work / "first", work / "few", chosen.engine)
        real_frames(4, work / "few", source=chosen.source)
        first.run_once()  # the choice of the engine may take memory once
        say(f"making {wanted:,} frames")
        copied = real_frames(wanted, work / "many", source=chosen.source)
        say(f"frames: {copied.about}")
        trial = Trial(work / "station", work / "many", chosen.engine)
        trial.keep_from(first)
        samples = Samples(trial, wanted)
        run = trial.run_once(samples.look)
    figures = summary(samples.seen, run, wanted)
    for name, figure in figures.items():
        print(f"{name:30} {short(figure)}")
    points = [(one.done, one.resident_mb) for one in samples.seen]
    points = points[:: max(1, len(points) // MOST_POINTS)]
    bench.save(
        "memory",
        {"engine": chosen.engine, "frames": copied.about, **figures, "frames_and_mb": points},
        f"Memory of trapwatch run --once, {copied.about}",
        lambda axes: _plot(axes, samples.seen),
        chosen.save_in,
    )


if __name__ == "__main__":
    main()
