"""Do probabilities mean what they say? python benchmarks/probabilities.py [--data FOLDER]

Tables of docs/probabilities.md, on the CIFAR-10 subset through the product's own backbone and head:
calibration, species sets, `unknown` for a species nobody named, unequal numbers of labels, labels
said of whole events, and wrong labels found. FOLDER is as for benchmarks/cifar10.py. --features
FILE.npz keeps the features of a first run, and takes them from there in the next.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small products: threads only wait for others

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bench import options, save, say, workplace
from benchmarks.cifar10 import SHARED, unpack
from benchmarks.strange import strange_scores
from monitor.model.backbone import BackboneOptions, layout_of, open_backbone
from monitor.model.head import Floats, softmax
from monitor.training import head as heads
from monitor.training.conformal import coverage_figures, promise_of
from monitor.training.dataset import Dataset, Part
from monitor.training.distance import auroc, strange_above, with_unnamed
from monitor.training.evaluate import calibration_error, negative_log_likelihood
from monitor.training.head import FittedHead, fit_head
from monitor.training.label_errors import doubts
from monitor.training.similarity import parts_of

PARTS = parts_of(layout_of("vgg16").name)
COUNTS = (250, 120, 60, 30, 15) * 2
FLIPPED = 0.05
SEEDS = 3
Ints = np.ndarray[Any, np.dtype[np.int64]]
Table = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Features float32 (n, d) and class numbers of both sides; names of the classes."""

    x: Floats
    y: Ints
    test_x: Floats
    test_y: Ints
    names: tuple[str, ...]


def read(data: Path, folder: Path, kept: Path | None) -> Sides:
    """Features of all pictures, from the file if it is there."""
    if kept is None or not kept.is_file():
        (folder / "frames").mkdir()
        unpack(data, folder / "frames", 250)
        backbone = open_backbone(BackboneOptions(weights_cache=folder / "weights"))
        say(f"features by {backbone.description}")
        arrays: dict[str, Any] = {}
        for side in ("train", "test"):
            files = sorted((folder / "frames" / side).glob("*/*"))
            arrays[side] = np.concatenate(
                [backbone.features(_pixels(files[i : i + 16])) for i in range(0, len(files), 16)]
            )
            arrays[f"{side}_species"] = np.array([file.parent.name for file in files])
        backbone.close()
        if kept is not None:
            np.savez(kept, **arrays)
    else:
        arrays = dict(np.load(kept))
    names = tuple(sorted(set(arrays["train_species"].tolist())))
    numbers = {s: np.searchsorted(names, arrays[f"{s}_species"]) for s in ("train", "test")}
    return Sides(arrays["train"], numbers["train"], arrays["test"], numbers["test"], names)


def _pixels(files: Sequence[Path]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    from PIL import Image

    return np.stack([np.asarray(Image.open(f).convert("RGB").resize((224, 224))) for f in files])


def part_of(x: Floats, names: Sequence[str], y: Ints, events: Ints | None = None) -> Part:
    """Labels said of single frames, or of whole events."""
    groups = np.arange(len(y)) if events is None else events
    zeros = np.zeros(len(y), np.int64)
    said_of_event = np.full(len(y), events is not None)
    return Part(x, np.array(names)[y], groups, zeros, said_of_event)


def fit(train: Part, sides: Sides, seed: int = 0) -> FittedHead:
    """As a training fits a head."""
    test = part_of(sides.test_x, sides.names, sides.test_y)
    return fit_head(Dataset(sides.names, train, test), "x", seed, lambda s, d: None, PARTS)


def calibration(sides: Sides, fitted: FittedHead) -> Table:
    """With and without the temperature."""
    truth = np.array(sides.names)[sides.test_y]
    table = {}
    for name, temperature in (("as fitted", 1.0), ("with temperature", fitted.head.temperature)):
        p = softmax(fitted.head.logits(sides.test_x) / np.float32(temperature))
        right = p.argmax(axis=1) == sides.test_y
        nll = negative_log_likelihood(truth, p, sides.names)
        table[name] = {
            "temperature": temperature,
            "accuracy": float(right.mean()),
            "calibration error": calibration_error(p.max(axis=1), right),
            "nll": nll or 0.0,
        }
    return table


def sets(sides: Sides, fitted: FittedHead) -> Table:
    """Promised and measured coverage."""
    truth, events = np.array(sides.names)[sides.test_y], np.arange(len(sides.test_y))
    p = fitted.head.probabilities(sides.test_x)
    table = {}
    for coverage in (0.8, 0.9, 0.95):
        groups = np.arange(len(sides.y))
        promise = promise_of(fitted.aside, sides.y, groups, fitted.judged, coverage)
        assert promise is not None
        found = coverage_figures(truth, p, sides.names, events, promise.thresholds, coverage)
        assert found is not None
        each = [row["measured"] for row in found["by_species"].values()]
        table[f"promised {coverage:.2f}"] = {
            "measured": found["measured"],
            "lowest species": min(each),
            "highest species": max(each),
            "species in a set": found["mean_size"],
        }
    return table


def strangers(sides: Sides, fitted: FittedHead) -> Table:
    """AUROC of each score, leaving each class out in turn."""
    found: dict[str, list[float]] = {}
    for out in range(len(sides.names)):
        rows = sides.y != out
        scores = strange_scores(sides.x[rows], sides.y[rows], sides.test_x, fitted.strength, PARTS)
        new = sides.test_y == out
        for name, score in scores.items():
            found.setdefault(name, []).append(auroc(score[~new], score[new]))
        say(f"without {sides.names[out]}")
    ranked = sorted(found.items(), key=lambda item: -float(np.mean(item[1])))
    return {
        name: {"mean AUROC": float(np.mean(v)), **dict(zip(sides.names, v, strict=True))}
        for name, v in ranked
    }


def unnamed(sides: Sides) -> Table:
    """AUROC where half of the pictures have no label, and some of these show the class that
    nobody named: 125, 60, 25 or 10 of them among 1,125 of the classes that are known."""
    random, rows = np.random.default_rng(0), np.zeros(len(sides.y), bool)
    for c in range(len(sides.names)):
        rows[random.permutation(np.flatnonzero(sides.y == c))[: COUNTS[0] // 2]] = True
    found: dict[str, list[dict[str, float]]] = {}
    for out in range(len(sides.names)):
        told, new = rows & (sides.y != out), sides.test_y == out
        names = tuple(name for i, name in enumerate(sides.names) if i != out)
        train = part_of(sides.x, sides.names, sides.y).where(told)
        data = Dataset(names, train, train.where(np.zeros(len(train), bool)))
        made = fit_head(data, "x", 0, lambda s, d: None, PARTS)
        others = sides.x[~rows & (sides.y != out)]
        strangers = sides.x[~rows & (sides.y == out)]
        for count in (0, 10, 25, 60, 125):
            seen = np.concatenate([others, strangers[:count]])
            one = with_unnamed(made, train, seen if count else seen[:0])
            strange = one.head.strangeness(sides.test_x)
            limit = strange_above(one.strangeness, train.groups, one.judged, 0.05)
            assert limit is not None
            figures = {
                "AUROC": auroc(strange[~new], strange[new]),
                "false unknown": float((strange[~new] > limit).mean()),
                "called unknown": float((strange[new] > limit).mean()),
            }
            share = f"{count / len(seen):.0%} of those without a label" if count else "none seen"
            found.setdefault(share, []).append(figures)
        say(f"half without a label, {sides.names[out]} never named")
    return {share: _mean(rows) for share, rows in found.items()}


def unequal(sides: Sides) -> Table:
    """Ways with unequal numbers of labels, tested on the same mixture."""
    balanced = heads.balanced_weights

    def power(exponent: float) -> Callable[..., Floats]:
        return lambda *a: (w := balanced(*a) ** exponent) / w.mean()

    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(SEEDS):
        random = np.random.default_rng(seed)
        counts = np.array(COUNTS)[random.permutation(len(sides.names))]
        picked = [
            random.permutation(np.flatnonzero(sides.y == c))[:n] for c, n in enumerate(counts)
        ]
        rows = np.concatenate(picked)
        again = np.concatenate([random.choice(p, counts.max()) for p in picked])
        prior = counts / counts.sum()
        spoken: dict[str, Floats] = {}
        for way, exponent in (("balanced", 1.0), ("square root", 0.5), ("no weights", 0.0)):
            with patch.object(heads, "balanced_weights", power(exponent)):
                made = fit(part_of(sides.x[rows], sides.names, sides.y[rows]), sides, seed)
            spoken[way] = made.head.probabilities(sides.test_x)
        resampled = part_of(sides.x[again], sides.names, sides.y[again])
        made = fit(replace(resampled, groups=again), sides, seed)
        spoken["resampled"] = made.head.probabilities(sides.test_x)
        adjusted = spoken["no weights"] / prior
        spoken["no weights, logits adjusted"] = adjusted / adjusted.sum(axis=1, keepdims=True)
        for way, p in spoken.items():
            found.setdefault(way, []).append(_unequal_figures(p, sides.test_y, counts))
        say(f"unequal numbers, seed {seed}")
    return {way: _mean(rows) for way, rows in found.items()}


def _unequal_figures(p: Floats, y: Ints, counts: Ints) -> dict[str, float]:
    """On all test pictures, each weighing as much as its class is common."""
    right, weights = p.argmax(axis=1) == y, counts[y] / counts[y].mean()
    recall = np.array([right[y == c].mean() for c in range(len(counts))])
    confidence = p.max(axis=1)
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = np.abs(np.bincount(bins, weights * (right - confidence), 15)).sum() / len(y)
    chosen = np.log(np.maximum(p[np.arange(len(y)), y], 1e-12))
    return {
        "mean recall": float(recall.mean()),
        "recall of the rare": float(recall[counts <= 30].mean()),
        "accuracy": float(np.average(right, weights=weights)),
        "calibration error": float(gaps),
        "nll": float(-np.average(chosen, weights=weights)),
    }


def events(sides: Sides) -> Table:
    """Bursts of five frames named as a whole, up to four of them blank: 72 of them, 60 blanks named
    one by one. Which class plays the blank changes."""
    believe = heads.shares_of_event_labels

    def first_power(*arguments: Any) -> Floats:
        odds = np.sqrt(1 / np.maximum(believe(*arguments), 1e-6) - 1)
        return np.asarray(1 / (1 + odds), np.float32)

    found: dict[str, list[dict[str, float]]] = {}
    for blank in (0, 4, 6):
        part, shows = _bursts(sides, blank)
        names = np.array(sides.names)
        single = replace(part, of_event=np.zeros(len(part), bool))
        wrong = shows != part.species
        believed = fit(single, sides)
        p_label = believed.aside[np.arange(len(part)), np.searchsorted(names, part.species)]
        looks_blank = part.of_event & (believed.aside[:, blank] > p_label)
        with patch.multiple("monitor.training.event_labels", BLANK=sides.names[blank]):
            ways = {"every frame believed": believed, "left out if likelier blank": None}
            with patch.object(heads, "shares_of_event_labels", first_power):
                ways["weighed by p"] = fit(part, sides)
            ways["weighed by p squared"] = fit(part, sides)
        ways["left out if likelier blank"] = fit(single.where(~looks_blank), sides)
        ways["only right labels"] = fit(single.where(~wrong), sides)
        for way, made in ways.items():
            assert made is not None
            said = made.head.probabilities(sides.test_x).argmax(axis=1)
            recall = np.array([(said[sides.test_y == c] == c).mean() for c in range(len(names))])
            animals = np.arange(len(names)) != blank
            figures = {
                "mean recall": float(recall.mean()),
                "recall of species": float(recall[animals].mean()),
                "false alarms on blanks": float(1 - recall[blank]),
                "animals called blank": float((said[sides.test_y != blank] == blank).mean()),
            }
            found.setdefault(way, []).append(figures)
        say(f"events, with {names[blank]} as blank: {wrong[part.of_event].mean():.0%} wrong")
    return {way: _mean(rows) for way, rows in found.items()}


def _bursts(sides: Sides, blank: int) -> tuple[Part, Any]:
    """The training side, and what each frame of it shows."""
    random = np.random.default_rng(10 * blank)
    pool = {c: list(random.permutation(np.flatnonzero(sides.y == c))) for c in range(10)}
    rows: list[int] = []
    said: list[int] = []
    groups: list[int] = []
    for kind in (c for c in pool if c != blank):
        for event in range(8):
            blanks = min(int(random.integers(0, 5)), len(pool[blank]) - 60)
            rows += [pool[blank if i < blanks else kind].pop() for i in range(5)]
            said += [kind] * 5
            groups += [10 * kind + event] * 5
    count = len(rows)
    rows += [pool[blank].pop() for _ in range(60)]
    said += [blank] * 60
    groups += list(range(1000, 1060))
    part = part_of(sides.x[rows], sides.names, np.array(said), np.array(groups))
    part = replace(part, of_event=np.arange(len(rows)) < count)
    return part, np.array(sides.names)[sides.y[rows]]


def wrong_labels(sides: Sides) -> Table:
    """One label in twenty is another class than it was."""
    rows = []
    for seed in range(SEEDS):
        random = np.random.default_rng(seed)
        count = len(sides.y)
        flipped = random.choice(count, int(FLIPPED * count), replace=False)
        said = sides.y.copy()
        said[flipped] += random.integers(1, 10, len(flipped))
        part = part_of(sides.x, sides.names, said % 10)
        made = fit(part, sides, seed)
        found = doubts(made.aside, part.species.tolist(), made.judged, range(count), sides.names)
        wrong = np.isin([row[0] for row in found], flipped)
        truth = [row[2] == sides.names[sides.y[int(row[0])]] for row in found[:50]]
        figures = {f"wrong of the first {n}": float(wrong[:n].mean()) for n in (20, 50, 100, 200)}
        figures["suggestion right, first 50"] = float(np.mean(truth))
        rows.append(figures | {"of all wrong ones found": float(wrong.sum() / len(flipped))})
        say(f"wrong labels, seed {seed}")
    return {f"{FLIPPED:.0%} wrong": _mean(rows)}


def _mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def show(title: str, table: Table) -> None:
    """As Markdown."""
    columns = list(next(iter(table.values())))
    print(f"\n{title}\n\n| | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 1)}")
    for name, row in table.items():
        print(f"| {name} | {' | '.join(f'{row[c]:.3f}' for c in columns)} |")


def draw(axes: Any, table: Table) -> None:
    """Promised against measured coverage."""
    promised = [float(name.split()[1]) for name in table]
    axes.plot((0.75, 1), (0.75, 1), color="#999999", linewidth=1)
    for key, mark in (("measured", "o"), ("lowest species", "v"), ("highest species", "^")):
        axes.plot(promised, [row[key] for row in table.values()], mark, label=key)
    axes.set_xlabel("promised")
    axes.set_ylabel("measured")
    axes.legend()


def main() -> int:
    """Measure, print, save."""
    parser = options(__doc__, "python benchmarks/probabilities.py --features /tmp/cifar.npz")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--features", type=Path, help="file that keeps the features")
    chosen = parser.parse_args()
    with workplace(chosen.work) as folder:
        sides = read(chosen.data, folder, chosen.features)
        fitted = fit(part_of(sides.x, sides.names, sides.y), sides)
        tables = {
            "Calibration": calibration(sides, fitted),
            "Species sets": sets(sides, fitted),
            "Wrong labels": wrong_labels(sides),
            "Labels said of an event": events(sides),
            "Unequal numbers of labels": unequal(sides),
            "Unknown, with media that nobody labelled": unnamed(sides),
            "Unknown: AUROC of the species left out": strangers(sides, fitted),
        }
        for title, table in tables.items():
            show(title, table)
        coverage = tables["Species sets"]
        save(
            "probabilities",
            tables,
            "Species sets",
            lambda axes: draw(axes, coverage),
            chosen.save_in,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
