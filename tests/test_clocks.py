"""The station's own clock is wrong: it is told, and nothing that goes by order is disturbed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from logbook import NOW, frames, publish, rows, say

from monitor.core.clock_check import RELEASED_AT, clock_problem
from monitor.core.config import load_settings
from monitor.core.domain import ModelState, Observation
from monitor.health.status import status_lines, status_of
from monitor.log.species_log import SpeciesLog

BOOT = datetime(1970, 1, 1, 0, 1, tzinfo=UTC)
LATER = RELEASED_AT + timedelta(days=100)


def test_a_clock_that_cannot_be_right_is_told() -> None:
    assert clock_problem(LATER, None) is None
    assert clock_problem(LATER, LATER + timedelta(hours=23)) is None
    assert "stands at 1970-01-01: set it" in str(clock_problem(BOOT, None))
    assert "set back" in str(clock_problem(LATER, LATER + timedelta(days=2)))


def test_the_log_remembers_the_newest_time_and_forgets_one_that_was_far_too_new(log) -> None:
    assert log.newest_written_at() is None
    (media_id,) = frames(log, 1)
    assert log.newest_written_at() == NOW
    far = datetime(2099, 1, 1, tzinfo=UTC)
    log.flag(media_id, True, "Ana", "cli", far)
    assert log.newest_written_at() == far
    for _ in range(500):
        log.reveal(media_id, "Ana", "cli", NOW)
    assert log.newest_written_at() == NOW


def test_status_says_so(filled: SpeciesLog, config) -> None:
    settings = load_settings(config)
    facts = status_of(settings, filled, BOOT)
    assert "1970-01-01" in dict(status_lines(facts))["clock"]
    assert facts["lag_seconds"] is None or facts["lag_seconds"] >= 0
    assert "clock" not in dict(status_lines(status_of(settings, filled, LATER)))


def test_a_lease_of_before_the_clock_fell_back_has_ended(log) -> None:
    (media_id,) = frames(log, 1)
    ten = timedelta(minutes=10)
    assert log.lease([media_id], "Ana", 1, NOW, ten) == [media_id]
    assert log.lease([media_id], "Ben", 1, NOW + timedelta(minutes=9), ten) == []
    assert log.standing([media_id], BOOT)[media_id].held_by is None
    assert log.lease([media_id], "Ben", 1, BOOT, ten) == [media_id]


def test_a_model_that_went_live_in_1970_is_rolled_back_to_the_one_before(log) -> None:
    publish(log, "v0001")
    log.add_version("v0002", ModelState.CANDIDATE, "small", "small", "1" * 64, "made", {}, BOOT)
    log.go_live("v0002", "better", "Ana", BOOT)
    assert log.roll_back("Ana", NOW, usable=lambda row: None) == "v0001"


def test_labels_of_1970_come_after_those_before_them(log) -> None:
    (media_id,) = frames(log, 1)
    say(log, media_id, "fox")
    log.label([media_id], [Observation("badger")], "Ana", "cli", BOOT, insist=True)
    (sighting,) = log.sightings_of([media_id])
    assert sighting.species == "badger"
    log.undo(None, "Ana", "cli", BOOT)
    (sighting,) = log.sightings_of([media_id])
    assert sighting.species == "fox"
    assert rows(log, "SELECT count(*) FROM label") == [(3,)]


def test_when_a_camera_is_silent_is_for_the_config_to_say(config) -> None:
    config.write_text(config.read_text() + "effort: {silent_days: 5, silent_gaps: 2}\n")
    rule = load_settings(config).effort.rule
    assert (rule.after, rule.gaps) == (timedelta(days=5), 2)
