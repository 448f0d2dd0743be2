"""`label queue` and `label set-group` from the command line."""

from __future__ import annotations

import sys

import pytest
from cached import LAYOUT, cache, scene
from logbook import NOW, frames, predict, say

from monitor.core.domain import ModelState
from monitor.log.species_log import SpeciesLog


@pytest.fixture
def herd(log):
    """Seven frames in events of their own, the first four of one scene, the others of another."""
    ids = frames(log, 7)
    cache(log, {m: scene(n // 4, 0.01, m) for n, m in enumerate(ids)}).close()
    return ids


def test_the_queue_asks_about_unlike_frames_first(herd, ask):
    first, second, *_ = [frame["media_id"] for frame in ask("label", "queue", "--limit", 5)]
    assert (first in herd[:4]) != (second in herd[:4])


def test_a_limit_beyond_all_candidates_is_no_trouble(herd, ask):
    assert len(ask("label", "queue", "--limit", 30_000)) == len(herd)


def test_groups_are_listed_with_their_frames_and_labelled_by_their_id(herd, ask, run):
    groups = ask("label", "queue", "--groups")
    assert sorted(sorted(group["media_ids"]) for group in groups) == [herd[:4], herd[4:]]
    big = next(group for group in groups if len(group["media_ids"]) == 4)
    assert [frame["media_id"] for frame in big["frames"]] == big["media_ids"]
    code, _, err = run("label", "set-group", big["id"], "roe deer:2", "--without", herd[0])
    assert code == 0 and f"3 frames of group {big['id']} labelled roe deer:2" in err
    said = {s["media_id"]: s["observations"] for s in ask("sightings")}
    assert [bool(said[m]) for m in herd] == [False, True, True, True, False, False, False]
    assert said[herd[1]][0]["count"] == 2
    run("label", "undo")
    assert not any(s["observations"] for s in ask("sightings"))


def test_frames_labelled_since_are_left_alone_and_told(herd, ask, run, log):
    (group, _) = ask("label", "queue", "--groups")
    since = group["media_ids"][0]
    say(log, since, "hare", by="Ben")
    code, _, err = run("label", "set-group", group["id"], "fox", "--new", "--by", "Ana")
    assert code == 0 and f"left alone, because somebody labelled them before: media {since}" in err


def test_a_stale_group_is_an_error_and_nothing_is_labelled(herd, run, log):
    code, out, err = run("label", "set-group", "g12345678", "fox")
    assert code == 1 and out == "" and "no group 'g12345678' (any more)" in err
    assert log.label_counts() == {}


def test_groups_are_shown_in_a_table(herd, run, log):
    log.add_version("v0001", ModelState.CANDIDATE, "small", LAYOUT.name, "0" * 64, "", {}, NOW)
    log.go_live("v0001", "first", "Ana", NOW)
    predict(log, dict.fromkeys(herd, ("fox", 0.8)))
    code, out, _ = run("label", "queue", "--groups", "--limit", 1)
    assert code == 0 and "fox 0.80" in out and "north" in out


def test_without_features_there_are_no_groups_and_a_sentence_says_why(log, run, ask):
    frames(log, 3)
    assert ask("label", "queue", "--groups") == []
    assert "no two look alike" in run("label", "queue", "--groups")[2]


def test_suspects_are_listed_with_what_was_said_and_what_is_suggested(log, run, ask):
    (media_id,) = frames(log, 1)
    assert ask("label", "queue", "--suspect") == []
    assert "no training has looked for wrong labels yet" in run("label", "queue", "--suspect")[2]
    say(log, media_id, "fox")
    state = {"version": "v0001", "media": [[media_id, "fox", "badger", 0.93]]}
    log.put_state("suspects", state, NOW)
    (found,) = ask("label", "queue", "--suspect")
    assert found["media_id"] == media_id and found["suspect"] == {
        "label": "fox",
        "by": "Ana",
        "at": "2026-05-01T12:00:00.000Z",
        "suggested": "badger",
        "probability": 0.93,
        "version": "v0001",
    }
    shown = run("label", "queue", "--suspect")[1]
    assert "Ana: fox" in shown and "badger 0.93" in shown
    run("label", "set", media_id, "badger", "--new")
    assert "no label looks wrong" in run("label", "queue", "--suspect")[2]


def test_one_queue_is_asked_for_at_a_time(log, run):
    code, _, err = run("label", "queue", "--groups", "--suspect")
    assert code == 2 and "ask for one of them" in err


def test_without_features_the_queue_imports_nothing_heavy(config):
    import subprocess

    code = (
        "import sys; from monitor.__main__ import main\n"
        f"sys.argv = ['trapwatch', 'label', 'queue', '--json', '--config', {str(config)!r}]\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(sorted({'numpy', 'tensorflow', 'PIL'} & set(sys.modules)), file=sys.stderr)"
    )
    with SpeciesLog(config.parent / "data" / "trapwatch.db", create=True):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0 and done.stderr.strip() == "[]", done.stderr
