"""What every benchmark shares: the machine it ran on, its options, saving figures and a plot.

A benchmark prints the machine, the versions and the figures, and saves them as
benchmarks/results/NAME.json and docs/performance/NAME.svg. No path, user or host goes into either.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from monitor.log.engine import choose_sqlite
from monitor.model.backbone.machine import processor_facts

TOP = Path(__file__).parents[1]
PACKAGES = ("trapwatch", "tensorflow", "tensorflow-cpu", "keras", "ncnn", "numpy", "pillow")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimdhp", "bf16")
_STARTED = time.monotonic()


def machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """The processor, those of its extensions that matter here, cores this process may use, GB."""
    processor, abilities = processor_facts(cpuinfo)
    return {
        "processor": processor,
        "flags": [flag for flag in FLAGS if flag in abilities],
        "cores": cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
    }


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0))


def machine_in_words() -> str:
    """`AMD EPYC, 2 cores, 25 GB (avx2 avx512f)`."""
    facts = machine()
    extras = f" ({' '.join(facts['flags'])})" if facts["flags"] else ""
    return f"{facts['processor']}, {facts['cores']} cores, {facts['memory_gb']} GB{extras}"


def versions() -> dict[str, str]:
    """Package -> version, as installed; nothing heavy is imported for it."""
    sqlite = choose_sqlite()
    found = {"python": platform.python_version(), "sqlite": f"{sqlite.name} {sqlite.version}"}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def options(page: str | None, example: str) -> argparse.ArgumentParser:
    """A parser with what all benchmarks take; the example is the end of its --help."""
    parser = argparse.ArgumentParser(
        description=page,
        epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", type=Path, help="folder of your own JPEG frames to copy from")
    parser.add_argument("--work", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--save-in", type=Path, default=TOP, help="a trial's results: elsewhere")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was begun is cleared up
    return parser


@contextmanager
def workplace(chosen: Path | None) -> Iterator[Path]:
    """A folder that is gone afterwards. Prints what the figures belong to."""
    print(f"machine: {machine_in_words()}")
    if (busy := psutil.cpu_percent(0.5)) > 10:
        print(f"beware: something else uses {busy:.0f} % of this machine")
    print("versions: " + ", ".join(f"{name} {version}" for name, version in versions().items()))
    with TemporaryDirectory(prefix="trapwatch-bench-", dir=chosen) as folder:
        yield Path(folder)


def say(words: str) -> None:
    """One line of progress, with the seconds since the start."""
    print(f"[{time.monotonic() - _STARTED:6.0f} s] {words}", flush=True)


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, lowest and highest of the rounds of one run."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{short(self.median)} ({short(self.low)} to {short(self.high)})"


def short(number: float) -> str:
    """Three digits that count: 0.123, 12.3, 1,234."""
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:,.0f}"


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The k of cost = c x size^k, by least squares of the logarithms: 1 is linear, 0 constant."""
    pairs = list(zip(sizes, costs, strict=True))
    fit = statistics.linear_regression(
        [math.log(size) for size, _ in pairs], [math.log(cost) for _, cost in pairs]
    )
    return fit.slope


def save(
    name: str,
    figures: dict[str, Any],
    title: str,
    draw: Callable[[Any], None],
    top: Path = TOP,
    height: float = 2.6,
) -> None:
    """Write NAME.json and NAME.svg below `top`.

    Args:
        figures: what was measured; Spread and dataclasses are written as objects.
        title: what the plot shows; the machine is added to it.
        draw: draws on the matplotlib axes it is given.
        height: of the plot, inches.
    """
    from plots import write_svg

    document = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": machine()}
    document |= {"versions": versions(), **_plain(figures)}
    results = top / "benchmarks" / "results" / f"{name}.json"
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    plot = top / "docs" / "performance" / f"{name}.svg"
    plot.parent.mkdir(parents=True, exist_ok=True)
    write_svg(plot, f"{title}\n{machine_in_words()}", draw, height)
    print(f"saved: {results.relative_to(top)}, {plot.relative_to(top)}")


def _plain(value: Any) -> Any:
    """For JSON: dataclasses as objects, numbers with five digits that count."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if fields := getattr(value, "__dataclass_fields__", None):
        return {key: _plain(getattr(value, key)) for key in fields}
    return value
