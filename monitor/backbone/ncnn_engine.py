"""VGG16 on ncnn: CPUs without bfloat16 units, ARM too. Never imports TensorFlow.

ncnn releases the GIL, so each lane is one thread with one image: lanes share the weights and never
wait for each other.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitor.backbone import (
    BackboneError,
    BackboneOptions,
    FeatureLayout,
    MapLayer,
    check_images,
    check_pictures,
    layout_of,
    usable_threads,
)
from monitor.backbone.ncnn_files import cached_imagenet, write_parts
from monitor.backbone.ncnn_stack import ConvStack, Floats
from monitor.backbone.weights import layout_of_weights, load_vgg16

log = logging.getLogger(__name__)

INPUT_SIZE = 224
POOLS = ("block3_pool", "block4_pool", "block5_pool")


def open_ncnn(options: BackboneOptions) -> NcnnBackbone:
    """Load or write the weights files and build the networks.

    Raises:
        BackboneError: ncnn is not installed or cannot be loaded here, a GPU is demanded, or there
            are no weights that can be trusted.
    """
    if options.device == "gpu":
        raise BackboneError(
            "classifier.engine 'ncnn' runs on the processor: set classifier.device to 'auto' or "
            "'cpu', or the engine to 'keras'."
        )
    try:
        import ncnn
    except ImportError as error:
        raise BackboneError(
            f"ncnn cannot be loaded ({error}): pip install ncnn, or set classifier.engine to "
            "'keras'."
        ) from error
    low_precision = options.precision == "bfloat16"
    with tempfile.TemporaryDirectory(prefix="trapwatch-") as scratch:
        layout, files = _weights_files(options, Path(scratch))
        stack = ConvStack(ncnn, files, low_precision)
    threads = usable_threads(options.threads)
    precision = "bfloat16 storage" if low_precision else "float32"
    description = f"ncnn {ncnn.__version__}, CPU, {precision}"
    return NcnnBackbone(stack, layout, threads, options.batch_size or 1, description)


def _weights_files(options: BackboneOptions, scratch: Path) -> tuple[FeatureLayout, list[Path]]:
    """The layout, and the weights files of all parts: kept ones if they can be trusted."""
    cache = options.weights_cache
    if options.weights == "imagenet" and cache is not None and (kept := cached_imagenet(cache)):
        return layout_of("vgg16"), kept
    arrays = load_vgg16(options.weights, cache, download=options.allow_download)
    layout = layout_of_weights(options.weights, arrays)
    if cache is not None:
        try:
            return layout, write_parts(arrays, cache)
        except OSError as error:
            log.warning("weights for ncnn could not be kept in %s: %s", cache, error)
    try:
        return layout, write_parts(arrays, scratch)
    except OSError as error:
        raise BackboneError(
            f"The weights for ncnn could not be written to {scratch}: {error.strerror or error}. "
            "Free some space on that disk."
        ) from error


class NcnnBackbone:
    """An opened VGG16. See monitor.backbone.Backbone for the interface."""

    name = "vgg16"
    input_size = INPUT_SIZE

    def __init__(
        self,
        stack: ConvStack,
        layout: FeatureLayout,
        lanes: int,
        batch_size: int,
        description: str,
    ) -> None:
        self.layout = layout
        self.lanes = lanes
        self.batch_size = batch_size
        self.description = description
        self._stack = stack

    def features(self, images: NDArray[np.uint8]) -> Floats:
        """uint8 (n, 224, 224, 3) RGB to float32 (n, 1280); see Backbone.features."""
        check_images(images, self.input_size)
        found = np.empty((len(images), self.layout.size), np.float32)
        for row, image in zip(found, images, strict=True):
            row[:] = _averages(self._stack.run(image, POOLS))
        return found

    def features_and_maps(
        self, images: NDArray[np.uint8], layer: MapLayer = "block4_pool"
    ) -> tuple[Floats, Floats]:
        """Both from one pass; see MapBackbone.features_and_maps."""
        check_pictures(images)
        blobs = [self._stack.run(image, (layer, *POOLS)) for image in images]
        maps = np.stack([found[layer].transpose(1, 2, 0) for found in blobs])
        return np.stack([_averages(found) for found in blobs]), maps

    def pooled_maps(self, image: NDArray[np.uint8]) -> tuple[Floats, Floats, Floats]:
        """Where the features of one image come from: each part of `features` is a map's mean.

        Args:
            image: uint8 (224, 224, 3), RGB.

        Returns:
            outputs of blocks 3, 4 and 5: float32 (256, 28, 28), (512, 14, 14), (512, 7, 7).

        Raises:
            BackboneError: the array has another shape or type, or memory ran out.
        """
        check_images(image[np.newaxis], self.input_size)
        blobs = self._stack.run(image, POOLS)
        block3, block4, block5 = (blobs[name] for name in POOLS)
        return block3, block4, block5

    def close(self) -> None:
        """Let go of the networks and their memory."""
        self._stack.close()


def _averages(blobs: dict[str, Floats]) -> Floats:
    """Means over space of the last three blocks' outputs, float32 (1280,)."""
    # a channel's cells lie one behind the other, where numpy sums in pairs: as exact as Keras
    means = [blobs[name].reshape(len(blobs[name]), -1).mean(axis=1) for name in POOLS]
    vector: Floats = np.concatenate(means)
    return vector
