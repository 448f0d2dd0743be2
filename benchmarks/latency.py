"""How long a frame waits, from the moment it is closed in a watched folder until it is classified.

A real `trapwatch run` beside this process; the log is asked every 5 ms, read-only. First an idle
station, one frame at a time; then one with a backlog, where the newest frame should go first. Half
of the frames are written under a hidden name and renamed, half are written in place and closed:
trapwatch hears of both and does not wait `settle_seconds` for them. One forward pass is measured
in the same run, before the service starts, as the unit that the figures are to be held against.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench
import forward
from bench import Spread, say
from frames import CAMERAS, copies, find_originals, rendered
from trial import Trial, TrialFailed

from monitor.system.console import count_bar

POLL_SECONDS = 0.005
MOST_SECONDS = 120.0
START_SECONDS = 180.0
SMALL = (320, 240)
SETTLE_SECONDS = 2.0  # as config.yaml ships
STATUS = (
    "SELECT media.status FROM file JOIN media ON media.id = file.media_id WHERE file.path_bytes = ?"
)
PENDING = "SELECT count(*) FROM media WHERE status = 'pending'"
WATCHING = "SELECT value FROM state WHERE key = 'watch'"
KNOWN = "SELECT count(*) FROM media"


@dataclass(frozen=True, slots=True)
class Waited:
    """One frame: how it came, and the seconds until it was classified."""

    renamed: bool
    seconds: float


class Arrivals:
    """New frames for one watched folder, each newer than all before it.

    Args:
        originals: JPEGs, taken in turn.
        first: number of the first; the backlog's are lower.
    """

    def __init__(self, trial: Trial, originals: Sequence[bytes], first: int) -> None:
        self._trial, self._originals, self._next = trial, originals, first
        self._hidden = trial.root / "made"

    def bring(self, reader: sqlite3.Connection) -> Waited:
        """One frame, and wait until it is classified."""
        made = copies(self._originals, 1, self._hidden, self._next)[0]
        renamed = self._next % 2 == 0
        path = self._trial.frames / made.relative_to(self._hidden)
        start = _rename_into(path, made) if renamed else _write(path, made.read_bytes())
        self._next += 1
        return Waited(renamed, _until_classified(reader, path) - start)


def _rename_into(path: Path, made: Path) -> float:
    """Write under a hidden name, rename. Returns when (monotonic seconds)."""
    hidden = path.with_name(f".{path.name}.part")
    hidden.write_bytes(made.read_bytes())
    start = time.monotonic()
    os.replace(hidden, path)
    return start


def _write(path: Path, data: bytes) -> float:
    """Write in place; returns when it was about to be closed."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        return time.monotonic()


def _until_classified(reader: sqlite3.Connection, path: Path) -> float:
    deadline = time.monotonic() + MOST_SECONDS
    while time.monotonic() < deadline:
        row = reader.execute(STATUS, (os.fsencode(path),)).fetchone()
        if row is not None and row[0] == "classified":
            return time.monotonic()
        time.sleep(POLL_SECONDS)
    raise TrialFailed(f"a frame was not classified within {MOST_SECONDS:.0f} s")


def _until_known(trial: Trial, media: int) -> sqlite3.Connection:
    """Wait until the log is there and knows so many media."""
    deadline = time.monotonic() + START_SECONDS + media / 50
    with count_bar("taking in the backlog") as progress:
        while time.monotonic() < deadline:
            if (trial.data / "trapwatch.db").exists():
                reader = trial.reader()
                try:
                    known = reader.execute(KNOWN).fetchone()[0]
                except sqlite3.OperationalError:  # its tables are being made
                    known = -1
                progress(max(known, 0), media)
                if known >= media:
                    return reader
                reader.close()
            time.sleep(0.2)
    raise TrialFailed(f"the log did not get there in time: {trial.last_words()}")


def measure_station(
    work: Path, originals: Sequence[bytes], backlog: int, wanted: int, chosen: argparse.Namespace
) -> dict[str, Any]:
    """One service; `wanted` new frames beside `backlog` pending ones.

    Returns:
        waited; pending_before and pending_after: how many frames were pending;
        settling_seconds: how long files had to hold still, which is 0 where events come.
    """
    trial = Trial(
        work / f"station{backlog}", work / f"frames{backlog}", chosen.engine, SETTLE_SECONDS
    )
    trial.keep_from(Trial(work / "first", work / "frames-first", chosen.engine))
    for camera in range(1, CAMERAS + 1):  # a folder that is new must be found first
        (trial.frames / f"camera-{camera:03d}").mkdir()
    if backlog:
        say(f"making {backlog:,} small frames")
        copies(rendered(SMALL, 8), backlog, trial.frames)
    chance = random.Random(1)  # even pauses would always meet the same moment of a batch
    arrivals = Arrivals(trial, originals, 2 * backlog + 100)
    with trial.service():
        reader = _until_known(trial, backlog)
        warm = [arrivals.bring(reader) for _ in range(2)]  # the engine is opened by the first
        say(f"the first frame, which opens the engine, waited {warm[0].seconds:.1f} s")
        before, waited = reader.execute(PENDING).fetchone()[0], []
        for _ in range(wanted):
            time.sleep(chance.uniform(0.5, 1.5) * (chosen.every if backlog else 0.7))
            waited.append(arrivals.bring(reader))
        after = reader.execute(PENDING).fetchone()[0]
        watching = json.loads(reader.execute(WATCHING).fetchone()[0])
        reader.close()
    if backlog and not after:
        sys.exit("the backlog ended before the last frame came: ask for a larger --backlog")
    return {
        "waited": waited,
        "pending_before": before,
        "pending_after": after,
        "settling_seconds": 0.0 if watching["events"] else SETTLE_SECONDS,
    }


def summary(found: dict[str, Any], call_ms: float) -> dict[str, Any]:
    """Of one station: latency in seconds, and its worst in forward passes."""
    waited: list[Waited] = found["waited"]
    every = Spread.of([one.seconds for one in waited])
    settling = found["settling_seconds"]
    return {
        "latency_seconds": every,
        "settling_seconds": settling,
        "renamed_seconds": Spread.of([one.seconds for one in waited if one.renamed]),
        "closed_seconds": Spread.of([one.seconds for one in waited if not one.renamed]),
        "median_in_forward_passes": 1000 * (every.median - settling) / call_ms,
        "worst_in_forward_passes": 1000 * (every.high - settling) / call_ms,
        "pending_before": found["pending_before"],
        "pending_after": found["pending_after"],
        "each_seconds": [one.seconds for one in waited],
    }


def _plot(axes: Any, cases: dict[str, dict[str, Any]], call_ms: float) -> None:
    for name, case in cases.items():
        seconds = sorted(case["each_seconds"])
        shares = [(place + 1) / len(seconds) for place in range(len(seconds))]
        axes.step([1000 * s for s in seconds], shares, where="post", label=name)
    axes.axvline(call_ms, color="#8c8c8c", linestyle=":", label="one forward pass")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("milliseconds from close to classified")
    axes.set_ylabel("share of frames")
    axes.grid()
    axes.legend(frameon=False)


def main() -> None:
    parser = bench.options(__doc__, "python benchmarks/latency.py --backlog 20000")
    parser.add_argument("--idle-frames", type=int, default=24)
    parser.add_argument("--backlog", type=int, default=20_000, help="pending frames; 0 leaves out")
    parser.add_argument("--new-frames", type=int, default=10, help="beside the backlog")
    parser.add_argument(
        "--every", type=float, default=3.0, help="seconds between these, on average"
    )
    parser.add_argument("--engine", default="auto", choices=("auto", "keras", "ncnn"))
    chosen = parser.parse_args()
    with bench.workplace(chosen.work) as work:
        originals, about = find_originals(8.0, chosen.source)
        first = Trial(work / "first", work / "frames-first", chosen.engine)
        copies(originals, 1, first.frames)
        first.run_once()
        weights = first.data / "weights"
        pixels = forward.decoded(originals)
        unit = forward.measure_apart(chosen.engine, "auto", pixels, weights, 2.0)[0]
        say(f"one forward pass of one frame: {unit.call_ms:.0f} ms ({unit.description})")
        cases = {"idle": measure_station(work, originals, 0, chosen.idle_frames, chosen)}
        if chosen.backlog:
            name = f"{chosen.backlog:,} pending"
            wanted = chosen.new_frames
            cases[name] = measure_station(work, originals, chosen.backlog, wanted, chosen)
    results = {name: summary(case, unit.call_ms) for name, case in cases.items()}
    for name, case in results.items():
        print(f"\n{name} ({case['pending_before']:,} to {case['pending_after']:,} pending)")
        for key in ("latency_seconds", "renamed_seconds", "closed_seconds"):
            print(f"  {key:26} {case[key]}")
        settled = f"of which settling: {case['settling_seconds']:g}"
        print(f"  settle_seconds {SETTLE_SECONDS:g}, {settled}")
        for key in ("median_in_forward_passes", "worst_in_forward_passes"):
            print(f"  {key:26} {case[key]:.2f}")
    busy_ms = 1000 * unit.lanes * unit.batch_size / unit.all_lanes
    print(
        f"\none forward pass: {unit.call_ms:.0f} ms of one frame, nothing beside it; {busy_ms:.0f}"
    )
    print(f"ms of one call ({unit.batch_size} frames) with all {unit.lanes} lanes busy")
    passes = {"one_frame_ms": unit.call_ms, "call_with_all_lanes_busy_ms": busy_ms}
    bench.save(
        "latency",
        {"engine": unit.description, "frames": about, "forward": passes, "stations": results},
        "How long a new frame waits",
        lambda axes: _plot(axes, results, unit.call_ms),
        chosen.save_in,
        3.0,
    )


if __name__ == "__main__":
    main()
