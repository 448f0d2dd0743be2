"""How good a model is on media it never saw: plain numpy, nothing hidden in one number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Names = npt.NDArray[np.str_]
CALIBRATION_BINS = 15


@dataclass(frozen=True, slots=True)
class SpeciesFigures:
    """One species on the held-out media. None: there was nothing to divide by."""

    species: str
    support: int
    predicted: int
    recall: float | None
    precision: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one model did on the held-out media.

    Attributes:
        media: how many there were.
        accuracy: share that was right; a species the model does not know counts as wrong.
        macro_recall: mean recall of the species that occur, each counting the same.
        nll: mean negative log-likelihood (nats) over media of species the model knows.
        ece: expected calibration error, 15 bins (Guo et al. 2017); 0 is perfect.
        names, confusion: confusion[i][j] media of names[i] were called names[j].
    """

    media: int
    accuracy: float | None
    macro_recall: float | None
    nll: float | None
    ece: float | None
    species: tuple[SpeciesFigures, ...]
    names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(
            **tree
            | {
                "species": tuple(SpeciesFigures(**row) for row in tree["species"]),
                "names": tuple(tree["names"]),
                "confusion": tuple(tuple(row) for row in tree["confusion"]),
            }
        )

    def recall_of(self, species: str) -> float | None:
        """Recall of one species; None if no held-out media shows it."""
        return next((row.recall for row in self.species if row.species == species), None)


def named(probabilities: Floats, classes: Sequence[str]) -> Names:
    """The best class of each row: (n, k) -> names (n,)."""
    best: Names = np.array(classes, np.str_)[probabilities.argmax(axis=1)]
    return best


def evaluate(truth: Names, probabilities: Floats, classes: Sequence[str]) -> Evaluation:
    """Compare a model's answers with what people said.

    Args:
        truth: species (n,); may hold species that are not in `classes`.
        probabilities: float32 (n, k), in the order of `classes`.
    """
    predicted = named(probabilities, classes)
    names = tuple(sorted({*classes, *truth.tolist()}))
    confusion = confusion_matrix(truth, predicted, names)
    species = tuple(_figures(i, name, confusion) for i, name in enumerate(names))
    recalls = [row.recall for row in species if row.recall is not None]
    right = truth == predicted
    return Evaluation(
        len(truth),
        float(right.mean()) if len(truth) else None,
        float(np.mean(recalls)) if recalls else None,
        negative_log_likelihood(truth, probabilities, classes),
        calibration_error(probabilities.max(axis=1), right) if len(truth) else None,
        species,
        names,
        tuple(tuple(int(n) for n in row) for row in confusion),
    )


def confusion_matrix(truth: Names, predicted: Names, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """int64 (m, m): rows are what people said, columns what the model said."""
    index = {name: i for i, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)), np.int64)
    rows = [index[name] for name in truth.tolist()]
    columns = [index[name] for name in predicted.tolist()]
    np.add.at(matrix, (rows, columns), 1)
    return matrix


def _figures(i: int, name: str, confusion: npt.NDArray[np.int64]) -> SpeciesFigures:
    support, predicted = int(confusion[i].sum()), int(confusion[:, i].sum())
    right = int(confusion[i, i])
    return SpeciesFigures(
        name,
        support,
        predicted,
        right / support if support else None,
        right / predicted if predicted else None,
    )


def negative_log_likelihood(
    truth: Names, probabilities: Floats, classes: Sequence[str]
) -> float | None:
    """Mean of -ln p(truth) over the rows whose truth is a class; None if there are none."""
    index = {name: i for i, name in enumerate(classes)}
    rows = [(i, index[name]) for i, name in enumerate(truth.tolist()) if name in index]
    if not rows:
        return None
    chosen = probabilities[tuple(np.array(rows).T)].astype(np.float64)
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def calibration_error(confidence: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Expected calibration error: sum over bins of share x |accuracy - mean confidence|."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, right.astype(float) - confidence, CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(confidence))
