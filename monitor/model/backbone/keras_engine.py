"""VGG's conv stack on Keras: GPUs, and CPUs that multiply bfloat16 in hardware.

The model is backend-neutral Keras 3 and goes from uint8 RGB to pooled features as one graph, so
that preprocessing and pooling run in the same compiled call. TensorFlow is imported when an engine
is opened, not before.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.model.backbone import (
    CLOSED,
    MAP_CELLS,
    BackboneError,
    BackboneOptions,
    FeatureLayout,
    MapLayer,
    check_images,
    check_pictures,
    usable_threads,
)
from monitor.model.backbone.architectures import VGG16, Architecture, architecture_of
from monitor.model.backbone.keras_network import (
    INPUT_SIZE,
    build_network,
    from_block,
    precision_of,
    with_map,
)
from monitor.model.backbone.keras_runtime import Forward, Runtime, open_runtime
from monitor.model.backbone.spare import DeviceLost
from monitor.model.backbone.tail import first_block_of_maps, frozen_length
from monitor.model.backbone.weight_files import Arrays
from monitor.model.backbone.weights import layout_of_weights, load_weights

log = logging.getLogger(__name__)

MOST_MAP_GRAPHS = 8  # each picture size is a graph of its own, as JAX demands
CPU_BATCH, GPU_BATCH = 4, 64  # on a CPU, more gains nothing, and a new frame would wait longer


def open_keras(options: BackboneOptions) -> KerasBackbone:
    """Load weights, choose device and precision, and build the network.

    Raises:
        BackboneError: no GPU where one is demanded, or no weights that can be trusted.
    """
    network, tail = architecture_of(options.backbone), options.tail
    arrays = load_weights(
        network, options.weights, options.weights_cache, download=options.allow_download
    )
    layout = layout_of_weights(network, options.weights, arrays)
    if tail is not None:
        arrays, layout = arrays | tail.arrays, tail.layout_on(layout)
    runtime = open_runtime(options.device, options.threads, in_lanes=True)
    precision: str = options.precision
    if precision == "auto":
        precision = "bfloat16" if runtime.fast_bfloat16 else "float32"
    model, forward = _compiled(network, arrays, runtime, precision)
    on_gpu = runtime.device == "GPU"
    return KerasBackbone(
        forward=forward,
        runtime=runtime,
        layout=layout,
        precision=precision_of(model),
        batch_size=options.batch_size or (GPU_BATCH if on_gpu else CPU_BATCH),
        lanes=1 if on_gpu else usable_threads(options.threads),
        model=model,
        network=network,
        tail_block=tail.first_block if tail is not None else None,
    )


def _compiled(
    network: Architecture, arrays: Arrays, runtime: Runtime, precision: str
) -> tuple[Any, Forward]:
    """The network in that precision; in float32 where this processor cannot do bfloat16, which
    oneDNN says only when it is asked to."""
    model = build_network(network, arrays, precision)
    forward = runtime.compile(model)
    if precision == "bfloat16" and runtime.device == "CPU":
        try:
            forward(np.zeros((1, INPUT_SIZE, INPUT_SIZE, 3), np.uint8))
        except Exception as error:  # noqa: BLE001  each backend has errors of its own
            log.warning("bfloat16 does not work here, float32 is used: %s", _last_line(error))
            return _compiled(network, arrays, runtime, "float32")
    return model, forward


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith("[[")]  # [[the graph's node]]
    return (said or [type(error).__name__])[-1]


class KerasBackbone:
    """An opened VGG. See monitor.model.backbone.Backbone for the interface."""

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
        network: Architecture = VGG16,
        tail_block: int | None = None,
    ) -> None:
        self.name = network.name
        self.layout = layout
        self.batch_size = batch_size
        self.lanes = lanes
        self.description = f"{runtime.name}, {runtime.device}, {precision}"
        self._runtime = runtime
        self._forward: Forward | None = forward
        self._model = model
        self._network, self._tail_block = network, tail_block
        self._map_forwards: dict[tuple[str, int, int], Forward] = {}
        self._block_forwards: dict[int, Forward] = {}

    @property
    def on_gpu(self) -> bool:
        """Whether it computes on a GPU."""
        return self._runtime.device == "GPU"

    @property
    def traces(self) -> int:
        """How often the graph was traced: 1 after the first batch, and for good."""
        return self._runtime.traces

    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (n, 224, 224, 3) RGB to float32 (n, 1280); see Backbone.features."""
        check_images(images, self.input_size)
        return self._in_batches(self._forward, images, self.layout.size)

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
            graph = with_map(self._network, self._model, layer, height, width)
            forward = self._map_forwards[layer, height, width] = self._runtime.compile(graph)
        both, size = forward(images), self.layout.size
        shape = (len(images), height // MAP_CELLS[layer], width // MAP_CELLS[layer], -1)
        return both[:, :size], both[:, size:].reshape(shape)

    def features_from_maps(
        self, maps: NDArray[np.float16 | np.float32], frozen: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The last blocks alone; see MapBackbone.features_from_maps."""
        block = first_block_of_maps(maps, frozen, self.layout, self._tail_block)
        if self._forward is None:
            raise BackboneError(CLOSED)
        forward = self._block_forwards.get(block)
        if forward is None:
            graph = from_block(self._network, self._model, block)
            forward = self._block_forwards[block] = self._runtime.compile(graph)
        kept = frozen_length(self.layout, block)
        found = self._in_batches(forward, maps, self.layout.size - kept)
        return np.concatenate([frozen[:, :kept], found], axis=1)

    def close(self) -> None:
        """Let go of the network; TensorFlow itself stays in memory until the process ends."""
        self._forward, self._model = None, None
        self._map_forwards.clear()
        self._block_forwards.clear()

    def _in_batches(
        self, forward: Forward | None, rows: NDArray[Any], width: int
    ) -> NDArray[np.float32]:
        """A graph's float32 (n, width) for n images or maps; smaller batches as memory demands."""
        found = np.empty((len(rows), width), np.float32)
        start = 0
        while start < len(rows):
            batch = rows[start : start + self.batch_size]
            try:
                found[start : start + len(batch)] = self._of_batch(forward, batch)
            except (*self._runtime.memory_errors, *self._runtime.device_errors) as error:
                self._halve_batch(error)
            else:
                start += len(batch)
        return found

    def _of_batch(self, forward: Forward | None, batch: NDArray[Any]) -> NDArray[np.float32]:
        if forward is None:
            raise BackboneError(CLOSED)
        count = len(batch)
        missing = self.batch_size - count
        if missing and self._runtime.fixed_shapes:
            batch = np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0)))
        if batch.dtype != np.uint8:
            batch = batch.astype(np.float32)
        return forward(batch)[:count]

    def _halve_batch(self, error: BaseException) -> None:
        if not self._runtime.is_out_of_memory(error):
            if isinstance(error, self._runtime.device_errors):
                raise DeviceLost(f"The GPU is lost ({_last_line(error)}).") from error
            raise error
        if self.batch_size == 1:
            raise BackboneError(
                "Not enough memory on the device for even one image. Free some, or set "
                "classifier.device to 'cpu'."
            ) from error
        self.batch_size //= 2
        log.warning("out of memory: going on with batches of %d", self.batch_size)
