"""How long one scrape of /metrics takes on a large log: python benchmarks/metrics.py [--media N].

Fills a log (benchmarks/fill_log.py) unless --log names one, and computes all figures anew each
time, as the pages' process does for a scrape that finds nothing kept.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import bench
from bench import say
from fill_log import fill

from monitor.core.config import load_settings
from monitor.core.domain import utc_now
from monitor.health.metrics import exposition
from monitor.health.metrics_measured import measure
from monitor.log.species_log import SpeciesLog

TIMES = 30
LIMIT_SECONDS = 0.2


def scrapes(path: Path, folder: Path) -> tuple[list[float], list[float], int]:
    """Of each scrape: seconds, and those of the processor; and the bytes of the last one."""
    config = folder / "config.yaml"
    config.write_text(f'database: {{url: "sqlite:///{path.absolute()}"}}\n')
    settings, size = load_settings(config, {}), 0
    seconds: list[float] = []
    worked: list[float] = []
    with SpeciesLog(path) as log:
        for _ in range(TIMES):
            start, before = time.perf_counter(), time.process_time()
            size = len(exposition(measure(settings, log, utc_now())))
            seconds.append(time.perf_counter() - start)
            worked.append(time.process_time() - before)
    return seconds, worked, size


def main() -> None:
    """Measure, and fail if it takes too long."""
    parser = bench.options(__doc__, "python benchmarks/metrics.py --media 1000000")
    parser.add_argument("--media", type=int, default=1_000_000)
    parser.add_argument("--log", type=Path, help="a log that fill_log.py made before")
    args = parser.parse_args()
    with bench.workplace(args.work) as folder:
        path = args.log or folder / "log.db"
        if args.log is None:
            say(f"filling a log with {args.media:,} media")
            fill(path, args.media)
        seconds, worked, size = scrapes(path, folder)
    median, p95 = statistics.median(seconds), statistics.quantiles(seconds, n=20)[-1]
    processor = statistics.median(worked)
    say(f"one scrape: median {median:.3f} s, 95th percentile {p95:.3f} s, {size / 1000:.0f} kB")
    say(f"of the processor: median {processor:.3f} s")
    if processor > LIMIT_SECONDS:  # what else runs here is no fault of ours
        raise SystemExit(f"more than {LIMIT_SECONDS} s")


if __name__ == "__main__":
    main()
