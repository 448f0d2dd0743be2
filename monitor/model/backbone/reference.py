"""What VGG16 with its ImageNet weights says of one drawn picture: tells a sound engine from one
that computes nonsense on this processor, which libraries have done (ncnn #5388, #6932)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monitor.model.backbone import INPUT_SIZES

GROUP = 64
TOLERANCE = 0.05  # of the largest mean of a block; bfloat16 is off by less than 0.01
MEANS = {
    "block3_avg": (308.9, 307.4, 245.2, 321.6),
    "block4_avg": (37.36, 31.41, 34.12, 25.46, 49.95, 41.53, 40.4, 31.96),
    "block5_avg": (0.4651, 0.663, 0.8085, 0.3825, 1.309, 1.038, 0.1351, 0.2314),
}
"""Means of each 64 neighbouring features of `picture`: Keras 3.15, TensorFlow 2.21, float32."""


def picture() -> NDArray[np.uint8]:
    """Coloured slopes under a chequered pattern: uint8 (1, 224, 224, 3), by integers alone."""
    side = INPUT_SIZES["vgg16"]
    y, x, channel = np.ogrid[:side, :side, :3]
    slopes = (x * (channel + 1) + 2 * y) // 4
    chequers = 60 * ((x // 28 + y // 28) % 2)
    drawn: NDArray[np.uint8] = ((slopes + chequers) % 256).astype(np.uint8)
    return drawn[None]


def deviation(features: NDArray[np.float32]) -> float:
    """How far the features of `picture`, float32 (1, 1280), are from what they must be: the
    largest difference, as a share of the largest mean of its block; infinite if not finite."""
    if not np.isfinite(features).all():
        return float("inf")
    means, worst, start = features.reshape(-1, GROUP).mean(axis=1), 0.0, 0
    for expected in MEANS.values():
        difference = np.abs(means[start : start + len(expected)] - np.array(expected)).max()
        worst, start = max(worst, float(difference) / max(expected)), start + len(expected)
    return worst
