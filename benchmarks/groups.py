"""How right one decision for a whole group of look-alikes is: python benchmarks/groups.py.

Purity: the share of grouped frames that show what most frames of their group show. Of cameras that
stand still (--cameras, folders CAMERA/LABEL/*.jpg at any depth), without a model: groups are nearly
the same pictures. Of pictures that share no scene (--features of label_efficiency.py), with the
head that so many labels give: groups are what the model is sure of.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench
import numpy as np
from label_efficiency import Pool, fitted
from plots import COLOURS

from monitor.images.decode import DecodeRules, decode
from monitor.log.queues import QueueCandidate
from monitor.model.backbone import INPUT_SIZES, BackboneOptions, open_backbone
from monitor.review import grouping
from monitor.review.similarity import Floats

DATA = bench.TOP.parent / "shared" / "data"
UNKNOWN_LABELS = ("unsure", "unlabelled")
NEARNESS = (0.03, 0.035, 0.04, 0.045, 0.05, 0.055)
LABELS = (250, 500, 1000)
MOST_FRAMES = 2000


@dataclass(frozen=True, slots=True)
class Grouped:
    """Frames that came into a group, of all, and how many of them show what most of it shows."""

    groups: int
    frames: int
    all_frames: int
    purity: float


def grouped(
    candidates: Sequence[QueueCandidate],
    vectors: Floats,
    truth: Sequence[str],
    labels: Mapping[str, int] = {},
) -> Grouped:
    """Group these and compare with what they show."""
    found = grouping.group(candidates, vectors, labels)
    most = [Counter(truth[row] for row in rows).most_common(1)[0][1] for rows in found]
    frames = sum(len(rows) for rows in found)
    return Grouped(len(found), frames, len(truth), sum(most) / max(1, frames))


def of_a_camera(folder: Path, work: Path) -> tuple[Floats, list[str]]:
    """Features and labels of the frames of one camera."""
    backbone = open_backbone(BackboneOptions(weights_cache=work))
    rules = DecodeRules(size=INPUT_SIZES["vgg16"])
    paths = [
        p for p in sorted(folder.glob("*/*.[jJ][pP][gG]")) if p.parent.name not in UNKNOWN_LABELS
    ]
    vectors = [backbone.features(decode(path.read_bytes(), rules)[np.newaxis])[0] for path in paths]
    backbone.close()
    return np.stack(vectors), [path.parent.name for path in paths]


def cameras(folders: Sequence[Path], work: Path) -> dict[str, dict[str, Grouped]]:
    """Camera -> how near -> result. Nothing is predicted."""
    results: dict[str, dict[str, Grouped]] = {}
    for folder in folders:
        vectors, truth = of_a_camera(folder, work)
        some = [QueueCandidate(n, n, 1, None, None) for n in range(len(truth))]
        results[folder.name] = {}
        for near in NEARNESS:
            grouping.SAME_PICTURE = near  # type: ignore[attr-defined]
            results[folder.name][f"{near}"] = one = grouped(some, vectors, truth)
            print(f"{folder.name}, nearer than {near}: {_told(one)}")
    return results


def with_a_model(features: Path, seeds: int) -> dict[str, list[Grouped]]:
    """Labels -> a result for each seed."""
    from monitor.review.similarity import SAME_PICTURE

    grouping.SAME_PICTURE = SAME_PICTURE  # type: ignore[attr-defined]
    with np.load(features) as kept:
        vectors, species = kept["train"][:, 0], kept["train_species"]
    results: dict[str, list[Grouped]] = {}
    for labels in LABELS:
        results[str(labels)] = found = []
        for seed in range(seeds):
            order = np.random.default_rng(seed).permutation(len(species))
            pool = Pool(vectors, species, np.arange(len(species)))
            labelled = np.zeros(len(species), bool)
            labelled[order[:labels]] = True
            head = fitted(pool, labelled)
            rest = order[labels : labels + MOST_FRAMES]
            sure = head.probabilities(vectors[rest])
            some = [
                QueueCandidate(n, n, 1, head.classes[int(row.argmax())], float(row.max()))
                for n, row in enumerate(sure)
            ]
            said = Counter(species[labelled].tolist())
            found.append(grouped(some, vectors[rest], species[rest].tolist(), said))
            print(f"{labels} labels, seed {seed}: {_told(found[-1])}")
        whole = sum(one.frames for one in found)
        right = sum(one.purity * one.frames for one in found)
        print(
            f"{labels} labels, together: {whole} frames grouped, purity {right / max(1, whole):.3f}"
        )
    return results


def _told(one: Grouped) -> str:
    return f"{one.groups} groups, {one.frames} of {one.all_frames} frames, purity {one.purity:.3f}"


def plot(axes: Any, found: dict[str, dict[str, Grouped]]) -> None:
    """Purity against nearness, one line a camera."""
    for (camera, by_near), colour in zip(found.items(), COLOURS, strict=False):
        near = [float(one) for one in by_near]
        axes.plot(near, [one.purity for one in by_near.values()], "o-", color=colour, label=camera)
    axes.axhline(0.95, color="#555555", linestyle=":")
    axes.axvline(0.04, color="#555555", linestyle=":")
    axes.set_xlabel("frames of a group are nearer to each other than")
    axes.set_ylabel("purity")
    axes.grid()
    axes.legend(loc="lower left")


def main() -> None:
    parser: argparse.ArgumentParser = bench.options(__doc__, "python benchmarks/groups.py")
    standing = [DATA / "fixed-cameras" / "vj_ga_hu_1", DATA / "fixed-cameras" / "vj_ga_hu_2"]
    standing.append(DATA / "outdoor-cameras" / "rigel_night")
    parser.add_argument("--cameras", type=Path, nargs="+", default=standing)
    parser.add_argument("--features", type=Path, help=".npz of label_efficiency.py")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    with bench.workplace(args.work) as work:
        found = cameras(args.cameras, work)
        by_labels = with_a_model(args.features, args.seeds) if args.features else {}
    figures = {"cameras": found, "labels": by_labels}
    title = "Groups of look-alikes: how many frames show what their group shows"
    bench.save("groups", figures, title, lambda axes: plot(axes, found), args.save_in, 3.2)


if __name__ == "__main__":
    main()
