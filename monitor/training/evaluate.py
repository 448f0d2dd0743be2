"""How good a model is on media it never saw: plain numpy, nothing hidden in one number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from monitor.core.domain import BLANK
from monitor.core.events import Said, most_said, speak_together

Floats = npt.NDArray[np.float32]
Names = npt.NDArray[np.str_]
Bools = npt.NDArray[np.bool_]
CALIBRATION_BINS = 15
Z = 1.959964
"""Of a two-sided 95 % interval."""


@dataclass(frozen=True, slots=True)
class SpeciesFigures:
    """One species on the held-out media. None: there was nothing to divide by.

    Attributes:
        support: held-out media that show it.
        predicted: held-out media that are called it.
        events: from so many events; 0 in cards of before events were counted.
        recall_interval: (low, high), see `wilson`; frames of one event are nearly copies, so that
            only events count as pieces of evidence.
    """

    species: str
    support: int
    predicted: int
    recall: float | None
    precision: float | None
    events: int = 0
    recall_interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many media."""

    count: int
    of: int

    @property
    def share(self) -> float | None:
        """As a share (0-1); None of none."""
        return self.count / self.of if self.of else None


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of about the same confidence: how many, their mean confidence, the share right."""

    media: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one model did on the held-out media. Cards of older versions lack the figures that
    have a default.

    Attributes:
        media: how many there were.
        accuracy: share that was right; a species the model does not know counts as wrong.
        macro_recall: mean recall of the species that occur, each counting the same.
        nll: mean negative log-likelihood (nats) over media of species the model knows.
        ece: expected calibration error, 15 bins (Guo et al. 2017); 0 is perfect.
        names, confusion: confusion[i][j] media of names[i] were called names[j].
        events: how many events they are from.
        event_accuracy: share of events whose frames together (`speak_together`) were right.
        event_interval: of that share, see `wilson`.
        false_alarms: blank media that were called something else.
        missed: media of animals that were called blank.
        bins: the calibration, from unsure to sure; empty bins are left out.
    """

    media: int
    accuracy: float | None
    macro_recall: float | None
    nll: float | None
    ece: float | None
    species: tuple[SpeciesFigures, ...]
    names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    events: int | None = None
    event_accuracy: float | None = None
    event_interval: tuple[float, float] | None = None
    false_alarms: Share | None = None
    missed: Share | None = None
    bins: tuple[Bin, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Self:
        """The inverse of `to_json`; keys that only a later program knows are passed over."""
        shares = {key: tree[key] for key in ("false_alarms", "missed") if tree.get(key)}
        known = {field.name for field in fields(cls)}
        return cls(
            **{key: value for key, value in tree.items() if key in known}
            | {
                "species": tuple(_species(row) for row in tree["species"]),
                "names": tuple(tree["names"]),
                "confusion": tuple(tuple(row) for row in tree["confusion"]),
                "event_interval": _pair(tree.get("event_interval")),
                "bins": tuple(Bin(**row) for row in tree.get("bins", ())),
            }
            | {key: Share(**value) for key, value in shares.items()}
        )

    def recall_of(self, species: str) -> float | None:
        """Recall of one species; None if no held-out media shows it."""
        return next((row.recall for row in self.species if row.species == species), None)


def named(probabilities: Floats, classes: Sequence[str]) -> Names:
    """The best class of each row: (n, k) -> names (n,)."""
    best: Names = np.array(classes, np.str_)[probabilities.argmax(axis=1)]
    return best


def _species(row: dict[str, Any]) -> SpeciesFigures:
    known = {field.name for field in fields(SpeciesFigures)}
    values = {key: value for key, value in row.items() if key in known}
    return SpeciesFigures(**values | {"recall_interval": _pair(row.get("recall_interval"))})


def _pair(values: Sequence[float] | None) -> tuple[float, float] | None:
    return None if values is None else (values[0], values[1])


def evaluate(
    truth: Names,
    probabilities: Floats,
    classes: Sequence[str],
    groups: npt.NDArray[np.int64] | None = None,
) -> Evaluation:
    """Compare a model's answers with what people said.

    Args:
        truth: species (n,); may hold species that are not in `classes`.
        probabilities: float32 (n, k), in the order of `classes`.
        groups: int64 (n,), the event of each media; None: each is an event of its own.
    """
    groups = np.arange(len(truth)) if groups is None else groups
    predicted = named(probabilities, classes)
    names = tuple(sorted({*classes, *truth.tolist()}))
    confusion = confusion_matrix(truth, predicted, names)
    events = [len(np.unique(groups[truth == name])) for name in names]
    species = tuple(_figures(i, name, confusion, events[i]) for i, name in enumerate(names))
    recalls = [row.recall for row in species if row.recall is not None]
    right = truth == predicted
    by_event = _events_right(truth, probabilities, classes, groups)
    blank = truth == BLANK
    return Evaluation(
        len(truth),
        float(right.mean()) if len(truth) else None,
        float(np.mean(recalls)) if recalls else None,
        negative_log_likelihood(truth, probabilities, classes),
        calibration_error(probabilities.max(axis=1), right) if len(truth) else None,
        species,
        names,
        tuple(tuple(int(n) for n in row) for row in confusion),
        len(by_event),
        float(np.mean(by_event)) if by_event else None,
        wilson(float(np.mean(by_event)), len(by_event)) if by_event else None,
        _share(predicted != BLANK, blank),
        _share(predicted == BLANK, ~blank),
        calibration_bins(probabilities.max(axis=1, initial=0.0), right),
    )


def _share(said: Bools, among: Bools) -> Share:
    return Share(int((said & among).sum()), int(among.sum()))


def _events_right(
    truth: Names, probabilities: Floats, classes: Sequence[str], groups: npt.NDArray[np.int64]
) -> list[bool]:
    """For each event: do its frames together say what people said of most of them?"""
    shown = named(probabilities, classes).tolist()
    rows, said = probabilities.tolist(), truth.tolist()
    right = []
    for event in np.unique(groups).tolist():
        frames = np.flatnonzero(groups == event).tolist()
        together = [Said(shown[i], [*zip(classes, rows[i], strict=True)]) for i in frames]
        right.append(speak_together(together)[0] == most_said(said[i] for i in frames))
    return right


def wilson(share: float, units: int) -> tuple[float, float]:
    """The 95 % interval of a share that was measured on so many independent units.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22.

    Args:
        units: at least one.
    """
    spread = Z * math.sqrt(share * (1 - share) / units + Z**2 / (4 * units**2))
    middle, scale = share + Z**2 / (2 * units), 1 + Z**2 / units
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def confusion_matrix(truth: Names, predicted: Names, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """int64 (m, m): rows are what people said, columns what the model said."""
    index = {name: i for i, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)), np.int64)
    rows = [index[name] for name in truth.tolist()]
    columns = [index[name] for name in predicted.tolist()]
    np.add.at(matrix, (rows, columns), 1)
    return matrix


def _figures(i: int, name: str, confusion: npt.NDArray[np.int64], events: int) -> SpeciesFigures:
    support, predicted = int(confusion[i].sum()), int(confusion[:, i].sum())
    right = int(confusion[i, i])
    return SpeciesFigures(
        name,
        support,
        predicted,
        right / support if support else None,
        right / predicted if predicted else None,
        events,
        wilson(right / support, events) if support else None,
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


def calibration_error(confidence: Floats, right: Bools) -> float:
    """Expected calibration error: sum over bins of share x |accuracy - mean confidence|."""
    gaps = np.bincount(_bins(confidence), right.astype(float) - confidence, CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def calibration_bins(confidence: Floats, right: Bools) -> tuple[Bin, ...]:
    """The bins of `calibration_error` that are not empty."""
    bins = _bins(confidence)
    media = np.bincount(bins, minlength=CALIBRATION_BINS)
    sure = np.bincount(bins, confidence, CALIBRATION_BINS)
    good = np.bincount(bins, right, CALIBRATION_BINS)
    full = np.flatnonzero(media).tolist()
    return tuple(
        Bin(int(media[i]), float(sure[i] / media[i]), float(good[i] / media[i])) for i in full
    )


def _bins(confidence: Floats) -> npt.NDArray[np.intp]:
    return np.minimum((confidence * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
