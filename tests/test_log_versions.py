"""Model versions and training runs: at most one is live, every run ends with a word."""

from __future__ import annotations

from datetime import timedelta

import pytest
from logbook import NOW, frames, publish, say

from monitor.core.domain import ModelState, RunState
from monitor.log.engine import LogError


def states(log) -> dict[str, str]:
    return {row.name: row.state.value for row in log.versions()}


def test_going_live_retires_the_one_before(log):
    assert log.live_version() is None
    publish(log, "v0001")
    publish(log, "v0002")
    assert states(log) == {"v0001": "retired", "v0002": "live"}
    assert log.live_version().name == "v0002"


def test_a_version_goes_live_by_one_door_only(log):
    with pytest.raises(LogError, match=r"go_live\(\)"):
        log.add_version("v0001", ModelState.LIVE, "small", "x", "0" * 64, "", {}, NOW)
    with pytest.raises(LogError, match="no model version 'v0009'"):
        log.go_live("v0009", "", "Ana", NOW)


def test_the_database_holds_at_most_one_live_version(log):
    publish(log, "v0001")
    publish(log, "v0002")
    with pytest.raises(LogError, match="UNIQUE"), log._write() as connection:
        connection.exec_driver_sql("UPDATE model_version SET state = 'live'")


def test_rolling_back_walks_the_way_back_and_says_where_it_ends(log):
    with pytest.raises(LogError, match="no model is live"):
        log.roll_back("Ana", NOW)
    for number, name in enumerate(("v0001", "v0002", "v0003")):
        log.add_version(name, ModelState.CANDIDATE, "small", "x", "0" * 64, "", {}, NOW)
        log.go_live(name, "better", "gate", NOW + timedelta(days=number))
    assert [log.roll_back("Ana", NOW) for _ in range(2)] == ["v0002", "v0001"]
    assert states(log) == {"v0001": "live", "v0002": "rejected", "v0003": "rejected"}
    with pytest.raises(LogError, match="first live model"):
        log.roll_back("Ana", NOW)


def test_a_version_that_cannot_be_used_is_not_brought_back(log):
    publish(log, "v0001")
    publish(log, "v0002")

    def damaged(row) -> None:
        raise LogError(f"{row.name} is damaged")

    with pytest.raises(LogError, match="v0001 is damaged"):
        log.roll_back("Ana", NOW, usable=damaged)
    assert log.live_version().name == "v0002"


def test_a_run_tells_how_far_it_is_and_how_it_ended(log):
    (media_id,) = frames(log, 1)
    say(log, media_id, "fox")
    run = log.start_run("head", "schedule", 42, NOW)
    log.run_progress(run, "fitting", 0.5)
    (row,) = log.runs(5)
    assert (row.state, row.stage, row.progress, row.last_label_id) == ("running", "fitting", 0.5, 1)
    publish(log)
    log.finish_run(run, RunState.SUCCEEDED, "better", NOW, "v0001")
    (row,) = log.runs(5)
    assert (row.state, row.version, row.message, row.stage) == (
        "succeeded",
        "v0001",
        "better",
        "done",
    )
    with pytest.raises(LogError, match="no model version"):
        log.finish_run(run, RunState.FAILED, "", NOW, "v0009")


def test_a_run_that_was_killed_is_closed_as_failed(log):
    log.start_run("head", "cli", 42, NOW)
    assert log.close_interrupted_runs(NOW) == 1
    assert log.runs(1)[0].state is RunState.FAILED
    assert log.close_interrupted_runs(NOW) == 0


def test_what_is_due_can_be_derived_from_the_labels(log):
    assert log.first_label_at() is None
    media = frames(log, 3)
    for media_id in media:
        say(log, media_id, "fox")
    log.undo(media[0], "Ana", "cli", NOW)
    assert log.first_label_at() == "2026-05-01T12:00:00.000Z"
    assert log.new_labels_since(0) == 2
    assert log.new_labels_since(2) == 1
    learnt = log.labelled()
    assert [(row.media_id, row.species, row.several) for row in learnt] == [
        (media[1], "fox", False),
        (media[2], "fox", False),
    ]
