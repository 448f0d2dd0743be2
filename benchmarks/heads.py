"""Which head, on which of the network's features: compared on the same labels.

    python benchmarks/heads.py [--features FILE] [--data FOLDER]

CIFAR-10: learnt from the training pictures, five folds of which choose what has to be chosen, and
judged on the test pictures. Two fixed cameras: learnt at one, judged at the other, blank against
animal. FILE keeps the features for the next time.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that wait for each other cost more

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bench import options, save, say, workplace
from benchmarks.cifar10 import SHARED
from benchmarks.probabilities import Sides, _pixels, read
from monitor.model.backbone import BackboneOptions, layout_of, open_backbone
from monitor.model.head import Floats, unit_parts
from monitor.training.head import find_temperature, standard

BLOCKS = [length for _, length in layout_of("vgg16").parts]
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1)
FOLDS = 5
LINE = "{way:42} aside {aside_accuracy:.3f} (nll {aside_nll:.3f}), test {accuracy:.3f}"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Way:
    """One head on some features: how features are prepared, and which models to choose from."""

    name: str
    prepared: Callable[[Floats], Floats]
    models: list[Any]
    standardised: bool = True


def ways() -> list[Way]:
    """Everything that is compared; the product's own is the one of all blocks at length 1."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    def logistic(*strengths: float) -> list[Any]:
        return [LogisticRegression(C=c, max_iter=300, tol=1e-3) for c in strengths]

    def last(x: Floats) -> Floats:
        return x[:, -BLOCKS[-1] :]

    def whole(x: Floats) -> Floats:
        return x

    def units(x: Floats) -> Floats:
        return unit_parts(x, BLOCKS)

    small = [
        MLPClassifier((width,), alpha=alpha, early_stopping=True, random_state=0, max_iter=200)
        for width in (64, 256)
        for alpha in (0.1, 10.0)
    ]
    return [
        Way("block 5, hardly regularised", last, logistic(10.0)),
        Way("block 5", last, logistic(*STRENGTHS)),
        Way("blocks 3, 4 and 5", whole, logistic(*STRENGTHS)),
        Way("blocks 3, 4 and 5, square roots", np.sqrt, logistic(*STRENGTHS)),
        Way(
            "all blocks together at length 1",
            lambda x: unit_parts(x, [x.shape[1]]),
            logistic(*STRENGTHS),
        ),
        Way(
            "each block at length 1 (chosen)", lambda x: unit_parts(x, BLOCKS), logistic(*STRENGTHS)
        ),
        Way(
            "cosine: each block at length 1, as it is",
            units,
            logistic(3.0, 10.0, 30.0, 100.0, 300.0),
            standardised=False,
        ),
        Way("small network of one hidden layer", units, small),
    ]


def judge(way: Way, sides: Sides) -> Row:
    """Choose by cross-validated likelihood on the training side, then judge on the other."""
    from sklearn.model_selection import StratifiedKFold

    x, test = way.prepared(sides.x), way.prepared(sides.test_x)
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(x, sides.y))
    asides = []
    for model in way.models:
        spoken = np.zeros((len(x), len(sides.names)))
        for fitting, aside in folds:
            spoken[aside] = _spoken(way, model, x[fitting], sides.y[fitting], x[aside])
        asides.append(spoken)
    found = [_nll(spoken, sides.y) for spoken in asides]
    best = int(np.argmin(found))
    answers = _spoken(way, way.models[best], x, sides.y, test)
    return {
        "way": way.name,
        "aside_accuracy": float((asides[best].argmax(axis=1) == sides.y).mean()),
        "aside_nll": found[best],
        "accuracy": float((answers.argmax(axis=1) == sides.test_y).mean()),
    }


def _spoken(way: Way, model: Any, x: Floats, y: Any, asked: Floats) -> Any:
    from sklearn.base import clone

    mean, scale = standard(x) if way.standardised else (np.float32(0), np.float32(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return clone(model).fit((x - mean) / scale, y).predict_proba((asked - mean) / scale)


def _nll(spoken: Any, y: Any) -> float:
    """With the best temperature: what calibration mends is no fault of a head."""
    logits = np.log(np.maximum(spoken, 1e-12)).astype(np.float32)
    temperature = find_temperature(logits, y)
    cooled = np.exp(logits / temperature)
    cooled /= cooled.sum(axis=1, keepdims=True)
    return float(-np.log(np.maximum(cooled[np.arange(len(y)), y], 1e-12)).mean())


def at_a_new_camera(data: Path) -> list[Row]:
    """Balanced accuracy, blank against animal, at a fixed camera that was not learnt from."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score

    backbone = open_backbone(BackboneOptions())
    cameras = []
    for camera in sorted(data.glob("*")):
        files = sorted(f for f in camera.glob("*/*") if f.parent.name != "unlabelled")
        if files:
            animal = np.array([file.parent.name != "blank" for file in files])
            cameras.append((backbone.features(_pixels(files)), animal))
    backbone.close()

    def own_median(x: Floats) -> Floats:
        return np.asarray(x - np.median(x, axis=0), np.float32)

    rows = []
    for name, prepared in (
        ("features as they are", lambda x: x),
        ("each block at length 1", lambda x: unit_parts(x, BLOCKS)),
        ("less the camera's own median", own_median),
        ("each block at length 1, less the median", lambda x: own_median(unit_parts(x, BLOCKS))),
    ):
        scores = []
        for (x, y), (other, truth) in (cameras, cameras[::-1]):
            mean, scale = standard(prepared(x))
            model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=300)
            model.fit((prepared(x) - mean) / scale, y)
            said = model.predict((prepared(other) - mean) / scale)
            scores.append(float(balanced_accuracy_score(truth, said)))
        rows.append({"way": name, "balanced_accuracy": float(np.mean(scores))})
    return rows


def main() -> int:
    """Measure, print, save."""
    parser = options(__doc__, "python benchmarks/heads.py --features cifar.npz")
    parser.add_argument("--data", type=Path, default=SHARED.parent)
    parser.add_argument("--features", type=Path)
    chosen = parser.parse_args()
    with workplace(chosen.work) as folder:
        sides = read(chosen.data / "cifar10", folder, chosen.features)
        rows = []
        for way in ways():
            rows.append(judge(way, sides))
            say(LINE.format(**rows[-1]))
        cameras = at_a_new_camera(chosen.data / "fixed-cameras")
        for row in cameras:
            say("at a new camera: {way:42} {balanced_accuracy:.3f}".format(**row))

    def draw(axes: Any) -> None:
        axes.barh([row["way"] for row in rows], [row["accuracy"] for row in rows], color="#4c7a5a")
        axes.invert_yaxis()
        axes.set_xlim(0.6, 0.8)
        axes.set_xlabel("accuracy on the test pictures (standard error 0.014)")

    save("heads", {"rows": rows, "cameras": cameras}, "Heads, CIFAR-10", draw, chosen.save_in)
    return 0


if __name__ == "__main__":
    sys.exit(main())
