"""For how long cameras watched: spans, silences by their own rhythm, what people say of them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logbook import GAP, NOW, item, rows

from monitor.core.config.station import EffortRule
from monitor.core.days import effort_of, per_hundred_days
from monitor.core.silence import (
    Captures,
    Outage,
    OutageState,
    Reason,
    Rule,
    Silence,
    clock_doubt,
    never_heard,
    proposals,
    silences,
    tail_of,
)
from monitor.core.spans import Span, days_of, joined, without
from monitor.log.species_log import SpeciesLog
from monitor.pipeline.deployments import DeploymentRow
from monitor.report.camera_days import watched_days
from monitor.service.outages import propose_outages

DAY = timedelta(days=1)
START = datetime(2026, 3, 1, 6, tzinfo=UTC)


def at(day: float) -> datetime:
    return START + day * DAY


def span(first: float, last: float) -> Span:
    return Span(at(first), at(last))


whole = st.integers(0, 40)
spans_of = st.lists(st.tuples(whole, whole).map(lambda p: span(min(p), max(p))), max_size=8)


def hours(spans) -> set[int]:
    """Every day that lies in one of the spans: what interval arithmetic must agree with."""
    return {d for d in range(41) for s in spans if s.start <= at(d) < s.end}


@given(spans_of, spans_of)
def test_spans_join_and_part_as_sets_of_days_do(some, others):
    assert hours(joined(some)) == hours(some)
    assert hours(without(some, others)) == hours(some) - hours(others)
    assert days_of(some) == len(hours(some))
    for found in (joined(some), without(some, others)):
        assert all(s.start < s.end for s in found)
        assert all(a.end <= b.start for a, b in pairwise(found))


def captures(last: float = 10, **more) -> Captures:
    values = {"deployment": "north", "start": None, "end": None, "first": at(0), "last": at(last)}
    return Captures(**{**values, "newest": at(last), **more})


def outage(start: float, end: float | None, state=OutageState.CONFIRMED, **more) -> Outage:
    values = {"id": 1, "reason": None, "note": None, "by": "Ana", "said_at": at(30)}
    if state is OutageState.PROPOSED:
        values["by"] = None
    ends = at(end) if end is not None else None
    return Outage(
        **{**values, "deployment": "north", "start": at(start), "end": ends, **more}, state=state
    )


def test_days_are_counted_from_the_first_frame_to_the_last_without_outages():
    effort = effort_of(captures(), [outage(2, 5), outage(4, 6)], at(30))
    assert (effort.watched_days, effort.outage_days) == (6, 4)


def test_a_start_and_an_end_that_people_said_go_before_the_frames():
    known = captures(start=at(-3), end=at(20))
    assert effort_of(known, [], at(30)).watched_days == 23
    assert effort_of(known, [], at(15)).watched_days == 13, "not ended yet: to the last frame"


def test_a_proposed_outage_is_not_watched_and_a_dismissed_one_is():
    silent = [outage(10, None, OutageState.PROPOSED)]
    assert effort_of(captures(), silent, at(30)).watched_days == 10
    watched = [outage(10, None, OutageState.DISMISSED, said_at=at(25))]
    assert effort_of(captures(), watched, at(30)).watched_days == 25


def test_what_is_still_to_come_is_not_watched_yet_whatever_a_person_says():
    watched = [outage(10, 90, OutageState.DISMISSED, said_at=at(25))]
    assert effort_of(captures(), watched, at(30)).until == at(30)


def test_a_period_cuts_what_is_counted():
    effort = effort_of(captures(), [outage(2, 5)], at(30), at(4), at(8))
    assert (effort.since, effort.until) == (at(4), at(8))
    assert (effort.watched_days, effort.outage_days) == (3, 1)
    assert effort_of(captures(), [], at(30), at(12), at(20)).watched_days == 0


@given(
    st.integers(0, 30),
    st.lists(st.tuples(whole, whole, st.sampled_from(list(OutageState))), max_size=6),
    st.tuples(whole, whole),
)
def test_what_was_watched_is_never_less_than_nothing_nor_more_than_the_period(last, said, cut):
    outages = [outage(min(a, b), max(a, b) + 1, state) for a, b, state in said]
    since, until = at(min(cut)), at(max(cut))
    effort = effort_of(captures(last), outages, at(50), since, until)
    assert 0 <= effort.watched_days <= max(0, (until - since) / DAY) + 1e-9
    assert effort.watched_days + effort.outage_days == pytest.approx(
        (effort.until - effort.since) / DAY
    )


def test_nothing_watched_is_no_rate_and_not_a_rate_of_zero():
    assert per_hundred_days(0, 0) is None
    assert per_hundred_days(0, 10) == 0
    assert per_hundred_days(3, 60) == 5


def test_a_camera_is_silent_by_its_own_rhythm():
    daily = [date(2026, 3, d) for d in range(1, 11)]
    weekly = [date(2026, 1, 1) + timedelta(days=7 * n) for n in range(10)]
    busy = captures(days_before={at(10): daily})
    assert silences(busy, at(13)) == []
    assert silences(busy, at(13.1)) == [Silence(at(10))]
    rare = captures(days_before={at(10): weekly})
    assert silences(rare, at(30)) == []
    assert silences(rare, at(31.1)) == [Silence(at(10))]
    assert silences(busy, at(13.1), Rule(timedelta(days=5))) == []


def test_a_deployment_that_has_ended_does_not_fall_silent():
    ended = captures(end=at(12))
    assert silences(ended, at(40)) == []
    assert tail_of(ended, at(40)) == Silence(at(10), at(12))
    assert tail_of(captures(end=at(50)), at(40)) is None


def test_the_time_before_the_first_frame_and_after_the_last_one_can_be_silent_too():
    weekly = [date(2026, 1, 1) + timedelta(days=7 * n) for n in range(10)]
    known = captures(start=at(-5), end=at(15))
    ends = [Silence(at(-5), at(0)), Silence(at(10), at(15))]
    assert silences(known, at(30)) == ends
    assert silences(captures(start=at(-3), end=at(13)), at(30)) == []
    rare = captures(start=at(-5), end=at(15), first_days=weekly, days_before={at(10): weekly})
    assert silences(rare, at(30)) == [], "by its own rhythm"
    assert silences(captures(start=at(-40), end=at(-20)), at(30)) == [Silence(at(-40), at(-20))]
    assert effort_of(known, [], at(30), unspoken=ends).watched_days == 10


def test_a_camera_that_never_sent_a_frame_is_silent_from_its_start():
    assert never_heard(at(0), None, at(3)) == []
    assert never_heard(at(0), None, at(3.1)) == [Silence(at(0))]
    assert never_heard(at(0), at(20), at(10)) == [Silence(at(0))]
    assert never_heard(at(0), at(20), at(30)) == [Silence(at(0), at(20))]
    assert never_heard(at(0), at(2), at(30)) == []
    assert never_heard(at(40), None, at(30)) == []
    assert never_heard(None, None, at(30)) == []
    assert never_heard(at(0), None, at(4), Rule(timedelta(days=5))) == []


def test_a_clock_is_doubted_that_fell_back_or_runs_ahead():
    assert clock_doubt(captures(), at(40)) is None
    assert "future" in str(clock_doubt(captures(newest=at(60)), at(40)))
    assert "2026-03-02" in str(clock_doubt(captures(newest=at(1)), at(40)))


def test_proposals_follow_the_frames():
    found = [Silence(at(2), at(8)), Silence(at(10))]
    assert proposals(found, []).propose == found
    ours = [outage(2, None, OutageState.PROPOSED, id=1), outage(4, 6, OutageState.PROPOSED, id=2)]
    changes = proposals(found, ours)
    assert (changes.propose, dict(changes.end), changes.withdraw) == (
        [found[1]],
        {1: at(8)},
        [2],
    )


def test_what_a_person_said_of_a_time_stands():
    for state in (OutageState.CONFIRMED, OutageState.DISMISSED):
        changes = proposals([Silence(at(2), at(8))], [outage(3, 5, state)])
        assert not changes.propose and not changes.end and not changes.withdraw
        lasts = proposals([Silence(at(2), at(8))], [outage(2, None, state)])
        assert (lasts.propose, dict(lasts.end)) == ([], {1: at(8)})


def test_with_a_clock_that_is_doubted_all_stays_as_it_is():
    changes = proposals([Silence(at(2))], [outage(9, 9.5, OutageState.PROPOSED)], is_doubted=True)
    assert not changes.propose and not changes.end and not changes.withdraw


moments = st.integers(0, 30)


@given(
    st.lists(moments, min_size=1, max_size=12),
    st.lists(moments, max_size=12),
    moments,
    st.none() | st.integers(-10, 30),
    st.none() | moments,
)
def test_proposals_settle_at_once_and_never_overlap(frames, later, more, start, length):
    """Frames come in any order; after each look, a second look changes nothing."""
    began = at(start) if start is not None else None
    end = at((start or 0) + length) if length is not None else None
    known: list[Outage] = []
    for seen in (frames, [*frames, *later]):
        days = sorted(set(seen))
        gaps = [span(a, b) for a, b in pairwise(days) if b - a > 3]
        now = at(max(days) + more)
        taken = captures(days[-1], first=at(days[0]), gaps=gaps, start=began, end=end)
        more_facts = (tail_of(taken, now), taken.first)
        known = _apply(known, proposals(silences(taken, now), known, *more_facts))
        again = proposals(silences(taken, now), known, *more_facts)
        assert not again.propose and not again.end and not again.withdraw
        ends = [(o.start, o.end or datetime.max.replace(tzinfo=UTC)) for o in known]
        assert all(a[1] <= b[0] for a, b in pairwise(sorted(ends)))
        if start is None and end is None:
            watched = effort_of(taken, known, now).watched_days
            assert watched == pytest.approx(days[-1] - days[0] - sum(g.days for g in gaps))


def _apply(known: list[Outage], changes) -> list[Outage]:
    kept = [o for o in known if o.id not in changes.withdraw]
    kept = [
        Outage(
            o.id,
            o.deployment,
            o.start,
            changes.end.get(o.id, o.end),
            o.state,
            None,
            None,
            None,
            o.said_at,
        )
        for o in kept
    ]
    new = [
        Outage(
            len(known) + n + 100,
            "north",
            s.start,
            s.end,
            OutageState.PROPOSED,
            None,
            None,
            None,
            at(0),
        )
        for n, s in enumerate(changes.propose)
    ]
    return kept + new


# --- in the log


def shoot(log: SpeciesLog, days, deployment: str = "north", now: datetime = NOW) -> None:
    files = [
        item(f"{day}.jpg", (START + day * DAY).replace(tzinfo=None), deployment) for day in days
    ]
    log.take_in(files, now, GAP)


def told(log: SpeciesLog) -> list[tuple[str, float, float | None, str]]:
    return [
        (
            o.deployment,
            (o.start - START) / DAY,
            (o.end - START) / DAY if o.end is not None else None,
            o.state.value,
        )
        for o in log.outages()
    ]


def test_a_silent_camera_is_proposed_once_ended_by_frames_and_withdrawn_by_a_late_card(log):
    shoot(log, range(5))
    assert log.propose_outages(at(6)) == (0, 0)
    assert log.propose_outages(at(8)) == (1, 0)
    assert log.propose_outages(at(9)) == (0, 0)
    assert told(log) == [("north", 4, None, "proposed")]
    shoot(log, [12, 13])
    assert log.propose_outages(at(13.5)) == (0, 1)
    assert told(log) == [("north", 4, 12, "proposed")]
    shoot(log, [5, 6, 7, 9, 10, 11])  # the camera had worked; its link had not
    assert log.propose_outages(at(13.6)) == (0, 1)
    assert told(log) == []


def test_gaps_between_frames_are_found_exactly_wherever_they_lie(log):
    shoot(log, [0, 0.5, 1, 3.9, 8, 8.01, 11, 20, 20.5])
    (facts,) = log.deployment_facts(at(21))
    assert [((g.start - START) / DAY, (g.end - START) / DAY) for g in facts.captures.gaps] == [
        (3.9, 8),
        (11, 20),
    ]


def test_nothing_is_proposed_for_a_camera_that_went_or_whose_clock_is_wrong(log):
    shoot(log, range(5), "gone")
    log.set_period("gone", None, at(6), "Ana", "cli", NOW)
    shoot(log, range(5), "ahead")
    shoot(log, [300], "ahead", NOW + 2 * DAY)
    shoot(log, range(5, 10), "reset")
    log.take_in([item("r.jpg", datetime(2020, 1, 1), "reset")], NOW + 3 * DAY, GAP)
    assert log.propose_outages(at(40)) == (0, 0)
    doubts = {f.name: clock_doubt(f.captures, at(40)) for f in log.deployment_facts(at(40))}
    assert "future" in doubts["ahead"] and "2020-01-01" in doubts["reset"]
    assert doubts["gone"] is None


def test_a_card_that_is_read_in_any_order_casts_no_doubt(log):
    shoot(log, [9, 3, 5, 1, 0, 2, 4])
    (facts,) = log.deployment_facts(at(10))
    assert clock_doubt(facts.captures, at(10)) is None


def watched(log: SpeciesLog, now: datetime, name: str = "north") -> float | None:
    effort = EffortRule()
    found = watched_days(SimpleNamespace(effort=effort), log, now).get(name)
    return round(found, 6) if found is not None else None


def test_ten_frames_of_may_are_not_half_a_year_that_was_watched(log):
    shoot(log, range(100, 110))
    log.set_period("north", at(0), at(180), "Ana", "cli", NOW)
    assert watched(log, at(200)) == 9, "also before the station has looked"
    assert log.propose_outages(at(200)) == (2, 0)
    assert told(log) == [("north", 0, 100, "proposed"), ("north", 109, 180, "proposed")]
    assert (watched(log, at(200)), log.propose_outages(at(201))) == (9, (0, 0))
    first, _ = log.outages()
    log.judge_outage(first.id, OutageState.DISMISSED, "Ana", "cli", at(202))
    assert watched(log, at(203)) == 109, "a person said that there was nothing to see"


def test_late_cards_take_the_silence_before_the_first_frame_back(log):
    shoot(log, range(20, 25))
    log.set_period("north", at(0), None, "Ana", "cli", NOW)
    log.propose_outages(at(25))
    assert told(log) == [("north", 0, 20, "proposed")]
    shoot(log, range(10, 20))
    assert log.propose_outages(at(25)) == (0, 1)
    assert told(log) == [("north", 0, 10, "proposed")]
    shoot(log, [1, *range(2, 10)])
    assert log.propose_outages(at(25)) == (0, 1)
    assert (told(log), watched(log, at(25))) == ([], 24)


def test_a_camera_that_never_sent_a_frame_is_proposed_until_it_does(log):
    log.set_deployments([row("north", at(0), None), row("south", at(0), None)])
    assert log.propose_outages(at(3)) == (0, 0)
    assert log.propose_outages(at(4)) == (2, 0)
    assert log.propose_outages(at(5)) == (0, 0)
    assert told(log) == [("north", 0, None, "proposed"), ("south", 0, None, "proposed")]
    assert watched(log, at(5)) is None
    shoot(log, [1, 2, 3, 4])  # a card that is brought in late fills it
    shoot(log, [6, 7], "south")
    assert log.propose_outages(at(7)) == (0, 2)
    assert told(log) == [("south", 0, 6, "proposed")]
    assert (watched(log, at(7)), watched(log, at(7), "south")) == (4, 1)


def test_what_a_person_said_of_a_camera_without_frames_ends_with_the_first_one(log):
    log.set_deployments([row("north", at(0), None)])
    log.propose_outages(at(4))
    (proposed,) = log.outages()
    log.judge_outage(
        proposed.id, OutageState.CONFIRMED, "Ana", "cli", at(5), start=at(0.5), reason=Reason.OTHER
    )
    assert log.propose_outages(at(6)) == (0, 0)
    shoot(log, [2, 3])
    log.propose_outages(at(6))
    assert told(log)[0] == ("north", 0.5, 2, "confirmed")


def test_a_camera_whose_frames_are_all_of_the_future_is_not_said_to_be_silent(log):
    log.set_deployments([row("north", at(0), None)])
    shoot(log, [300])
    assert log.propose_outages(at(10)) == (0, 0)


def row(name: str, start: datetime | None, end: datetime | None) -> dict[str, object]:
    return DeploymentRow(name, "", start=start, end=end).values()


def test_an_open_proposal_ends_with_its_deployment(log):
    shoot(log, range(5))
    log.propose_outages(at(20))
    log.set_period("north", None, at(15), "Ana", "cli", NOW)
    assert log.propose_outages(at(21)) == (0, 1)
    assert told(log) == [("north", 4, 15, "proposed")]
    assert log.propose_outages(at(22)) == (0, 0)


def test_a_confirmed_outage_ends_by_itself_when_frames_come_again(log):
    shoot(log, range(5))
    log.propose_outages(at(20))
    (proposed,) = log.outages()
    log.judge_outage(
        proposed.id, OutageState.CONFIRMED, "Ana", "cli", at(21), reason=Reason.BATTERY
    )
    shoot(log, [25])
    log.propose_outages(at(26))
    (said,) = log.outages()
    assert (said.end, said.state, said.reason, said.by) == (
        at(25),
        OutageState.CONFIRMED,
        Reason.BATTERY,
        "Ana",
    )


def test_what_people_say_is_recorded_as_acts_and_said_again_by_the_journal(log, tmp_path: Path):
    shoot(log, range(5))
    log.say_outage(outage(1, 2, reason=Reason.MOVED), "cli")
    log.propose_outages(at(20))
    proposed = next(o for o in log.outages() if o.state is OutageState.PROPOSED)
    log.judge_outage(
        proposed.id,
        OutageState.CONFIRMED,
        "Ben",
        "web",
        at(21),
        start=at(4.5),
        reason=Reason.STOLEN,
        note="at night",
    )
    log.set_period("north", at(-1), None, "Ana", "cli", NOW)
    log.correct_clock("north", 2 * DAY, "Ana", "cli", NOW)
    log.correct_clock("north", DAY, "Ana", "cli", NOW)
    log.undo_clock("north", "Ana", "cli", NOW)
    records = log.acts_after(0, 100)
    known: dict[str, int] = {}
    with SpeciesLog(tmp_path / "again.db", create=True) as again:
        shoot(again, range(5))
        for _ in range(2):
            again.replay_acts(records, known)
            assert told(again) == told(log)
            assert again.outages()[1].note == "at night"
            assert rows(again, "SELECT start_at, end_at FROM deployment") == rows(
                log, "SELECT start_at, end_at FROM deployment"
            )
            shown = "SELECT path, captured_wall, captured_at FROM media ORDER BY path"
            assert rows(again, shown) == rows(log, shown)


def test_the_duty_proposes_unless_the_station_s_own_clock_is_wrong(log):
    shoot(log, range(5))
    settings = SimpleNamespace(effort=SimpleNamespace(rule=Rule()))
    clock = [datetime(1970, 1, 1, tzinfo=UTC)]
    station = SimpleNamespace(log=log, settings=settings, clock=lambda: clock[0])
    propose_outages(station)
    assert told(log) == []
    clock[0] = datetime(2027, 1, 1, tzinfo=UTC)
    propose_outages(station, lambda: True)
    assert told(log) == []
    propose_outages(station)
    assert told(log) == [("north", 4, None, "proposed")]
