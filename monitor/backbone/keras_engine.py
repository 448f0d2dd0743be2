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
    CLOSED,
    BackboneError,
    BackboneOptions,
    FeatureLayout,
    MapLayer,
    check_images,
    check_pictures,
    usable_threads,
)
from monitor.backbone.keras_runtime import Forward, Runtime, open_runtime
from monitor.backbone.weight_files import LAYERS, VGG16_BLOCKS, Arrays
from monitor.backbone.weights import MEAN_RGB, layout_of_weights, load_vgg16

log = logging.getLogger(__name__)

INPUT_SIZE = 224
MOST_MAP_GRAPHS = 8  # each picture size is a graph of its own, as JAX demands
CPU_BATCH, GPU_BATCH = 4, 64  # on a CPU, more gains nothing, and a new frame would wait longer


def open_keras(options: BackboneOptions) -> KerasBackbone:
    """Load weights, choose device and precision, and build the network.

    Raises:
        BackboneError: no GPU where one is demanded, or no weights that can be trusted.
    """
    arrays = load_vgg16(options.weights, options.weights_cache, download=options.allow_download)
    runtime = open_runtime(options.device, options.threads, in_lanes=True)
    precision: str = options.precision
    if precision == "auto":
        precision = "bfloat16" if runtime.fast_bfloat16 else "float32"
    model, forward = _compiled(arrays, runtime, precision)
    on_gpu = runtime.device == "GPU"
    return KerasBackbone(
        forward=forward,
        runtime=runtime,
        layout=layout_of_weights(options.weights, arrays),
        precision=_precision_of(model),
        batch_size=options.batch_size or (GPU_BATCH if on_gpu else CPU_BATCH),
        lanes=1 if on_gpu else usable_threads(options.threads),
        model=model,
    )


def _compiled(arrays: Arrays, runtime: Runtime, precision: str) -> tuple[Any, Forward]:
    """The network in that precision; in float32 where this processor cannot do bfloat16, which
    oneDNN says only when it is asked to."""
    model = build_vgg16(arrays, precision)
    forward = runtime.compile(model)
    if precision == "bfloat16" and runtime.device == "CPU":
        try:
            forward(np.zeros((1, INPUT_SIZE, INPUT_SIZE, 3), np.uint8))
        except Exception as error:  # noqa: BLE001  each backend has errors of its own
            log.warning("bfloat16 does not work here, float32 is used: %s", _last_line(error))
            return _compiled(arrays, runtime, "float32")
    return model, forward


def _precision_of(model: Any) -> str:
    return str(model.get_layer(LAYERS[0]).compute_dtype)


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
        lanes: int = 1,
        model: Any = None,
    ) -> None:
        self.layout = layout
        self.batch_size = batch_size
        self.lanes = lanes
        self.description = f"{runtime.name}, {runtime.device}, {precision}"
        self._runtime = runtime
        self._forward: Forward | None = forward
        self._model = model
        self._map_forwards: dict[tuple[str, int, int], Forward] = {}

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

    def features_and_maps(
        self, images: NDArray[np.uint8], layer: MapLayer = "block4_pool"
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Both from one pass; see MapBackbone.features_and_maps."""
        check_pictures(images)
        if self._forward is None:
            raise BackboneError(CLOSED)
        height, width = images.shape[1:3]
        forward = self._map_forwards.get((layer, height, width))
        if forward is None:
            if len(self._map_forwards) >= MOST_MAP_GRAPHS:
                self._map_forwards.clear()
            forward = self._runtime.compile(_with_map(self._model, layer, height, width))
            self._map_forwards[layer, height, width] = forward
        both, size = forward(images), self.layout.size
        cell = 8 if layer == "block4_conv3" else 16
        shape = (len(images), height // cell, width // cell, -1)
        return both[:, :size], both[:, size:].reshape(shape)

    def close(self) -> None:
        """Let go of the network; TensorFlow itself stays in memory until the process ends."""
        self._forward, self._model = None, None
        self._map_forwards.clear()

    def _of_batch(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._forward is None:
            raise BackboneError(CLOSED)
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

    inputs = keras.Input((input_size, input_size, 3), dtype="uint8", name="images")
    pools = _conv_stack(_prepared(inputs, precision), precision)
    model = keras.Model(inputs, _averages(pools), name="vgg16")
    for layer in LAYERS:
        model.get_layer(layer).set_weights([arrays[f"{layer}/kernel"], arrays[f"{layer}/bias"]])
    model.trainable = False
    return model


def _prepared(images: Any, precision: str) -> Any:
    """RGB minus the mean, then turned to BGR, in float32: bfloat16 would round the difference."""
    from keras import ops

    centred = ops.subtract(ops.cast(images, "float32"), np.array(MEAN_RGB, np.float32))
    return ops.cast(ops.flip(centred, axis=-1), precision)


def _averages(pools: list[Any]) -> Any:
    """Means over space of the last three blocks' outputs, float32 (n, 1280)."""
    from keras import ops

    means = [ops.mean(ops.cast(pool, "float32"), axis=(1, 2)) for pool in pools[2:]]
    return ops.concatenate(means, axis=-1)


def _with_map(model: Any, layer: str, height: int, width: int) -> Any:
    """The same layers for pictures of another size. The output is the features and, behind them,
    the flattened map: one tensor, so that every runtime can return it."""
    import keras
    from keras import ops

    inputs = keras.Input((height, width, 3), dtype="uint8", name="images")
    maps, pools, wanted = _prepared(inputs, _precision_of(model)), [], None
    for block, (convolutions, _) in enumerate(VGG16_BLOCKS, start=1):
        steps = [f"conv{number}" for number in range(1, convolutions + 1)]
        for name in (f"block{block}_{step}" for step in (*steps, "pool")):
            maps = model.get_layer(name)(maps)
            wanted = maps if name == layer else wanted
        pools.append(maps)
    flat = keras.layers.Flatten()(ops.cast(wanted, "float32"))
    return keras.Model(inputs, ops.concatenate([_averages(pools), flat], axis=-1))


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
