"""`unknown`: what is like nothing that was learnt is noticed, and seldom wrongly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.domain import UNKNOWN
from monitor.model.head import answers_of, predict, strangeness
from monitor.training.dataset import Dataset, Part
from monitor.training.distance import (
    FEWEST_UNNAMED,
    auroc,
    strange_above,
    unknown_figures,
    with_unnamed,
)
from monitor.training.head import FittedHead, fit_head

SIZE = 24
NAMES = ("blank", "deer", "fox", "hare")
NONE = np.zeros((0, SIZE), np.float32)
CENTRES = np.random.default_rng(1).normal(size=(5, SIZE)) * 1.2


def part_of(n: int, seed: int, kinds: int = 4, first: int = 0) -> Part:
    random = np.random.default_rng(seed)
    kind = random.integers(first, kinds, n)
    features = (CENTRES[kind] + random.normal(size=(n, SIZE))).astype(np.float32)
    groups = np.arange(n) + seed * 10_000
    names = np.array([*NAMES, "wolf"])[kind]
    return Part(features, names, groups, groups // 20, np.zeros(n, bool))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset(NAMES, part_of(400, 1), part_of(200, 2))


@pytest.fixture(scope="module")
def fitted(data: Dataset) -> FittedHead:
    made = fit_head(data, "made-up/1", 0, lambda stage, done: None)
    limit = strange_above(made.strangeness, data.train.groups, made.judged, 0.05)
    return replace(made, head=replace(made.head, strange_above=limit))


def test_of_known_species_about_the_share_asked_for_is_called_unknown(data, fitted):
    strange = fitted.head.strangeness(part_of(2000, 3).features) > fitted.head.strange_above
    assert 0.01 < strange.mean() < 0.09


def test_a_species_nobody_named_is_stranger_and_so_is_noise(fitted):
    known = fitted.head.strangeness(part_of(300, 4).features)
    wolves = fitted.head.strangeness(part_of(300, 5, 5, 4).features)
    noise = np.random.default_rng(6).normal(size=(300, SIZE)).astype(np.float32) * 8
    assert auroc(known, wolves) > 0.8
    assert (fitted.head.strangeness(noise) > fitted.head.strange_above).mean() > 0.5


def test_a_strange_frame_is_unknown_with_its_alternatives_as_they_are(fitted):
    frames = part_of(300, 5, 5, 4).features
    strange = fitted.head.strangeness(frames) > fitted.head.strange_above
    said = predict(fitted.head, range(300), frames, 0.0)
    assert [one.species == UNKNOWN for one in said] == strange.tolist()
    assert 0 < strange.sum() < 300
    one = said[int(np.flatnonzero(strange)[0])]
    assert one.probability == one.alternatives[0][1] and one.alternatives[0][0] != UNKNOWN
    bare = replace(fitted.head, strange_above=None)
    assert (answers_of(bare, frames, 0.0).species < len(NAMES)).all()


def test_a_limit_needs_events_enough_and_a_share():
    ones, groups = np.ones(18, np.float32), np.arange(18)
    yes = np.ones(18, bool)
    assert strange_above(ones, groups, yes, 0.05) is None
    assert strange_above(ones, groups, yes, 0.1) == 1.0
    assert strange_above(ones, groups, yes, 0.0) is None
    assert strange_above(ones, groups, ~yes, 0.1) is None


def test_leaving_each_species_out_tells_how_well_a_new_one_is_noticed(data, fitted):
    found = unknown_figures(data, fitted, NONE)
    assert set(found["by_species"]) == set(NAMES) == set(found["caught"])
    assert found["auroc"] == pytest.approx(np.mean(list(found["by_species"].values())))
    assert found["auroc"] > 0.75
    assert found["false_unknown"] < 0.15 and found["threshold"] == fitted.head.strange_above
    assert "skipped" not in found


def test_where_nothing_can_be_left_out_it_says_why(data, fitted):
    few = replace(data, held_out=part_of(4, 7))
    assert "held-out media" in unknown_figures(few, fitted, NONE)["skipped"]
    nothing = replace(data, held_out=data.held_out.where(np.zeros(200, bool)))
    assert unknown_figures(nothing, fitted, NONE)["false_unknown"] is None
    two = replace(data, classes=("blank", "deer"))
    assert "three species" in unknown_figures(two, fitted, NONE)["skipped"]


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=9),
    st.lists(st.integers(0, 5), min_size=1, max_size=9),
)
def test_auroc_is_the_share_of_pairs_in_the_right_order(known, new):
    pairs = [(b > a) + (a == b) / 2 for a in known for b in new]
    assert auroc(np.array(known), np.array(new)) == pytest.approx(np.mean(pairs))


@given(st.floats(-50, 50), st.integers(1, 6))
def test_a_shift_of_all_logits_changes_nothing(shift, k):
    random = np.random.default_rng(k)
    logits, x = random.normal(size=(4, k)), random.normal(size=(4, 3))
    moved = strangeness((logits + shift).astype(np.float32), x.astype(np.float32))
    still = strangeness(logits.astype(np.float32), x.astype(np.float32))
    np.testing.assert_allclose(moved, still, atol=1e-4, rtol=1e-3)


def test_a_species_that_only_unnamed_media_show_is_noticed_better_by_learning_from_them(data):
    made = fit_head(data, "made-up/1", 0, lambda stage, done: None)
    mixed = [part_of(300, 8).features, part_of(40, 9, 5, 4).features]
    taught = with_unnamed(made, data.train, np.concatenate(mixed))
    known, wolves = part_of(400, 10).features, part_of(200, 11, 5, 4).features
    before, after = (
        auroc(one.head.strangeness(known), one.head.strangeness(wolves)) for one in (made, taught)
    )
    assert 1 - after < (1 - before) / 2
    limit = strange_above(taught.strangeness, data.train.groups, taught.judged, 0.05)
    assert (taught.head.strangeness(known) > limit).mean() < 0.1
    assert unknown_figures(data, taught, np.concatenate(mixed))["unnamed_media"] == 340


def test_a_species_is_not_strange_for_being_named_seldom(data):
    made = fit_head(data, "made-up/1", 0, lambda stage, done: None)
    random = np.random.default_rng(12)
    blanks = (CENTRES[0] + random.normal(size=(600, SIZE))).astype(np.float32)
    taught = with_unnamed(made, data.train, np.concatenate([blanks, part_of(60, 13).features]))
    limit = strange_above(taught.strangeness, data.train.groups, taught.judged, 0.05)
    more = (CENTRES[0] + random.normal(size=(400, SIZE))).astype(np.float32)
    assert (taught.head.strangeness(more) > limit).mean() < 0.12


def test_a_few_unnamed_media_change_nothing(data):
    made = fit_head(data, "made-up/1", 0, lambda stage, done: None)
    few = part_of(FEWEST_UNNAMED - 1, 14).features
    assert with_unnamed(made, data.train, few) is made
