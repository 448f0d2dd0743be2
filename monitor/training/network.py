"""A linear softmax layer with an L2 penalty, fitted in Keras: a convex problem, solved as one.

No random start (zeros), no shuffling, a step size taken from the data: the same labels give the
same head. Written against Keras alone, so that it runs on any backend that trapwatch runs on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.backbone.keras_runtime import open_runtime

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

PASSES = 10
"""Steps between two looks at the validation part. Keras spends 50 ms on each look whatever the
size of the network, more than on ten steps of it (2,000 x 1,280, two cores)."""
MOMENTUM = 0.9
PATIENCE = 3  # looks
MIN_GAIN = 1e-3  # nats
MAX_BATCH = 16384


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Standardised inputs float32 (n, d), class numbers int64 (n,), weights float32 (n,)."""

    x: Floats
    y: Ints
    weight: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A fitted layer: logits = x @ weights + bias. `looks`: how long it was fitted."""

    weights: Floats
    bias: Floats
    looks: int
    validation_nll: float | None


class Network:
    """One compiled Keras network that serves every strength and both sizes of training set.

    Args:
        inputs, classes: d and k.
        device, threads: as in `classifier` of config.yaml.
    """

    def __init__(self, inputs: int, classes: int, seed: int, device: str, threads: int) -> None:
        runtime = open_runtime(device, threads)
        import keras

        keras.utils.set_random_seed(seed)
        self.engine = f"{runtime.name}, {runtime.device}"
        self._keras = keras
        # L2(1) on inputs divided by sqrt(s) is L2(s) on the inputs: one network, traced once.
        self._layer = keras.layers.Dense(
            classes, kernel_initializer="zeros", kernel_regularizer=keras.regularizers.L2(1.0)
        )
        self._model = keras.Sequential([keras.Input((inputs,)), self._layer])
        cross_entropy = keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="nll")
        self._model.compile(
            keras.optimizers.SGD(0.1, momentum=MOMENTUM, nesterov=True),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            weighted_metrics=[cross_entropy],
            steps_per_execution=PASSES,
            jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
        )

    def fit(
        self,
        training: Samples,
        strength: float,
        looks: int,
        on_look: Callable[[int], None],
        validation: Samples | None = None,
    ) -> Layer:
        """Minimise mean weighted cross-entropy + strength x |weights|^2.

        Args:
            strength: > 0.
            looks: most rounds of `PASSES` passes; with `validation`, fitting ends when the
                cross-entropy there has stopped falling, and the best round is kept.
            on_look: told the number of each finished round.
        """
        self._reset(training, strength)
        root = np.float32(math.sqrt(strength))
        keras = self._keras
        callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: on_look(e + 1))]
        options: dict[str, Any] = {}
        if validation is not None:
            early = keras.callbacks.EarlyStopping(
                "val_nll", MIN_GAIN, PATIENCE, mode="min", restore_best_weights=True
            )
            callbacks.append(early)
            options = {
                "validation_data": (validation.x / root, validation.y, validation.weight),
                "validation_batch_size": MAX_BATCH,
            }
        history = self._model.fit(
            _batches(training, root),
            epochs=looks,
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
            **options,
        )
        weights, bias = self._layer.get_weights()
        if validation is None:
            return Layer(weights / root, bias, looks, None)
        return Layer(weights / root, bias, early.best_epoch + 1, min(history.history["val_nll"]))

    def _reset(self, training: Samples, strength: float) -> None:
        """Zero weights and momentum, and the step that is safe for these data."""
        self._layer.set_weights([np.zeros_like(w) for w in self._layer.get_weights()])
        optimizer = self._model.optimizer
        optimizer.build(self._model.trainable_variables)
        for variable in optimizer.variables:
            variable.assign(np.zeros(variable.shape, str(variable.dtype)))
        optimizer.learning_rate = 1 / steepest_curvature(training, strength)


def steepest_curvature(samples: Samples, strength: float) -> float:
    """An upper bound of the second derivative of the loss: 1 / it is a safe step.

    The Hessian of softmax cross-entropy is at most 1/2 x the (weighted) second moment of the
    inputs (Böhning 1992, "Multinomial logistic regression algorithm"); inputs are divided by
    sqrt(strength), the bias adds an input of 1, the penalty a curvature of 2.
    """
    rows = samples.x * np.sqrt(samples.weight / len(samples.x))[:, None]
    vector = np.ones(rows.shape[1], np.float32)
    for _ in range(30):  # power iteration; 10 % on top for what it has not reached
        vector = rows.T @ (rows @ (vector / max(float(np.linalg.norm(vector)), 1e-12)))
    largest = 1.1 * float(np.linalg.norm(vector))
    return 0.5 * (largest / strength + float(samples.weight.mean())) + 2


def _batches(samples: Samples, root: np.float32) -> Any:
    """All samples in one batch, `PASSES` times; too many for that, in as many as it takes."""
    import keras

    x, n = samples.x / root, len(samples.x)
    order = np.random.default_rng(0).permutation(n) if n > MAX_BATCH else np.arange(n)
    parts = np.array_split(order, math.ceil(n / MAX_BATCH))
    data = [(x[part], samples.y[part], samples.weight[part]) for part in parts]

    class Passes(keras.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return PASSES * len(data)

        def __getitem__(self, index: int) -> tuple[Floats, Ints, Floats]:
            return data[index % len(data)]

    return Passes()
