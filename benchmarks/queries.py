"""How long the log's questions take on a large log: python benchmarks/queries.py [--media N].

Fills a log (benchmarks/fill_log.py) unless --log names one, asks every question three times through
a connection of its own (the first one cold: nothing in SQLite's cache), and compares with the same
question asked of the view `sightings` without an index to start from.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench
from fill_log import fill

from monitor.log.engine import choose_sqlite
from monitor.log.filters import BrowseFilter
from monitor.log.species_log import SpeciesLog
from monitor.review.event_walk import events
from monitor.review.uncertainty import order_queue

LIMIT_SECONDS = 0.3
FILTERS: tuple[dict[str, Any], ...] = (
    {},
    {"species": "roe deer"},
    {"species": "lynx"},
    {"since": "2024-01-01T00:00:00.000Z"},
    {"until": "2021-03-01T00:00:00.000Z"},
    {"deployment": "camera-001"},
    {"deployment": "camera-100"},
    {"min_probability": 0.9},
    {"min_probability": 0.999999},
    {"unreviewed": True},
    {"species": "lynx", "deployment": "camera-001"},
    {"species": "roe deer", "deployment": "camera-100"},
    {"species": "lynx", "min_probability": 0.9999},
    {"deployment": "camera-001", "min_probability": 0.999999},
    {"species": "roe deer", "min_probability": 0.999999, "until": "2023-01-01T00:00:00.000Z"},
    {
        "species": "lynx",
        "since": "2021-02-01T00:00:00.000Z",
        "until": "2024-06-01T00:00:00.000Z",
        "deployment": "camera-001",
        "min_probability": 0.99,
        "unreviewed": True,
    },
)


def questions() -> dict[str, Callable[[SpeciesLog], object]]:
    """Name -> what is asked."""
    asked: dict[str, Callable[[SpeciesLog], object]] = {}
    for some in FILTERS:
        wanted = BrowseFilter(**some)
        name = " ".join(f"{key}={value}" for key, value in some.items()) or "no filter"
        asked[f"sightings {name}"] = lambda log, wanted=wanted: list(log.sightings(wanted, 100))
    asked["status counts"] = lambda log: log.counts()
    asked["status oldest pending, new labels"] = lambda log: (
        log.oldest_pending(),
        log.new_labels_since(0),
        log.first_label_at(),
    )
    asked["label queue"] = _queue
    asked["events --limit 50"] = lambda log: list(events(log, BrowseFilter(), 50))
    asked["events --species lynx --limit 50"] = lambda log: list(
        events(log, BrowseFilter(species="lynx"), 50)
    )
    asked["species list"] = lambda log: log.species()
    return asked


def _queue(log: SpeciesLog) -> object:
    labels = {row.name: row.labels for row in log.species()}
    chosen = order_queue(log.queue_candidates(2000), labels, 20)
    return log.sightings_of([candidate.media_id for candidate in chosen])


def seconds(path: Path, ask: Callable[[SpeciesLog], object]) -> tuple[float, float]:
    """(first, best of three) wall seconds of a question in a log that was just opened."""
    with SpeciesLog(path) as log:
        log.state("")  # a connection is open, as at the start of every command
        times = []
        for _ in range(3):
            start = time.perf_counter()
            ask(log)
            times.append(time.perf_counter() - start)
    return times[0], min(times)


def of_the_view(path: Path, where: str) -> float:
    """Seconds of a question to the view, as `sqlite3` or R would put it."""
    connection = choose_sqlite().module.connect(os.fspath(path))
    start = time.perf_counter()
    connection.execute(f"SELECT * FROM sightings WHERE {where}").fetchall()
    return time.perf_counter() - start


def command_line(path: Path) -> float:
    """Processor seconds of `trapwatch sightings --limit 50`, from start to end."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(f"database: {{url: 'sqlite:///{path}'}}\n")
        words = ["sightings", "--limit", "50", "--config", str(config)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "monitor", *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(path: Path) -> dict[str, Any]:
    """Ask everything; returns the results and prints them."""
    results: dict[str, Any] = {"seconds": {}}
    scan = of_the_view(path, "species = 'lynx'")
    print(f"{'question':84} {'cold':>9} {'warm':>9} {'a scan / cold':>14}")
    for name, ask in questions().items():
        cold, warm = seconds(path, ask)
        results["seconds"][name] = {"cold": round(cold, 4), "warm": round(warm, 4)}
        over = "  OVER" if cold > LIMIT_SECONDS else ""
        shown = name.replace("T00:00:00.000Z", "")
        print(f"{shown:84} {cold * 1000:6.1f} ms {warm * 1000:6.1f} ms {scan / cold:12.0f} x{over}")
    results["view, species = 'lynx'"] = round(scan, 2)
    deployment = "deployment = 'camera-050' AND captured_at >= '2024-12-01'"
    results["view, one deployment since a day"] = round(of_the_view(path, deployment), 3)
    results["sightings --limit 50, processor seconds"] = round(command_line(path), 3)
    for name in list(results)[1:]:
        print(f"{name}: {results[name]} s")
    return results


def plot(axes: Any, results: dict[str, Any]) -> None:
    """Each question's first and best time, and the limit."""
    names = [name.replace("T00:00:00.000Z", "") for name in results["seconds"]]
    for place, times in enumerate(results["seconds"].values()):
        axes.plot(1000 * times["cold"], place, "o", color="#2a6f4e")
        axes.plot(1000 * times["warm"], place, "o", color="#2a6f4e", fillstyle="none")
    axes.axvline(1000 * LIMIT_SECONDS, color="#a5483b", linestyle=":")
    short_names = [name if len(name) < 62 else f"{name[:60]} …" for name in names]
    axes.set_yticks(range(len(names)), short_names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds (filled: first time, open: again, dotted: limit)")
    axes.grid(axis="x")


def main() -> None:
    example = "python benchmarks/queries.py --media 1000000"
    parser = bench.options(__doc__, example)
    parser.add_argument("--media", type=int, default=1_000_000)
    parser.add_argument("--log", type=Path, help="a log that fill_log.py made before")
    args = parser.parse_args()
    with bench.workplace(args.work) as folder:
        path = args.log
        if path is None:
            path = folder / "log.db"
            bench.say(f"filling a log with {args.media:,} media")
            fill(path, args.media)
        with SpeciesLog(path) as log:
            media = log.counts()["media"]
        results = measure(path)
    title = f"Questions to a log of {media:,} media"
    height = 4.6
    bench.save(
        "queries",
        {"media": media, **results},
        title,
        lambda axes: plot(axes, results),
        args.save_in,
        height,
    )
    times = results["seconds"].values()
    raise SystemExit(any(time["cold"] > LIMIT_SECONDS for time in times))


if __name__ == "__main__":
    main()
