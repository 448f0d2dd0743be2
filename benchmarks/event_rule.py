"""How the frames of an event should speak together: python benchmarks/event_rule.py.

Made-up events whose truth is known: bursts of 1 to 10 frames, four in ten of them blank, the animal
in a part of its frames, frames of one burst nearly copies; a calibrated model of eight classes
speaks of every frame. The product's own rule, with several least weights of a blank frame, beside
three simple ones. Some ten seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import bench
import numpy as np
import numpy.typing as npt

from monitor.core import events
from monitor.core.domain import BLANK
from monitor.core.events import Said, speak_together
from monitor.training.evaluate import calibration_error
from monitor.training.head import find_temperature

Floats = npt.NDArray[np.float64]
NAMES = (BLANK, "badger", "fox", "hare", "lynx", "otter", "roe deer", "wild boar")
FRAMES = (1, 2, 3, 3, 3, 5, 5, 8, 10)
IN_VIEW = (0.2, 0.4, 0.6, 1.0)
BLANKS = 0.4
WEIGHTS = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02)
WORLDS = {
    "weak model": (0.8, 0.6, 2.5),
    "good model": (0.5, 0.5, 1.9),
    "frames nearly copies": (1.2, 0.5, 3.5),
    "frames unlike": (0.6, 1.2, 4.0),
}
"""Name -> noise that a burst shares, noise of each frame, how far the truth stands out."""


@dataclass(frozen=True, slots=True)
class Event:
    """One burst: what it shows, and float64 (frames, classes) what the model says."""

    truth: int
    frames: Floats


@dataclass(frozen=True, slots=True)
class Figures:
    """Shares (0-1) of one rule in one world; `ece` is the calibration error over events."""

    accuracy: float
    false_alarms: float
    missed: float
    ece: float


def world(noise: tuple[float, float, float], count: int, seed: int) -> list[Event]:
    """Events with calibrated probabilities."""
    rng = np.random.default_rng(seed)
    shared, own, skill = noise
    truths, shown, logits = [], [], []
    for _ in range(count):
        size = int(rng.choice(FRAMES))
        truth = 0 if rng.random() < BLANKS else int(rng.integers(1, len(NAMES)))
        seen = max(1, round(float(rng.choice(IN_VIEW)) * size))
        start = int(rng.integers(0, size - seen + 1))
        frames = np.where((np.arange(size) >= start) & (np.arange(size) < start + seen), truth, 0)
        noises = rng.normal(size=(2, len(NAMES))) * shared
        rows = noises[(frames > 0).astype(int)] + rng.normal(size=(size, len(NAMES))) * own
        rows[np.arange(size), frames] += skill
        truths.append(truth)
        shown.append(frames)
        logits.append(rows)
    every = np.concatenate(logits).astype(np.float32)
    temperature = find_temperature(every, np.concatenate(shown).astype(np.int64))
    return [Event(t, _softmax(rows / temperature)) for t, rows in zip(truths, logits, strict=True)]


def _softmax(rows: Floats) -> Floats:
    grown: Floats = np.exp(rows - rows.max(axis=1, keepdims=True))
    return grown / grown.sum(axis=1, keepdims=True)


Rule = Callable[[Floats], tuple[int, float]]


def surest_animal(frames: Floats) -> tuple[int, float]:
    """Any frame that shows an animal makes the event one: the simplest rule."""
    best, sure = frames.argmax(axis=1), frames.max(axis=1)
    kinds = set(best.tolist()) - {0} or {0}
    kind = max(kinds, key=lambda k: sure[best == k].sum())
    return kind, float(sure[best == kind].mean())


def mean(frames: Floats) -> tuple[int, float]:
    """The mean of the probabilities."""
    pooled = frames.mean(axis=0)
    return int(pooled.argmax()), float(pooled.max())


def majority(frames: Floats) -> tuple[int, float]:
    """What most frames show."""
    kinds, counts = np.unique(frames.argmax(axis=1), return_counts=True)
    return int(kinds[counts.argmax()]), float(counts.max() / counts.sum())


def ours(least: float) -> Rule:
    """The product's rule with another least weight of a blank frame."""

    def rule(frames: Floats) -> tuple[int, float]:
        events.LEAST_WEIGHT = least
        rows = frames.tolist()
        said = [Said(NAMES[int(np.argmax(row))], [*zip(NAMES, row, strict=True)]) for row in rows]
        name, probability = speak_together(said)
        return NAMES.index(name), probability

    return rule


def figures(rule: Rule, some: Sequence[Event]) -> Figures:
    """What a rule makes of these events."""
    answers = [rule(event.frames) for event in some]
    truth = np.array([event.truth for event in some])
    said = np.array([kind for kind, _ in answers])
    sure = np.array([probability for _, probability in answers], np.float32)
    blank = truth == 0
    return Figures(
        float((said == truth).mean()),
        float((said[blank] != 0).mean()),
        float((said[~blank] == 0).mean()),
        calibration_error(sure, said == truth),
    )


def plot(axes: Any, results: dict[str, dict[str, Figures]]) -> None:
    """Accuracy against the least weight of a blank frame, a line a world."""
    for name, rules in results.items():
        found = [rules[f"ours, {weight:g}"].accuracy for weight in WEIGHTS]
        axes.plot(WEIGHTS, found, marker="o", markersize=3.5, label=name)
    axes.axvline(events.LEAST_WEIGHT, color="#555555", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_xticks(WEIGHTS, [f"{weight:g}" for weight in WEIGHTS])
    axes.minorticks_off()
    axes.set_xlabel("what a surely blank frame weighs at least (1: as much as any)")
    axes.set_ylabel("events named right")
    axes.grid(axis="y")
    axes.legend(frameon=False, fontsize=8)


def main() -> None:
    parser = bench.options(__doc__, "python benchmarks/event_rule.py --events 3000")
    parser.add_argument("--events", type=int, default=2000, help="of each world")
    args = parser.parse_args()
    chosen = events.LEAST_WEIGHT
    rules: dict[str, Rule] = {"surest animal": surest_animal, "mean": mean, "majority": majority}
    rules |= {f"ours, {weight:g}": ours(weight) for weight in WEIGHTS}
    results: dict[str, dict[str, Figures]] = {}
    with bench.workplace(args.work):
        for seed, (name, noise) in enumerate(WORLDS.items()):
            some = world(noise, args.events, seed)
            results[name] = {rule: figures(make, some) for rule, make in rules.items()}
            bench.say(name)
            for rule, found in results[name].items():
                print(
                    f"  {rule:14} right {found.accuracy:.3f}, false alarms "
                    f"{found.false_alarms:.3f}, missed {found.missed:.3f}, ece {found.ece:.3f}"
                )
    events.LEAST_WEIGHT = chosen
    title = "How much a blank frame of a burst should weigh"
    document = {"events": args.events, "chosen": chosen, "worlds": results}
    bench.save("event_rule", document, title, lambda axes: plot(axes, results), args.save_in, 3.0)


if __name__ == "__main__":
    main()
