"""Backbone features in, predictions out: a linear softmax head with calibrated probabilities.

Pure numpy: labelling with a head needs no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.core.domain import UNKNOWN, Prediction

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]
ALTERNATIVES = 5
SMALLEST_NORM = 1e-6
UNTHREADED = 1 << 18
"""OpenBLAS multiplies without threads up to so many products (interface/gemm.c)."""


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A trained head: p = softmax((((f - mean) / scale) @ weights + bias) / temperature).

    Attributes:
        classes: species names, in the order of the columns (k of them).
        mean, scale: float32 (d,), of the training features.
        weights: float32 (d, k).
        bias: float32 (k,).
        temperature: > 0, divides the logits (Guo et al. 2017, "On Calibration of Modern
            Neural Networks").
        layout: name of the feature layout it was trained on.
        tail_sha256: of the tail that is a part of `layout`; None if there is none.
        thresholds: float32 (k,): from which probability a species belongs to the set of a frame;
            None where too little was labelled to promise anything.
        coverage: share of frames whose set holds the truth, as promised; None as above.
        strange_weights: float32 (d,), the direction from what is labelled to what is not, added to
            the strangeness; None where too little was without a label to learn it from.
        strange_above: a frame with more `strangeness` is like nothing that was learnt; None where
            too little was labelled to tell.
        parts: how many numbers each part of a vector has; f has each part at length 1. None: the
            vector is taken as it is.
    """

    classes: tuple[str, ...]
    mean: Floats
    scale: Floats
    weights: Floats
    bias: Floats
    temperature: float
    layout: str
    tail_sha256: str | None = None
    thresholds: Floats | None = None
    coverage: float | None = None
    parts: tuple[int, ...] | None = None
    strange_above: float | None = None
    strange_weights: Floats | None = None

    def logits(self, features: Floats) -> Floats:
        """float32 (n, d) -> float32 (n, k), not divided by the temperature."""
        return self._logits(self.standard(features))

    def probabilities(self, features: Floats) -> Floats:
        """Calibrated probabilities: float32 (n, d) -> float32 (n, k), rows sum to 1."""
        return softmax(self.logits(features) / self.temperature)

    def strangeness(self, features: Floats) -> Floats:
        """float32 (n, d) -> float32 (n,): see the function of this name, and `strange_weights`."""
        standard = self.standard(features)
        return self._strangeness(self._logits(standard), standard)

    def judge(self, features: Floats) -> tuple[Floats, Bools | None]:
        """Probabilities, and which rows are strange (None where that cannot be told), at once."""
        standard = self.standard(features)
        logits = self._logits(standard)
        probabilities = softmax(logits / self.temperature)
        if self.strange_above is None:
            return probabilities, None
        return probabilities, self._strangeness(logits, standard) > self.strange_above

    def standard(self, features: Floats) -> Floats:
        """Each part at length 1, less the mean, over the scale: float32 (n, d) -> (n, d)."""
        return np.asarray((unit_parts(features, self.parts) - self.mean) / self.scale, np.float32)

    def _strangeness(self, logits: Floats, standard: Floats) -> Floats:
        found = strangeness(logits, standard)
        return found if self.strange_weights is None else found + standard @ self.strange_weights

    def _logits(self, standard: Floats) -> Floats:
        return np.asarray(_product(standard, self.weights) + self.bias, np.float32)


def unit_parts(features: Floats, parts: Sequence[int] | None) -> Floats:
    """Each part of each vector at length 1: float32 (n, d) -> (n, d).

    Args:
        parts: their lengths; None leaves everything as it is.
    """
    if parts is None:
        return features
    units = np.empty_like(features)
    start = 0
    for length in parts:
        part = features[:, start : start + length]
        norms = np.sqrt(np.einsum("ij,ij->i", part, part))[:, None]
        units[:, start : start + length] = part / np.maximum(norms, SMALLEST_NORM)
        start += length
    return units


def _product(rows: Floats, matrix: Floats) -> Floats:
    """rows @ matrix, a few rows at a time: (n, d), (d, k) -> (n, k).

    A product of this size wins nothing from OpenBLAS's threads, which cost five to fifty times its
    processor time where the cores have other work, as they have while past media are re-scored.
    """
    few = max(1, UNTHREADED // max(1, matrix.size))
    whole = len(rows) // few * few
    blocks = rows[:whole].reshape(-1, few, rows.shape[1]) @ matrix
    rest = rows[whole:] @ matrix
    return np.concatenate([blocks.reshape(whole, matrix.shape[1]), rest])


def softmax(logits: Floats) -> Floats:
    """Row-wise softmax, safe against overflow: (n, k) -> float32 (n, k)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)


def strangeness(logits: Floats, standard: Floats) -> Floats:
    """How little there is of what was learnt in how much there is at all: float32 (n,).

    Minus the energy of the logits (Liu et al. 2020, "Energy-based Out-of-distribution Detection")
    over the distance from the middle of what was learnt: most of a frame far away must speak for
    some species, or it is none of them. Chosen among ten (docs/probabilities.md); dividing by that
    distance is what Liu & Qin 2024, "Fast Decision Boundary based Out-of-Distribution Detector",
    do with distances to decision boundaries. It costs next to nothing beside the logits.

    Args:
        logits: float32 (n, k), of classes that were learnt.
        standard: float32 (n, d), standardised features.
    """
    logits = logits - logits.mean(axis=1, keepdims=True)
    top = logits.max(axis=1)
    energy = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    length = np.sqrt(np.einsum("nd,nd->n", standard, standard))
    return np.asarray(-energy / np.maximum(length, SMALLEST_NORM), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a head says of n media, a column each.

    Attributes:
        names: the classes, and `unknown`.
        species: intp (n,), places in `names`: the answer that is shown.
        best: intp (n, a), places in `names` of the likeliest classes, best first.
        values: float32 (n, a), their probabilities.
        kept: intp (n,), how many of the `a` are alternatives of this media: at least
            `ALTERNATIVES` where there are so many, and all of its species set.
    """

    names: tuple[str, ...]
    species: Numbers
    best: Numbers
    values: Floats
    kept: Numbers


def answers(
    probabilities: Floats,
    classes: Sequence[str],
    unknown_below: float,
    thresholds: Floats | None = None,
    strange: Bools | None = None,
) -> Answers:
    """The answers that follow from probabilities, float32 (n, k).

    Args:
        classes: k names.
        unknown_below: a best probability below this is shown as `unknown`.
        thresholds: float32 (k,), see `Head`.
        strange: bool (n,), media like nothing that was learnt: `unknown` as well.
    """
    fewest = min(ALTERNATIVES, len(classes))
    kept = np.maximum(_depth(probabilities, thresholds), fewest)
    best = np.argsort(-probabilities, axis=1)[:, : kept.max(initial=fewest)]
    values = np.take_along_axis(probabilities, best, axis=1)
    unsure = values[:, 0] < unknown_below
    if strange is not None:
        unsure |= strange
    species = np.where(unsure, len(classes), best[:, 0])
    return Answers((*classes, UNKNOWN), species, best, values, kept)


def answers_of(head: Head, features: Floats, unknown_below: float) -> Answers:
    """What `head` says of features, float32 (n, d); see `answers`."""
    probabilities, strange = head.judge(features)
    return answers(probabilities, head.classes, unknown_below, head.thresholds, strange)


def in_set(probabilities: Floats, thresholds: Floats) -> Bools:
    """Which classes belong to the species set of each row: bool (n, k).

    The best class always does, whatever its probability: an empty set would help nobody.
    """
    inside = probabilities >= thresholds
    inside[np.arange(len(inside)), probabilities.argmax(axis=1)] = True
    return inside


def _depth(probabilities: Floats, thresholds: Floats | None) -> Numbers:
    """How many of the best classes it takes to have the whole set: intp (n,)."""
    if thresholds is None:
        return np.ones(len(probabilities), np.intp)
    least = np.where(in_set(probabilities, thresholds), probabilities, np.inf).min(axis=1)
    return np.asarray(np.count_nonzero(probabilities >= least[:, None], axis=1), np.intp)


def predict(
    head: Head, media_ids: Sequence[int], features: Floats, unknown_below: float
) -> list[Prediction]:
    """What `head` says of each media, best alternatives first.

    Args:
        media_ids: n of them.
        features: float32 (n, d).
        unknown_below: see `answers`.
    """
    if not media_ids:
        return []
    said = answers_of(head, features, unknown_below)
    best = [row[:kept] for row, kept in zip(said.best.tolist(), said.kept.tolist(), strict=True)]
    columns = (said.species.tolist(), best, said.values.tolist())
    return [
        Prediction(
            media_id,
            said.names[species],
            values[0],
            tuple((said.names[i], value) for i, value in zip(best, values, strict=False)),
        )
        for media_id, species, best, values in zip(media_ids, *columns, strict=True)
    ]
