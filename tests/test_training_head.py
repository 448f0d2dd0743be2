"""The head: L2-regularised logistic regression, its strength chosen by cross-validation."""

import numpy as np
import pytest

from monitor.model.head import softmax
from monitor.training.dataset import Dataset, Part
from monitor.training.head import (
    USUAL_STRENGTH,
    FittedHead,
    balanced_weights,
    find_temperature,
    fit_head,
    fit_on,
    standard,
)
from monitor.training.logistic import Samples, fit_path

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
    groups = np.arange(n) // 3
    return Part(
        features.astype(np.float32), np.array(CLASSES)[kind], groups, groups // 8, np.zeros(n, bool)
    )


def dataset(n: int = 240, spread: float = 1.0, size: int = 16) -> Dataset:
    return Dataset(CLASSES, clusters(n, 1, spread, size), clusters(300, 2, spread, size))


def accuracy(fitted: FittedHead, part: Part) -> float:
    best = fitted.head.probabilities(part.features).argmax(axis=1)
    return float((np.array(CLASSES)[best] == part.species).mean())


def quietly(stage: str, done: float) -> None:
    """Progress that nobody looks at."""


@pytest.fixture(scope="module")
def fitted() -> FittedHead:
    return fit_head(dataset(), "made-up/1", 3, quietly)


def test_clusters_are_told_apart(fitted: FittedHead) -> None:
    assert accuracy(fitted, clusters(300, 2)) > 0.95
    assert fitted.head.classes == CLASSES and fitted.head.layout == "made-up/1"
    assert fitted.judged.all() and fitted.aside_nll is not None and fitted.aside_nll < 0.3
    assert fitted.engine.startswith("scikit-learn 1.")


def test_the_same_labels_give_the_same_head(fitted: FittedHead) -> None:
    again = fit_head(dataset(), "made-up/1", 3, quietly)
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
    fit_head(dataset(60), "made-up/1", 0, lambda s, d: seen.append((s, d)))
    shares = [done for _, done in seen]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1.0)
    assert [stage for i, (stage, _) in enumerate(seen) if i == 0 or seen[i - 1][0] != stage] == [
        "choosing",
        "fitting",
    ]


def test_without_events_to_set_aside_the_usual_strength_is_taken() -> None:
    one_event = dataset(60)
    one_event.train.groups[:] = 1
    one_event.train.deployments[:] = 1
    result = fit_head(one_event, "made-up/1", 0, quietly)
    assert not result.judged.any() and result.aside_nll is None
    assert result.strength == USUAL_STRENGTH and result.head.temperature == 1.0
    assert accuracy(result, clusters(300, 2)) > 0.9


def test_what_was_said_of_a_row_comes_from_a_head_that_had_not_seen_its_deployment() -> None:
    data = dataset(240)
    data.train.species[data.train.deployments == 0] = "fox"  # whatever they look like
    aside = fit_head(data, "made-up/1", 0, quietly).aside
    there = data.train.deployments == 0
    assert (np.array(CLASSES)[aside[there].argmax(axis=1)] == "fox").mean() < 0.5
    assert aside.sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_rows_of_a_species_that_only_their_own_fold_knows_are_not_judged() -> None:
    data = dataset(240)
    data.train.species[data.train.species == "fox"] = "deer"
    data.train.species[data.train.groups == 4] = "fox"
    result = fit_head(data, "made-up/1", 0, quietly)
    assert (~result.judged == (data.train.groups == 4)).all()
    assert not result.aside[~result.judged].any()


def test_a_head_fitted_on_some_rows_has_not_seen_the_others() -> None:
    data = dataset(240, spread=3.0)
    whole = fit_head(data, "made-up/1", 0, quietly)
    rows = data.train.groups % 4 > 0
    before = fit_on(data, rows, whole)
    data.train.species[~rows] = "fox"
    data.train.features[~rows] += 100
    after = fit_on(data, rows, whole)
    assert np.array_equal(before.weights, after.weights) and np.array_equal(before.mean, after.mean)
    assert before.layout == "made-up/1" and not np.array_equal(before.weights, whole.head.weights)


def test_a_feature_that_never_varies_does_no_harm() -> None:
    data = dataset(60)
    data.train.features[:, 3] = 7.0
    result = fit_head(data, "made-up/1", 0, quietly)
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


@pytest.mark.parametrize("known", [(0, 1, 2), (0, 2)], ids=["three", "two of three"])
def test_the_optimum_of_l2_regularised_logistic_regression_is_found(known: tuple) -> None:
    train = clusters(90, 1, spread=1.5, size=5)
    mean, scale = standard(train.features)
    y = np.searchsorted(CLASSES, train.species)
    chosen = np.isin(y, known)
    x = ((train.features - mean) / scale)[chosen]
    samples = Samples(x, y[chosen], balanced_weights(y[chosen], 3))
    dense = Samples(x, np.searchsorted(known, y[chosen]), samples.weight)
    weights, bias, _ = optimum(dense, 0.02, len(known))
    *_, layer = fit_path(samples, 3, (0.1, 0.02))
    columns = list(known)
    assert layer.weights[:, columns] == pytest.approx(weights, abs=2e-3)
    found = layer.bias[columns]
    assert found - found.mean() == pytest.approx(bias - bias.mean(), abs=2e-3)


def test_a_class_without_a_sample_is_never_answered() -> None:
    train = clusters(90, 1, size=5)
    y = np.searchsorted(CLASSES, train.species)
    there = y != 1
    samples = Samples(train.features[there], y[there], np.ones(there.sum(), np.float32))
    (layer,) = fit_path(samples, 3, (0.1,))
    assert softmax(layer.logits(train.features))[:, 1].max() < 1e-6


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
    result = fit_head(data, "made-up/1", 0, quietly)
    p = result.head.probabilities(clusters(3000, 5, 4.0, shares=(1 / 3, 1 / 3, 1 / 3)).features)
    truth = clusters(3000, 5, 4.0, shares=(1 / 3, 1 / 3, 1 / 3)).species
    right = np.array(CLASSES)[p.argmax(axis=1)] == truth
    assert 0.5 < right.mean() < 0.95
    assert p.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.06)
