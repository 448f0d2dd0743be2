"""The label queue: unsure, rare and different frames first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from logbook import frames, item, predict, publish, say, take_in

from monitor.log.queues import QueueCandidate
from monitor.review.uncertainty import order_queue


def candidate(media_id, event=None, camera=1, species="fox", p=0.5):
    return QueueCandidate(media_id, event or media_id, camera, species, p)


def order(candidates, labels=None, limit=99):
    return [c.media_id for c in order_queue(candidates, labels or {}, limit)]


def test_the_least_sure_comes_first():
    assert order([candidate(1, p=0.9), candidate(2, p=0.3), candidate(3, p=0.6)]) == [2, 3, 1]


def test_a_rare_species_goes_before_a_common_one():
    many = {"fox": 400, "lynx": 0}
    assert order([candidate(1, species="fox"), candidate(2, species="lynx")], many) == [2, 1]


def test_one_frame_of_each_event_comes_before_a_second_of_any():
    visit = [candidate(n, event=1, p=0.1) for n in (1, 2, 3)]
    assert order([*visit, candidate(4, p=0.9)]) == [1, 4, 2, 3]


def test_cameras_take_turns():
    busy = [candidate(n, camera=1, p=0.1) for n in (1, 2, 3)]
    assert order([*busy, candidate(9, camera=2, p=0.9)])[:2] == [1, 9]


@given(
    st.lists(
        st.builds(
            candidate,
            st.integers(1, 50),
            st.integers(1, 5),
            st.integers(1, 3),
            st.sampled_from(["fox", None]),
            st.one_of(st.none(), st.floats(0, 1)),
        ),
        unique_by=lambda c: c.media_id,
    ),
    st.integers(1, 60),
)
def test_everything_is_asked_once_up_to_the_limit(candidates, limit):
    ids = order(candidates, limit=limit)
    assert len(ids) == len(set(ids)) == min(limit, len(candidates))


def test_the_log_offers_unlabelled_frames_the_unsure_before_the_unseen(log):
    sure, unsure, new, done = frames(log, 4)
    take_in(log, [item("bad", rejected="truncated")])
    publish(log)
    predict(log, {sure: ("fox", 0.9), unsure: ("badger", 0.5), done: ("fox", 0.2)})
    say(log, done, "fox")
    found = log.queue_candidates(10)
    assert [c.media_id for c in found] == [unsure, sure, new]
    assert [c.media_id for c in log.queue_candidates(1)] == [unsure]
