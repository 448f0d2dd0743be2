"""VGG on ncnn: CPUs without bfloat16 units, ARM too. Never imports TensorFlow.

ncnn releases the GIL, so each lane is one thread with one image: lanes share the weights and never
wait for each other.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitor.model.backbone import (
    BackboneError,
    BackboneOptions,
    FeatureLayout,
    MapLayer,
    check_images,
    check_pictures,
    layout_of,
    usable_threads,
)
from monitor.model.backbone.architectures import VGG16, Architecture, architecture_of
from monitor.model.backbone.ncnn_files import cached_imagenet, parts_of, write_parts, write_tail
from monitor.model.backbone.ncnn_stack import ConvStack, Floats
from monitor.model.backbone.tail import Tail, check_fits, first_block_of_maps, frozen_length
from monitor.model.backbone.weights import layout_of_weights, load_weights

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
    network, tail = architecture_of(options.backbone), options.tail
    low_precision = options.precision == "bfloat16"
    with tempfile.TemporaryDirectory(prefix="trapwatch-") as scratch:
        layout, files = _weights_files(options, network, Path(scratch))
        if tail is not None:
            check_fits(tail, network.name)
            layout, files = _with_tail(tail, layout, files, network, Path(scratch))
        stack = ConvStack(ncnn, files, low_precision, network)
    threads = usable_threads(options.threads)
    precision = "bfloat16 storage" if low_precision else "float32"
    description = f"ncnn {ncnn.__version__}, CPU, {precision}"
    tail_block = tail.first_block if tail is not None else None
    return NcnnBackbone(
        stack, layout, threads, options.batch_size or 1, description, network, tail_block
    )


def _weights_files(
    options: BackboneOptions, network: Architecture, scratch: Path
) -> tuple[FeatureLayout, list[Path]]:
    """The layout, and the weights files of all parts: kept ones if they can be trusted."""
    cache, parts = options.weights_cache, parts_of(network)
    if options.weights == "imagenet" and cache is not None and (k := cached_imagenet(cache, parts)):
        return layout_of(network.name), k
    arrays = load_weights(network, options.weights, cache, download=options.allow_download)
    layout = layout_of_weights(network, options.weights, arrays)
    if cache is not None:
        try:
            return layout, write_parts(arrays, cache, parts)
        except OSError as error:
            log.warning("weights for ncnn could not be kept in %s: %s", cache, error)
    try:
        return layout, write_parts(arrays, scratch, parts)
    except OSError as error:
        raise _not_written(scratch, error) from error


def _with_tail(
    tail: Tail, layout: FeatureLayout, files: list[Path], network: Architecture, scratch: Path
) -> tuple[FeatureLayout, list[Path]]:
    """The same with the tail, in files that go when the network is loaded: 28 MB a version."""
    try:
        written = write_tail(tail.arrays, files, parts_of(network), scratch)
    except OSError as error:
        raise _not_written(scratch, error) from error
    return tail.layout_on(layout), written


def _not_written(scratch: Path, error: OSError) -> BackboneError:
    return BackboneError(
        f"The weights for ncnn could not be written to {scratch}: {error.strerror or error}. "
        "Free some space on that disk."
    )


class NcnnBackbone:
    """An opened VGG. See monitor.model.backbone.Backbone for the interface."""

    input_size = INPUT_SIZE

    def __init__(
        self,
        stack: ConvStack,
        layout: FeatureLayout,
        lanes: int,
        batch_size: int,
        description: str,
        network: Architecture = VGG16,
        tail_block: int | None = None,
    ) -> None:
        self.name = network.name
        self.layout = layout
        self.lanes = lanes
        self.batch_size = batch_size
        self.description = description
        self._stack = stack
        self._tail_block = tail_block

    def features(self, images: NDArray[np.uint8]) -> Floats:
        """uint8 (n, 224, 224, 3) RGB to float32 (n, 1280); see Backbone.features."""
        check_images(images, self.input_size)
        found = np.empty((len(images), self.layout.size), np.float32)
        for row, image in zip(found, images, strict=True):
            row[:] = _averages(self._stack.run(image, POOLS), POOLS)
        return found

    def features_and_maps(
        self, images: NDArray[np.uint8], layer: MapLayer = "block4_pool"
    ) -> tuple[Floats, Floats]:
        """Both from one pass; see MapBackbone.features_and_maps."""
        check_pictures(images)
        blobs = [self._stack.run(image, (layer, *POOLS)) for image in images]
        maps = np.stack([found[layer].transpose(1, 2, 0) for found in blobs])
        return np.stack([_averages(found, POOLS) for found in blobs]), maps

    def features_from_maps(self, maps: NDArray[np.float16 | np.float32], frozen: Floats) -> Floats:
        """The last blocks alone; see MapBackbone.features_from_maps."""
        block = first_block_of_maps(maps, frozen, self.layout, self._tail_block)
        pools, kept = POOLS[block - 3 :], frozen_length(self.layout, block)
        found = frozen.copy()
        for row, cells in zip(found, maps, strict=True):
            entry = np.ascontiguousarray(cells.transpose(2, 0, 1), np.float32)
            row[kept:] = _averages(self._stack.run(entry, pools, block), pools)
        return found

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


def _averages(blobs: dict[str, Floats], pools: Sequence[str]) -> Floats:
    """Means over space of these blocks' outputs, float32: (1280,) of the last three."""
    # a channel's cells lie one behind the other, where numpy sums in pairs: as exact as Keras
    means = [blobs[name].reshape(len(blobs[name]), -1).mean(axis=1) for name in pools]
    vector: Floats = np.concatenate(means)
    return vector
