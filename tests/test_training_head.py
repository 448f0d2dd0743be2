"""The head: a convex fit in Keras that matches L2-regularised logistic regression, repeatably."""

import functools
from collections.abc import Iterator

import numpy as np
import pytest

from monitor.classifier import softmax
from monitor.training import head
from monitor.training.dataset import Dataset, Part
from monitor.training.head import (
    FitOptions,
    FittedHead,
    balanced_weights,
    find_temperature,
    fit_head,
    standard,
)
from monitor.training.network import Network, Samples, steepest_curvature

CLASSES = ("blank", "deer", "fox")


def clusters(
    n: int, seed: int, spread: float = 1.0, size: int = 16, shares: tuple = (0.6, 0.3, 0.1)
) -> Part:
    """Gaussian clusters, one a species, in events of three frames; the places of no seed move."""
    centres = np.random.default_rng(99).normal(size=(3, size)) * 1.5
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, n, p=shares)
    features = centres[kind] + rng.normal(size=(n, size)) * spread
    features = features * np.linspace(0.01, 30, size) + 5  # scales differ, as backbones' do
    return Part(features.astype(np.float32), np.array(CLASSES)[kind], np.arange(n) // 3)


@pytest.fixture(autouse=True, scope="module")
def one_network() -> Iterator[None]:
    """A network of one shape is traced by Keras once for all tests: half the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(head, "Network", functools.cache(Network))
        yield


def dataset(n: int = 240, spread: float = 1.0, size: int = 16, validation: bool = True) -> Dataset:
    train = clusters(n, 1, spread, size)
    aside = (train.groups % 5 == 0) & validation
    return Dataset(CLASSES, train, aside, clusters(300, 2, spread, size))


def accuracy(fitted: FittedHead, part: Part) -> float:
    best = fitted.head.probabilities(part.features).argmax(axis=1)
    return float((np.array(CLASSES)[best] == part.species).mean())


def quietly(stage: str, done: float) -> None:
    """Progress that nobody looks at."""


@pytest.fixture(scope="module")
def fitted() -> FittedHead:
    return fit_head(dataset(), "made-up/1", FitOptions(max_epochs=60, seed=3), quietly)


def test_clusters_are_told_apart(fitted: FittedHead) -> None:
    assert accuracy(fitted, clusters(300, 2)) > 0.95
    assert fitted.head.classes == CLASSES and fitted.head.layout == "made-up/1"
    assert fitted.validation_media == 48 and fitted.validation_nll is not None
    assert fitted.engine.startswith("Keras 3.")


def test_the_same_labels_give_the_same_head(fitted: FittedHead) -> None:
    head.Network.cache_clear()  # type: ignore[attr-defined]
    again = fit_head(dataset(), "made-up/1", FitOptions(max_epochs=60, seed=3), quietly)
    assert np.array_equal(again.head.weights, fitted.head.weights)
    assert np.array_equal(again.head.bias, fitted.head.bias)
    assert again.head.temperature == fitted.head.temperature


def test_arrays_are_what_a_head_wants(fitted: FittedHead) -> None:
    made = fitted.head
    for array, shape in (
        (made.mean, (16,)),
        (made.scale, (16,)),
        (made.weights, (16, 3)),
        (made.bias, (3,)),
    ):
        assert array.dtype == np.float32 and array.shape == shape


def test_progress_only_rises_and_reaches_the_end() -> None:
    seen: list[tuple[str, float]] = []
    options = FitOptions(max_epochs=30)
    fit_head(dataset(60), "made-up/1", options, lambda s, d: seen.append((s, d)))
    shares = [done for _, done in seen]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1.0)
    assert [stage for i, (stage, _) in enumerate(seen) if i == 0 or seen[i - 1][0] != stage] == [
        "choosing",
        "fitting",
    ]


def test_without_events_to_set_aside_the_usual_strength_is_taken() -> None:
    result = fit_head(
        dataset(60, validation=False), "made-up/1", FitOptions(max_epochs=60), quietly
    )
    assert result.validation_media == 0 and result.validation_nll is None
    assert result.head.temperature == 1.0
    assert accuracy(result, clusters(300, 2)) > 0.9


def test_a_feature_that_never_varies_does_no_harm() -> None:
    data = dataset(60)
    data.train.features[:, 3] = 7.0
    result = fit_head(data, "made-up/1", FitOptions(max_epochs=20), quietly)
    assert result.head.scale[3] == 1.0
    assert np.isfinite(result.head.weights).all()


def optimum(
    samples: Samples, strength: float, classes: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """The minimum that the network should find, by plain gradient descent in float64."""
    x = np.hstack([samples.x, np.ones((len(samples.x), 1))]).astype(np.float64)
    w, n = np.zeros((x.shape[1], classes)), len(x)
    target = np.eye(classes)[samples.y]
    weight = samples.weight[:, None].astype(float)
    penalty = np.full((x.shape[1], 1), strength)
    penalty[-1] = 0
    for _ in range(20_000):
        p = softmax(x @ w)
        w -= 0.2 * (x.T @ (weight * (p - target)) / n + 2 * penalty * w)
    loss = (weight[:, 0] * -np.log(softmax(x @ w)[np.arange(n), samples.y])).mean()
    return w[:-1], w[-1], float(loss + strength * (w[:-1] ** 2).sum())


def test_the_network_finds_the_optimum_of_l2_regularised_logistic_regression() -> None:
    train = clusters(90, 1, spread=1.5, size=5)
    mean, scale = standard(train.features)
    y = np.searchsorted(CLASSES, train.species)
    samples = Samples((train.features - mean) / scale, y, balanced_weights(y, 3))
    weights, bias, _ = optimum(samples, 0.02, 3)
    layer = Network(5, 3, 0, "cpu", 0).fit(samples, 0.02, 60, lambda look: None)
    assert layer.weights == pytest.approx(weights, abs=2e-3)
    assert layer.bias - layer.bias.mean() == pytest.approx(bias - bias.mean(), abs=2e-3)


def test_the_curvature_bound_holds() -> None:
    part = clusters(200, 1)
    mean, scale = standard(part.features)
    samples = Samples((part.features - mean) / scale, np.zeros(200, int), np.ones(200, np.float32))
    moment = samples.x.T @ samples.x / 200
    true = 0.5 * float(np.linalg.eigvalsh(moment).max()) / 0.1 + 2
    assert true <= steepest_curvature(samples, 0.1) <= 1.3 * true + 0.5


def test_weights_let_every_species_count_the_same() -> None:
    y = np.array([0] * 90 + [2] * 10)
    weights = balanced_weights(y, 3)
    assert weights.mean() == pytest.approx(1.0)
    assert weights[y == 0].sum() == pytest.approx(weights[y == 2].sum())


def test_the_temperature_that_made_the_answers_is_found_again() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 4)).astype(np.float32) * 2
    p = softmax(logits)
    y = (p.cumsum(axis=1) > rng.random((len(p), 1))).argmax(axis=1)
    assert find_temperature(logits, y) == pytest.approx(1.0, abs=0.05)
    assert find_temperature(logits * 3, y) == pytest.approx(3.0, abs=0.15)


def test_a_few_right_answers_do_not_prove_certainty() -> None:
    logits = np.eye(4, dtype=np.float32)[[0, 1, 2]]
    assert 0.7 < find_temperature(logits, np.array([0, 1, 2])) < 1


def test_probabilities_are_calibrated_on_media_never_seen() -> None:
    data = dataset(900, spread=4.0)
    result = fit_head(data, "made-up/1", FitOptions(max_epochs=60), quietly)
    p = result.head.probabilities(clusters(3000, 5, 4.0, shares=(1 / 3, 1 / 3, 1 / 3)).features)
    truth = clusters(3000, 5, 4.0, shares=(1 / 3, 1 / 3, 1 / 3)).species
    right = np.array(CLASSES)[p.argmax(axis=1)] == truth
    assert 0.5 < right.mean() < 0.95
    assert p.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.06)
