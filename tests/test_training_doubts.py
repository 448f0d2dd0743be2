"""Doubted labels are mostly the wrong ones; the most suspicious come first."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from monitor.model.head import softmax
from monitor.training.label_errors import doubts

CLASSES = ("blank", "deer", "fox")


def test_flipped_labels_are_found_first():
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 400)
    logits = random.normal(size=(400, 3))
    logits[np.arange(400), truth] += 3
    flipped = random.choice(400, 20, replace=False)
    said = truth.copy()
    said[flipped] = (said[flipped] + 1) % 3
    aside = softmax(logits.astype(np.float32))
    labels = [CLASSES[i] for i in said]
    found = doubts(aside, labels, np.ones(400, bool), range(1000, 1400), CLASSES)
    first = [media - 1000 for media, *_ in found[:15]]
    assert np.isin(first, flipped).mean() > 0.9
    assert all(suggested == CLASSES[truth[m - 1000]] for m, _, suggested, _ in found[:10])


def test_a_doubt_says_what_was_said_what_is_suggested_and_how_sure():
    aside = np.array([[0.1, 0.9, 0], [0.9, 0.1, 0], [0.8, 0.2, 0], [0.7, 0.3, 0]], np.float32)
    labels = ["blank", "blank", "blank", "deer"]
    judged = np.array([True, True, True, True])
    (first, second) = doubts(aside, labels, judged, (7, 8, 9, 10), CLASSES)
    assert first == [7, "blank", "deer", 0.9]
    assert second == [10, "deer", "blank", 0.7]
    assert doubts(aside, labels, ~judged, (7, 8, 9, 10), CLASSES) == []


def test_a_weak_preference_below_the_usual_is_no_doubt():
    aside = np.array([[0.45, 0.55, 0], [0.9, 0.1, 0], [0.1, 0.9, 0], [0.2, 0.8, 0]], np.float32)
    labels = ["blank", "blank", "deer", "deer"]
    assert doubts(aside, labels, np.ones(4, bool), range(4), CLASSES) == []


@given(
    arrays(
        np.float32, st.tuples(st.integers(0, 30), st.just(3)), elements=st.floats(0, 5, width=16)
    ),
    st.data(),
)
def test_whatever_was_said_doubts_are_few_sorted_and_of_judged_media(logits, data):
    n = len(logits)
    aside = softmax(logits) if n else logits
    said = data.draw(st.lists(st.sampled_from(CLASSES), min_size=n, max_size=n))
    judged = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
    found = doubts(aside, said, judged, range(n), CLASSES, most=5)
    assert len(found) <= 5
    gaps = []
    for media, label, suggested, probability in found:
        assert judged[media] and label == said[media] != suggested
        gaps.append(probability - aside[media, CLASSES.index(label)])
    assert all(a >= b - 1e-4 for a, b in pairwise(gaps))
    assert all(gap > -1e-5 for gap in gaps)
