"""Method `finetune`: the last block or two learn, too, from the cached output of the block before.

First the head is fitted on the frozen features (it is warm), then both go on together: small
steps, rising and falling in one course, and in the end the mean of the last epochs' weights
(Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization").
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from monitor.core.domain import TrapwatchError
from monitor.model.backbone.architectures import Architecture
from monitor.model.backbone.keras_runtime import open_runtime
from monitor.model.head import Head
from monitor.training.tuned_network import (
    HEAD,
    Rates,
    build_tuned,
    compile_tuned,
    tuned_arrays,
    tuned_layers,
)

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]
Ints = npt.NDArray[np.int64]
Progress = Callable[[str, float], None]

BATCH = 32
HIGHEST_RATE = 1e-3
AVERAGED_FROM = 0.6
"""Of the epochs: the weights of those after this share are averaged."""
FEWEST_EPOCHS = 3
TIMED_STEPS = 3
CAUTION = 0.9
"""Share of the time that is planned for: a machine may have other work later on."""


class NotTuned(TrapwatchError):
    """Fine-tuning makes no sense here, or not now; the message says why."""


class MapSource(Protocol):
    """Where the inputs come from: rows by number, each in several views."""

    @property
    def views(self) -> int:
        """How many views there are of each row; 0 is the image as it is."""

    def get(self, rows: Ints, views: Ints) -> tuple[Floats, Halves]:
        """Averages before the tuned blocks float32 (n, e), maps float16 (n, h, w, c)."""


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What is learnt from.

    Attributes:
        source: of `len(y)` rows.
        y: class numbers int64 (n,).
        weight: float32 (n,).
        aside: bool (n,), rows that are not learnt from: they tell when to stop.
    """

    source: MapSource
    y: Ints
    weight: Floats
    aside: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Course:
    """How long and how: from `training` and `classifier` in config.yaml.

    Attributes:
        epochs: at most; fewer where the time does not suffice for them.
        ends_at: `time.monotonic()` at which no further epoch is begun.
        decay: L2 strength of the head.
    """

    first_block: int
    epochs: int
    seed: int
    decay: float
    device: str = "auto"
    threads: int = 0
    ends_at: float = math.inf


@dataclass(slots=True)
class Standing:
    """How far a fine-tuning is: all that is needed to go on after a kill.

    Attributes:
        epoch: how many are done.
        weights: of the network and its optimizer, in Keras' order.
        mean: of the network's weights over the last epochs; empty before.
        averaged: how many epochs are in `mean`.
        history: of each epoch, loss and figures on the rows aside.
        epochs: how many it is to be; 0: not decided yet.
    """

    epoch: int = 0
    weights: list[Floats] = field(default_factory=list)
    mean: list[Floats] = field(default_factory=list)
    averaged: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    epochs: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """What came of it.

    Attributes:
        arrays: weights of the tuned convolutions.
        weights, bias: of the head, float32 (d, k) and (k,).
        logits: float32 (n, k) of the rows aside, in their order.
        history: one row an epoch: loss, and aside_nll and aside_accuracy where rows are aside.
        engine: what computed it, with versions.
    """

    arrays: dict[str, Floats]
    weights: Floats
    bias: Floats
    logits: Floats
    history: tuple[dict[str, float], ...]
    engine: str


def fine_tune(
    network: Architecture,
    arrays: Mapping[str, Floats],
    warm: Head,
    lesson: Lesson,
    course: Course,
    keep: Callable[[Standing], None],
    standing: Standing,
    progress: Progress,
) -> Tuned:
    """Tune the last blocks and the head together.

    Args:
        arrays: weights of the whole conv stack.
        warm: a head fitted on the same rows, on the frozen features.
        keep: called after each epoch, to write down how far it is.
        standing: a fresh one, or where an earlier run of the same course was ended.
        progress: told a stage and how much of the course is done (0-1).

    Raises:
        NotTuned: the time does not suffice for `FEWEST_EPOCHS`.
    """
    runtime = open_runtime(course.device, course.threads)
    import keras

    keras.utils.set_random_seed(course.seed)
    precision = "mixed_bfloat16" if runtime.fast_bfloat16 else "float32"
    model = build_tuned(network, course.first_block, arrays, warm, precision)
    rows = np.flatnonzero(~lesson.aside)
    steps = max(len(rows) // BATCH, 1)
    if not standing.epochs:
        compile_tuned(model, Rates(HIGHEST_RATE, steps, steps * course.epochs), course.decay)
        seconds = _seconds_of_epoch(model, rows, lesson, course, steps)
        standing.epochs = _epochs_in_time(course, seconds)
    compile_tuned(model, Rates(HIGHEST_RATE, steps, steps * standing.epochs), course.decay)
    model.optimizer.build(model.trainable_variables)
    if standing.weights:
        _restore(model, standing.weights)
    while standing.epoch < standing.epochs and time.monotonic() < course.ends_at:
        losses = []
        batches = _batches(rows, lesson, course, standing.epoch, len(warm.classes))
        for done, batch in enumerate(batches, start=1):
            losses.append(float(model.train_on_batch(*batch)))
            progress("fine-tuning", (standing.epoch + done / steps) / standing.epochs)
        standing.epoch += 1
        _average(standing, model)
        standing.history.append({"loss": float(np.mean(losses)), **_aside_figures(model, lesson)})
        standing.weights = _all_weights(model)
        keep(standing)
    if standing.mean:
        model.set_weights(standing.mean)
    weights, bias = model.get_layer(HEAD).get_weights()
    return Tuned(
        tuned_arrays(model, tuned_layers(network, course.first_block)),
        weights,
        bias,
        logits_of(model, lesson.source, np.flatnonzero(lesson.aside)),
        tuple(standing.history),
        f"{runtime.name}, {runtime.device}, {precision}",
    )


def logits_of(model: Any, source: MapSource, rows: Ints) -> Floats:
    """float32 (n, k) of rows as they are, without a view."""
    found = [np.empty((0, model.output_shape[1]), np.float32)]
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        before, maps = source.get(part, np.zeros(len(part), np.int64))
        found.append(np.asarray(model.predict_on_batch([maps, before]), np.float32))
    return np.concatenate(found)


def _batches(rows: Ints, lesson: Lesson, course: Course, epoch: int, classes: int) -> Any:
    """Each row once, in an order and in views that the seed and the epoch decide."""
    rng = np.random.default_rng((course.seed, epoch))
    order = rng.permutation(rows)
    views = rng.integers(0, lesson.source.views, len(order))
    for start in range(0, max(len(order) - BATCH, 0) + 1, BATCH):
        part = order[start : start + BATCH]
        before, maps = lesson.source.get(part, views[start : start + BATCH])
        answers = np.eye(classes, dtype=np.float32)[lesson.y[part]]
        yield [maps, before], answers, lesson.weight[part]


def _seconds_of_epoch(model: Any, rows: Ints, lesson: Lesson, course: Course, steps: int) -> float:
    """How long an epoch takes, from a few steps that are taken back."""
    before, batches = model.get_weights(), _batches(rows, lesson, course, 0, model.output_shape[1])
    times = []
    for batch in islice(batches, 1 + TIMED_STEPS):
        started = time.monotonic()
        float(model.train_on_batch(*batch))
        times.append(time.monotonic() - started)
    model.set_weights(before)
    step = float(np.median(times[1:] or times))  # the first one compiles
    return step * (steps + float(lesson.aside.sum()) / BATCH / 3)  # judging goes forward only


def _epochs_in_time(course: Course, seconds: float) -> int:
    left = course.ends_at - time.monotonic()
    if left < FEWEST_EPOCHS * seconds / CAUTION:
        raise NotTuned(
            f"{FEWEST_EPOCHS} rounds of fine-tuning would take {FEWEST_EPOCHS * seconds / 60:.0f} "
            f"minutes, and {max(left, 0) / 60:.0f} of training.max_minutes are left; what was "
            "computed until now is kept for the next time"
        )
    return min(course.epochs, int(CAUTION * min(left / seconds, 1e9)))


def _average(standing: Standing, model: Any) -> None:
    if standing.epoch <= math.floor(AVERAGED_FROM * standing.epochs):
        return
    weights, n = model.get_weights(), standing.averaged
    if not n:
        standing.mean = weights
    else:
        standing.mean = [(m * n + w) / (n + 1) for m, w in zip(standing.mean, weights, strict=True)]
    standing.averaged = n + 1


def _aside_figures(model: Any, lesson: Lesson) -> dict[str, float]:
    rows = np.flatnonzero(lesson.aside)
    if not len(rows):
        return {}
    logits = logits_of(model, lesson.source, rows).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    y = lesson.y[rows]
    nll = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]
    return {
        "aside_nll": float(nll.mean()),
        "aside_accuracy": float((logits.argmax(axis=1) == y).mean()),
    }


def _all_weights(model: Any) -> list[Floats]:
    import keras

    optimizer = [np.array(keras.ops.convert_to_numpy(v)) for v in model.optimizer.variables]
    return [*model.get_weights(), *optimizer]


def _restore(model: Any, weights: Sequence[Floats]) -> None:
    own = len(model.weights)
    model.set_weights(list(weights[:own]))
    for variable, value in zip(model.optimizer.variables, weights[own:], strict=True):
        variable.assign(value.reshape(variable.shape))
