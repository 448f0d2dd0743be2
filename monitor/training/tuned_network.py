"""The part of the network that fine-tuning changes, as a Keras model: maps in, logits out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.model.backbone.architectures import Architecture, block_of
from monitor.model.backbone.tail import MAP_SHAPES
from monitor.model.head import SMALLEST_NORM, Head

Floats = npt.NDArray[np.float32]
SLOWER = 10.0
"""The convolutions learn at so much lower a rate than the head: they know most already."""
HEAD = "head"
LONGEST_STEP = 1.0  # of the gradient's norm, over all weights


@dataclass(frozen=True, slots=True)
class Rates:
    """The course of the learning rate: a linear rise, then half a cosine down to 0.

    Loshchilov & Hutter 2017, "SGDR"; Goyal et al. 2017 for the rise.
    """

    highest: float  # of the head
    rise_steps: int
    steps: int  # of all, the rise included


def tuned_layers(network: Architecture, first_block: int) -> tuple[str, ...]:
    """Names of the convolutions from a block on."""
    return tuple(layer for layer in network.layers if block_of(layer) >= first_block)


def build_tuned(
    network: Architecture,
    first_block: int,
    arrays: Mapping[str, Floats],
    head: Head,
    precision: str,
) -> Any:
    """The network from the map before `first_block` to logits, as it is before tuning.

    Args:
        arrays: weights of the convolutions from that block on.
        head: the warm head, on features of the network as it is.
        precision: `float32`, or `mixed_bfloat16`: weights stay float32 in both.

    Returns:
        keras.Model of (map float16 (n, h, w, c), averages before it float32 (n, e)) to float32
        (n, k).
    """
    import keras
    from keras import ops

    maps = keras.Input(MAP_SHAPES[first_block], dtype="float16", name="map")
    before = keras.Input((_before(head, network, first_block),), name="before")
    x, averages = ops.cast(maps, "float32"), [before]
    for block, (convolutions, filters) in enumerate(network.blocks, start=1):
        if block < first_block:
            continue
        for number in range(1, convolutions + 1):
            x = keras.layers.Conv2D(
                filters,
                3,
                padding="same",
                activation="relu",
                data_format="channels_last",
                dtype=precision,
                kernel_initializer="zeros",
                name=f"block{block}_conv{number}",
            )(x)
        x = keras.layers.MaxPooling2D(
            2, 2, data_format="channels_last", dtype=precision, name=f"block{block}_pool"
        )(x)
        averages.append(ops.mean(ops.cast(x, "float32"), axis=(1, 2)))
    features = _unit_parts(ops.concatenate(averages, axis=-1), head.parts)
    standard = ops.divide(ops.subtract(features, head.mean), head.scale)
    logits = keras.layers.Dense(
        len(head.classes), kernel_initializer="zeros", dtype="float32", name=HEAD
    )(standard)
    model = keras.Model([maps, before], logits, name="tuned")
    for layer in tuned_layers(network, first_block):
        model.get_layer(layer).set_weights([arrays[f"{layer}/kernel"], arrays[f"{layer}/bias"]])
    model.get_layer(HEAD).set_weights([head.weights, head.bias])
    return model


def _unit_parts(features: Any, parts: Sequence[int] | None) -> Any:
    """As classifier.unit_parts, for Keras' tensors."""
    from keras import ops

    if parts is None:
        return features
    found = []
    for part in ops.split(features, np.cumsum(parts)[:-1].tolist(), axis=-1):
        norm = ops.sqrt(ops.sum(ops.square(part), axis=-1, keepdims=True) + SMALLEST_NORM**2)
        found.append(ops.divide(part, norm))
    return ops.concatenate(found, axis=-1)


def _before(head: Head, network: Architecture, first_block: int) -> int:
    """How many numbers of a feature vector the tuned blocks do not make."""
    return head.mean.size - sum(filters for _, filters in network.blocks[first_block - 1 :])


def compile_tuned(model: Any, rates: Rates, decay: float) -> None:
    """Make it ready to learn.

    Args:
        decay: L2 strength on the head's weights, the one that the warm head was fitted with.
    """
    import keras

    # A schedule that is asked for a step gives the head's rate; convolutions get a tenth of it.
    schedule = keras.optimizers.schedules.CosineDecay(
        rates.highest / max(rates.rise_steps, 1),
        max(rates.steps - rates.rise_steps, 1),
        warmup_target=rates.highest,
        warmup_steps=rates.rise_steps,
    )
    model.get_layer(HEAD).kernel_regularizer = keras.regularizers.L2(decay)
    model.compile(
        _two_speeds()(schedule, global_clipnorm=LONGEST_STEP),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )


def _two_speeds() -> Any:
    """Adam under which all but the head's variables learn `SLOWER`."""
    import keras

    class TwoSpeeds(keras.optimizers.Adam):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            # TensorFlow hands over its own variable, which has a name where Keras' has a path
            name = str(getattr(variable, "path", variable.name))
            rate = learning_rate if name.startswith(f"{HEAD}/") else learning_rate / SLOWER
            super().update_step(gradient, variable, rate)

    return TwoSpeeds


def tuned_arrays(model: Any, layers: Sequence[str]) -> dict[str, Floats]:
    """The convolutions' weights as they are now, by their names in Keras' layout."""
    arrays: dict[str, Floats] = {}
    for layer in layers:
        kernel, bias = model.get_layer(layer).get_weights()
        arrays[f"{layer}/kernel"], arrays[f"{layer}/bias"] = kernel, bias
    return arrays
