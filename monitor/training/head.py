"""Method `head`: the conv stack stays as it is, only the last, linear layer is learnt."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from monitor.model.head import Floats, Head, softmax, strangeness, unit_parts
from monitor.training.dataset import Dataset, Part
from monitor.training.event_labels import SURE, doubtful_rows, shares_of_event_labels
from monitor.training.folds import known_rows, make_folds, sides
from monitor.training.logistic import Ints, Layer, Samples, fit_path

Progress = Callable[[str, float], None]
Bools = npt.NDArray[np.bool_]

STRENGTHS = (6e-4, 2e-4, 6e-5, 2e-5, 6e-6, 2e-6)
"""L2 strengths to choose from, strongest first, for inputs of unit length: times the number of
inputs for standardised ones, so that 24 and 1,280 features want the same."""
USUAL_STRENGTH = 2e-5
TEMPERATURES = (0.1, 10.0)
TEMPERATURE_PRIOR = 10.0
"""Weight, in media, of 'the temperature is 1': a dozen right answers must not prove certainty."""
SHARE_OF_SEARCH = 0.8


@dataclass(frozen=True, slots=True, eq=False)
class FittedHead:
    """A head and how it came about.

    Attributes:
        strength: the L2 strength chosen, from `STRENGTHS`.
        steps: of the solver.
        folds: int64 (n,), the fold of each row of the training side; all the same: nothing could
            be set aside.
        aside: float32 (n, k), what heads that had not seen a row's fold said of it, calibrated;
            rows that are not `judged` hold zeros.
        judged: bool (n,), rows whose species the other folds know, but for likely blanks of an
            event that was labelled as a whole.
        aside_nll: mean negative log-likelihood (nats) of `aside`; None where nothing is judged.
        engine: what computed it, with versions.
        shares: float32 (n,), how much of each row was believed; see `event_labels`.
        strangeness: float32 (n,), of each row, by the heads that `aside` is from.
        tried: (strength, its `aside_nll`) of each; empty where nothing is judged.
    """

    head: Head
    strength: float
    steps: int
    folds: Ints
    aside: Floats
    judged: Bools
    aside_nll: float | None
    engine: str
    shares: Floats
    strangeness: Floats
    tried: tuple[tuple[float, float], ...] = ()


def fit_head(
    dataset: Dataset,
    layout: str,
    seed: int,
    progress: Progress,
    parts: tuple[int, ...] | None = None,
) -> FittedHead:
    """Fit a head: choose strength and temperature by cross-validation, then use everything.

    Args:
        dataset: at least two classes.
        layout: name of the feature layout, kept in the head.
        progress: told a stage and how much of the fit is done (0-1).
        parts: of a feature vector, see `Head`.
    """
    train, k = dataset.train, len(dataset.classes)
    samples, shares = samples_of(train, dataset.classes, parts), np.ones(len(train), np.float32)
    folds = make_folds(train, seed)
    known = known_rows(train.species, folds)
    doubtful = known & doubtful_rows(train, dataset.classes)
    rounds = 2 if doubtful.any() else 1
    for number in range(rounds):
        report = _part_of(progress, number / rounds, 1 / rounds)
        search = _search(samples, k, folds, known, shares >= SURE, report)
        if doubtful.any():
            shares = shares_of_event_labels(search.aside, train, dataset.classes, doubtful)
            samples = replace(samples, weight=balanced_weights(samples.y, k, shares))
    mean, scale = standard(samples.x)
    path = [s * len(mean) for s in STRENGTHS if s >= search.strength]
    fits = fit_path(_standardised(samples, mean, scale), k, path)
    layer: Layer | None = None
    for number, layer in enumerate(fits, start=1):  # noqa: B007  each starts from the one before
        done = SHARE_OF_SEARCH + (1 - SHARE_OF_SEARCH) * number / len(path)
        progress("fitting", done)
    assert layer is not None
    head = Head(
        dataset.classes,
        mean,
        scale,
        layer.weights,
        layer.bias,
        search.temperature,
        layout,
        parts=parts,
    )
    judged = search.known & (shares >= SURE)
    return FittedHead(
        head,
        search.strength,
        layer.steps,
        folds,
        search.aside * judged[:, None],
        judged,
        search.nll,
        _engine(),
        shares,
        search.strangeness,
        search.tried,
    )


def fit_on(dataset: Dataset, rows: Bools, like: FittedHead) -> Head:
    """A head of the same strength that has seen these rows of the training side alone.

    Args:
        rows: bool (n,), of every class at least one.
        like: fitted on all of them; its temperature is kept.
    """
    parts, k = like.head.parts, len(dataset.classes)
    samples = samples_of(dataset.train, dataset.classes, parts).where(rows)
    samples = replace(samples, weight=balanced_weights(samples.y, k, like.shares[rows]))
    mean, scale = standard(samples.x)
    (layer,) = fit_path(_standardised(samples, mean, scale), k, [like.strength * len(mean)])
    return replace(like.head, mean=mean, scale=scale, weights=layer.weights, bias=layer.bias)


def _part_of(progress: Progress, start: float, share: float) -> Callable[[float], None]:
    return lambda done: progress("choosing", SHARE_OF_SEARCH * (start + share * done))


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    strength: float
    temperature: float
    known: Bools
    aside: Floats
    strangeness: Floats
    nll: float | None
    tried: tuple[tuple[float, float], ...] = ()


def _search(
    samples: Samples,
    k: int,
    folds: Ints,
    known: Bools,
    sure: Bools,
    report: Callable[[float], None],
) -> _Search:
    """The strength whose calibrated out-of-fold probabilities of `sure` rows are the likeliest."""
    n, known = len(samples.y), known.copy()
    logits = np.zeros((len(STRENGTHS), n, k), np.float32)
    strange = np.zeros((len(STRENGTHS), n), np.float32)
    path = [s * samples.x.shape[1] for s in STRENGTHS]
    fits, done = len(STRENGTHS) * len(np.unique(folds)), 0
    for fitting, aside in sides(folds):
        there = np.unique(samples.y[fitting])
        if not known.any() or len(there) < 2:
            known &= ~aside
            continue
        mean, scale = standard(samples.x[fitting])
        x = (samples.x[aside] - mean) / scale
        part = _standardised(samples.where(fitting), mean, scale)
        for number, layer in enumerate(fit_path(part, k, path)):
            said = layer.logits(x)
            logits[number, aside], strange[number, aside] = said, strangeness(said[:, there], x)
            done += 1
            report(done / fits)
    judged = known & sure if (known & sure).any() else known
    if not judged.any():
        return _Search(USUAL_STRENGTH, 1.0, known, logits[0], strange[0], None)
    found = [calibrated(some[judged], samples.y[judged]) for some in logits]
    best = min(range(len(found)), key=lambda number: found[number][1])
    temperature, nll = found[best]
    spoken = softmax(logits[best] / np.float32(temperature)) * known[:, None]
    tried = tuple((s, nll) for s, (_, nll) in zip(STRENGTHS, found, strict=True))
    return _Search(STRENGTHS[best], temperature, known, spoken, strange[best], nll, tried)


def calibrated(logits: Floats, y: Ints) -> tuple[float, float]:
    """The temperature for these answers, and their mean negative log-likelihood with it."""
    temperature = find_temperature(logits, y)
    chosen = softmax(logits / np.float32(temperature))[np.arange(len(y)), y]
    return temperature, float(-np.log(np.maximum(chosen, 1e-12)).mean())


def standard(features: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each feature, both (d,); 1 for what never varies."""
    mean = features.mean(axis=0, dtype=np.float64)
    spread = features.std(axis=0, dtype=np.float64)
    scale = np.where(spread > 1e-6 * np.maximum(np.abs(mean), 1.0), spread, 1.0)
    return mean.astype(np.float32), scale.astype(np.float32)


def balanced_weights(y: Ints, classes: int, shares: Floats | None = None) -> Floats:
    """Weights float32 (n,) under which every class that occurs counts the same; their mean is 1.

    Compared with the square root of it, no weights, and weights of the decision alone: nothing else
    was better at rare species, and probabilities did not suffer (docs/probabilities.md).

    Args:
        shares: float32 (n,) above 0, how much each row counts within its class; None: the same.
    """
    shares = np.ones(len(y), np.float32) if shares is None else shares
    counts = np.bincount(y, shares, minlength=classes)
    return (shares * len(y) / (np.count_nonzero(counts) * counts[y])).astype(np.float32)


def samples_of(
    part: Part, classes: tuple[str, ...], parts: tuple[int, ...] | None = None
) -> Samples:
    """The rows with class numbers and weights; features not standardised yet."""
    index = {name: i for i, name in enumerate(classes)}
    y = np.array([index[name] for name in part.species.tolist()], np.int64)
    return Samples(unit_parts(part.features, parts), y, balanced_weights(y, len(classes)))


def _standardised(samples: Samples, mean: Floats, scale: Floats) -> Samples:
    return Samples((samples.x - mean) / scale, samples.y, samples.weight)


def _engine() -> str:
    import sklearn

    return f"scikit-learn {sklearn.__version__}"


def find_temperature(logits: Floats, y: Ints) -> float:
    """The temperature that makes the probabilities of rows never fitted most likely.

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
