"""The same VGG16 on every engine that runs here: speed, memory, and how alike the features are.

Each engine is measured in a process of its own, in turn, in each round. Features are compared on
real frames of all sizes, with those of the first engine: part by part, and by what a linear head
would say (many random ones, on standardised features).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bench
import forward
import numpy as np
import plots
from bench import Spread, exponent, say
from forward import Forward
from frames import find_originals
from numpy.typing import NDArray

from monitor.model.backbone import layout_of

Floats = NDArray[np.float32]
HEADS, CLASSES, SEED = 100, 10, 0


def difference(one: Floats, other: Floats) -> dict[str, float]:
    """How far `other` is from `one`, both float32 (n, 1280).

    Returns:
        part -> max |a-b| / max |a|; `norm` -> |a-b| / |a| of all; `same_answer` -> share of frames
        for which a random linear head names the same class.
    """
    found: dict[str, float] = {}
    start = 0
    for part, length in layout_of("vgg16").parts:
        a, b = one[:, start : start + length], other[:, start : start + length]
        found[part] = float(np.abs(a - b).max() / np.abs(a).max())
        start += length
    found["norm"] = float(np.linalg.norm(one - other) / np.linalg.norm(one))
    found["same_answer"] = same_answers(one, other)
    return found


def same_answers(one: Floats, other: Floats) -> float:
    """Share of frames and random heads for which both vectors give the same class."""
    mean, scale = one.mean(axis=0), one.std(axis=0) + 1e-6
    rng = np.random.default_rng(SEED)
    same = []
    for _ in range(HEADS):
        weights = rng.standard_normal((one.shape[1], CLASSES))
        first, second = (((v - mean) / scale @ weights).argmax(axis=1) for v in (one, other))
        same.append(float((first == second).mean()))
    return float(np.mean(same))


def summary(rounds: Sequence[Forward]) -> dict[str, Any]:
    """Of one engine: median and range of each figure."""
    first = rounds[0]
    spreads = {
        name: Spread.of([getattr(one, name) for one in rounds])
        for name in ("open_seconds", "alone", "all_lanes", "core_ms", "processor_ms", "call_ms")
    }
    sizes = [float(size) for size in first.seconds_by_size]
    best = [min(one.seconds_by_size[n] for one in rounds) for n in first.seconds_by_size]
    return {
        "description": first.description,
        "lanes": first.lanes,
        "batch_size": first.batch_size,
        **spreads,
        "peak_mb": Spread.of([one.peak_mb for one in rounds]),
        "seconds_by_images_in_a_call": dict(zip(first.seconds_by_size, best, strict=True)),
        "exponent_of_images_in_a_call": exponent(sizes, best),
    }


def show(engines: dict[str, dict[str, Any]], differences: dict[str, dict[str, float]]) -> None:
    """What was measured, and the ratios."""
    slowest = min(one["all_lanes"].median for one in engines.values())
    for name, figures in engines.items():
        print(f"\n{name}: {figures['description']}")
        for key, value in figures.items():
            if isinstance(value, Spread | float):
                print(f"  {key:28} {value if isinstance(value, Spread) else f'{value:.3f}'}")
        print(f"  {'times the slowest':28} {figures['all_lanes'].median / slowest:.2f}")
        for key, value in differences.get(name, {}).items():
            print(f"  {'features: ' + key:28} {value:.2g}")


def measure(files: Sequence[bytes], weights: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Every engine in turn, in each round."""
    pixels = forward.decoded(files)
    found: dict[str, list[Forward]] = {}
    features: dict[str, Floats] = {}
    for number in range(1, rounds + 1):
        say(f"round {number} of {rounds}")
        how = {"seconds": seconds, "by_size": True}
        for name, (figures, vectors) in forward.measure_all(pixels, weights, say, **how).items():
            found.setdefault(name, []).append(figures)
            features[name] = vectors
    first = next(iter(features))
    differences = {
        name: difference(features[first], vectors)
        for name, vectors in features.items()
        if name != first
    }
    engines = {name: summary(figures) for name, figures in found.items()}
    show(engines, differences)
    return {"engines": engines, "compared_with": first, "differences": differences}


def main() -> None:
    parser = bench.options(__doc__, "python benchmarks/engines.py --rounds 3")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement of speed")
    parser.add_argument("--most", type=int, default=64, help="frames to compare features on")
    chosen = parser.parse_args()
    with bench.workplace(chosen.work) as work:
        files, about = find_originals(0.0, chosen.source)
        files = files[: chosen.most]
        say(f"features are compared on {len(files)} frames ({about})")
        figures = measure(files, work / "weights", chosen.rounds, chosen.seconds)
    rows = [(name, one["all_lanes"]) for name, one in figures["engines"].items()]
    bench.save(
        "engines",
        {"frames": f"{len(files)} of {about}", **figures},
        "VGG16 forward pass at 224 x 224, all lanes busy",
        lambda axes: plots.bars(axes, rows, "images per second"),
        chosen.save_in,
    )


if __name__ == "__main__":
    main()
