"""Backbone features in, predictions out: a linear softmax head with calibrated probabilities.

Pure numpy: labelling with a head needs no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.domain import UNKNOWN, Prediction

Floats = npt.NDArray[np.float32]
ALTERNATIVES = 5


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A trained head: p = softmax(((f - mean) / scale) @ weights + bias) / temperature).

    Attributes:
        classes: species names, in the order of the columns (k of them).
        mean, scale: float32 (d,), of the training features.
        weights: float32 (d, k).
        bias: float32 (k,).
        temperature: > 0, divides the logits (Guo et al. 2017, "On Calibration of Modern
            Neural Networks").
        layout: name of the feature layout it was trained on.
    """

    classes: tuple[str, ...]
    mean: Floats
    scale: Floats
    weights: Floats
    bias: Floats
    temperature: float
    layout: str

    def logits(self, features: Floats) -> Floats:
        """float32 (n, d) -> float32 (n, k), not divided by the temperature."""
        standard = (features - self.mean) / self.scale
        return np.asarray(standard @ self.weights + self.bias, np.float32)

    def probabilities(self, features: Floats) -> Floats:
        """Calibrated probabilities: float32 (n, d) -> float32 (n, k), rows sum to 1."""
        return softmax(self.logits(features) / self.temperature)


def softmax(logits: Floats) -> Floats:
    """Row-wise softmax, safe against overflow: (n, k) -> float32 (n, k)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)


def predict(
    head: Head, media_ids: Sequence[int], features: Floats, unknown_below: float
) -> list[Prediction]:
    """What `head` says of each media, best alternatives first.

    Args:
        media_ids: n of them.
        features: float32 (n, d).
        unknown_below: a best probability below this is shown as `unknown`.
    """
    if not media_ids:
        return []
    probabilities = head.probabilities(features)
    order = np.argsort(-probabilities, axis=1)[:, :ALTERNATIVES]
    return [
        _prediction(head, media_id, row, best, unknown_below)
        for media_id, row, best in zip(media_ids, probabilities, order, strict=True)
    ]


def _prediction(
    head: Head, media_id: int, row: Floats, best: npt.NDArray[np.intp], unknown_below: float
) -> Prediction:
    alternatives = tuple((head.classes[i], float(row[i])) for i in best)
    name, probability = alternatives[0]
    return Prediction(
        media_id, name if probability >= unknown_below else UNKNOWN, probability, alternatives
    )
