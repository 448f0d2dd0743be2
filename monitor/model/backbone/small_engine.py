"""A tiny backbone of fixed random filters in plain numpy, for tests and drills.

It learns little: random filters and coarse colour tell clearly different objects apart, and no
more. It needs no weights file and no TensorFlow, and takes about a millisecond an image.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from monitor.model.backbone import CLOSED, BackboneError, FeatureLayout, check_images, layout_of

Floats = NDArray[np.float32]

INPUT_SIZE = 64
FILTERS = 24
SEED = 20160101


class SmallBackbone:
    """Two levels of random filters, averaged and maximised over space, and colour statistics."""

    name = "small"
    layout: FeatureLayout = layout_of("small")
    input_size = INPUT_SIZE
    description = "fixed random filters in numpy, CPU (learns little; for tests and drills)"

    def __init__(self, batch_size: int = 0, lanes: int = 1) -> None:
        # RandomState's stream is frozen by numpy for good, default_rng's is not.
        random = np.random.RandomState(SEED)
        self.batch_size = batch_size or 8
        self.lanes = lanes
        self._level1 = _random_filters(random, 4, 3)
        self._level2 = _random_filters(random, 3, FILTERS)
        self._closed = False

    def features(self, images: NDArray[np.uint8]) -> Floats:
        """uint8 (n, 64, 64, 3) RGB to float32 (n, 111); see Backbone.features."""
        if self._closed:
            raise BackboneError(CLOSED)
        check_images(images, self.input_size)
        found = np.empty((len(images), self.layout.size), np.float32)
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            found[start : start + len(batch)] = self._of_batch(batch)
        return found

    def close(self) -> None:
        """Nothing to let go of; `features` is refused from now on."""
        self._closed = True

    def _of_batch(self, images: NDArray[np.uint8]) -> Floats:
        pixels = images.astype(np.float32) / 255.0
        level1 = _convolve(pixels, self._level1, stride=2)  # (n, 31, 31, FILTERS)
        level2 = _convolve(_halve(level1), self._level2, stride=1)  # (n, 13, 13, FILTERS)
        pooled = [
            pool(level, axis=(1, 2)) for level in (level1, level2) for pool in (np.mean, np.max)
        ]
        cells = pixels.reshape(len(pixels), 2, 32, 2, 32, 3).mean(axis=(2, 4))
        return np.concatenate(
            [*pooled, cells.reshape(len(pixels), 12), pixels.std(axis=(1, 2))], axis=1
        )


def _random_filters(random: np.random.RandomState, size: int, channels: int) -> Floats:
    """(size * size * channels, FILTERS), each column of zero mean and length 1.

    Zero mean over space in every channel: filters see shape, the colour statistics see colour.
    """
    filters = random.standard_normal((size * size, channels, FILTERS))
    filters -= filters.mean(axis=0, keepdims=True)
    columns = filters.reshape(-1, FILTERS)
    normed: Floats = (columns / np.linalg.norm(columns, axis=0)).astype(np.float32)
    return normed


def _convolve(maps: Floats, filters: Floats, stride: int) -> Floats:
    """Valid convolution and ReLU: (n, h, w, c) to (n, h', w', FILTERS)."""
    size = round((len(filters) / maps.shape[3]) ** 0.5)
    windows = sliding_window_view(maps, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    count, height, width = windows.shape[:3]
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(count * height * width, -1)
    answers: Floats = np.maximum(patches @ filters, 0.0).reshape(count, height, width, FILTERS)
    return answers


def _halve(maps: Floats) -> Floats:
    """Average over 2×2 cells; an odd last row or column is dropped."""
    count, height, width, channels = maps.shape
    even = maps[:, : height // 2 * 2, : width // 2 * 2]
    halved: Floats = even.reshape(count, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))
    return halved
