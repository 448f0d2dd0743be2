"""The split: by deployment, else by event, never by image; chosen once, kept for good."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.log.learning import LabelledMedia, SplitRow
from monitor.training.dataset import Part, build_dataset, plan_learning
from monitor.training.folds import known_rows, make_folds
from monitor.training.similarity import events_by_looks
from monitor.training.split import assign_sides


def media(
    number: int,
    species: str,
    deployment: int,
    event: int | None = None,
    several: bool = False,
) -> LabelledMedia:
    return LabelledMedia(
        number,
        f"{number:064x}",
        species,
        several,
        "frame",
        deployment,
        f"site{deployment}",
        number if event is None else event,
    )


def frames(
    first: int, deployment: int, species: Iterable[str], per_event: int = 1
) -> list[LabelledMedia]:
    return [
        media(first + i, name, deployment, first + i - i % per_event)
        for i, name in enumerate(species)
    ]


def held(rows: Iterable[SplitRow]) -> set[int]:
    return {row.media_id for row in rows if row.side == "heldout"}


def test_whole_deployments_are_held_out() -> None:
    labelled = [m for site in range(8) for m in frames(100 * site + 1, site, ["fox", "deer"] * 5)]
    rows = assign_sides(labelled, [], 0.25, seed=0)
    assert {row.unit for row in rows} == {"deployment"}
    sites = {m.deployment_id for m in labelled if m.media_id in held(rows)}
    assert len(sites) == 2 and len(held(rows)) == 20
    assert rows == assign_sides(labelled, [], 0.25, seed=0)


def test_one_deployment_alone_is_split_by_event() -> None:
    labelled = frames(1, 7, ["fox", "fox", "deer", "deer"] * 6, per_event=2)
    rows = assign_sides(labelled, [], 0.25, seed=0)
    assert {row.unit for row in rows} == {"event"}
    assert len(held(rows)) == 6
    events = {m.media_id: m.event_id for m in labelled}
    out = {events[i] for i in held(rows)}
    assert not out & {events[r.media_id] for r in rows if r.side == "train"}


def test_new_media_follow_their_unit() -> None:
    first = [m for site in range(4) for m in frames(100 * site + 1, site, ["fox", "deer"] * 4)]
    rows = assign_sides(first, [], 0.25, seed=0)
    later = [m for site in range(4) for m in frames(100 * site + 50, site, ["badger"] * 5)]
    side_of = {row.unit_key: row.side for row in rows}
    for seed in range(6):  # whatever chance would choose now
        added = assign_sides(first + later, rows, 0.25, seed=seed)
        assert len(added) == len(later)
        assert all(row.side == side_of[row.unit_key] for row in added)


def test_a_deployment_split_by_event_goes_on_by_event_when_others_come() -> None:
    first = frames(1, 1, ["fox", "deer"] * 8)
    rows = assign_sides(first, [], 0.25, seed=0)
    later = frames(101, 1, ["fox", "deer"] * 4) + frames(201, 2, ["fox", "deer"] * 4)
    added = assign_sides(first + later, rows, 0.25, seed=0)
    units = {row.media_id: row.unit for row in added}
    assert {units[m.media_id] for m in later if m.deployment_id == 1} == {"event"}
    assert {units[m.media_id] for m in later if m.deployment_id == 2} == {"deployment"}


def test_the_only_deployment_of_a_species_is_trained_on_while_there_is_a_choice() -> None:
    labelled = [m for site in range(3) for m in frames(100 * site + 1, site, ["fox", "deer"] * 5)]
    labelled += frames(901, 9, ["fox", "deer", "lynx"])
    for seed in range(10):
        rows = assign_sides(labelled, [], 0.25, seed)
        assert held(rows) and not held(rows) & {901, 902, 903}


def test_where_every_deployment_has_its_own_species_events_are_split() -> None:
    labelled = frames(1, 1, ["fox"] * 8) + frames(101, 2, ["deer"] * 8)
    rows = assign_sides(labelled, [], 0.25, seed=0)
    assert {row.unit for row in rows} == {"event"}
    species = {m.media_id: m.species for m in labelled}
    assert Counter(species[i] for i in held(rows)) == {"fox": 2, "deer": 2}


def test_a_handful_of_media_at_a_second_site_is_no_held_out_side() -> None:
    labelled = frames(1, 1, ["fox", "deer"] * 100) + frames(901, 2, ["fox"])
    rows = assign_sides(labelled, [], 0.25, seed=0)
    assert {row.unit for row in rows} == {"event"}
    assert 40 <= len(held(rows)) <= 60


def test_a_species_keeps_enough_labels_to_be_learnt() -> None:
    labelled = [m for site in range(4) for m in frames(100 * site + 1, site, ["fox", "deer"] * 5)]
    labelled += frames(51, 0, ["lynx"] * 3) + frames(151, 1, ["lynx"] * 3)
    rows = assign_sides(labelled, [], 0.25, seed=0, keep=5)
    plan = plan_learning(labelled, rows, 5)
    assert "lynx" in plan.classes and held(rows)


def test_every_species_is_held_out_in_about_the_same_share() -> None:
    names = ["fox"] * 200 + ["deer"] * 100 + ["badger"] * 40
    labelled = frames(1, 1, names)
    rows = assign_sides(labelled, [], 0.25, seed=3)
    out = Counter(m.species for m in labelled if m.media_id in held(rows))
    assert out == {"fox": 50, "deer": 25, "badger": 10}


def test_many_events_are_placed_quickly() -> None:
    labelled = frames(1, 1, ["fox", "deer", "badger", "blank"] * 1500)
    assert len(held(assign_sides(labelled, [], 0.25, seed=0))) == 1500


def test_unclear_frames_get_no_side_and_are_counted() -> None:
    labelled = frames(1, 1, ["fox", "deer"] * 10)
    labelled += [media(91, "fox", 1, several=True), media(92, "unknown", 1)]
    rows = assign_sides(labelled, [], 0.25, seed=0)
    assert {91, 92}.isdisjoint(row.media_id for row in rows)
    plan = plan_learning(labelled, rows, 5)
    assert plan.left_out == {"several species in one frame": 1, "labelled as unknown": 1}
    assert plan.classes == ("deer", "fox")


def test_species_with_few_labels_are_listed_with_what_they_lack() -> None:
    labelled = frames(1, 1, ["fox", "deer"] * 10 + ["lynx"] * 3)
    rows = [SplitRow(m.media_id, "train", "event", m.event_id) for m in labelled[:-1]]
    rows.append(SplitRow(labelled[-1].media_id, "heldout", "event", labelled[-1].event_id))
    plan = plan_learning(labelled, rows, 5)
    assert [str(row) for row in plan.not_learnt] == ["lynx: 2 of 5 labels (1 more are held out)"]
    assert all(m.species != "lynx" for m in plan.train)
    assert [m.species for m in plan.held_out] == ["lynx"]


def test_frames_of_an_event_that_was_joined_to_a_held_out_one_are_not_trained_on() -> None:
    rows = [SplitRow(1, "heldout", "event", 1), SplitRow(2, "train", "event", 2)]
    joined = [media(1, "fox", 1, event=1), media(2, "fox", 1, event=1)]
    plan = plan_learning(joined, rows, 1)
    assert [m.media_id for m in plan.train] == []
    assert plan.left_out == {"its event or deployment became held out later": 1}


def test_arrays_are_in_one_order() -> None:
    labelled = frames(1, 1, ["fox", "fox", "deer", "deer"] * 10, per_event=2)
    rows = assign_sides(labelled, [], 0.25, seed=0)
    plan = plan_learning(labelled, rows, 5)
    vectors = {m.sha256: np.full(4, m.media_id, np.float32) for m in labelled}
    data = build_dataset(plan, vectors, 4)
    assert data.train.features[:, 0].tolist() == [m.media_id for m in plan.train]
    assert data.held_out.features.shape == (len(plan.held_out), 4)
    assert data.train.groups.tolist() == [m.event_id for m in plan.train]
    assert data.train.deployments.tolist() == [1] * len(plan.train)


def test_folds_cut_between_events_and_between_deployments_where_there_are_enough() -> None:
    one = frames(1, 1, ["fox", "fox", "deer", "deer"] * 10, per_event=2)
    folds = make_folds(part_of(one), seed=0)
    assert len(np.unique(folds)) == 5
    for event in {m.event_id for m in one}:
        assert len({f for f, m in zip(folds, one, strict=True) if m.event_id == event}) == 1
    several = [m for d in range(1, 6) for m in frames(100 * d, d, ["fox", "deer"] * 4)]
    folds = make_folds(part_of(several), seed=0)
    for deployment in range(1, 6):
        here = {f for f, m in zip(folds, several, strict=True) if m.deployment_id == deployment}
        assert len(here) == 1


def test_folds_are_cut_by_event_where_deployments_would_take_a_species_with_them() -> None:
    kinds = {1: "fox", 2: "deer", 3: "lynx", 4: "blank"}
    labelled = [m for d, kind in kinds.items() for m in frames(100 * d, d, [kind] * 10)]
    folds = make_folds(part_of(labelled), seed=0)
    assert known_rows(part_of(labelled).species, folds).all()


def test_nothing_can_be_set_aside_of_one_event() -> None:
    joined = [replace(m, event_id=1) for m in frames(1, 1, ["fox", "deer"] * 4)]
    folds = make_folds(part_of(joined), seed=0)
    assert len(np.unique(folds)) == 1 and not known_rows(part_of(joined).species, folds).any()


def part_of(labelled: Sequence[LabelledMedia]) -> Part:
    """All of them on the training side, with features of no meaning."""
    vectors = {m.sha256: np.zeros(4, np.float32) for m in labelled}
    rows = [SplitRow(m.media_id, "train", "event", m.event_id) for m in labelled]
    return build_dataset(plan_learning(labelled, rows, 1), vectors, 4).train


def test_untimed_frames_are_kept_together_by_their_looks() -> None:
    labelled = [replace(m, event_id=7, timed=m.media_id == 6) for m in frames(1, 1, ["fox"] * 6)]
    axes = np.eye(4, dtype=np.float32) + 0.01
    chain = np.array([[1, 0.3, 0, 0], [1, 0.0, 0, 0], [1, -0.3, 0, 0]], np.float32)
    looks = [axes[3], chain[0], axes[2], chain[1], chain[2], axes[2]]
    vectors = {m.sha256: look for m, look in zip(labelled, looks, strict=True)}
    found = events_by_looks(labelled, vectors, 4)
    assert [m.event_id for m in found] == [-1, -2, -3, -2, -2, 7]
    assert events_by_looks(found, vectors, 4) == found


def test_nothing_held_out_gives_empty_arrays_of_the_right_width() -> None:
    labelled = frames(1, 1, ["fox"] * 3)
    rows = [SplitRow(m.media_id, "train", "event", m.event_id) for m in labelled]
    vectors = {m.sha256: np.zeros(4, np.float32) for m in labelled}
    data = build_dataset(plan_learning(labelled, rows, 1), vectors, 4)
    assert data.held_out.features.shape == (0, 4) and len(data.held_out) == 0


one_label = st.tuples(
    st.integers(1, 4),  # deployment
    st.integers(0, 5),  # event within it
    st.sampled_from(["fox", "deer", "lynx", "blank", "unknown"]),
    st.booleans(),  # whether several species
)
rounds_of_labels = st.lists(
    st.tuples(
        st.lists(one_label, max_size=12),
        st.sets(st.integers(0, 40), max_size=3),  # labels withdrawn before this round
        st.sets(st.tuples(st.integers(1, 4), st.integers(0, 4)), max_size=1),  # events joined
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=200, deadline=None)
@given(rounds_of_labels, st.floats(0.05, 0.6), st.integers(0, 3), st.integers(1, 4))
def test_nothing_held_out_is_ever_trained_on_however_labels_arrive(
    rounds: list, fraction: float, seed: int, keep: int
) -> None:
    """Labels come, are withdrawn, events are joined: the sides stay apart and never change."""
    everything: list[LabelledMedia] = []
    withdrawn: set[int] = set()
    rows: list[SplitRow] = []
    for new, gone, joined in rounds:
        for deployment, event, species, several in new:
            number = len(everything)
            everything.append(media(number, species, deployment, 100 * deployment + event, several))
        for deployment, event in joined:  # a late frame closed the gap to the event after
            old, into = 100 * deployment + event + 1, 100 * deployment + event
            everything = [
                media(m.media_id, m.species, m.deployment_id, into, m.several)
                if m.event_id == old
                else m
                for m in everything
            ]
        withdrawn ^= {g for g in gone if g < len(everything)}
        labelled = [m for m in everything if m.media_id not in withdrawn]
        added = assign_sides(labelled, rows, fraction, seed, keep)
        assert not {r.media_id for r in added} & {r.media_id for r in rows}
        rows = rows + added
        plan = plan_learning(labelled, rows, 1)
        sides = {r.media_id: r for r in rows}
        trained = {m.media_id for m in plan.train}
        for row in rows:
            if row.side != "heldout" or row.media_id in withdrawn:
                continue
            out = everything[row.media_id]
            assert out.media_id not in trained
            for m in plan.train:
                assert m.event_id != out.event_id or row.unit != "event"
                assert m.deployment_id != out.deployment_id or row.unit != "deployment"
        assert all(sides[m.media_id].side == "heldout" for m in plan.held_out)
        assert trained.isdisjoint(m.media_id for m in plan.held_out)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.sampled_from(["fox", "deer", "lynx"])),
        min_size=1,
        max_size=60,
    ),
    st.floats(0.1, 0.5),
)
def test_no_species_loses_its_last_training_label(
    labels: list[tuple[int, str]], fraction: float
) -> None:
    labelled = [media(i, species, site) for i, (site, species) in enumerate(labels)]
    rows = assign_sides(labelled, [], fraction, seed=0)
    out = held(rows)
    assert {m.species for m in labelled if m.media_id not in out} == {m.species for m in labelled}
