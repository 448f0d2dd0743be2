"""Species sets keep their promise, count events, not frames, and need labels to promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from monitor.log.sightings import species_set
from monitor.model.head import ALTERNATIVES, Head, in_set, predict, softmax
from monitor.training.conformal import (
    coverage_figures,
    event_weights,
    promise_of,
    threshold,
)
from monitor.training.prediction_sets import promise_of_version

K = 4
NAMES = ("blank", "deer", "fox", "hare")


def world(events: int, frames: int, seed: int, sharpness: float = 1.5):
    """Probabilities that are off, truths, events; the frames of an event are much alike."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, K, events)
    logits = random.normal(size=(events, K)) * 1.5
    logits[np.arange(events), truth] += sharpness
    logits = np.repeat(logits, frames, 0) + random.normal(size=(events * frames, K)) * 0.2
    p = softmax((logits * 2).astype(np.float32))  # twice as sure as it should be
    return p, np.repeat(truth, frames), np.repeat(np.arange(events), frames)


def all_of(y):
    return np.ones(len(y), bool)


def covered(p, y, thresholds, weights=None):
    return float(np.average(in_set(p, thresholds)[np.arange(len(y)), y], weights=weights))


@pytest.mark.parametrize("coverage", [0.8, 0.9])
@pytest.mark.parametrize("frames", [1, 6])
def test_the_promise_is_kept_on_media_never_seen(coverage, frames):
    measured = []
    for seed in range(30):
        p, y, events = world(150, frames, seed)
        promise = promise_of(p, y, events, all_of(y), coverage)
        assert promise is not None
        new, truth, _ = world(400, 1, 1000 + seed)
        measured.append(covered(new, truth, promise.thresholds))
    assert coverage - 0.01 < np.mean(measured) < coverage + 0.05


def test_a_species_with_events_enough_has_a_threshold_of_its_own_and_keeps_its_own_promise():
    random = np.random.default_rng(5)
    y = np.repeat([0, 1, 2], [400, 400, 12])
    p = np.full((len(y), 3), 0.1, np.float32)
    p[np.arange(len(y)), y] = np.where(y == 0, random.uniform(0.6, 1, len(y)), 0)
    p[y == 1, 1] = random.uniform(0.1, 0.5, 400)
    p[y == 2, 2] = random.uniform(0.2, 0.3, 12)
    promise = promise_of(p, y, np.arange(len(y)), all_of(y), 0.9)
    assert promise.own.tolist() == [True, True, False]
    for species in (0, 1):
        reached = p[y == species, species] >= promise.thresholds[species]
        assert reached.mean() == pytest.approx(0.9, abs=0.01)
    assert promise.thresholds[2] < 0.3 < promise.thresholds[0], "the rare one's from rare ones"


def test_a_burst_of_a_hundred_frames_counts_no_more_than_one_frame():
    p, y, events = world(60, 1, 3)
    once = promise_of(p, y, events, all_of(y), 0.9)
    burst = np.r_[np.zeros(100, int), np.arange(1, 60)]
    again = promise_of(p[burst], y[burst], events[burst], all_of(burst), 0.9)
    assert np.array_equal(once.thresholds, again.thresholds)


def test_too_few_events_promise_nothing():
    p, y, events = world(8, 5, 0)
    assert promise_of(p, y, events, all_of(y), 0.9) is None
    p, y, events = world(30, 1, 0)
    assert promise_of(p, y, events, np.zeros(30, bool), 0.9) is None


@given(
    arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1)),
    st.floats(0.02, 0.5),
    st.data(),
)
def test_no_more_than_the_share_lies_below_and_the_next_higher_would_be_too_much(
    chosen, missed, data
):
    groups = data.draw(arrays(np.int64, len(chosen), elements=st.integers(0, 9)))
    weights = event_weights(groups)
    assert weights.sum() == pytest.approx(len(np.unique(groups)))
    allowed = missed * (weights.sum() + 1) - 1
    found = threshold(chosen, weights, missed)
    if allowed < 0:
        assert found is None
        return
    assert weights[chosen < found].sum() <= allowed + 1e-6
    higher = chosen[chosen > found]
    if len(higher):
        assert weights[chosen < higher.min()].sum() > allowed


@given(
    arrays(np.float32, (5, K), elements=st.floats(0, 1, width=32)),
    arrays(np.float32, K, elements=st.floats(0, 1, width=32)),
)
def test_a_set_is_never_empty_and_holds_the_best(p, thresholds):
    inside = in_set(p, thresholds)
    assert inside[np.arange(5), p.argmax(axis=1)].all()
    assert (inside | (p < thresholds)).all()


def a_head(k: int, thresholds) -> Head:
    random = np.random.default_rng(k)
    arrays_of = (np.zeros(6), np.ones(6), random.normal(size=(6, k)), np.zeros(k))
    return Head(
        tuple(f"s{i:02}" for i in range(k)),
        *(array.astype(np.float32) for array in arrays_of),
        1.0,
        "test/1",
        thresholds=np.asarray(thresholds, np.float32),
        coverage=0.9,
    )


@given(st.integers(2, 30), st.data())
def test_what_the_log_keeps_gives_the_set_back(k, data):
    thresholds = data.draw(arrays(np.float32, k, elements=st.floats(0, 1, width=32)))
    head = a_head(k, thresholds)
    features = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    inside = in_set(head.probabilities(features), head.thresholds)
    kept = promise_of_version(head)["conformal"]
    assert kept["coverage"] == 0.9
    for row, said in zip(inside, predict(head, range(8), features, 0.5), strict=True):
        assert len(said.alternatives) >= min(ALTERNATIVES, k)
        rounded = [(name, round(value, 5)) for name, value in said.alternatives]
        names = species_set(rounded, kept["thresholds"])
        assert names[0] == said.alternatives[0][0]
        assert {head.classes[i] for i in np.flatnonzero(row)} <= set(names)
        spare = [n for n in names if not row[head.classes.index(n)]]
        near = [dict(rounded)[n] - head.thresholds[head.classes.index(n)] for n in spare]
        assert all(gap > -2e-5 for gap in near), "only what rounding brought in"


def test_without_thresholds_a_version_promises_nothing():
    head = a_head(3, np.zeros(3))
    bare = Head(head.classes, head.mean, head.scale, head.weights, head.bias, 1.0, "test/1")
    assert promise_of_version(bare) == {"conformal": None}
    assert coverage_figures(np.array(["a"]), np.ones((1, 1)), "a", np.zeros(1), None, None) is None


def test_measured_coverage_counts_events_and_leaves_strangers_out():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.9, 0.1]], np.float32)
    truth = np.array(["deer", "deer", "fox", "wolf"])
    groups = np.array([1, 1, 2, 3])
    found = coverage_figures(
        truth, p, ("deer", "fox"), groups, np.array([0.5, 0.5], np.float32), 0.9
    )
    assert (found["measured"], found["mean_size"], found["events"]) == (0.5, 1.0, 2)
    assert (found["media"], found["unknown_species"]) == (3, 1)
    assert found["by_species"]["deer"] == {
        "media": 2,
        "measured": 1.0,
        "mean_size": 1.0,
        "events": 1,
    }
    assert found["by_species"]["fox"]["measured"] == 0.0
