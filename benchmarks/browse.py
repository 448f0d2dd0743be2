"""How long a page of sightings takes on a large log: python benchmarks/browse.py [--log FILE].

A real `trapwatch web` in a process of its own, asked over HTTP, one page of 100 after the other, as
the browse page does: the newest pages, pages four years deep, and searches that are followed to the
end of the log because what they look for is rare or not there at all.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import bench
from fill_log import fill
from web import free_port
from webclient import Asked, served

LIMIT_SECONDS = 0.3
PAGES = 25
MOST_PAGES = 1000
SIZE = 100
DEEP = "2021-03-01T00:00:00.000Z_1"
CONFIG = """\
database: {{url: "sqlite:///{log}"}}
watch: {{folders: [frames]}}
web: {{port: {port}}}
"""
FILTERS: tuple[dict[str, Any], ...] = (
    {},
    {"species": "roe deer"},
    {"species": "lynx"},
    {"deployment": "camera-001"},
    {"deployment": "camera-100", "source": "label"},
    {"min_probability": 0.999999},
    {"max_probability": 0.31, "unreviewed": True},
    {"source": "none"},
    {"status": "rejected"},
    {"status": "classified", "model_version": "v0001"},
    {"labelled_by": "Ana", "species": "blank"},
    {"path": "camera-050/"},
    {"sha256": "a"},
    {"since": "2021-02-01", "until": "2024-06-01", "species": "lynx", "min_probability": 0.99},
)
TO_THE_END: tuple[dict[str, Any], ...] = (
    {"path": "img_00000003"},
    {"path": "nothing like it"},
    {"path": "straße"},
    {"path": "nothing like it", "species": "blank"},
    {"path": "nothing like it", "min_probability": 0.5},
    {"path": "nothing like it", "model_version": "v0001", "unreviewed": True},
    {"species": "lynx", "status": "rejected", "deployment": "camera-001"},
    {"flagged": True},
    {"labelled_by": "nobody"},
    {"sha256": "abcdef012"},
)


@dataclass(frozen=True, slots=True)
class Pages:
    """Some pages of one search: their wall seconds, and what was on them."""

    pages: int
    found: int
    median: float
    p95: float
    longest: float
    total: float


def ask(station: Asked, wanted: dict[str, Any], cursor: str | None, most: int) -> Pages:
    """At most so many pages of a search, from a place on."""
    seconds, found = [], 0
    for page in _pages(station, wanted, cursor, most):
        seconds.append(page[0])
        found += page[1]
    p95 = statistics.quantiles(seconds, n=20, method="inclusive")[-1] if seconds[1:] else seconds[0]
    return Pages(len(seconds), found, statistics.median(seconds), p95, max(seconds), sum(seconds))


def _pages(
    station: Asked, wanted: dict[str, Any], cursor: str | None, most: int
) -> Iterator[tuple[float, int]]:
    """(wall seconds, sightings) of each page."""
    for _ in range(most):
        asked = wanted | {"limit": SIZE} | ({"cursor": cursor} if cursor else {})
        start = time.perf_counter()
        page = station.json("GET", f"/api/v1/sightings?{urlencode(asked)}")
        yield time.perf_counter() - start, len(page["sightings"])
        cursor = page["next"]
        if cursor is None:
            return


def measure(station: Asked) -> dict[str, Pages]:
    """Every search; prints the figures."""
    results: dict[str, Pages] = {}
    print(f"{'search':78} {'pages':>5} {'found':>6} {'median':>8} {'p95':>8} {'longest':>8}  all")
    for wanted in FILTERS:
        results[_named(wanted)] = _told(_named(wanted), ask(station, wanted, None, PAGES))
        name = f"{_named(wanted)}, from 2021-03 on"
        results[name] = _told(name, ask(station, wanted, DEEP, PAGES))
    for wanted in TO_THE_END:
        name = f"{_named(wanted)}, to the end"
        results[name] = _told(name, ask(station, wanted, None, MOST_PAGES))
    return results


def _named(wanted: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in wanted.items()) or "no filter"


def _told(name: str, pages: Pages) -> Pages:
    times = " ".join(f"{1000 * s:5.0f} ms" for s in (pages.median, pages.p95, pages.longest))
    over = "  OVER" if pages.p95 > LIMIT_SECONDS else ""
    print(f"{name:78} {pages.pages:5} {pages.found:6} {times}  {pages.total:.2f} s{over}")
    return pages


def plot(axes: Any, results: dict[str, Pages]) -> None:
    """Median and 95th percentile of each search, and the limit."""
    for place, pages in enumerate(results.values()):
        axes.plot(1000 * pages.p95, place, "o", color="#2a6f4e")
        axes.plot(1000 * pages.median, place, "o", color="#2a6f4e", fillstyle="none")
    axes.axvline(1000 * LIMIT_SECONDS, color="#a5483b", linestyle=":")
    short = [name if len(name) < 62 else f"{name[:60]} …" for name in results]
    axes.set_yticks(range(len(short)), short, fontsize=6)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds a page (filled: 95th percentile, open: median, dotted: limit)")
    axes.grid(axis="x")


def main() -> None:
    parser = bench.options(__doc__, "python benchmarks/browse.py --media 1000000")
    parser.add_argument("--media", type=int, default=1_000_000)
    parser.add_argument("--log", type=Path, help="a log that fill_log.py made before")
    args = parser.parse_args()
    with bench.workplace(args.work) as folder:
        log = folder / "trapwatch.db"
        if args.log is None:
            bench.say(f"filling a log with {args.media:,} media")
            fill(log, args.media)
        else:
            os.symlink(args.log.resolve(), log)  # what else a station keeps lies beside the link
        (folder / "frames").mkdir()
        config, port = folder / "config.yaml", free_port()
        config.write_text(CONFIG.format(log=log, port=port), encoding="utf-8")
        with served(config, port):
            station = Asked(port)
            media = station.json("GET", "/api/v1/status")["media"]["media"]
            results = measure(station)
    worst = max(pages.p95 for pages in results.values())
    longest = max(results[name].total for name in results if name.endswith("to the end"))
    print(f"worst p95 of a page: {1000 * worst:.0f} ms; longest search to its end: {longest:.2f} s")
    bench.save(
        "browse",
        {"media": media, "page": SIZE, "seconds": results},
        f"A page of {SIZE} sightings of {media:,}, over HTTP",
        lambda axes: plot(axes, results),
        args.save_in,
        6.4,
    )
    sys.exit(worst > LIMIT_SECONDS)


if __name__ == "__main__":
    main()
