"""Events: which frames are one visit, and what they say together; clocks that were wrong."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from logbook import DAWN, GAP, NOW, frames, item, predict, publish, rows, say, take_in

from monitor.domain import Observation, Source
from monitor.events import summarise
from monitor.log.species_log import SpeciesLog


def at(minutes: float) -> datetime:
    return DAWN + timedelta(minutes=minutes)


def events(log) -> list[tuple[int, ...]]:
    """The groups of media ids, by their first."""
    groups: dict[int, list[int]] = {}
    for media_id, event in rows(log, "SELECT id, event_id FROM media"):
        groups.setdefault(event, []).append(media_id)
    return sorted(tuple(sorted(group)) for group in groups.values())


def test_frames_closer_than_the_gap_are_one_event(log):
    a, b, c = take_in(log, [item("a", at(0)), item("b", at(29.99)), item("c", at(60))])
    assert events(log) == [(a, b), (c,)]


def test_the_gap_itself_parts_two_events(log):
    a, b = take_in(log, [item("a", at(0)), item("b", at(30))])
    assert events(log) == [(a,), (b,)]


def test_another_camera_is_another_event(log):
    a, b = take_in(log, [item("a", at(0)), item("b", at(1), "south")])
    assert events(log) == [(a,), (b,)]


def test_a_frame_that_comes_late_joins_two_events(log):
    a, b, c = take_in(log, [item("a", at(0)), item("b", at(40)), item("c", at(45))])
    assert events(log) == [(a,), (b, c)]
    (late,) = take_in(log, [item("late", at(20))])
    assert events(log) == [(a, b, c, late)]


def test_a_new_gap_cuts_events_anew(log):
    a, b, c = take_in(log, [item("a", at(0)), item("b", at(10)), item("c", at(60))])
    log.regroup_events(timedelta(minutes=5))
    assert events(log) == [(a,), (b,), (c,)]
    log.regroup_events(timedelta(hours=2))
    assert events(log) == [(a, b, c)]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    minutes=st.lists(
        st.tuples(st.integers(0, 300), st.sampled_from("ns")), max_size=25, unique=True
    )
)
def test_events_do_not_depend_on_the_order_of_arrival(tmp_path_factory, minutes):
    with SpeciesLog(tmp_path_factory.mktemp("log") / "log.db", create=True) as log:
        take_in(log, [item(f"{m}", at(m), camera) for m, camera in minutes])
        grouped = events(log)
        log.regroup_events(GAP)
        assert events(log) == grouped


def test_a_clock_correction_moves_what_is_shown_never_what_was_read(log):
    (media_id,) = take_in(log, [item("a", at(0))])
    publish(log)
    predict(log, {media_id: ("fox", 0.9)})
    before = log.sightings_of([media_id])[0]
    log.set_deployments([{"name": "north", "clock_shift_seconds": -3600.0}])
    shown = log.sightings_of([media_id])[0]
    assert before.captured_at == "2026-04-01T06:00:00.000Z"
    assert shown.captured_at == "2026-04-01T05:00:00.000Z"
    assert shown.captured_local == "2026-04-01T05:00:00"
    assert rows(log, "SELECT captured_wall FROM media") == [("2026-04-01T06:00:00",)]
    assert rows(log, "SELECT captured_at FROM prediction") == [(shown.captured_at,)]
    log.set_deployments([{"name": "north", "clock_shift_seconds": 0.0}])
    assert log.sightings_of([media_id])[0] == before


def test_a_correction_holds_for_frames_that_come_later(log):
    log.set_deployments([{"name": "north", "clock_shift_seconds": 86400.0}])
    (media_id,) = take_in(log, [item("a", at(0))])
    assert log.sightings_of([media_id])[0].captured_local == "2026-04-02T06:00:00"


@pytest.mark.parametrize("year", [1, 9999])
def test_a_clock_at_the_end_of_time_does_no_harm(log, year):
    log.set_deployments([{"name": "north", "clock_shift_seconds": 1e9 * (1 if year > 1 else -1)}])
    (media_id,) = take_in(log, [item("a", datetime(year, 1, 1))])
    assert log.sightings_of([media_id])[0].captured_at.startswith(f"{year:04d}-01-01")


def shown(log, media_ids):
    return summarise(log.sightings_of(media_ids))


def test_an_event_says_what_most_labels_say_and_a_blank_frame_says_nothing(log):
    visit = frames(log, 4, minutes=1)
    publish(log)
    predict(log, dict.fromkeys(visit, ("badger", 0.99)))
    for media_id, name in zip(visit, ("blank", "blank", "fox"), strict=False):
        say(log, media_id, name)
    event = shown(log, visit)
    assert (event.species, event.source, event.frames) == ("fox", Source.LABEL, 4)
    assert event.start < event.end


def test_an_event_counts_the_most_individuals_seen_at_once(log):
    visit = frames(log, 3, minutes=1)
    for media_id, count in zip(visit, (1, 3, 2), strict=True):
        log.label([media_id], [Observation("wild boar", count)], "Ana", "cli", NOW)
    assert shown(log, visit).count == 3


def test_a_predicted_event_says_the_species_with_the_most_weight(log):
    visit = frames(log, 3, minutes=1)
    publish(log)
    said = (("blank", 0.99), ("fox", 0.6), ("fox", 0.8))
    predict(log, dict(zip(visit, said, strict=True)))
    event = shown(log, visit)
    assert (event.species, event.source) == ("fox", Source.PREDICTION)
    assert event.probability == pytest.approx(0.7)


def test_an_event_can_be_asked_about_its_second_species(log):
    visit = frames(log, 3, minutes=1)
    for media_id, names in zip(visit, (["deer"], ["deer", "fox"], ["deer"]), strict=True):
        say(log, media_id, *names)
    assert shown(log, visit).species == "deer"
    assert summarise(log.sightings_of(visit), about="fox").species == "fox"


def test_an_event_nobody_looked_at_says_nothing(log):
    event = shown(log, frames(log, 2, minutes=1))
    assert (event.species, event.source, event.probability) == (None, Source.NONE, None)
