"""When a training is due, from the log alone; ticks that no clock can stall or flood."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.config import Training
from monitor.core.cron import cron_trigger
from monitor.core.domain import (
    CaptureTime,
    FileStamp,
    Metadata,
    Observation,
    OffsetSource,
    RunState,
    TimeSource,
    iso_utc,
)
from monitor.log.media import BatchResult
from monitor.log.runs import RunRow
from monitor.log.species_log import SpeciesLog
from monitor.log.taking_in import IntakeItem
from monitor.training.schedule import (
    TrainingFacts,
    is_due,
    training_due_at,
    training_facts,
)

NIGHTLY = Training(schedule="0 2 * * *", min_new_labels=20)
BERLIN, UTC_ZONE = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")
MAY_1 = datetime(2024, 5, 1, 12, tzinfo=UTC)


def run(state: RunState, started: datetime, number: int = 1, minutes: float = 5) -> RunRow:
    finished = None if state is RunState.RUNNING else iso_utc(started + timedelta(minutes=minutes))
    return RunRow(
        number, iso_utc(started), finished, state, "head", "schedule", 1, "", 1.0, 0, None, ""
    )


def facts(*runs: RunRow, new: int = 20, first: datetime | None = MAY_1) -> TrainingFacts:
    return TrainingFacts(runs, new, first)


def due(known: TrainingFacts, now: datetime, settings: Training = NIGHTLY) -> bool:
    return is_due(training_due_at(known, settings, UTC_ZONE), now, known)


def test_the_first_training_comes_at_the_first_scheduled_time_after_the_first_label() -> None:
    known = facts()
    assert training_due_at(known, NIGHTLY, UTC_ZONE) == datetime(2024, 5, 2, 2, tzinfo=UTC)
    assert not due(known, datetime(2024, 5, 2, 1, 59, tzinfo=UTC))
    assert due(known, datetime(2024, 5, 2, 2, tzinfo=UTC))


def test_too_few_new_labels_or_none_are_never_due() -> None:
    later = MAY_1 + timedelta(days=365)
    assert not due(facts(new=19), later)
    assert not due(facts(new=20, first=None), later)
    assert due(facts(new=20), later)


def test_a_disabled_training_is_never_due() -> None:
    off = NIGHTLY.model_copy(update={"enabled": False})
    assert not due(facts(), MAY_1 + timedelta(days=365), off)


def test_a_second_one_never_starts_while_one_runs() -> None:
    running = facts(run(RunState.RUNNING, MAY_1))
    assert not due(running, MAY_1 + timedelta(days=365))


def test_a_missed_week_trains_once() -> None:
    before = run(RunState.SUCCEEDED, MAY_1)
    back = MAY_1 + timedelta(days=7)
    assert due(facts(before), back)
    caught_up = facts(run(RunState.SUCCEEDED, back, 2), before)
    assert not due(caught_up, back + timedelta(hours=1))
    assert training_due_at(caught_up, NIGHTLY, UTC_ZONE) == datetime(2024, 5, 9, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("failures", "minutes"),
    [(1, 10), (2, 20), (3, 40), (4, 80), (7, 640), (8, 1280), (9, 1440), (30, 1440)],
)
def test_failures_wait_longer_each_time_at_most_a_day(failures: int, minutes: int) -> None:
    runs = [run(RunState.FAILED, MAY_1, 30 - i) for i in range(failures)]
    known = facts(*runs, run(RunState.SUCCEEDED, MAY_1 - timedelta(days=9), 0))
    ended = MAY_1 + timedelta(minutes=5)
    expected = ended + timedelta(minutes=minutes)
    assert training_due_at(known, NIGHTLY, UTC_ZONE) == expected
    assert not due(known, expected - timedelta(seconds=1))
    assert due(known, expected)


def test_a_failed_run_without_an_end_counts_from_its_start() -> None:
    cut = RunRow(1, iso_utc(MAY_1), None, RunState.FAILED, "head", "cli", 1, "", 0.0, 0, None, "")
    assert training_due_at(facts(cut), NIGHTLY, UTC_ZONE) == MAY_1 + timedelta(minutes=10)


def test_a_success_between_failures_starts_the_pauses_anew() -> None:
    known = facts(
        run(RunState.FAILED, MAY_1, 3),
        run(RunState.SUCCEEDED, MAY_1 - timedelta(hours=1), 2),
        run(RunState.FAILED, MAY_1 - timedelta(hours=2), 1),
    )
    assert training_due_at(known, NIGHTLY, UTC_ZONE) == MAY_1 + timedelta(minutes=15)


@pytest.mark.parametrize("state", [RunState.SUCCEEDED, RunState.FAILED])
def test_a_clock_set_back_by_years_does_not_wait_for_them(state: RunState) -> None:
    wrong = run(state, datetime(2037, 1, 1, tzinfo=UTC))
    assert due(facts(wrong), MAY_1)
    after = facts(run(RunState.SUCCEEDED, MAY_1, 2), wrong)
    assert not due(after, MAY_1 + timedelta(hours=1)), "and only once"
    assert due(after, MAY_1 + timedelta(days=1))


def test_first_labels_from_a_clock_that_was_years_ahead_do_not_wait_either() -> None:
    assert due(facts(first=datetime(2037, 1, 1, tzinfo=UTC)), MAY_1)


def test_a_clock_set_forward_trains_once() -> None:
    before, jump = run(RunState.SUCCEEDED, MAY_1), datetime(2037, 1, 1, tzinfo=UTC)
    assert due(facts(before), jump)
    assert not due(facts(run(RunState.SUCCEEDED, jump, 2), before), jump + timedelta(hours=1))


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        # summer time begins on 31 March 2024: 02:30 does not exist that night
        (
            "30 2 * * *",
            datetime(2024, 3, 30, 12, tzinfo=UTC),
            datetime(2024, 3, 31, 1, 30, tzinfo=UTC),
        ),
        # and ends on 27 October: 02:30 comes twice, trained once
        (
            "30 2 * * *",
            datetime(2024, 10, 26, 12, tzinfo=UTC),
            datetime(2024, 10, 27, 0, 30, tzinfo=UTC),
        ),
        ("0 2 * * *", datetime(2024, 7, 1, 12, tzinfo=UTC), datetime(2024, 7, 2, 0, tzinfo=UTC)),
        ("0 2 * * *", datetime(2024, 1, 1, 12, tzinfo=UTC), datetime(2024, 1, 2, 1, tzinfo=UTC)),
    ],
)
def test_the_schedule_follows_the_stations_zone(
    schedule: str, after: datetime, expected: datetime
) -> None:
    settings = NIGHTLY.model_copy(update={"schedule": schedule})
    found = training_due_at(facts(run(RunState.SUCCEEDED, after)), settings, BERLIN)
    assert found is not None
    assert abs(found - expected) <= timedelta(hours=1), found
    assert found > after


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)),
    st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "Africa/Nairobi"]),
    st.sampled_from(["0 2 * * *", "30 2 * * *", "*/15 * * * *", "0 0 * * 0", "59 23 1 * *"]),
)
def test_the_next_time_is_always_ahead_and_never_twice_at_once(
    naive: datetime, zone: str, schedule: str
) -> None:
    start = naive.replace(tzinfo=UTC, microsecond=0)
    settings = NIGHTLY.model_copy(update={"schedule": schedule})
    found = training_due_at(facts(run(RunState.SUCCEEDED, start)), settings, ZoneInfo(zone))
    assert found is not None
    assert start < found <= start + timedelta(days=32)
    known = facts(run(RunState.SUCCEEDED, found))
    assert not is_due(training_due_at(known, settings, ZoneInfo(zone)), found, known)


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("0", "Sun"),
        ("7", "Sun"),
        ("1", "Mon"),
        ("6", "Sat"),
        ("1-5", "Mon Tue Wed Thu Fri"),
        ("5-7", "Fri Sat Sun"),
        ("0-2", "Sun Mon Tue"),
        ("0,3", "Sun Wed"),
        ("1-5/2", "Mon Wed Fri"),
        ("sat", "Sat"),
        ("mon-wed", "Mon Tue Wed"),
        ("*", "Mon Tue Wed Thu Fri Sat Sun"),
    ],
)
def test_weekdays_are_those_of_cron(field: str, days: str) -> None:
    trigger = cron_trigger(f"0 2 * * {field}", UTC_ZONE)
    moment, found = datetime(2024, 4, 28, 12, tzinfo=UTC), set()
    for _ in range(7):
        moment = trigger.get_next_fire_time(None, moment) + timedelta(seconds=1)
        found.add(f"{moment:%a}")
    assert found == set(days.split())


def test_what_is_no_cron_expression_is_refused() -> None:
    for wrong in (
        "",
        "0 2 * *",
        "0 25 * * *",
        "0 2 * * 1-",
        "0 2 * * 1/0",
        "0 2 * * 1-2-3",
        "a b c d e",
    ):
        with pytest.raises(ValueError, match=r"."):
            cron_trigger(wrong, UTC_ZONE)


def test_the_facts_come_from_the_log(tmp_path: Path) -> None:
    with SpeciesLog(tmp_path / "log.db", create=True) as log:
        assert training_facts(log) == TrainingFacts([], 0, None)
        captured = CaptureTime(
            datetime(2024, 5, 1), timedelta(), TimeSource.EXIF, OffsetSource.STATION
        )
        items = [
            IntakeItem(
                b"/f/%d.jpg" % i, FileStamp(1, i), f"{i:064x}", "north", Metadata(1, 1, captured)
            )
            for i in range(4)
        ]
        ids = [i for i, _ in log.take_in(items, MAY_1, timedelta(minutes=30))]
        log.record(BatchResult(classified=tuple(ids)), MAY_1)
        log.label(ids[:3], [Observation("fox")], "Ana", "cli", MAY_1)
        known = training_facts(log)
        assert (known.newest, known.new_labels, known.first_label_at) == (None, 3, MAY_1)

        number = log.start_run("head", "schedule", 7, MAY_1)
        log.label(ids[3:], [Observation("fox")], "Ana", "cli", MAY_1)
        assert training_facts(log).new_labels == 4, "a run that runs has not succeeded yet"
        log.finish_run(number, RunState.SUCCEEDED, "better", MAY_1)
        known = training_facts(log)
        assert known.new_labels == 1
        assert known.newest is not None
        assert known.newest.state is RunState.SUCCEEDED

        failed = log.start_run("head", "schedule", 7, MAY_1)
        log.finish_run(failed, RunState.FAILED, "no luck", MAY_1)
        assert training_facts(log).new_labels == 1, "a failed run has learnt nothing"
