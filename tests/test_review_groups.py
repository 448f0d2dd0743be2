"""Groups of look-alikes: one decision, one act, nothing that was said before is touched."""

from __future__ import annotations

import numpy as np
import pytest
from cached import cache, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from logbook import NOW, frames, predict, publish, rows, say

from monitor.core.domain import Observation
from monitor.log.labels import RequestTaken
from monitor.log.queues import QueueCandidate
from monitor.review import groups as remembered
from monitor.review.grouping import LEARNT, MOST, SURE, group
from monitor.review.groups import (
    NoSuchGroup,
    NotInGroup,
    find_groups,
    keep_groups,
    kept_group,
    label_group,
)
from monitor.review.similarity import SAME_PICTURE, distances

FOX = [Observation("fox")]


def candidate(media_id, species=None, p=None):
    return QueueCandidate(media_id, media_id, 1, species, p)


@pytest.fixture
def herd(log):
    """Seven frames of two scenes, listed as groups: (log, ids, groups)."""
    ids = frames(log, 7)
    store = cache(log, {m: scene(n // 4, 0.01, m) for n, m in enumerate(ids)})
    found = find_groups(log, log.newest_candidates(99), store)
    store.close()
    keep_groups(log, found, NOW)
    return log, ids, found


def test_frames_that_look_alike_are_together_whatever_their_event(herd):
    _, ids, found = herd
    assert sorted(sorted(g.media_ids) for g in found) == [ids[:4], ids[4:]]
    assert {(g.species, g.probability) for g in found} == {(None, None)}


def test_a_frame_alone_is_no_group(log):
    ids = frames(log, 3)
    store = cache(log, {m: scene(m) for m in ids})
    assert find_groups(log, log.newest_candidates(99), store) == []
    assert find_groups(log, log.newest_candidates(99), None) == []
    store.close()


def test_what_the_model_calls_by_different_names_is_never_one_group():
    vectors = np.stack([scene(1)] * 4)
    some = [candidate(1, "fox", 0.5), candidate(2, "fox", 0.5)]
    found = group([*some, candidate(3, "hare", 0.5), candidate(4, "hare", 0.5)], vectors)
    assert sorted(map(sorted, found)) == [[0, 1], [2, 3]]


def test_a_sure_model_gathers_more_than_the_same_picture():
    vectors = np.stack([scene(1, 0.3, n) for n in range(4)] + [scene(n) for n in range(9, 19)])
    assert (distances(vectors[:4], vectors[:4])[np.triu_indices(4, 1)] > SAME_PICTURE).all()
    of_a_sure_one = [candidate(n, "fox", SURE + 0.01) for n in range(14)]
    learnt = {"fox": LEARNT}
    assert sorted(group(of_a_sure_one, vectors, learnt)[0]) == [0, 1, 2, 3]
    assert group(of_a_sure_one, vectors, {"fox": LEARNT - 1}) == []
    assert group([candidate(n, "fox", SURE - 0.1) for n in range(14)], vectors, learnt) == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["fox", "hare", None])), max_size=25))
def test_every_two_of_a_group_may_be_decided_together_and_no_frame_is_in_two(found):
    if not found:
        return
    vectors = np.stack([scene(s, 0.02, n) for n, (s, _) in enumerate(found)])
    some = [candidate(n, species, 0.5) for n, (_, species) in enumerate(found)]
    gathered = group(some, vectors)
    members = [row for rows_ in gathered for row in rows_]
    assert len(members) == len(set(members))
    for rows_ in gathered:
        assert len(rows_) >= 2
        assert (distances(vectors[rows_], vectors[rows_]) <= SAME_PICTURE).all()
        assert len({found[row][1] for row in rows_}) == 1


def test_a_thousand_frames_of_waving_grass_are_several_groups():
    sizes = [
        len(one) for one in group([candidate(n) for n in range(500)], np.stack([scene(1)] * 500))
    ]
    assert sizes == [MOST, MOST, 500 - 2 * MOST]


def test_where_most_is_to_be_learnt_comes_first(log):
    ids = frames(log, 6)
    publish(log)
    predict(log, dict.fromkeys(ids[:3], ("fox", 0.99)) | dict.fromkeys(ids[3:], ("hare", 0.5)))
    store = cache(log, {m: scene(n // 3) for n, m in enumerate(ids)})
    first, second = find_groups(log, log.newest_candidates(99), store)
    store.close()
    assert (first.species, first.probability) == ("hare", 0.5)
    assert sorted(second.media_ids) == ids[:3]


def test_a_group_is_labelled_in_one_act_that_is_undone_whole(herd):
    log, ids, found = herd
    done = label_group(log, found[0].id, FOX, "Ana", "cli", NOW)
    assert set(done.outcome.media_ids) == set(found[0].media_ids)
    assert done.left_alone == ()
    said = [s.species for s in log.sightings_of(list(found[0].media_ids))]
    assert said == ["fox"] * len(said)
    assert rows(log, "SELECT scope FROM act WHERE kind = 'label'") == [("frame",)]
    assert set(log.undo(None, "Ana", "cli", NOW)) == set(found[0].media_ids)
    assert log.label_counts() == {}
    assert ids


def test_the_odd_one_is_left_out_and_what_was_labelled_since_is_left_alone(herd):
    log, _, found = herd
    odd, since, *rest = found[0].media_ids
    say(log, since, "hare", by="Ben")
    done = label_group(log, found[0].id, FOX, "Ana", "cli", NOW, without=[odd])
    assert done.outcome.media_ids == tuple(rest)
    assert done.left_alone == (since,)
    assert [s.species for s in log.sightings_of([odd, since])] == [None, "hare"]


def test_a_group_that_was_never_listed_is_an_error_that_says_what_to_do(herd):
    log, _, found = herd
    with pytest.raises(NoSuchGroup, match="label queue --groups"):
        label_group(log, "g00000000", FOX, "Ana", "cli", NOW)
    with pytest.raises(NotInGroup, match="media 999 is not in group"):
        label_group(log, found[0].id, FOX, "Ana", "cli", NOW, without=[999])
    with pytest.raises(NotInGroup, match="no other frames"):
        label_group(log, found[0].id, FOX, "Ana", "cli", NOW, without=found[0].media_ids)
    assert log.label_counts() == {}


def test_sent_twice_it_counts_once(herd):
    log, _, found = herd
    send = lambda name: label_group(  # noqa: E731
        log, found[0].id, [Observation(name)], "Ana", "web", NOW, request="r1", insist=True
    )
    assert send("fox").outcome == send("fox").outcome
    assert rows(log, "SELECT count(*) FROM act WHERE kind = 'label'") == [(1,)]
    with pytest.raises(RequestTaken):
        send("hare")


def test_a_listed_group_stays_known_until_too_many_came_after_it(herd, monkeypatch):
    log, _, found = herd
    keep_groups(log, [], NOW)
    assert kept_group(log, found[0].id) == found[0].media_ids
    new = [remembered.Group(f"g{n:08d}", (n, n + 1), None, None) for n in range(5)]
    monkeypatch.setattr(remembered, "MOST_KEPT", 6)
    keep_groups(log, new, NOW)
    assert kept_group(log, new[0].id) == (0, 1)
    for forgotten in (new[4], found[0]):
        with pytest.raises(NoSuchGroup):
            kept_group(log, forgotten.id)
