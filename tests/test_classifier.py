"""Features in, predictions out: a head is a formula, checked against the formula."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from monitor.model.head import ALTERNATIVES, Head, predict, softmax

D, K = 6, 7
NAMES = tuple("abcdefg")


def some_head(seed: int = 0, temperature: float = 1.0) -> Head:
    random = np.random.default_rng(seed)
    return Head(
        NAMES,
        random.normal(0, 1, D).astype(np.float32),
        random.uniform(0.5, 2, D).astype(np.float32),
        random.normal(0, 1, (D, K)).astype(np.float32),
        random.normal(0, 1, K).astype(np.float32),
        temperature,
        "test/1",
    )


def features(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (n, D)).astype(np.float32)


@given(arrays(np.float32, (3, 4), elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_softmax_gives_probabilities_whatever_the_logits(logits):
    p = softmax(logits)
    assert p.dtype == np.float32
    assert np.isfinite(p).all()
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)


def test_probabilities_are_the_formula():
    head, x = some_head(temperature=2.0), features(5)
    z = ((x - head.mean) / head.scale) @ head.weights + head.bias
    e = np.exp(z.astype(np.float64) / 2.0)
    np.testing.assert_allclose(head.probabilities(x), e / e.sum(axis=1, keepdims=True), rtol=1e-4)
    np.testing.assert_allclose(head.logits(x), z, rtol=1e-5)


def test_each_part_is_brought_to_length_1_before_all_else():
    x = np.abs(features(4)) + 0.1
    head = replace(some_head(), parts=(2, 4))
    units = np.hstack(
        [part / np.linalg.norm(part, axis=1)[:, None] for part in np.split(x, [2], 1)]
    )
    np.testing.assert_allclose(head.logits(x), some_head().logits(units), rtol=1e-5)
    darker = x * np.array([0.5, 0.5, 3, 3, 3, 3], np.float32)
    np.testing.assert_allclose(head.logits(darker), head.logits(x), rtol=1e-4)
    assert np.isfinite(head.logits(np.zeros((1, D), np.float32))).all()


def test_a_higher_temperature_is_less_sure_and_of_the_same_opinion():
    x = features(20)
    cold, hot = (some_head(temperature=t).probabilities(x) for t in (0.5, 4.0))
    assert (cold.max(axis=1) > hot.max(axis=1)).all()
    assert (cold.argmax(axis=1) == hot.argmax(axis=1)).all()


def test_a_prediction_names_the_best_and_its_alternatives_in_order():
    head, x = some_head(), features(4)
    said = predict(head, [11, 12, 13, 14], x, 0.0)
    p = head.probabilities(x)
    assert [one.media_id for one in said] == [11, 12, 13, 14]
    for one, row in zip(said, p, strict=True):
        assert one.species == NAMES[row.argmax()]
        assert one.probability == pytest.approx(float(row.max()))
        assert len(one.alternatives) == ALTERNATIVES
        values = [value for _, value in one.alternatives]
        assert values == sorted(values, reverse=True)
        assert one.alternatives[0] == (one.species, one.probability)


@given(st.floats(0, 1))
def test_below_the_threshold_it_is_unknown_and_says_what_it_might_be(threshold):
    (one,) = predict(some_head(), [1], features(1), threshold)
    assert (one.species == "unknown") == (one.probability < threshold)
    assert one.alternatives[0][0] in NAMES


def test_a_head_of_one_class_has_one_alternative():
    head = some_head()
    head = replace(head, classes=("a",), weights=head.weights[:, :1], bias=head.bias[:1])
    (one,) = predict(head, [1], features(1), 0.5)
    assert one.alternatives == (("a", 1.0),)


def test_nothing_in_nothing_out():
    assert predict(some_head(), [], features(0), 0.5) == []


def test_each_frame_is_judged_alone():
    head, x = some_head(), features(9)
    together = predict(head, list(range(9)), x, 0.0)
    for number in range(9):
        (alone,) = predict(head, [number], x[number : number + 1], 0.0)
        assert alone.species == together[number].species
        assert alone.probability == pytest.approx(together[number].probability, rel=1e-5)


@pytest.mark.parametrize("n", [0, 1, 7, 500])
def test_logits_of_many_frames_are_one_product_however_it_is_cut(n):
    head = some_head()
    wide = replace(
        head,
        mean=np.zeros(1280, np.float32),
        scale=np.ones(1280, np.float32),
        weights=np.random.default_rng(2).normal(0, 1, (1280, K)).astype(np.float32),
    )
    x = np.random.default_rng(3).normal(0, 1, (n, 1280)).astype(np.float32)
    expected = x.astype(np.float64) @ wide.weights + head.bias
    np.testing.assert_allclose(wide.logits(x), expected, rtol=1e-3, atol=1e-3)
    assert wide.logits(x).shape == (n, K)
