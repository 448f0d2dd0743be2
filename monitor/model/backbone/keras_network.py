"""The graphs that the Keras engine compiles: the whole network, and the same layers otherwise used.

All are backend-neutral Keras 3 and share the layers of one model, and so its weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from monitor.model.backbone.architectures import Architecture
from monitor.model.backbone.tail import MAP_SHAPES
from monitor.model.backbone.weight_files import Arrays
from monitor.model.backbone.weights import MEAN_RGB

INPUT_SIZE = 224


def build_network(
    network: Architecture, arrays: Arrays, precision: str, input_size: int = INPUT_SIZE
) -> Any:
    """Build the network and set its weights.

    Args:
        arrays: those of load_weights.
        precision: number format of weights and activations, `float32` or `bfloat16`;
            the averages are always computed in float32.

    Returns:
        keras.Model from uint8 RGB (n, input_size, input_size, 3) to float32 (n, 1280); its layers
        are named as in keras.applications.
    """
    import keras

    inputs = keras.Input((input_size, input_size, 3), dtype="uint8", name="images")
    pools = _conv_stack(network, _prepared(inputs, precision), precision)
    model = keras.Model(inputs, _averages(pools[2:]), name=network.name)
    for layer in network.layers:
        model.get_layer(layer).set_weights([arrays[f"{layer}/kernel"], arrays[f"{layer}/bias"]])
    model.trainable = False
    return model


def precision_of(model: Any) -> str:
    """`float32` or `bfloat16`, of a model of `build_network`."""
    return str(model.get_layer("block1_conv1").compute_dtype)


def _prepared(images: Any, precision: str) -> Any:
    """RGB minus the mean, then turned to BGR, in float32: bfloat16 would round the difference."""
    from keras import ops

    centred = ops.subtract(ops.cast(images, "float32"), np.array(MEAN_RGB, np.float32))
    return ops.cast(ops.flip(centred, axis=-1), precision)


def _averages(pools: list[Any]) -> Any:
    """Means over space of some blocks' outputs, float32: (n, 1280) of the last three."""
    from keras import ops

    means = [ops.mean(ops.cast(pool, "float32"), axis=(1, 2)) for pool in pools]
    return ops.concatenate(means, axis=-1)


def with_map(network: Architecture, model: Any, layer: str, height: int, width: int) -> Any:
    """The same layers for pictures of another size. The output is the features and, behind them,
    the flattened map: one tensor, so that every runtime can return it."""
    import keras
    from keras import ops

    inputs = keras.Input((height, width, 3), dtype="uint8", name="images")
    seen = _passed(network, model, _prepared(inputs, precision_of(model)), 1)
    flat = keras.layers.Flatten()(ops.cast(seen[layer], "float32"))
    means = _averages([seen[f"block{block}_pool"] for block in (3, 4, 5)])
    return keras.Model(inputs, ops.concatenate([means, flat], axis=-1))


def from_block(network: Architecture, model: Any, first: int) -> Any:
    """The same layers from one block on: maps in float32 to the averages of what follows."""
    import keras
    from keras import ops

    inputs = keras.Input(MAP_SHAPES[first], dtype="float32", name="maps")
    seen = _passed(network, model, ops.cast(inputs, precision_of(model)), first)
    return keras.Model(inputs, _averages([seen[f"block{b}_pool"] for b in range(first, 6)]))


def _passed(network: Architecture, model: Any, maps: Any, first: int) -> dict[str, Any]:
    """What each layer gives, by name, of maps that go into block `first`."""
    seen: dict[str, Any] = {}
    for block, (convolutions, _) in enumerate(network.blocks, start=1):
        steps = [f"conv{number}" for number in range(1, convolutions + 1)]
        for name in (f"block{block}_{step}" for step in (*steps, "pool")):
            if block >= first:
                maps = seen[name] = model.get_layer(name)(maps)
    return seen


def _conv_stack(network: Architecture, maps: Any, precision: str) -> list[Any]:
    """The pooled output of each of the five blocks."""
    from keras import layers

    common = {"data_format": "channels_last", "dtype": precision}  # whatever keras.json says
    pools = []
    for block, (convolutions, filters) in enumerate(network.blocks, start=1):
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
