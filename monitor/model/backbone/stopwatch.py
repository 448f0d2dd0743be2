"""Opens one engine, looks whether it computes what it should, and times it.

`python -m monitor.model.backbone.stopwatch` is the child process of a trial: options as one line of
JSON on stdin, figures as JSON on stdout. It ends when stdin does, and so with the process that
asked.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from monitor.model.backbone import (
    INPUT_SIZES,
    Backbone,
    BackboneError,
    BackboneOptions,
    layout_of,
    open_backbone,
)
from monitor.model.backbone.reference import TOLERANCE, deviation, picture

MEASURE_SECONDS = 2.0
GPU_BATCHES = (16, 32, 64, 128, 256)
NEARLY_BEST = 0.95  # a smaller batch with this share of the best speed is the better one


def measure(backbone: Backbone, on_gpu: bool, seconds: float = MEASURE_SECONDS) -> float:
    """Images a second with all lanes busy for at least so long, after one call each to warm up.

    On a CPU it is images per processor second, times the lanes: what a service takes in beside the
    trial then counts against no engine.
    """
    side = INPUT_SIZES[backbone.name]
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    images = np.repeat(noise[None], backbone.batch_size, axis=0)

    def lane(end: float) -> int:
        done = 0
        while not done or time.monotonic() < end:
            backbone.features(images)
            done += len(images)
        return done

    clock = time.monotonic if on_gpu else time.process_time
    with ThreadPoolExecutor(backbone.lanes) as pool:
        list(pool.map(lane, [0.0] * backbone.lanes))
        start = clock()
        done = sum(pool.map(lane, [time.monotonic() + seconds] * backbone.lanes))
        spent = clock() - start
    return done / spent * (1 if on_gpu else backbone.lanes)


def smallest_nearly_best(speeds: dict[int, float]) -> int:
    """The smallest batch that is nearly as fast as the fastest. Batch size -> images/s."""
    best = max(speeds.values())
    return min(batch for batch, speed in speeds.items() if speed >= NEARLY_BEST * best)


def _figures(options: BackboneOptions) -> dict[str, Any]:
    """Open and time, in the child."""
    started = time.monotonic()
    backbone = open_backbone(options)
    opened = time.monotonic()
    _check_features(backbone)
    on_gpu = ", GPU," in backbone.description
    batches = GPU_BATCHES if on_gpu and not options.batch_size else (backbone.batch_size,)
    speeds: dict[int, float] = {}
    for batch in batches:
        backbone.batch_size = batch  # type: ignore[misc]
        speeds[batch] = measure(backbone, on_gpu)
        if backbone.batch_size != batch:  # memory ran out
            del speeds[batch]
            break
    batch = smallest_nearly_best(speeds)
    return {
        "images_per_second": round(speeds[batch], 2),
        "batch_size": batch if on_gpu else options.batch_size,
        "device": "GPU" if on_gpu else "CPU",
        "description": backbone.description,
        "open_seconds": round(opened - started, 2),
        "peak_mb": peak_mb(),
    }


def peak_mb() -> int:
    """Most memory this program ever held. `ru_maxrss` would count what it was forked from."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # not Linux
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    peak = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
    return round(int(peak) / 1024)


def _check_features(backbone: Backbone) -> None:
    """Raise BackboneError if its features are not finite, or not those of VGG16 with its ImageNet
    weights, where they are known."""
    features = backbone.features(picture())
    is_known = backbone.layout == layout_of("vgg16")
    off = deviation(features) if is_known else 0.0 if np.isfinite(features).all() else np.inf
    if off > TOLERANCE:
        raise BackboneError(f"it computes wrong features on this processor (off by {off:.0%})")


def _end_with_the_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(3)


def main() -> None:
    """The child: options as JSON on stdin, figures as JSON on stdout."""
    given = json.loads(sys.stdin.buffer.readline())
    cache = given.pop("weights_cache")
    options = BackboneOptions(**given, weights_cache=Path(cache) if cache else None)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        figures = _figures(options)
    except BackboneError as error:
        print(error, file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)
    print(json.dumps(figures), flush=True)
    os._exit(0)  # the thread above waits in a read


if __name__ == "__main__":
    main()
