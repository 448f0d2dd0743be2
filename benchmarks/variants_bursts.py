"""Could a frame be skipped because it equals its predecessor but for noise?

On real sequences of fixed cameras: how far neighbouring frames are apart in pixels and in features,
and what becomes of the labels when a frame that is close enough to the last one kept is given that
one's answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations, pairwise, takewhile
from pathlib import Path

import numpy as np
from bench import TOP, Spread
from numpy.typing import NDArray
from variants_forward import features_by_lanes
from variants_row import Floats

from monitor.images.decode import DecodeRules, decode
from monitor.model.backbone import Backbone

DATA = TOP.parent / "shared" / "data"
FOLDERS = ("camera-traps/heron-burst", "fixed-cameras/*", "outdoor-cameras/*")
UNKNOWN = ("unsure", "unlabelled")
BLANK = "blank"
SHARES = (0.05, 0.1, 0.25, 0.5)
BLOCK = 8
THRESHOLDS = 400
_NUMBER = re.compile(r"(?:(DSCF\d+)_)?(\d+)$")


@dataclass(frozen=True, slots=True)
class Series:
    """Frames of one camera, one after the other.

    Attributes:
        pixels: uint8 (n, 224, 224, 3).
        features: float32 (n, 1280).
        labels: None where nobody knows.
    """

    camera: str
    name: str
    labels: list[str | None]
    pixels: NDArray[np.uint8]
    features: Floats


@dataclass(frozen=True, slots=True)
class Neighbours:
    """How far neighbouring frames of one sequence are apart.

    Attributes:
        changes: how often the label changes from one labelled frame to the next.
        mean, highest: mean and 99.9th percentile of |a-b| over pixels and colours, of 255.
        cosine: cosine distance of the features.
        relative: median `cosine` / median cosine distance to frames of other events: the camera's
            other sequences, or all others where it has none.
    """

    name: str
    frames: int
    changes: int
    mean: Spread
    highest: Spread
    cosine: Spread
    relative: float


@dataclass(frozen=True, slots=True)
class Skipped:
    """What skipping by one measure does to the labelled frames, all cameras together.

    Attributes:
        asked: which thresholds: each camera has its own.
        share: of all frames that were skipped.
        wrong: skipped frames with another label than the frame whose answer they take.
        hidden: of these, animals that are taken for blank.
        animals: skipped frames that show an animal.
    """

    measure: str
    asked: str
    share: float
    skipped: int
    wrong: int
    hidden: int
    animals: int


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Of one camera and one threshold."""

    skipped: int = 0
    wrong: int = 0
    hidden: int = 0
    animals: int = 0

    def plus(self, other: _Outcome) -> _Outcome:
        return _Outcome(
            self.skipped + other.skipped,
            self.wrong + other.wrong,
            self.hidden + other.hidden,
            self.animals + other.animals,
        )


def read_series(backbone: Backbone) -> list[Series]:
    """All sequences that are at hand; none without the shared data."""
    found = []
    for pattern in FOLDERS:
        for folder in sorted(DATA.glob(pattern)):
            files: dict[str, list[tuple[int, Path]]] = {}
            for path in folder.rglob("*"):
                if path.suffix.lower() == ".jpg" and (match := _NUMBER.search(path.stem)):
                    name = f"{folder.name} {match[1] or ''}".strip()
                    files.setdefault(name, []).append((int(match[2]), path))
            for name, numbered in sorted(files.items()):
                paths = [path for _, path in sorted(numbered)]
                found.append(_series(folder.name, name, paths, backbone))
    return found


def _series(camera: str, name: str, paths: Sequence[Path], backbone: Backbone) -> Series:
    labels = [None if path.parent.name in UNKNOWN else path.parent.name for path in paths]
    pixels = np.stack([decode(path.read_bytes(), DecodeRules()) for path in paths])
    return Series(camera, name, labels, pixels, features_by_lanes(backbone, pixels))


def neighbours(all_series: Sequence[Series]) -> Iterator[Neighbours]:
    """Each sequence, frame by frame."""
    for one in all_series:
        others = [each for each in all_series if each is not one]
        nearest = [each for each in others if each.camera == one.camera] or others
        apart = _cosine(one.features, np.concatenate([each.features for each in nearest]))
        steps = [_difference(a, b) for a, b in pairwise(one.pixels)]
        cosine = np.diagonal(_cosine(one.features, one.features), 1)
        yield Neighbours(
            one.name,
            len(one.pixels),
            sum(a != b for a, b in pairwise(label for label in one.labels if label)),
            mean=Spread.of([float(step.mean()) for step in steps]),
            highest=Spread.of([float(np.percentile(step, 99.9)) for step in steps]),
            cosine=Spread.of(cosine.tolist()),
            relative=float(np.median(cosine) / np.median(apart)),
        )


def skipping(all_series: Sequence[Series]) -> Iterator[Skipped]:
    """By each measure of likeness: at several shares, and at the most that does no harm."""
    sizes: dict[str, int] = {}
    for one in all_series:
        sizes[one.camera] = sizes.get(one.camera, 0) + len(one.pixels)
    for measure, distances in MEASURES.items():
        trials = _trials([(one, distances(one)) for one in all_series])
        for share in SHARES:
            chosen = [
                min(trial, key=lambda one, goal=share * sizes[camera]: abs(one.skipped - goal))
                for camera, trial in trials.items()
            ]
            yield _sum(measure, f"{share:.0%} of each camera's frames", chosen, sizes)
        safe = {camera: _harmless(trial) for camera, trial in trials.items()}
        known = [trial[safe[camera]] for camera, trial in trials.items()]
        yield _sum(measure, "most that does no harm, in hindsight", known, sizes)
        guessed = [
            trial[min(limit for other, limit in safe.items() if other != camera)]
            for camera, trial in trials.items()
        ]
        yield _sum(measure, "most that does none elsewhere", guessed, sizes)


def _trials(matrices: Sequence[tuple[Series, Floats]]) -> dict[str, list[_Outcome]]:
    """Camera -> what each threshold would do, the lowest (which skips nothing) first."""
    steps = np.concatenate([np.diagonal(matrix, 1) for _, matrix in matrices])
    limits = [-1.0, *np.quantile(steps, np.linspace(0, 1, THRESHOLDS)).tolist()]
    found: dict[str, list[_Outcome]] = {}
    for one, matrix in matrices:
        new = [_skip(one, matrix, limit) for limit in limits]
        before = found.get(one.camera, [_Outcome()] * len(limits))
        found[one.camera] = [a.plus(b) for a, b in zip(before, new, strict=True)]
    return found


def _harmless(trial: Sequence[_Outcome]) -> int:
    """Place of the highest threshold below the first that gives a frame a wrong label."""
    return len(list(takewhile(lambda one: not one.wrong, trial))) - 1


def _sum(measure: str, asked: str, outcomes: Sequence[_Outcome], sizes: dict[str, int]) -> Skipped:
    whole = reduce(_Outcome.plus, outcomes)
    share = whole.skipped / sum(sizes.values())
    return Skipped(measure, asked, share, whole.skipped, whole.wrong, whole.hidden, whole.animals)


def _skip(one: Series, distances: Floats, limit: float) -> _Outcome:
    """Each frame is compared with the last one that was kept."""
    found, kept = _Outcome(), 0
    for place in range(1, len(one.labels)):
        if distances[kept, place] > limit:
            kept = place
            continue
        label, taken = one.labels[place], one.labels[kept]
        known = label is not None and taken is not None
        animal = label not in {None, BLANK}
        wrong = known and label != taken
        found = found.plus(_Outcome(1, wrong, wrong and animal and taken == BLANK, animal))
    return found


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int16]:
    return np.abs(one.astype(np.int16) - other.astype(np.int16))


def _cosine(some: Floats, others: Floats) -> Floats:
    """Cosine distances, float32 (n, m)."""
    first, second = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (some, others))
    return np.maximum(1 - first @ second.T, 0)


def _largest_block(difference: NDArray[np.int16]) -> float:
    """The most changed 8 x 8 pixels: a small animal shows, noise averages out."""
    side = len(difference) // BLOCK
    blocks = difference.reshape(side, BLOCK, side, BLOCK, -1)
    return float(blocks.mean(axis=(1, 3, 4)).max())


def _by_pixels(measure: Callable[[NDArray[np.int16]], float]) -> Callable[[Series], Floats]:
    def distances(one: Series) -> Floats:
        found = np.zeros((len(one.pixels), len(one.pixels)), np.float32)
        for first, second in combinations(range(len(one.pixels)), 2):
            found[first, second] = measure(_difference(one.pixels[first], one.pixels[second]))
        return found + found.T

    return distances


MEASURES: dict[str, Callable[[Series], Floats]] = {
    "mean difference": _by_pixels(lambda step: float(step.mean())),
    "99.9th percentile": _by_pixels(lambda step: float(np.percentile(step, 99.9))),
    "largest 8 x 8 block": _by_pixels(_largest_block),
    # for comparison: nothing would be saved, as features are what a skipped frame does without
    "features' cosine": lambda one: _cosine(one.features, one.features),
}


def show(steps: Sequence[Neighbours], skips: Sequence[Skipped]) -> None:
    """Both tables."""
    print("\nneighbouring frames: |a-b| of 255, cosine distance of the features")
    for one in steps:
        print(
            f"  {one.name:21} {one.frames} frames, {one.changes:2} changes of label, "
            f"mean {one.mean}, 99.9 % {one.highest}, "
            f"cosine {one.cosine}, of other events' {one.relative:.3f}"
        )
    print("\nskipping a frame that is like the last one kept")
    for skip in skips:
        print(
            f"  {skip.measure:20} {skip.asked:36} {skip.skipped:3} ({skip.share:.0%}) skipped, "
            f"{skip.animals} of them animals; {skip.wrong} wrong, {skip.hidden} animals hidden"
        )
