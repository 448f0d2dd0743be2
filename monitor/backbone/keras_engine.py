"""VGG16's conv stack on Keras: GPUs, and CPUs that multiply bfloat16 in hardware.

The model is backend-neutral Keras 3 and goes from uint8 RGB to pooled features as one graph, so
that preprocessing and pooling run in the same compiled call. TensorFlow is imported when an engine
is opened, not before.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.backbone import (
    BackboneError,
    BackboneOptions,
    FeatureLayout,
    check_images,
    layout_of,
)
from monitor.backbone.keras_runtime import Forward, Runtime, open_runtime
from monitor.backbone.weight_files import LAYERS, VGG16_BLOCKS, Arrays
from monitor.backbone.weights import IMAGENET_FINGERPRINT, fingerprint, load_vgg16

log = logging.getLogger(__name__)

INPUT_SIZE = 224
CPU_BATCH, GPU_BATCH = 8, 64
MEAN_RGB = (123.68, 116.779, 103.939)  # of ImageNet, as VGG was trained


def open_keras(options: BackboneOptions) -> KerasBackbone:
    """Load weights, choose device and precision, and build the network.

    Raises:
        BackboneError: no GPU where one is demanded, or no weights that can be trusted.
    """
    arrays = load_vgg16(options.weights, options.weights_cache, download=options.allow_download)
    runtime = open_runtime(options.device, options.threads)
    precision: str = options.precision
    if precision == "auto":
        precision = "bfloat16" if runtime.fast_bfloat16 else "float32"
    forward, precision = _compiled(arrays, runtime, precision)
    return KerasBackbone(
        forward=forward,
        runtime=runtime,
        layout=_layout(options.weights, arrays),
        precision=precision,
        batch_size=options.batch_size or (GPU_BATCH if runtime.device == "GPU" else CPU_BATCH),
    )


def _compiled(arrays: Arrays, runtime: Runtime, precision: str) -> tuple[Forward, str]:
    """The network in that precision; in float32 where this processor cannot do bfloat16, which
    oneDNN says only when it is asked to."""
    forward = runtime.compile(build_vgg16(arrays, precision))
    if precision == "bfloat16" and runtime.device == "CPU":
        try:
            forward(np.zeros((1, INPUT_SIZE, INPUT_SIZE, 3), np.uint8))
        except Exception as error:  # noqa: BLE001  each backend has errors of its own
            log.warning("bfloat16 does not work here, float32 is used: %s", _last_line(error))
            return _compiled(arrays, runtime, "float32")
    return forward, precision


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith("[[")]  # [[the graph's node]]
    return (said or [type(error).__name__])[-1]


class KerasBackbone:
    """An opened VGG16. See monitor.backbone.Backbone for the interface."""

    name = "vgg16"
    input_size = INPUT_SIZE

    def __init__(
        self,
        forward: Forward,
        runtime: Runtime,
        layout: FeatureLayout,
        precision: str,
        batch_size: int,
    ) -> None:
        self.layout = layout
        self.batch_size = batch_size
        self.description = f"{runtime.name}, {runtime.device}, {precision}"
        self._runtime = runtime
        self._forward: Forward | None = forward

    @property
    def traces(self) -> int:
        """How often the graph was traced: 1 after the first batch, and for good."""
        return self._runtime.traces

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (n, 224, 224, 3) RGB to float32 (n, 1280); see Backbone.features."""
        check_images(images, self.input_size)
        found = np.empty((len(images), self.layout.size), np.float32)
        start = 0
        while start < len(images):
            batch = images[start : start + self.batch_size]
            try:
                found[start : start + len(batch)] = self._of_batch(batch)
            except self._runtime.memory_errors as error:
                self._halve_batch(error)
            else:
                start += len(batch)
        return found

    def close(self) -> None:
        """Let go of the network; TensorFlow itself stays in memory until the process ends."""
        self._forward = None

    def _of_batch(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._forward is None:
            raise BackboneError("This backbone was closed; open another one.")
        count = len(batch)
        missing = self.batch_size - count
        if missing and self._runtime.fixed_shapes:
            batch = np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0)))
        return self._forward(batch)[:count]

    def _halve_batch(self, error: BaseException) -> None:
        if not self._runtime.is_out_of_memory(error):
            raise error
        if self.batch_size == 1:
            raise BackboneError(
                "Not enough memory on the device for even one image. Free some, or set "
                "classifier.device to 'cpu'."
            ) from error
        self.batch_size //= 2
        log.warning("out of memory: going on with batches of %d", self.batch_size)


def build_vgg16(arrays: Arrays, precision: str, input_size: int = INPUT_SIZE) -> Any:
    """Build the network and set its weights.

    Args:
        arrays: the 26 arrays of load_vgg16.
        precision: number format of weights and activations, `float32` or `bfloat16`;
            the averages are always computed in float32.

    Returns:
        keras.Model from uint8 RGB (n, input_size, input_size, 3) to float32 (n, 1280); its layers
        are named as in keras.applications.VGG16.
    """
    import keras
    from keras import ops

    inputs = keras.Input((input_size, input_size, 3), dtype="uint8", name="images")
    # RGB minus the mean, then turned to BGR, in float32: bfloat16 would round the difference.
    centred = ops.subtract(ops.cast(inputs, "float32"), np.array(MEAN_RGB, np.float32))
    pools = _conv_stack(ops.cast(ops.flip(centred, axis=-1), precision), precision)
    averages = [ops.mean(ops.cast(pool, "float32"), axis=(1, 2)) for pool in pools[2:]]
    model = keras.Model(inputs, ops.concatenate(averages, axis=-1), name="vgg16")
    for layer in LAYERS:
        model.get_layer(layer).set_weights([arrays[f"{layer}/kernel"], arrays[f"{layer}/bias"]])
    model.trainable = False
    return model


def _conv_stack(maps: Any, precision: str) -> list[Any]:
    """The pooled output of each of the five blocks."""
    from keras import layers

    common = {"data_format": "channels_last", "dtype": precision}  # whatever keras.json says
    pools = []
    for block, (convolutions, filters) in enumerate(VGG16_BLOCKS, start=1):
        for convolution in range(1, convolutions + 1):
            maps = layers.Conv2D(
                filters,
                3,
                padding="same",
                activation="relu",
                kernel_initializer="zeros",  # random ones would be drawn only to be replaced
                name=f"block{block}_conv{convolution}",
                **common,
            )(maps)
        maps = layers.MaxPooling2D(2, 2, name=f"block{block}_pool", **common)(maps)
        pools.append(maps)
    return pools


def _layout(weights: str, arrays: Arrays) -> FeatureLayout:
    """A user's own weights give other features, so their layout has another name."""
    standard = layout_of("vgg16")
    if weights == "imagenet":
        return standard
    mark = fingerprint(arrays)
    if mark == IMAGENET_FINGERPRINT:
        return standard
    return FeatureLayout(f"{standard.name}@{mark[:12]}", standard.parts)
