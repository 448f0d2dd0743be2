"""Several people at one log: leases, flags, where they disagree, what waits for a label."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logbook import DAWN, NOW, frames, item, predict, publish, rows, say, take_in

from monitor.log.media import BatchResult
from monitor.log.reference import NoSuchMedia
from monitor.log.reviewing import Statement, disagree
from monitor.log.search import best_matches
from monitor.log.species import UnknownSpecies

TEN_MINUTES = timedelta(minutes=10)


def lease(log, events, by, most=99, now=NOW):
    return log.lease(events, by, most, now, TEN_MINUTES)


def test_a_leased_event_is_nobody_elses_until_its_time_is_over(log):
    assert lease(log, [3, 1, 2], "Ana", most=2) == [3, 1]
    assert lease(log, [1, 2, 3, 4], "Ben") == [2, 4]
    later = NOW + timedelta(minutes=9)
    assert lease(log, [1], "Ana", now=later) == [1]  # renewed
    end = NOW + timedelta(minutes=11)
    assert lease(log, [1, 3], "Ben", now=end) == [3]


def test_only_the_holder_gives_an_event_back(log):
    lease(log, [1, 2], "Ana")
    log.release([1], "Ben")
    log.release([2], "Ana")
    assert lease(log, [1, 2], "Ben") == [2]


def test_where_a_media_stands_is_told_with_who_holds_its_event(log):
    one, two = frames(log, 2, minutes=5)
    (bad,) = take_in(log, [item("bad.jpg", rejected="truncated", deployment="south")])
    say(log, two, "fox")
    lease(log, [one], "Ana")
    standing = log.standing([one, two, bad, 99], NOW)
    assert [(s.event_id, s.labelled, s.rejected, s.held_by) for s in standing.values()] == [
        (one, False, False, "Ana"),
        (one, True, False, "Ana"),
        (bad, False, True, None),
    ]
    over = log.standing([one], NOW + TEN_MINUTES)
    assert over[one].held_by is None


def test_the_latest_flag_comes_first_and_none_is_made_of_nothing(log):
    one, two = frames(log, 2)
    for media_id in (two, one):
        log.flag(media_id, True, "Ana", "web", NOW)
    assert log.flagged() == [one, two]
    assert log.flagged([two, 99]) == [two]
    log.flag(one, False, "Ben", "web", NOW)
    assert log.flagged() == [two]
    with pytest.raises(NoSuchMedia, match="no media 99"):
        log.flag(99, True, "Ana", "web", NOW)
    assert [kind for (kind,) in rows(log, "SELECT kind FROM act")] == ["flag", "flag", "unflag"]


def test_two_of_three_are_enough_and_an_undo_brings_the_disagreement_back(log):
    (media_id,) = frames(log, 1)
    say(log, media_id, "fox", by="Ana")
    assert log.disagreements(10) == []
    say(log, media_id, "badger", by="Ben")
    assert log.disagreements(10) == [media_id]
    outcome = say(log, media_id, "badger", by="Cleo")
    assert log.disagreements(10) == []
    log.undo(None, "Cleo", "cli", NOW, act=outcome.act_id)
    assert log.disagreements(10) == [media_id]
    say(log, media_id, "fox", by="Cleo")  # Ana is confirmed, though Ben spoke in between
    assert log.disagreements(10) == []


def test_who_changes_their_own_mind_disagrees_with_nobody(log):
    (media_id,) = frames(log, 1)
    for name in ("fox", "badger"):
        say(log, media_id, name, by="Ana")
    assert log.disagreements(10) == []
    (statement,) = log.statements([media_id])[media_id]
    assert (statement.by, statement.species) == ("Ana", ("badger",))


def test_a_merge_ends_a_disagreement(log):
    (media_id,) = frames(log, 1)
    say(log, media_id, "fox", by="Ana")
    say(log, media_id, "red fox", by="Ben")
    assert log.disagreements(10) == [media_id]
    log.merge_species("fox", "red fox", "Ana", "cli", NOW)
    assert log.disagreements(10) == []


def test_the_latest_disagreements_come_first_up_to_the_limit(log):
    ids = frames(log, 4)
    for media_id in (ids[2], ids[0], ids[3]):
        say(log, media_id, "fox", by="Ana")
        say(log, media_id, "hare", by="Ben")
    assert log.disagreements(10) == [ids[3], ids[0], ids[2]]
    assert log.disagreements(2) == [ids[3], ids[0]]


@given(st.lists(st.sampled_from(["fox", "badger", "hare"]), max_size=5))
def test_people_disagree_while_nobody_else_says_the_last_word(said):
    statements = [Statement(1, f"P{n}", "", (name,)) for n, name in enumerate(said)]
    assert disagree(statements) == (len(said) > 1 and said[0] not in said[1:])


def test_the_newest_unlabelled_frames_are_found_by_species_and_deployment(log):
    north, south = frames(log, 3), frames(log, 2, deployment="south")
    take_in(log, [item("pending.jpg", DAWN + timedelta(days=9))])
    publish(log)
    predict(log, {north[0]: ("fox", 0.5), north[1]: ("fox", 0.6), south[0]: ("silver fox", 0.7)})
    log.merge_species("silver fox", "fox", "Ana", "cli", NOW)
    say(log, north[1], "fox")
    assert log.newest_unlabelled(9, deployment="north") == [north[2], north[0]]
    assert log.newest_unlabelled(2) == [north[2], south[1]]
    assert set(log.newest_unlabelled(9, "Fox")) == {north[0], south[0]}
    assert log.newest_unlabelled(9, "fox", "south") == [south[0]]
    with pytest.raises(UnknownSpecies):
        log.newest_unlabelled(9, "zebra")


def test_candidates_of_one_species_or_deployment_are_ordered_like_all(log):
    north, south = frames(log, 3), frames(log, 2, deployment="south")
    publish(log)
    predict(log, {north[0]: ("fox", 0.9), north[1]: ("fox", 0.4), south[0]: ("badger", 0.2)})
    found = lambda **more: [c.media_id for c in log.queue_candidates(9, **more)]  # noqa: E731
    assert found(species="fox") == [north[1], north[0]]
    assert found(deployment="north") == [north[1], north[0], north[2]]
    assert found(species="badger", deployment="south") == [south[0]]
    assert found(species="badger", deployment="north") == []


def test_what_waits_is_classified_and_unlabelled(log):
    one, two, _ = frames(log, 3)
    pending, bad = take_in(
        log,
        [item("p.jpg", DAWN + timedelta(days=9)), item("bad.jpg", rejected="truncated")],
    )
    assert log.waiting() == 3
    for media_id in (one, two, pending, bad):
        say(log, media_id, "fox")
    assert log.waiting() == 1
    log.undo(two, "Ana", "cli", NOW)
    log.record(BatchResult(classified=(pending,)), NOW)
    assert log.waiting() == 2


def test_labels_are_counted_by_species_after_merges(log):
    one, two, three = frames(log, 3)
    say(log, one, "fox")
    say(log, two, "silver fox")
    say(log, three, "hare", "owl")
    log.merge_species("silver fox", "fox", "Ana", "cli", NOW)
    assert log.label_counts() == {"fox": 2, "hare": 1, "owl": 1}


@given(st.text(max_size=30), st.lists(st.text(min_size=1, max_size=20), max_size=8))
def test_any_search_ranks_some_of_the_list(typed, listed):
    ranks = best_matches(typed, {n: (name.casefold(),) for n, name in enumerate(listed)})
    assert set(ranks) <= set(range(len(listed)))
    assert set(ranks.values()) <= {0, 1, 2, 3, 4}


def test_the_command_line_tells_who_said_what_where_people_disagree(filled, run):
    media_id = filled.disagreements(10) or [s.media_id for s in filled.sightings()][:1]
    (media_id,) = media_id
    say(filled, media_id, "badger", by="Cleo")
    say(filled, media_id, "hare", "owl", by="Ben")
    code, out, err = run("label", "queue", "--disagreement", "--json")
    assert code == 0, err
    (frame,) = json.loads(out)
    assert frame["media_id"] == media_id
    assert [(s["by"], s["species"]) for s in frame["statements"]][:2] == [
        ("Ben", ["hare", "owl"]),
        ("Cleo", ["badger"]),
    ]
    _, out, _ = run("label", "queue", "--disagreement")
    assert out.splitlines()[0].split("\t") == [
        "id",
        "deployment",
        "captured",
        "people said",
        "path",
    ]
    assert "Ben: hare, owl; Cleo: badger" in out


def test_the_command_line_lists_what_was_flagged(filled, run):
    (flagged,) = filled.flagged()
    _, out, _ = run("label", "queue", "--flagged", "--json")
    assert [frame["media_id"] for frame in json.loads(out)] == [flagged]
    code, _, err = run("label", "queue", "--flagged", "--disagreement")
    assert code == 2 and "ask for one of them" in err
