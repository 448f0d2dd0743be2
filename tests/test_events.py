"""Events: which frames are one visit, and what they say together; clocks that were wrong."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from logbook import DAWN, GAP, NOW, frames, item, predict, publish, rows, say, take_in

from monitor.core.domain import Observation, Source
from monitor.core.events import Said, speak_together, summarise
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


def test_a_predicted_event_says_what_its_frames_say_together(log):
    visit = frames(log, 3, minutes=1)
    publish(log)
    said = (("blank", 0.99), ("fox", 0.6), ("fox", 0.8))
    predict(log, dict(zip(visit, said, strict=True)))
    event = shown(log, visit)
    assert (event.species, event.source) == ("fox", Source.PREDICTION)
    assert 0.5 < event.probability < 0.7


def said_of(fox: float, blank: float, deer: float = 0.0) -> Said:
    """A frame as a model that knows three species speaks of it."""
    row = sorted((("fox", fox), ("blank", blank), ("deer", deer)), key=lambda pair: -pair[1])
    return Said(row[0][0], row)


def test_a_fox_in_two_of_five_frames_makes_a_fox_event():
    visit = [said_of(0.9, 0.05, 0.05)] * 2 + [said_of(0.03, 0.95, 0.02)] * 3
    species, probability = speak_together(visit)
    assert species == "fox"
    assert probability > 0.8


def test_one_weak_alarm_among_many_blank_frames_is_none():
    assert speak_together([said_of(0.55, 0.45)] + [said_of(0.05, 0.95)] * 9)[0] == "blank"


def test_frames_that_are_copies_of_each_other_are_no_surer_than_one():
    one = said_of(0.6, 0.3, 0.1)
    for visit in ([one], [one] * 10):
        species, probability = speak_together(visit)
        assert species == "fox"
        assert probability == pytest.approx(0.6, abs=1e-3)


def test_the_order_of_the_frames_says_nothing():
    visit = [said_of(0.6, 0.3, 0.1), said_of(0.1, 0.2, 0.7), said_of(0.5, 0.1, 0.4)]
    assert speak_together(visit)[0] == speak_together(visit[::-1])[0]
    assert speak_together(visit)[1] == pytest.approx(speak_together(visit[::-1])[1])


def test_the_order_of_the_alternatives_says_nothing():
    visit = [said_of(0.6, 0.3, 0.1), said_of(0.1, 0.7, 0.2), said_of(0.5, 0.1, 0.4)]
    turned = [Said(frame.species, sorted(frame.alternatives)) for frame in visit]
    (one, p), (other, q) = speak_together(turned), speak_together(visit)
    assert (one, p) == (other, pytest.approx(q))


def test_no_frame_alone_rules_a_species_out():
    visit = [said_of(0.97, 0.02, 0.01)] * 4 + [Said("deer", (("deer", 1.0), ("fox", 0.0)))]
    assert speak_together(visit)[0] == "fox"


def test_an_event_shows_nothing_that_none_of_its_frames_shows():
    unsure = Said("unknown", (("deer", 0.39), ("fox", 0.3), ("blank", 0.31)))
    seen = Said("fox", (("fox", 0.45), ("deer", 0.44), ("blank", 0.11)))
    assert speak_together([unsure] * 5 + [seen])[0] == "fox"
    assert speak_together([unsure] * 5)[0] == "unknown"


def test_the_likeliest_few_leave_the_rest_to_the_others():
    few = Said("fox", (("fox", 0.5), ("deer", 0.2)))  # 0.3 belongs to species that are not named
    other = Said("hare", (("hare", 0.5), ("blank", 0.2)))
    assert speak_together([few])[1] == pytest.approx(0.5, abs=1e-3)
    assert speak_together([few, other])[1] < 0.5


def test_names_of_before_a_merge_speak_for_the_species_of_today():
    before = Said("red fox", (("silver fox", 0.6), ("red fox", 0.3), ("deer", 0.1)))
    assert speak_together([before])[1] == pytest.approx(0.9, abs=1e-3)


_ROWS = st.lists(
    st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda row: sum(row) > 0.01),
    min_size=1,
    max_size=8,
)


@given(_ROWS)
def test_what_every_frame_shows_is_what_the_event_shows(rows):
    visit = [said_of(*(p / sum(row) for p in row)) for row in rows]
    shown = {frame.species for frame in visit}
    species, probability = speak_together(visit)
    assert species in shown
    assert 0 <= probability <= 1


def test_an_event_can_be_asked_about_its_second_species(log):
    visit = frames(log, 3, minutes=1)
    for media_id, names in zip(visit, (["deer"], ["deer", "fox"], ["deer"]), strict=True):
        say(log, media_id, *names)
    assert shown(log, visit).species == "deer"
    assert summarise(log.sightings_of(visit), about="fox").species == "fox"


def test_an_event_nobody_looked_at_says_nothing(log):
    event = shown(log, frames(log, 2, minutes=1))
    assert (event.species, event.source, event.probability) == (None, Source.NONE, None)
