"""What teaches most: unlike, unsure, rare frames; nearly the same picture is asked about once."""

from __future__ import annotations

import sys
from datetime import timedelta

import numpy as np
import pytest
from cached import cache, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from logbook import DAWN, NOW, frames, item, predict, publish, say, take_in

from monitor.log.media import BatchResult
from monitor.log.queues import QueueCandidate
from monitor.review.coverage import WIDTH, order_by_teaching, weights_of
from monitor.review.next_frames import ask_next
from monitor.review.similarity import SAME_PICTURE, distances, one_of_each, standard_directions


def burst(log, count, deployment="north"):
    """Classified frames of one event, a second apart."""
    items = [item(f"b{n}.jpg", DAWN + timedelta(seconds=n), deployment) for n in range(count)]
    media_ids = take_in(log, items)
    log.record(BatchResult(classified=tuple(media_ids)), NOW)
    return media_ids


def asked(log, store, limit=99):
    with_store = ask_next(log, log.queue_candidates(2000), store, limit)
    store.close()
    return [candidate.media_id for candidate in with_store]


def directions(count, seed=0, size=12):
    random = np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)
    return random / np.linalg.norm(random, axis=1, keepdims=True)


def by_hand(frames_, labelled, weights, limit):
    """The same greedy choice, every sum worked out anew at every step."""
    kernel = np.exp((frames_ @ frames_.T - 1) / WIDTH)
    known = np.exp((frames_ @ labelled.T - 1) / WIDTH).max(axis=1, initial=0)
    order: list[int] = []
    while len(order) < min(limit, len(frames_)):
        gains = (np.maximum(kernel - known, 0) * weights).sum(axis=1)
        gains[order] = -1
        order.append(int(gains.argmax()))
        known = np.maximum(known, kernel[order[-1]])
    return order


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(0, 8), st.integers(0, 10**6))
def test_only_looking_again_at_what_leads_chooses_the_same(count, labelled, seed):
    found, there = directions(count, seed), directions(labelled, seed + 1)
    weights = np.random.default_rng(seed).uniform(0.1, 1, count).astype(np.float32)
    order = order_by_teaching(found, there, weights, count)
    expected = by_hand(found, there, weights, count)
    assert sorted(order) == list(range(count))
    assert order[: count // 2] == expected[: count // 2]


def test_what_stands_for_many_comes_first_and_then_something_else():
    crowd, pair = directions(1, 1), directions(1, 2)
    found, _ = standard_directions(np.concatenate([crowd] * 6 + [pair] * 2), crowd[:0])
    first, second = order_by_teaching(found, found[:0], np.ones(8, np.float32), 2)
    assert first < 6 <= second


def test_what_is_like_a_labelled_frame_comes_last():
    found = directions(5)
    assert order_by_teaching(found, found[:1], np.ones(5, np.float32), 5)[-1] == 0


def candidate(*said):
    return QueueCandidate(1, 1, 1, said[0][0] if said else None, None, "", said)


def test_unsure_and_rare_frames_matter_more():
    labels = {"fox": 400, "lynx": 3}
    sure = candidate(("fox", 0.9), ("lynx", 0.1))
    unsure = candidate(("fox", 0.5), ("hare", 0.5))
    rare = candidate(("lynx", 0.5), ("hare", 0.5))
    never = candidate()
    weights = dict(zip("surn", weights_of([sure, unsure, rare, never], labels), strict=True))
    assert weights["s"] < weights["u"] < weights["r"]
    assert weights["s"] < weights["n"] <= 1
    assert list(weights_of([never], {})) == [1.0]


def test_of_a_burst_one_frame_is_asked_about_and_another_only_if_it_looks_different(log):
    ids = burst(log, 8)
    pictures = {m: scene(1, 0.005, m) for m in ids[:5]} | {m: scene(2, 0.005, m) for m in ids[5:]}
    chosen = asked(log, cache(log, pictures))
    assert len(chosen) == 2
    assert len(set(chosen) & set(ids[:5])) == 1


def test_a_frame_like_a_labelled_one_of_its_event_is_never_asked_about(log):
    ids = burst(log, 4)
    say(log, ids[0], "fox")
    store = cache(log, {ids[0]: scene(1), ids[1]: scene(1, 0.01), **{m: scene(2) for m in ids[2:]}})
    assert asked(log, store) == [ids[2]]


def test_the_same_picture_in_another_event_is_another_question(log):
    north, south = burst(log, 1), burst(log, 1, "south")
    say(log, north[0], "fox")
    assert asked(log, cache(log, {north[0]: scene(1), south[0]: scene(1)})) == south


def test_frames_without_features_come_after_the_others_and_none_is_lost(log):
    ids = frames(log, 6)
    chosen = asked(log, cache(log, {ids[1]: scene(1), ids[4]: scene(2)}))
    assert set(chosen[:2]) == {ids[1], ids[4]}
    assert sorted(chosen) == ids


def test_without_features_frames_take_turns_as_before(log):
    ids = frames(log, 3)
    publish(log)
    predict(log, {ids[0]: ("fox", 0.9), ids[1]: ("fox", 0.4), ids[2]: ("fox", 0.6)})
    chosen = ask_next(log, log.queue_candidates(9), None, 2)
    assert [c.media_id for c in chosen] == [ids[1], ids[2]]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), max_size=4),
)
def test_no_two_kept_frames_of_an_event_are_nearly_the_same(found, labelled):
    vectors = np.stack([scene(s, 0.01, n) for n, (_, s) in enumerate(found)])
    known = {
        event: np.stack([scene(s, 0.01, 99) for e, s in labelled if e == event])
        for event in {event for event, _ in labelled}
    }
    events = [event for event, _ in found]
    kept = one_of_each(vectors, events, known)
    same = distances(vectors, vectors) <= SAME_PICTURE
    for place, row in enumerate(kept):
        assert not any(same[row, other] and events[row] == events[other] for other in kept[:place])
    for row in set(range(len(found))) - set(kept):
        like = any(same[row, k] for k in kept if events[k] == events[row])
        there = known.get(events[row])
        assert like or (distances(vectors[row : row + 1], there) <= SAME_PICTURE).any()


def test_two_thousand_candidates_are_ordered_quickly():
    import time

    random = np.random.default_rng(0).standard_normal((4000, 1280)).astype(np.float32)
    before = time.process_time()
    kept = one_of_each(random[:2000], [n // 5 for n in range(2000)], {})
    found, there = standard_directions(random[:2000][kept], random[2000:])
    assert len(order_by_teaching(found, there, np.ones(len(found), np.float32), 2000)) == 2000
    assert time.process_time() - before < 10  # processor seconds; about 1.5 on two cores


def test_nothing_heavy_is_imported_before_there_are_features(tmp_path):
    import subprocess

    (tmp_path / "config.yaml").write_text("classifier: {backbone: small}\n")
    code = (
        "import sys; from pathlib import Path; from monitor.core.config import load_settings\n"
        "from monitor.log.species_log import SpeciesLog\n"
        "from monitor.review.features import features_of\n"
        "from monitor.review.next_frames import ask_next\n"
        f"root = Path({str(tmp_path)!r}); log = SpeciesLog(root / 'log.db', create=True)\n"
        "with features_of(load_settings(root / 'config.yaml'), log) as features:\n"
        "    ask_next(log, [], features, 9)\n"
        "print(features, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "False"]


@pytest.mark.parametrize("count", [0, 1])
def test_few_or_no_candidates_are_no_trouble(log, count):
    ids = frames(log, count)
    assert asked(log, cache(log, {m: scene(m) for m in ids})) == ids


def test_a_cache_that_cannot_be_opened_is_done_without(config, log, caplog):
    from monitor.core.config import load_settings
    from monitor.review.features import features_of

    cache_file = config.parent / "data" / "features.db"
    cache_file.touch()
    (config.parent / "data" / "features.db-wal").mkdir()  # neither to be opened nor cleared away
    with features_of(load_settings(config), log) as features:
        assert features is None
    assert "by turns" in caplog.text
