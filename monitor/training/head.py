"""Method `head`: the conv stack stays as it is, only the last, linear layer is learnt."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.classifier import Floats, Head
from monitor.training.dataset import Dataset, Part
from monitor.training.network import PASSES, Layer, Network, Samples

Progress = Callable[[str, float], None]

STRENGTHS = (3e-4, 1e-4, 3e-5, 1e-5, 3e-6)
"""L2 strengths to choose from, strongest first, for inputs of unit length: times the number of
inputs for standardised ones, so that 24 and 1,280 features want the same."""
USUAL_STRENGTH = 3e-5
TEMPERATURES = (0.1, 10.0)
TEMPERATURE_PRIOR = 10.0
"""Weight, in media, of 'the temperature is 1': a dozen right answers must not prove certainty."""


@dataclass(frozen=True, slots=True, eq=False)
class FitOptions:
    """How to fit; from `training` and `classifier` in config.yaml."""

    max_epochs: int = 300
    seed: int = 0
    device: str = "auto"
    threads: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class FittedHead:
    """A head and how it came about.

    Attributes:
        strength: the L2 strength chosen, from `STRENGTHS`.
        epochs: passes over the training side.
        validation_nll: of the chosen strength; None where nothing could be set aside.
        engine: what computed it, with versions.
    """

    head: Head
    strength: float
    epochs: int
    validation_media: int
    validation_nll: float | None
    engine: str


def fit_head(dataset: Dataset, layout: str, options: FitOptions, progress: Progress) -> FittedHead:
    """Fit a head: choose strength and temperature on the validation part, then use everything.

    Args:
        dataset: at least two classes.
        layout: name of the feature layout, kept in the head.
        progress: told a stage and how much of the fit is done (0-1).
    """
    train, k = dataset.train, len(dataset.classes)
    network = Network(train.features.shape[1], k, options.seed, options.device, options.threads)
    looks = math.ceil(options.max_epochs / PASSES)
    strength, temperature, nll = USUAL_STRENGTH, 1.0, None
    if dataset.validation.any():
        search = _search(network, dataset, looks, progress)
        strength, looks, nll = search.strength, search.layer.looks, search.layer.validation_nll
        temperature = search.temperature
    mean, scale = standard(train.features)
    layer = network.fit(
        _samples(train, dataset.classes, mean, scale),
        strength * len(mean),
        looks,
        lambda look: progress("fitting", 0.8 + 0.2 * look / looks),
    )
    head = Head(dataset.classes, mean, scale, layer.weights, layer.bias, temperature, layout)
    held_aside = int(dataset.validation.sum())
    return FittedHead(head, strength, looks * PASSES, held_aside, nll, network.engine)


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    strength: float
    layer: Layer
    temperature: float


def _search(network: Network, dataset: Dataset, looks: int, progress: Progress) -> _Search:
    """Fit each strength without the validation part; keep the one that does best there."""
    fitting = dataset.train.where(~dataset.validation)
    mean, scale = standard(fitting.features)
    training = _samples(fitting, dataset.classes, mean, scale)
    validation = _samples(dataset.train.where(dataset.validation), dataset.classes, mean, scale)
    best: tuple[float, float, Layer] | None = None
    for number, strength in enumerate(STRENGTHS):
        done = 0.8 * number / len(STRENGTHS)
        layer = network.fit(
            training,
            strength * len(mean),
            looks,
            lambda look, done=done: progress("choosing", done + 0.13 * look / looks),  # type: ignore[misc]
            validation,
        )
        nll = layer.validation_nll
        if nll is not None and (best is None or nll < best[0]):
            best = nll, strength, layer
    assert best is not None
    _, strength, layer = best
    logits = validation.x @ layer.weights + layer.bias
    return _Search(strength, layer, find_temperature(logits, validation.y))


def standard(features: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each feature, both (d,); 1 for what never varies."""
    mean = features.mean(axis=0, dtype=np.float64)
    spread = features.std(axis=0, dtype=np.float64)
    scale = np.where(spread > 1e-6 * np.maximum(np.abs(mean), 1.0), spread, 1.0)
    return mean.astype(np.float32), scale.astype(np.float32)


def balanced_weights(y: npt.NDArray[np.int64], classes: int) -> Floats:
    """Weights float32 (n,) under which every class that occurs counts the same; their mean is 1."""
    counts = np.bincount(y, minlength=classes)
    return (len(y) / (np.count_nonzero(counts) * counts[y])).astype(np.float32)


def _samples(part: Part, classes: tuple[str, ...], mean: Floats, scale: Floats) -> Samples:
    index = {name: i for i, name in enumerate(classes)}
    y = np.array([index[name] for name in part.species.tolist()], np.int64)
    return Samples((part.features - mean) / scale, y, balanced_weights(y, len(classes)))


def find_temperature(logits: Floats, y: npt.NDArray[np.int64]) -> float:
    """The temperature that makes the probabilities of the validation part most likely.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", by golden-section search over its
    logarithm, with a weak pull towards 1 (`TEMPERATURE_PRIOR`).
    """

    def cost(log_t: float) -> float:
        scaled = logits.astype(np.float64) / math.exp(log_t)
        scaled -= scaled.max(axis=1, keepdims=True)
        likelihood = scaled[np.arange(len(y)), y] - np.log(np.exp(scaled).sum(axis=1))
        return float(-likelihood.sum() + TEMPERATURE_PRIOR * log_t**2)

    golden = (math.sqrt(5) - 1) / 2
    low, high = math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1])
    for _ in range(40):
        step = golden * (high - low)
        if cost(high - step) < cost(low + step):
            high = low + step
        else:
            low = high - step
    return math.exp((low + high) / 2)
