"""How many labels our order of asking saves: python benchmarks/label_efficiency.py --pictures DIR.

DIR (or the .tgz) holds train/<class>/*.jpg and test/<class>/*.jpg, such as the CIFAR-10 subset. Two
pools are labelled in rounds, by different orders, from the same first labels; after each round the
product's own head is fitted to what is labelled, and judged on the test side:

- `balanced`: the train side as it is, each picture an event of its own;
- `station`: 500 events, half of them of one species, the rarest seen three times; an event is a
  burst of one to four frames of one animal (a picture, mirrored, cropped, in another light). Which
  species is common differs from seed to seed. All are tested alike: accuracy is mean recall.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small products: threads only wait for others

import argparse
import tarfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import bench
import numpy as np
import numpy.typing as npt
from label_orders import ORDERS, Ints, State
from PIL import Image
from PIL.Image import Resampling
from plots import COLOURS

from monitor.log.queues import QueueCandidate
from monitor.model.backbone import BackboneOptions, open_backbone
from monitor.model.head import Head
from monitor.review.coverage import most_teaching
from monitor.review.grouping import group
from monitor.review.next_frames import MOST_COMPARED
from monitor.review.similarity import Floats, standard_directions
from monitor.training.dataset import Dataset, Part
from monitor.training.head import fit_head

SHARES = (0.5, 0.2, 0.1, 0.07, 0.05, 0.03, 0.02, 0.015, 0.01, 0.005)
EVENTS = 500
BURSTS = (0.3, 0.2, 0.2, 0.3)
FIRST, FEW_A_ROUND, MANY_A_ROUND, MANY_FROM = 40, 20, 50, 200
MOST = {"station": 500, "balanced": 600}
SIDE = 224
NAMES = ("train", "train_species", "test", "test_species")


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Features of all pictures.

    Attributes:
        train: float32 (n, frames of a burst, d).
        test: float32 (m, d).
        train_species, test_species: names.
    """

    train: Floats
    train_species: npt.NDArray[np.str_]
    test: Floats
    test_species: npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Frames without labels: float32 (n, d), names, event numbers."""

    features: Floats
    species: npt.NDArray[np.str_]
    events: Ints


def read_pictures(folder: Path, work: Path) -> Pictures:
    """Decode and put through the product's backbone; every train picture in four variants."""
    if folder.is_file():
        with tarfile.open(folder) as archive:
            archive.extractall(work, filter="data")
        folder = next(path for path in (work, *work.iterdir()) if (path / "train").is_dir())
    backbone = open_backbone(BackboneOptions(weights_cache=work / "weights"))
    bench.say(f"features by {backbone.description}")
    random = np.random.default_rng(0)

    def features_of(side: str, frames: int) -> tuple[Floats, npt.NDArray[np.str_]]:
        paths = sorted((folder / side).glob("*/*"))
        found = []
        for start in range(0, len(paths), 16):
            opened = [Image.open(path).convert("RGB") for path in paths[start : start + 16]]
            images = [frame_of(one, n, random) for one in opened for n in range(frames)]
            vectors = backbone.features(np.stack(images))
            found.append(vectors.reshape(len(opened), frames, -1))
        names = np.array([path.parent.name for path in paths])
        bench.say(f"{side}: {len(paths)} pictures")
        return np.concatenate(found), names

    train, train_species = features_of("train", len(BURSTS))
    test, test_species = features_of("test", 1)
    backbone.close()
    return Pictures(train, train_species, test[:, 0], test_species)


def frame_of(picture: Any, number: int, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """How a burst shows an animal: the picture itself (0), turned round (1), three quarters to all
    of it in another light, turned round or not (2, 3)."""
    if number < 2:
        whole = np.asarray(picture.resize((SIDE, SIDE), Resampling.BICUBIC))
        return whole[:, ::-1] if number else whole
    width, height = picture.size
    share = random.uniform(0.75, 1.0)
    left, top = random.uniform(0, 1 - share, 2) * (width, height)
    box = (left, top, left + share * width, top + share * height)
    part = np.asarray(picture.resize((SIDE, SIDE), Resampling.BICUBIC, box=box), np.float32)
    lit = (part - 128) * random.uniform(0.8, 1.2) + 128 + random.uniform(-20, 20)
    seen = np.clip(lit, 0, 255).astype(np.uint8)
    return seen[:, ::-1] if random.random() < 0.5 else seen


def balanced(pictures: Pictures, random: np.random.Generator) -> Pool:
    """Every train picture once."""
    count = len(pictures.train)
    return Pool(pictures.train[:, 0], pictures.train_species, np.arange(count))


def station(pictures: Pictures, random: np.random.Generator) -> Pool:
    """As cameras see it: some species always, some hardly ever, and in bursts."""
    chosen: list[tuple[int, int, int]] = []
    events = 0
    species_in_turn = random.permutation(np.unique(pictures.train_species))
    for species, share in zip(species_in_turn, SHARES, strict=False):
        rows = random.permutation(np.flatnonzero(pictures.train_species == species))
        for row in rows[: max(3, round(EVENTS * share))]:
            frames = random.choice(len(BURSTS), p=BURSTS) + 1
            chosen += [(row, frame, events) for frame in random.permutation(len(BURSTS))[:frames]]
            events += 1
    rows, frames, events_of = random.permutation(np.array(chosen)).T
    return Pool(pictures.train[rows, frames], pictures.train_species[rows], events_of)


POOLS = {"station": station, "balanced": balanced}


def fitted(pool: Pool, labelled: npt.NDArray[np.bool_]) -> Head:
    """The product's head, as a training fits it."""
    count = int(labelled.sum())
    nothing = np.zeros(count, np.int64)
    part = Part(
        pool.features[labelled],
        pool.species[labelled],
        pool.events[labelled],
        nothing,
        nothing.astype(bool),
    )
    classes = tuple(sorted(set(part.species.tolist())))
    dataset = Dataset(classes, part, part.where(nothing.astype(bool)))
    return fit_head(dataset, "benchmark", 0, lambda stage, done: None).head


@lru_cache(maxsize=1)
def load_pictures(file: Path) -> Pictures:
    """What `_pictures` wrote."""
    with np.load(file) as kept:
        return Pictures(*(kept[name] for name in NAMES))


def label_in_rounds(
    file: Path, name: str, order: str, seed: int, most: int
) -> list[tuple[int, float]]:
    """(labels, accuracy on the test side) after each round."""
    pictures = load_pictures(file)
    pool = POOLS[name](pictures, np.random.default_rng(seed))
    first = np.random.default_rng(1000 + seed).permutation(len(pool.events))[:FIRST]
    labelled = np.zeros(len(pool.events), bool)
    labelled[first] = True
    (directions,) = standard_directions(pool.features)
    random = np.random.default_rng(2000 + seed)
    results: list[tuple[int, float]] = []
    while True:
        head = fitted(pool, labelled)
        answers = np.array(head.classes)[head.probabilities(pictures.test).argmax(axis=1)]
        count = int(labelled.sum())
        results.append((count, float((answers == pictures.test_species).mean())))
        if count >= most:
            return results
        probabilities = head.probabilities(pool.features)
        state = State(
            pool.features,
            directions,
            pool.events,
            labelled.copy(),
            pool.species,
            head.classes,
            probabilities,
            random,
        )
        wanted = min(FEW_A_ROUND if count < MANY_FROM else MANY_A_ROUND, most - count)
        chosen = ORDERS[order](state, wanted)
        if not len(chosen):
            return results  # nothing is left that does not look like what is labelled
        labelled[chosen] = True


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One order on one pool: labels (r,), accuracy (seeds, r)."""

    labels: list[int]
    accuracy: npt.NDArray[np.float64]

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Over the seeds, (r,)."""
        return self.accuracy.mean(axis=0)

    def at(self, labels: float) -> float:
        """Mean accuracy at so many labels, between rounds on a straight line."""
        return float(np.interp(labels, self.labels, self.mean))

    def needed(self, accuracy: float) -> float | None:
        """Labels from which the mean accuracy is reached; None if it never is."""
        there = np.flatnonzero(self.mean >= accuracy)
        if not len(there):
            return None
        last = int(there[0])
        if last == 0:
            return float(self.labels[0])
        low, high = self.mean[last - 1], self.mean[last]
        part = (accuracy - low) / (high - low)
        return self.labels[last - 1] + part * (self.labels[last] - self.labels[last - 1])


def curves(
    file: Path,
    pool: str,
    orders: Sequence[str],
    seeds: int,
    most: int,
    workers: ProcessPoolExecutor,
) -> dict[str, Curve]:
    """Every order on one pool, the seeds side by side."""
    jobs = {
        order: [
            workers.submit(label_in_rounds, file, pool, order, seed, most) for seed in range(seeds)
        ]
        for order in orders
    }
    found = {}
    for order in orders:
        runs = [job.result() for job in jobs[order]]
        rounds = min(len(run) for run in runs)
        labels = [count for count, _ in runs[0][:rounds]]
        found[order] = Curve(labels, np.array([[a for _, a in run[:rounds]] for run in runs]))
        shown = " ".join(f"{n}: {found[order].at(n):.3f}" for n in _ticks(most) if n <= labels[-1])
        bench.say(f"{pool}, {order}: {shown}")
    return found


def _ticks(most: int) -> list[int]:
    return [n for n in (60, 100, 200, 300, 400, 500, 700, 1000) if n <= most]


def table(pool: str, found: dict[str, Curve], most: int) -> list[str]:
    """Markdown: accuracy at numbers of labels, and how many labels do what random order does."""
    ticks = _ticks(most)
    lines = [
        f"| {pool}: order | " + " | ".join(f"{n} labels" for n in ticks) + " | as random's last |",
        "| --- |" + " --- |" * (len(ticks) + 1),
    ]
    goal = found["random"].mean[-1]
    for order, curve in found.items():
        cells = [f"{curve.at(n):.3f}" if n <= curve.labels[-1] else "" for n in ticks]
        needed = curve.needed(goal)
        told = f"{needed:.0f} labels" if needed is not None else "not reached"
        lines.append(f"| {order} | " + " | ".join(cells) + f" | {told} |")
    return lines


def plot(axes: Any, found: dict[str, dict[str, Curve]]) -> None:
    """Mean and range over the seeds, random order beside ours."""
    styles = {"station": "-", "balanced": "--"}
    for pool, by_order in found.items():
        for (order, curve), colour in zip(by_order.items(), cycle(COLOURS), strict=False):
            axes.plot(
                curve.labels, curve.mean, styles[pool], color=colour, label=f"{order}, {pool}"
            )
            low, high = curve.accuracy.min(axis=0), curve.accuracy.max(axis=0)
            axes.fill_between(curve.labels, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("labels")
    axes.set_ylabel("accuracy on the test side")
    axes.grid()
    axes.legend(loc="lower right")


def main() -> None:
    example = "python benchmarks/label_efficiency.py --pictures cifar10-subset.tgz --seeds 5"
    parser = bench.options(__doc__, example)
    parser.add_argument("--pictures", type=Path, help="folder or .tgz with train/ and test/")
    parser.add_argument("--features", type=Path, help=".npz: read if it is there, else written")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--pools", nargs="+", choices=POOLS, default=list(POOLS))
    parser.add_argument(
        "--orders", nargs="+", choices=ORDERS, default=["random", "ours"], help="to compare"
    )
    parser.add_argument("--most", type=int, help="stop at so many labels")
    parser.add_argument("--processes", type=int, default=bench.cores())
    args = parser.parse_args()
    with bench.workplace(args.work) as folder:
        file = _pictures(args, folder)
        found, lines = {}, []
        with ProcessPoolExecutor(args.processes, get_context("spawn")) as workers:
            for pool in args.pools:
                most = args.most or MOST[pool]
                found[pool] = curves(file, pool, args.orders, args.seeds, most, workers)
                lines += [*table(pool, found[pool], most), ""]
        print("\n".join(lines))
        quick = seconds_of_an_order(load_pictures(file).train)
    figures = {
        pool: {
            order: {"labels": c.labels, "accuracy": c.accuracy.tolist()} for order, c in by.items()
        }
        for pool, by in found.items()
    }
    title = f"Accuracy against number of labels ({args.seeds} seeds: mean and range)"
    name = "label_efficiency" if set(args.orders) == {"random", "ours"} else "label_orders"
    bench.save(name, figures | quick, title, lambda axes: plot(axes, found), args.save_in, 3.6)


def seconds_of_an_order(train: Floats) -> dict[str, float]:
    """Processor seconds to order 2,000 candidates beside 2,000 labels, and to group them."""
    vectors = np.ascontiguousarray(train[:MOST_COMPARED, 0])
    labelled = np.ascontiguousarray(train[:MOST_COMPARED, 1])
    some = [
        QueueCandidate(n, n // 5, 1, "fox", 0.5, "", (("fox", 0.5), ("hare", 0.4)))
        for n in range(len(vectors))
    ]
    figures = {}
    for name, work in (
        ("order", lambda: most_teaching(some, vectors, labelled, {}, {"fox": 9}, len(some))),
        ("group", lambda: group(some, vectors)),
    ):
        times = []
        for _ in range(3):
            before = time.process_time()
            work()
            times.append(time.process_time() - before)
        figures[f"{name}_processor_seconds"] = min(times)
        print(f"{len(vectors)} candidates, {name}: {min(times):.2f} processor seconds")
    return figures


def _pictures(args: argparse.Namespace, folder: Path) -> Path:
    """The file of features, made if it is not there."""
    file: Path = args.features or folder / "features.npz"
    if not file.is_file():
        if args.pictures is None:
            raise SystemExit(
                "name the pictures: --pictures DIR, or --features FILE of a run before"
            )
        pictures = read_pictures(args.pictures, folder)
        np.savez(file, **{name: getattr(pictures, name) for name in NAMES})
    return file


if __name__ == "__main__":
    main()
