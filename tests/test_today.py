"""What came in today, and which cameras fell silent."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logbook import GAP, NOW, item, predict, publish, say, take_in
from sqlalchemy import event

from monitor.core.config import load_settings
from monitor.core.domain import iso_utc
from monitor.core.silence import SILENT_AFTER, silent_after, usual_gap_days
from monitor.health.status import silent_deployments, start_of_day, status_lines, status_of
from monitor.log import today
from monitor.log.media import BatchResult
from monitor.log.species_log import SpeciesLog

DAY = timedelta(days=1)
DAYS = st.sets(st.integers(0, 90), max_size=60).map(
    lambda numbers: [date(2026, 1, 1) + n * DAY for n in sorted(numbers)]
)


def arrive(log: SpeciesLog, moments: list[datetime]) -> list[int]:
    """One media taken in at each of these times."""
    ids = []
    for number, at in enumerate(moments):
        ids += [i for i, _ in log.take_in([item(f"{number:05d}.jpg")], at, GAP)]
    return ids


def camera(log: SpeciesLog, name: str, days_ago: list[float], now: datetime = NOW) -> None:
    """A deployment that sent a frame so many days before `now`."""
    items = [
        item(f"{n}.jpg", (now - ago * DAY).replace(tzinfo=None), name)
        for n, ago in enumerate(days_ago)
    ]
    log.record(BatchResult(classified=tuple(take_in(log, items))), now)


def test_today_counts_what_came_in_since_midnight_and_nothing_else(log: SpeciesLog) -> None:
    ids = arrive(log, [NOW - DAY, NOW - timedelta(hours=1), NOW, NOW])
    publish(log)
    log.record(BatchResult(classified=tuple(ids[:3])), NOW)
    predict(log, {ids[0]: ("hare", 0.9), ids[1]: ("red fox", 0.9), ids[2]: ("red fox", 0.8)})
    say(log, ids[1], "badger")
    came = log.taken_in_since(iso_utc(NOW - timedelta(hours=2)))
    assert (came.media, came.counted) == (3, 3)
    assert came.by_status == {"pending": 1, "classified": 2, "rejected": 0}
    assert came.by_species == {"badger": 1, "red fox": 1}


def test_an_empty_log_has_nothing_of_today(log: SpeciesLog) -> None:
    came = log.taken_in_since(iso_utc(NOW))
    assert (came.media, came.counted, came.by_species) == (0, 0, {})
    assert log.newest_media(5) == []
    assert silent_deployments(log, NOW) == []


@pytest.mark.parametrize("old", [0, 1, 2, 7, 40])
@pytest.mark.parametrize("new", [0, 1, 2, 3, 40])
def test_the_first_of_the_day_is_found_wherever_it_lies(
    log: SpeciesLog, old: int, new: int
) -> None:
    arrive(log, [NOW - DAY] * old + [NOW] * new)
    assert log.taken_in_since(iso_utc(NOW)).media == new


def test_a_whole_archive_in_one_day_is_counted_but_not_read(
    log: SpeciesLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(today, "MOST_COUNTED", 10)
    arrive(log, [NOW - DAY] * 3 + [NOW] * 30)
    came = log.taken_in_since(iso_utc(NOW))
    assert (came.media, came.counted, came.by_status["pending"]) == (30, 10, 10)


def test_the_newest_media_are_those_taken_in_last_that_can_be_looked_at(log: SpeciesLog) -> None:
    first, second = take_in(log, [item("b.jpg"), item("a.jpg")])
    take_in(log, [item("broken.jpg", rejected="truncated")])
    assert log.newest_media(5) == [second, first]


def test_the_day_begins_at_midnight_of_the_station() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    late = datetime(2026, 5, 1, 23, 30, tzinfo=UTC)  # 01:30 on the 2nd in Berlin
    assert start_of_day(late, berlin).astimezone(UTC) == datetime(2026, 5, 1, 22, tzinfo=UTC)
    summer = datetime(2026, 3, 29, 12, tzinfo=UTC)  # the clock went forward at 02:00
    assert start_of_day(summer, berlin).astimezone(UTC) == datetime(2026, 3, 28, 23, tzinfo=UTC)


@given(DAYS)
def test_no_camera_is_silent_within_three_days(days: list[date]) -> None:
    assert silent_after(days) >= SILENT_AFTER


@given(DAYS)
def test_a_camera_may_be_quiet_for_three_times_its_usual_longest_pause(days: list[date]) -> None:
    assert silent_after(days) >= 3 * timedelta(days=usual_gap_days(days))


@given(DAYS)
def test_at_least_95_of_100_pauses_are_no_longer_than_the_usual_one(days: list[date]) -> None:
    gaps = [(b - a).days for a, b in pairwise(days)]
    usual = usual_gap_days(days)
    assert usual in gaps or (usual == 0 and not gaps)
    assert sum(gap <= usual for gap in gaps) >= 0.95 * len(gaps)
    assert sum(gap < usual for gap in gaps) <= 0.95 * len(gaps)


@given(DAYS, st.integers(1, 10))
def test_a_camera_that_sends_less_often_may_be_quiet_for_longer(
    days: list[date], times: int
) -> None:
    rarer = [date(2026, 1, 1) + times * (day - date(2026, 1, 1)) for day in days]
    assert silent_after(rarer) >= silent_after(days)


def test_a_daily_camera_is_silent_after_four_days_and_a_weekly_one_is_not(log: SpeciesLog) -> None:
    camera(log, "daily", [4, 5, 6, 7, 8])
    camera(log, "weekly", [10, 17, 24, 31])
    camera(log, "still there", [0.5, 1.5])
    (silent,) = silent_deployments(log, NOW)
    assert silent["deployment"] == "daily"
    assert (silent["silent_days"], silent["usual_gap_days"]) == (4, 1)
    assert silent["last_frame_at"] == iso_utc(NOW - 4 * DAY)


def test_the_latest_to_fall_silent_comes_first(log: SpeciesLog) -> None:
    camera(log, "long ago", [400, 401])
    camera(log, "lately", [5, 6])
    camera(log, "before", [30, 31])
    names = [one["deployment"] for one in silent_deployments(log, NOW)]
    assert names == ["lately", "before", "long ago"]


def test_a_camera_that_was_taken_down_is_not_missed(log: SpeciesLog) -> None:
    camera(log, "ended", [20, 21])
    camera(log, "goes on", [20, 21])
    ends = [{"name": "ended", "end_at": iso_utc(NOW - 10 * DAY)}]
    log.set_deployments([*ends, {"name": "goes on", "end_at": iso_utc(NOW + DAY)}])
    assert [one["deployment"] for one in silent_deployments(log, NOW)] == ["goes on"]


def test_a_camera_that_never_sent_a_frame_is_silent_since_it_was_put_up(log: SpeciesLog) -> None:
    def put_up(name: str, days: float, **more: str) -> dict[str, str]:
        return {"name": name, "start_at": iso_utc(NOW - days * DAY), **more}

    camera(log, "runs ahead", [-4000])
    log.set_deployments(
        [
            put_up("never", 20),
            put_up("just now", 1),
            put_up("ended", 20, end_at=iso_utc(NOW - 10 * DAY)),
            put_up("runs ahead", 20),
            {"name": "nobody said when"},
        ]
    )
    (silent,) = silent_deployments(log, NOW)
    assert (silent["deployment"], silent["silent_days"]) == ("never", 20)
    assert silent["last_frame_at"] is None
    assert silent["start_at"] == iso_utc(NOW - 20 * DAY)


def test_a_frame_from_the_future_does_not_hide_that_a_camera_is_silent(log: SpeciesLog) -> None:
    camera(log, "odd clock", [20, 21, -4000])
    assert silent_deployments(log, NOW)[0]["silent_days"] == 20


def test_a_camera_that_sends_only_broken_frames_is_silent(log: SpeciesLog) -> None:
    camera(log, "wet", [20, 21])
    broken = item("x.jpg", (NOW - timedelta(hours=1)).replace(tzinfo=None), "wet", rejected="cut")
    take_in(log, [broken])
    assert silent_deployments(log, NOW)[0]["deployment"] == "wet"


def test_the_days_of_a_camera_are_those_of_its_last_ninety(log: SpeciesLog) -> None:
    camera(log, "north", [0, 0.1, 1, 5, 89, 91, 200])
    (last,) = log.last_frames(iso_utc(NOW))
    days = log.days_with_frames([last])["north"]
    assert days == [(NOW - n * DAY).date() for n in (89, 5, 1, 0)]


def test_no_figure_of_the_status_reads_all_media_or_predictions(config: Path) -> None:
    asked: list[tuple[str, object]] = []
    settings = load_settings(config)
    with SpeciesLog(settings.data_directory / "trapwatch.db", create=True) as log:
        camera(log, "north", [4, 5])
        event.listen(
            log._engine,
            "before_cursor_execute",
            lambda c, cur, sql, p, x, m: asked.append((sql, p)),
        )
        status_of(settings, log, NOW)
        with log._read() as connection:
            plans = [
                row[3]
                for sql, values in list(asked)
                if sql.lstrip().upper().startswith(("SELECT", "WITH"))
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
            ]
    assert any("media_by_deployment" in plan for plan in plans)
    tables = ("media", "m", "prediction", "p", "label", "l", "observation", "lo", "file")
    whole = [plan for plan in plans if plan.split()[:1] == ["SCAN"] and plan.split()[1] in tables]
    assert [plan for plan in whole if "INDEX" not in plan] == []


def test_status_and_proposals_call_the_same_cameras_silent_by_the_rule_of_the_config(
    config: Path,
) -> None:
    config.write_text(config.read_text() + "effort: {silent_days: 6, silent_gaps: 2}\n")
    settings = load_settings(config)
    with SpeciesLog(settings.data_directory / "trapwatch.db", create=True) as log:
        camera(log, "five days", [5, 6, 7])
        camera(log, "seven days", [7, 8, 9])
        camera(log, "weekly", [13, 20, 27])
        camera(log, "weekly no more", [15, 22, 29])
        camera(log, "long ago", [300, 301])
        starts = {"never": NOW - 7 * DAY, "not yet": NOW - 5 * DAY}
        log.set_deployments([{"name": n, "start_at": iso_utc(at)} for n, at in starts.items()])
        names = {one["deployment"] for one in status_of(settings, log, NOW)["silent_deployments"]}
        log.propose_outages(NOW, settings.effort.rule)
        lasting = {outage.deployment for outage in log.outages() if outage.end is None}
    assert names == lasting == {"seven days", "weekly no more", "long ago", "never"}


def test_status_names_silent_cameras_but_at_most_ten(config: Path) -> None:
    settings = load_settings(config)
    with SpeciesLog(settings.data_directory / "trapwatch.db", create=True) as log:
        for number in range(12):
            camera(log, f"camera {number}", [20, 21])
        facts = status_of(settings, log, NOW)
    lines = [text for name, text in status_lines(facts) if name == "silent camera"]
    assert len(lines) == 10
    assert lines[0] == f"camera 0: last frame {iso_utc(NOW - 20 * DAY)}"
    assert facts["today"]["since"] == "2026-04-30T22:00:00.000Z"
