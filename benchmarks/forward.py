"""One engine's forward pass, measured in a process of its own.

The benchmarks call `measure_apart`; as a command it prints the figures of one engine:

    python benchmarks/forward.py --engine ncnn
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.images.decode import DecodeRules, ImageRejected, decode
from monitor.model.backbone import Backbone, BackboneOptions, open_backbone
from monitor.model.backbone.stopwatch import peak_mb

Pixels = NDArray[np.uint8]
VARIANTS = (("keras", "float32"), ("keras", "auto"), ("ncnn", "float32"))
"""(engine, precision): `auto` is measured where it means bfloat16."""
CALL_SIZES = (1, 2, 4, 8, 16)
LEAST_CALLS = 4


class EngineFailed(Exception):
    """The engine could not be opened or run; says why."""


@dataclass(frozen=True, slots=True)
class Forward:
    """What one process measured of one engine.

    Attributes:
        description: the engine's own words.
        alone: images per second with one thread calling.
        all_lanes: images per second with `lanes` threads calling at once.
        core_ms: wall time x cores / images, all lanes busy.
        processor_ms: processor time / images, all lanes busy.
        call_ms: median of a call with one image, nothing beside it.
        peak_mb: the most memory of the process.
        seconds_by_size: images in one call -> best seconds of it; empty unless asked for.
    """

    engine: str
    precision: str
    description: str
    lanes: int
    batch_size: int
    open_seconds: float
    alone: float
    all_lanes: float
    core_ms: float
    processor_ms: float
    call_ms: float
    peak_mb: float
    seconds_by_size: dict[str, float]

    @property
    def name(self) -> str:
        """`keras bfloat16`, for tables and plots."""
        bfloat16 = "bfloat16" in self.description
        return f"{self.engine} {'bfloat16' if bfloat16 else 'float32'}"


def measure_apart(
    engine: str,
    precision: str,
    pixels: Pixels,
    weights: Path,
    seconds: float = 4.0,
    one_core: bool = False,
    by_size: bool = False,
) -> tuple[Forward, NDArray[np.float32]]:
    """Measure in a child process, so that a crash, threads and memory stay there.

    Args:
        pixels: uint8 (n, 224, 224, 3) of real frames.
        weights: folder of verified weights, filled at the first use.
        seconds: of each of the two measurements of speed.
        one_core: pin the process to one core.
        by_size: also time calls with 1 to 16 images.

    Returns:
        the figures, and float32 (n, size) features of `pixels`.

    Raises:
        EngineFailed: it ended with an error.
    """
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "pixels.npy", pixels)
        command = [sys.executable, __file__, "--engine", engine, "--precision", precision]
        command += ["--weights", str(weights), "--seconds", str(seconds), "--in", folder]
        command += ["--one-core"] * one_core + ["--by-size"] * by_size
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise EngineFailed((done.stderr.strip().splitlines() or ["it crashed"])[-1])
        said = json.loads((Path(folder) / "figures.json").read_text(encoding="utf-8"))
        return Forward(**said), np.load(Path(folder) / "features.npy")


def measure_all(
    pixels: Pixels, weights: Path, tell: Callable[[str], None], **how: Any
) -> dict[str, tuple[Forward, NDArray[np.float32]]]:
    """Every engine that runs here in turn: name -> (figures, features)."""
    found: dict[str, tuple[Forward, NDArray[np.float32]]] = {}
    for engine, precision in VARIANTS:
        try:
            forward, features = measure_apart(engine, precision, pixels, weights, **how)
        except EngineFailed as problem:
            tell(f"{engine} {precision}: not measured, {problem}")
            continue
        if forward.name not in found:  # else `auto` meant float32, which was measured
            found[forward.name] = forward, features
            tell(f"{forward.name}: {forward.all_lanes:.2f} images/s, {forward.core_ms:.0f} core-ms")
    return found


def decoded(files: Sequence[bytes]) -> Pixels:
    """uint8 (n, 224, 224, 3); files that are refused are left out."""
    pixels = []
    for data in files:
        try:
            pixels.append(decode(data, DecodeRules()))
        except ImageRejected:
            continue
    return np.stack(pixels)


def rate(act: Callable[[], int], threads: int, seconds: float) -> float:
    """How many a second `threads` threads get done together, each calling `act` again and again.

    Each thread is divided by its own time, so that one which ends a call later costs nothing.
    """

    def work(_: int) -> float:
        start, done, calls = time.perf_counter(), 0, 0
        while (passed := time.perf_counter() - start) < seconds or calls < LEAST_CALLS:
            done, calls = done + act(), calls + 1
        return done / passed

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, range(threads)))


def _measure(backbone: Backbone, pixels: Pixels, seconds: float, cores: int) -> dict[str, Any]:
    """Speed alone and with all lanes, of batches as the pipeline makes them."""
    batch = np.resize(pixels, (backbone.batch_size, *pixels.shape[1:]))

    def act() -> int:
        backbone.features(batch)
        return len(batch)

    rate(act, backbone.lanes, 0.0)  # warm up
    alone = rate(act, 1, seconds)
    used, start = time.process_time(), time.perf_counter()
    together = rate(act, backbone.lanes, seconds)
    share = (time.process_time() - used) / (time.perf_counter() - start)
    return {
        "alone": alone,
        "all_lanes": together,
        "core_ms": 1000 * cores / together,
        "processor_ms": 1000 * share / together,
    }


def _call_seconds(backbone: Backbone, pixels: Pixels, size: int, times: int = 3) -> list[float]:
    images = np.resize(pixels, (size, *pixels.shape[1:]))
    backbone.features(images)
    found = []
    for _ in range(times):
        start = time.perf_counter()
        backbone.features(images)
        found.append(time.perf_counter() - start)
    return found


def _child(chosen: argparse.Namespace) -> Forward:
    if chosen.one_core:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cores = len(os.sched_getaffinity(0))
    folder = chosen.folder
    pixels = np.load(folder / "pixels.npy") if folder else np.zeros((4, 224, 224, 3), np.uint8)
    options = BackboneOptions(
        engine=chosen.engine,
        precision=chosen.precision,
        threads=cores,
        weights_cache=chosen.weights,
    )
    start = time.perf_counter()
    backbone = open_backbone(options)
    backbone.features(pixels[:1])
    opened = time.perf_counter() - start
    sizes = CALL_SIZES if chosen.by_size else ()
    forward = Forward(
        engine=chosen.engine,
        precision=chosen.precision,
        description=backbone.description,
        lanes=backbone.lanes,
        batch_size=backbone.batch_size,
        open_seconds=opened,
        **_measure(backbone, pixels, chosen.seconds, cores),
        call_ms=1000 * statistics.median(_call_seconds(backbone, pixels, 1, 7)),
        seconds_by_size={str(n): min(_call_seconds(backbone, pixels, n)) for n in sizes},
        peak_mb=peak_mb(),
    )
    if folder:
        np.save(folder / "features.npy", backbone.features(pixels))
        (folder / "figures.json").write_text(json.dumps(asdict(forward)), encoding="utf-8")
    return forward


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="keras", choices=("auto", "keras", "ncnn"))
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--weights", type=Path, help="folder of verified weights")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--one-core", action="store_true")
    parser.add_argument("--by-size", action="store_true")
    parser.add_argument("--in", type=Path, dest="folder", help=argparse.SUPPRESS)
    print(_child(parser.parse_args()))


if __name__ == "__main__":
    main()
