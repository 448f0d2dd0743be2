"""A burst that was called a fox does not teach that its blank frames are foxes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitor.training.dataset import Dataset, Part
from monitor.training.event_labels import (
    doubtful_rows,
    rows_to_judge_by,
    shares_of_event_labels,
)
from monitor.training.head import fit_head

SIZE = 16
CLASSES = ("blank", "deer", "fox")
CENTRES = np.random.default_rng(3).normal(size=(3, SIZE))


def quietly(stage: str, done: float) -> None:
    """Progress that nobody looks at."""


def bursts(seed: int, events: int = 40) -> tuple[Part, np.ndarray]:
    """Events of five frames called deer or fox as a whole, up to three of them blank; and blanks
    called so one by one. And what each frame shows."""
    random = np.random.default_rng(seed)
    shows, said, groups, of_event = [], [], [], []
    for event in range(events):
        kind, blanks = 1 + event % 2, random.integers(0, 4)
        shows += [0] * blanks + [kind] * (5 - blanks)
        said += [kind] * 5
        groups += [event] * 5
        of_event += [True] * 5
    shows, said = shows + [0] * 40, said + [0] * 40
    groups, of_event = groups + list(range(events, events + 40)), of_event + [False] * 40
    kinds = np.array(shows)
    features = (CENTRES[kinds] + random.normal(size=(len(kinds), SIZE)) * 0.7).astype(np.float32)
    names = np.array(CLASSES)[np.array(said)]
    part = Part(features, names, np.array(groups), np.array(groups) // 4, np.array(of_event))
    return part, kinds


def clean(seed: int) -> Part:
    random = np.random.default_rng(seed)
    kinds = random.integers(0, 3, 600)
    features = (CENTRES[kinds] + random.normal(size=(600, SIZE)) * 0.7).astype(np.float32)
    zeros = np.zeros(600, np.int64)
    return Part(features, np.array(CLASSES)[kinds], np.arange(600), zeros, zeros.astype(bool))


def recalls(part: Part, test: Part) -> dict[str, float]:
    head = fit_head(Dataset(CLASSES, part, test), "made-up/1", 0, quietly).head
    answers = np.array(CLASSES)[head.probabilities(test.features).argmax(axis=1)]
    return {name: float((answers[test.species == name] == name).mean()) for name in CLASSES}


def test_blank_frames_of_a_labelled_event_are_hardly_believed_and_animals_are():
    part, shows = bursts(1)
    fitted = fit_head(Dataset(CLASSES, part, part), "made-up/1", 0, quietly)
    blank = part.of_event & (shows == 0)
    assert fitted.shares[blank].mean() < 0.35
    assert fitted.shares[part.of_event & (shows > 0)].mean() > 0.85
    assert (fitted.shares[~part.of_event] == 1).all()
    assert fitted.judged[blank].mean() < 0.4
    assert (fitted.aside[~fitted.judged] == 0).all()


def test_it_raises_fewer_false_alarms_than_believing_every_frame_and_loses_no_animal():
    part, _ = bursts(2)
    believed = Part(
        part.features, part.species, part.groups, part.deployments, np.zeros(len(part), bool)
    )
    simple, weighed = recalls(believed, clean(9)), recalls(part, clean(9))
    assert weighed["blank"] > simple["blank"] + 0.05
    assert weighed["deer"] > simple["deer"] - 0.05 and weighed["fox"] > simple["fox"] - 0.05


def part_with(species: list[str], groups: list[int], of_event: list[bool]) -> Part:
    n = len(species)
    zeros = np.zeros(n, np.int64)
    return Part(
        np.zeros((n, 2), np.float32),
        np.array(species, np.str_),
        np.array(groups, np.int64),
        zeros,
        np.array(of_event, np.bool_),
    )


def test_the_likeliest_frame_of_each_event_is_believed_whatever_it_looks_like():
    part = part_with(["fox"] * 4, [1, 1, 2, 2], [True] * 4)
    aside = np.array([[0.9, 0, 0.1], [0.8, 0, 0.2], [0.9, 0, 0.05], [0.99, 0, 0.01]], np.float32)
    shares = shares_of_event_labels(aside, part, CLASSES, doubtful_rows(part, CLASSES))
    assert shares[[1, 2]].tolist() == [1, 1]
    assert 0 < shares[0] < 0.05 and 0 < shares[3] < 0.05


def test_nobody_is_doubted_where_blank_is_not_learnt_or_the_label_is_blank_itself():
    part = part_with(["fox", "blank"], [1, 2], [True, True])
    assert doubtful_rows(part, ("deer", "fox")).tolist() == [False, False]
    assert doubtful_rows(part, CLASSES).tolist() == [True, False]


def test_a_held_out_frame_is_left_out_only_where_every_model_sees_a_blank():
    part = part_with(["fox"] * 3 + ["fox"], [1, 1, 1, 2], [True] * 3 + [False])
    mine = np.array([[0.9, 0, 0.1], [0.9, 0, 0.1], [0.2, 0, 0.8], [1, 0, 0]], np.float32)
    other = np.array([[0.8, 0, 0.2], [0.3, 0, 0.7], [0.2, 0, 0.8], [1, 0, 0]], np.float32)
    rows = rows_to_judge_by(part, [(mine, CLASSES), (other, CLASSES)])
    assert rows.tolist() == [False, True, True, True]
    assert rows_to_judge_by(part, [(mine, CLASSES)]).tolist() == [False, False, True, True]
    assert rows_to_judge_by(part, []).all()
    knows_no_blank = (mine[:, 1:], CLASSES[1:])
    assert rows_to_judge_by(part, [(mine, CLASSES), knows_no_blank]).all()


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=20))
def test_every_event_keeps_a_frame_to_judge_by(rows):
    part = part_with(["fox"] * len(rows), [g for g, *_ in rows], [e for _, e, _ in rows])
    p = np.array([[0.9, 0, 0.1] if b else [0.1, 0, 0.9] for *_, b in rows], np.float32)
    kept = rows_to_judge_by(part, [(p.reshape(-1, 3), CLASSES)])
    assert set(part.groups[kept]) == set(part.groups)
    assert kept[~part.of_event].all()
