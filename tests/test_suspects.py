"""Labels that looked wrong to the last training, until somebody looked at them again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from logbook import NOW, frames, publish, say

from monitor.core.domain import RunState

LATER = NOW + timedelta(hours=1)


@pytest.fixture
def doubted(log):
    """Three frames labelled by Ana and doubted by the training of v0001: (log, ids)."""
    ids = frames(log, 3)
    for media_id in ids:
        say(log, media_id, "fox")
    say(log, ids[0], "badger", by="Ben")  # nobody doubts the one before the last word
    run = log.start_run("head", "cli", 1, NOW)
    publish(log)
    log.finish_run(run, RunState.SUCCEEDED, "", NOW, "v0001")
    media = [[ids[2], "fox", "badger", 0.97], [ids[1], "fox", "badger", 0.9]]
    media.append([ids[0], "fox", "badger", 0.8])
    log.put_state("suspects", {"version": "v0001", "media": media}, NOW)
    return log, ids


def suspected(log, limit=9):
    return [one.media_id for one in log.suspects(limit)]


def test_the_most_suspicious_comes_first_with_who_said_what(doubted):
    log, ids = doubted
    assert suspected(log) == [ids[2], ids[1]]
    first = log.suspects(1)[0]
    assert (first.label, first.by, first.suggested, first.probability, first.version) == (
        "fox",
        "Ana",
        "badger",
        0.97,
        "v0001",
    )


def test_a_label_said_again_after_the_training_is_no_longer_suspect(doubted):
    log, ids = doubted
    say(log, ids[2], "fox", by="Ben")  # confirmed
    assert suspected(log) == [ids[1]]
    say(log, ids[1], "badger", by="Ben")  # corrected
    assert suspected(log) == []
    log.undo(ids[1], "Ben", "cli", NOW)
    assert suspected(log) == [ids[1]]


def test_a_label_given_while_it_trained_is_not_one_that_it_saw(log):
    (one,) = frames(log, 1)
    say(log, one, "fox")
    run = log.start_run("head", "cli", 1, NOW)
    say(log, one, "fox", by="Ben")
    publish(log)
    log.finish_run(run, RunState.SUCCEEDED, "", LATER, "v0001")
    state = {"version": "v0001", "media": [[one, "fox", "badger", 0.9]]}
    log.put_state("suspects", state, LATER)
    assert suspected(log) == []


def test_a_renamed_species_is_still_the_same_and_a_merged_one_is_no_mistake(doubted):
    log, _ = doubted
    log.rename_species("fox", "red fox", "Ana", "cli", NOW)
    assert [(s.label, s.suggested) for s in log.suspects(9)] == [("red fox", "badger")] * 2
    log.merge_species("badger", "red fox", "Ana", "cli", NOW)
    assert suspected(log) == []


def test_a_label_withdrawn_is_no_suspect_and_without_a_training_there_is_none(doubted):
    log, ids = doubted
    log.undo(ids[2], "Ana", "cli", NOW)
    assert suspected(log) == [ids[1]]


def test_before_any_training_told_there_are_none(log):
    assert log.suspects(9) == []
    assert log.suspects_version() is None


def test_of_a_training_that_left_no_run_the_labels_since_are_told_by_their_time(log):
    one, two = frames(log, 2)
    for media_id in (one, two):
        say(log, media_id, "fox")
    media = [[one, "fox", "hare", 0.9], [two, "fox", "hare", 0.9]]
    log.put_state("suspects", {"version": "v0009", "media": media}, NOW)
    log.label([two], _fox(), "Ben", "cli", LATER)
    assert suspected(log) == [one]


def _fox():
    from monitor.core.domain import Observation

    return [Observation("fox")]
