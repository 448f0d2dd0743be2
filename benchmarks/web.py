"""How long the web pages take on a large log: python benchmarks/web.py [--media N | --log FILE].

A real `trapwatch web` in a process of its own, asked over HTTP as the pages' JavaScript asks. The
log is a filled one (benchmarks/fill_log.py). Pictures are not part of this: that log has none.
Figures are 95th percentiles of wall seconds on this machine, asked one after the other.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench
from bench import say
from fill_log import fill
from webclient import Asked, served

TIMES = 60
LIMITS_SECONDS = {"review next": 0.1, "browse": 0.3, "dashboard": 1.0, "station": 1.0}
CONFIG = """\
database: {{url: "sqlite:///{log}"}}
watch: {{folders: [frames]}}
web: {{port: {port}}}
"""
BROWSE = (
    "",
    "species=roe%20deer",
    "species=lynx",
    "deployment=camera-001",
    "labelled_by=Ana",
    "min_probability=0.999",
    "status=rejected",
    "source=label",
    "path=img_09",
    "unreviewed=true&max_probability=0.3",
    "species=lynx&deployment=camera-100&source=label",
)
CHARTS = ("over_time", "activity", "accumulation", "map")


def free_port() -> int:
    """A port that nobody uses at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def percentiles(ask: Callable[[], object], times: int = TIMES) -> dict[str, float]:
    """Median, 95th percentile and longest wall seconds."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - start)
    return {
        "median": statistics.median(seconds),
        "p95": statistics.quantiles(seconds, n=20)[-1],
        "longest": max(seconds),
    }


def measure(client: Asked) -> dict[str, dict[str, float]]:
    """Name -> seconds."""
    holding: list[int] = []

    def review_next() -> None:
        """What one key press asks: the label goes out, one more frame comes in."""
        if holding:
            client.label(holding.pop(0), "roe deer")
        found = client.next(12 - len(holding), holding)["frames"]
        holding.extend(frame["media_id"] for frame in found)

    found = {"review next": percentiles(review_next, 3 * TIMES)}
    for some in BROWSE:
        found[f"browse {some or 'all'}"] = percentiles(
            lambda some=some: client.json("GET", f"/api/v1/sightings?limit=100&{some}")
        )
    found["browse, a hundred pages down"] = _deep(client)
    found["dashboard"] = percentiles(lambda: client.get("/"))
    found["species list"] = percentiles(lambda: client.json("GET", "/api/v1/species"))
    found["status"] = percentiles(lambda: client.json("GET", "/api/v1/status"))
    for name in ("station", "metrics"):
        found[name] = percentiles(lambda name=name: client.get(f"/{name}"))
    _until_charts(client)
    for name in CHARTS:
        found[f"chart {name}"] = percentiles(
            lambda name=name: client.get(f"/api/v1/charts/{name}.svg"), 20
        )
    found["dashboard and its charts"] = percentiles(
        lambda: [client.get("/"), *(client.get(f"/api/v1/charts/{c}.svg") for c in CHARTS)], 20
    )
    return found


def _deep(client: Asked) -> dict[str, float]:
    page = client.json("GET", "/api/v1/sightings?limit=100")

    def further() -> None:
        nonlocal page
        page = client.json("GET", f"/api/v1/sightings?limit=100&cursor={page['next']}")

    for _ in range(100):
        further()
    return percentiles(further)


def _until_charts(client: Asked) -> None:
    start = time.perf_counter()
    while True:
        try:
            client.get(f"/api/v1/charts/{CHARTS[0]}.svg")
        except RuntimeError as error:
            if ": 503 " not in str(error):
                raise
            time.sleep(0.2)
        else:
            say(f"the first scan for the charts: {time.perf_counter() - start:.1f} s")
            return


def over_limit(found: dict[str, dict[str, float]]) -> list[str]:
    """What takes longer than it should."""
    return [
        f"{name}: {seconds['p95']:.3f} s, not {limit} s"
        for name, seconds in found.items()
        for start, limit in LIMITS_SECONDS.items()
        if name.startswith(start) and seconds["p95"] > limit
    ]


def main() -> None:
    """Fill or copy a log, serve it, ask."""
    parser = bench.options(__doc__, "python benchmarks/web.py --media 1000000")
    parser.add_argument("--media", type=int, default=1_000_000)
    parser.add_argument("--log", type=Path, help="a filled log; it is copied, not changed")
    chosen = parser.parse_args()
    with bench.workplace(chosen.work) as work:
        log = work / "log.db"
        say(f"a log of {chosen.media:,} media")
        if chosen.log:
            shutil.copy(chosen.log, log)
        else:
            fill(log, chosen.media)
        port = free_port()
        config = work / "config.yaml"
        config.write_text(CONFIG.format(log=os.fspath(log), port=port), encoding="utf-8")
        (work / "frames").mkdir()
        with served(config, port):
            found = measure(Asked(port))
        for name, seconds in found.items():
            print(
                f"{seconds['p95'] * 1000:8.1f} ms (median {seconds['median'] * 1000:.1f})  {name}"
            )
        figures: dict[str, Any] = {"media": chosen.media, "seconds": found}
        bench.save("web", figures, "Web pages, 95th percentile", lambda axes: draw(axes, found),
                   chosen.save_in, height=0.28 * len(found) + 1)  # fmt: skip
    if late := over_limit(found):
        sys.exit("\n".join(late))


def draw(axes: Any, found: dict[str, dict[str, float]]) -> None:
    """One bar a question."""
    names = list(found)[::-1]
    axes.barh(names, [found[name]["p95"] * 1000 for name in names])
    axes.set_xlabel("milliseconds")
    axes.set_xscale("log")


if __name__ == "__main__":
    main()
