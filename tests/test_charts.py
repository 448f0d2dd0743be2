"""Detections, and the charts that are drawn from them."""

from __future__ import annotations

import io
import itertools
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from drawn import dangers, seen, texts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from logbook import DAWN, GAP, NOW, frames, item, predict, publish, say, take_in
from PIL import Image

from monitor.core.domain import BLANK, UNKNOWN, ModelState, Observation
from monitor.core.events import summarise
from monitor.log import detections as scan
from monitor.log.detected import Detections, Place
from monitor.log.media import BatchResult
from monitor.log.species_log import SpeciesLog
from monitor.log.versions import VersionRow
from monitor.report.charts import paper
from monitor.report.charts.accumulation import accumulation, mao_tau
from monitor.report.charts.activity import activity, concentration, kernel_density
from monitor.report.charts.catalogue import NAMES, Choice, chart
from monitor.report.charts.choice import effort
from monitor.report.charts.kept import KeptDetections
from monitor.report.charts.learning import learning_curve
from monitor.report.charts.over_time import OTHER_SPECIES, over_time
from monitor.report.charts.places import places_map
from monitor.report.charts.sun import night

HOSTILE = (
    "<script>alert(1)</script>",
    "]]>&amp;<!--",
    r"$\frac{1}{0}$ $x$",
    "_beginning",
    'a" onload="x',
    "\x01bell",
    "狐 🦊",
)


# -- the scan ---------------------------------------------------------------------------------

Said = tuple[str, int, str, float, tuple[tuple[str, int | None], ...], bool]
_PREDICTED = st.sampled_from(["", "red fox", "badger", "silver fox", BLANK, UNKNOWN])
_OBSERVED = st.tuples(
    st.sampled_from(["red fox", "badger", "silver fox", "hare", BLANK]),
    st.sampled_from([None, 1, 2, 5]),
)
_FRAME = st.tuples(
    st.sampled_from(["north", "south"]),
    st.sampled_from([0, 5, 29, 30, 50]),  # minutes after the frame before
    _PREDICTED,
    st.integers(1, 8).map(lambda eighths: eighths / 8),  # sums are exact
    st.just(()) | st.lists(_OBSERVED, max_size=2, unique_by=lambda o: o[0]).map(tuple),
    st.sampled_from([False, False, False, True]),  # rejected
)


def _fill(log: SpeciesLog, said: list[Said], *, merge: bool) -> None:
    publish(log)
    at = DAWN
    items = []
    for number, (deployment, minutes, _, _, _, rejected) in enumerate(said):
        at += timedelta(minutes=minutes)
        reason = "truncated" if rejected else None
        items.append(item(f"{number}.jpg", at, deployment, rejected=reason))
    media_ids = take_in(log, items)
    log.record(BatchResult(classified=tuple(media_ids)), NOW)
    for media_id, (_, _, species, p, observed, rejected) in zip(media_ids, said, strict=True):
        if species and not rejected:
            predict(log, {media_id: (species, p)})
        if observed and not rejected:
            observations = [Observation(name, count) for name, count in observed]
            log.label([media_id], observations, "Ana", "cli", NOW, insist=True)
    known = {row.name for row in log.species()}
    if merge and {"silver fox", "red fox"} <= known:
        log.merge_species("silver fox", "red fox", "Ana", "cli", NOW)


def _as_told(log: SpeciesLog) -> set[tuple[object, ...]]:
    """What `summarise` says of every event, animals one by one."""
    sightings = list(log.sightings())
    events = {s.event_id for s in sightings}
    told = set()
    for event, shots in log.event_frames([e for e in events if e is not None]).items():
        named = {o.species for s in shots if s.source == "label" for o in s.observations}
        animals = named - {BLANK, UNKNOWN}
        for about in animals or {None}:
            one = summarise(shots, about)
            facts = (one.species, one.deployment, one.start_local, one.frames, one.count or 0)
            told.add((event, *facts, one.source == "label"))
    return told


def _as_scanned(found: Detections) -> set[tuple[object, ...]]:
    rows = zip(
        found.event.tolist(),
        found.species_code.tolist(),
        found.deployment_code.tolist(),
        found.local_minutes.tolist(),
        found.frames.tolist(),
        found.count.tolist(),
        found.labelled.tolist(),
        strict=True,
    )
    return {
        (
            event,
            found.species[species] if species >= 0 else None,
            found.places[place].name,
            (datetime(1970, 1, 1) + timedelta(minutes=minutes)).isoformat(),
            *rest,
        )
        for event, species, place, minutes, *rest in rows
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_FRAME, max_size=12), st.booleans(), st.integers(1, 20))
def test_a_detection_is_what_the_frames_of_an_event_say(
    said: list[Said], merge: bool, page: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "EVENTS_A_PAGE", page)
        with SpeciesLog(Path(folder) / "log.db", create=True) as log:
            _fill(log, said, merge=merge)
            found = log.detections()
            told = _as_told(log)
            assert _as_scanned(found) == told
            assert len(found) == len(told)
            assert found.event.tolist() == sorted(found.event.tolist())


def test_an_event_with_one_frame_of_a_species_shows_it_whatever_it_says(log: SpeciesLog) -> None:
    publish(log)
    visit = frames(log, 3, minutes=1) + frames(log, 1, deployment="south")
    boar, labelled, person, alone = visit
    predict(log, {boar: ("wild boar", 0.9), labelled: ("wild boar", 0.9), person: ("person", 0.6)})
    say(log, alone, "hare", "person")
    (event, other) = (log.sightings_of([i])[0].event_id for i in (boar, alone))
    assert log.events_showing(["person"]) == {event, other}
    say(log, person, "wild boar")
    assert log.events_showing(["person"]) == {other}


def test_the_end_of_an_event_is_its_newest_frame(log: SpeciesLog) -> None:
    frames(log, 4, minutes=20)
    found = log.detections()
    assert len(found) == 1
    assert (found.last_local_minutes - found.local_minutes).tolist() == [60]
    assert found.at.tolist() == [int((DAWN - datetime(1970, 1, 1)).total_seconds())]


def test_a_scan_ends_when_nobody_waits_for_it(
    log: SpeciesLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "EVENTS_A_PAGE", 1)
    frames(log, 9)
    asked: list[float] = []

    def go_on(done: float) -> bool:
        asked.append(done)
        return len(asked) < 3

    with pytest.raises(scan.ScanStopped):
        log.detections(go_on)
    assert len(asked) == 3 and 0 < asked[0] < asked[2] < 1


def test_a_scan_lets_others_write_between_its_pages(
    log: SpeciesLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "EVENTS_A_PAGE", 1)
    media_ids = frames(log, 3)

    def go_on(done: float) -> bool:
        if len(log.sightings_of([1])[0].observations) == 0:
            say(log, media_ids[2], "lynx")  # a species that the scan did not know at its start
            log.checkpoint()
        return True

    found = log.detections(go_on)
    assert _as_scanned(found) == _as_told(log)
    assert "lynx" in found.species


def test_private_species_leave_only_that_a_camera_was_at_work(log: SpeciesLog) -> None:
    media_ids = frames(log, 3)
    say(log, media_ids[0], "Person")
    say(log, media_ids[1], "Person", "red fox")
    say(log, media_ids[2], "badger")
    shown = log.detections().without({"person"})
    named = [shown.species[code] if code >= 0 else None for code in shown.species_code]
    assert named == [None, "red fox", "badger"]
    assert shown.frames.tolist() == [0, 1, 1]
    assert shown.first_of_event.tolist() == [True, True, True]


def test_the_surest_frames_are_labelled_ones_that_the_model_is_sure_of(log: SpeciesLog) -> None:
    publish(log)
    ids = frames(log, 6)
    guesses = {ids[0]: ("red fox", 0.6), ids[1]: ("red fox", 0.9), ids[2]: ("red fox", 0.95)}
    predict(log, {**guesses, ids[3]: ("badger", 0.99), ids[5]: ("red fox", 0.97)})
    say(log, ids[0], "red fox")
    say(log, ids[1], "red fox")
    say(log, ids[4], "red fox")  # no prediction
    say(log, ids[5], "badger")
    assert log.most_certain("red fox", None, None, 9) == [ids[1], ids[0], ids[4], ids[2]]
    assert log.most_certain("red fox", None, None, 2) == [ids[1], ids[0]]
    assert log.frames_showing(["red fox"]) == 4
    assert log.frames_showing(["red fox", "badger"]) == 6
    assert log.frames_showing(["nobody"]) == 0
    assert log.frames_showing(["red fox"], "2026-04-01T08:00:00.000Z") == 2


# -- what is kept -----------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept(log: SpeciesLog, clock: Clock) -> Iterator[KeptDetections]:
    kept = KeptDetections(log.detections, lambda: frozenset({"person"}), clock)
    yield kept
    kept.close()


def test_there_is_nothing_before_the_first_scan_and_nobody_waits_for_it() -> None:
    go = threading.Event()

    def slow(go_on: object) -> Detections:
        go.wait(10)
        return seen([("red fox", "north", "2026-01-01T12:00")])

    kept = KeptDetections(slow, frozenset)
    start = time.monotonic()
    assert kept.get() is None
    assert kept.wait(0.01) is None
    assert time.monotonic() - start < 5
    go.set()
    found = kept.wait(10)
    assert found is not None and len(found) == 1
    kept.close()


def test_what_is_kept_is_read_anew_when_it_is_old_and_somebody_asks(
    log: SpeciesLog, kept: KeptDetections, clock: Clock
) -> None:
    frames(log, 2)
    assert len(kept.wait(10) or ()) == 2
    take_in(log, [item("late.jpg", DAWN + timedelta(days=9))])
    clock.seconds = 59
    assert len(kept.wait(10) or ()) == 2
    clock.seconds = 61
    before = kept.get()
    assert before is not None and len(before) in (2, 3)  # at once, old or new
    after = kept.wait(10)
    assert after is not None and len(after) == 3


def test_a_log_that_takes_long_to_read_is_read_seldom(clock: Clock) -> None:
    reads = []

    def slow(go_on: object) -> Detections:
        reads.append(clock.seconds)
        clock.seconds += 10
        return seen([])

    kept = KeptDetections(slow, frozenset, clock)
    kept.wait(10)
    clock.seconds = 10 + 199
    kept.wait(10)
    assert reads == [0]
    clock.seconds = 10 + 201
    kept.wait(10)
    assert reads == [0, 211]
    kept.close()


def test_private_species_are_never_handed_out(log: SpeciesLog, kept: KeptDetections) -> None:
    media_ids = frames(log, 2)
    say(log, media_ids[0], "person")
    say(log, media_ids[1], "hare")
    found = kept.wait(10)
    assert found is not None
    assert {found.species[code] for code in found.species_code if code >= 0} == {"hare"}


def test_closing_does_not_wait_for_the_whole_scan() -> None:
    started = threading.Event()

    def endless(go_on: object) -> Detections:
        started.set()
        while go_on(0.5):  # type: ignore[operator]
            time.sleep(0.01)
        raise scan.ScanStopped("stopped")

    kept = KeptDetections(endless, frozenset)
    kept.get()
    assert started.wait(10)
    start = time.monotonic()
    kept.close()
    assert time.monotonic() - start < 5
    assert kept.get() is None


def test_a_scan_that_fails_is_tried_again_and_what_was_kept_stays(clock: Clock) -> None:
    answers: list[object] = [seen([("hare", "n", "2026-01-01T12:00")]), ValueError("broken"), None]

    def read(go_on: object) -> Detections:
        answer = answers.pop(0)
        if isinstance(answer, ValueError):
            raise answer
        assert isinstance(answer, Detections)
        return answer

    kept = KeptDetections(read, frozenset, clock)
    assert len(kept.wait(10) or ()) == 1
    clock.seconds = 61
    assert len(kept.wait(10) or ()) == 1
    assert len(answers) == 1
    kept.close()


def test_drawings_are_kept_while_they_are_asked_for(kept: KeptDetections) -> None:
    made = []

    def draw() -> bytes:
        made.append(1)
        return b"drawn"

    for _ in range(3):
        assert kept.drawn("a", draw) == b"drawn"
    assert len(made) == 1
    for number in range(200):
        kept.drawn(number, draw)
    kept.drawn("a", draw)
    assert len(made) == 202


# -- numbers ----------------------------------------------------------------------------------


def _minutes(*hours: float) -> np.ndarray:
    return np.bincount([int(hour * 60) % 1440 for hour in hours], minlength=1440)


def _series(order: int, x: float) -> float:
    """I_order(x), from its power series."""
    terms = range(120)
    logs = [
        (2 * k + order) * math.log(x / 2) - math.lgamma(k + 1) - math.lgamma(k + order + 1)
        for k in terms
    ]
    return sum(math.exp(one) for one in logs)


def test_the_concentration_is_that_of_taylors_rule() -> None:
    chance = np.random.default_rng(1)
    hours = chance.normal(23, 2, 200)
    minutes = _minutes(*hours)
    angles = (np.arange(1440) + 0.5) * 2 * math.pi / 1440
    each = np.repeat(angles, minutes)
    kappa = 0.0
    for order in (1, 2, 3):
        moment = abs(np.exp(1j * order * each).mean())
        low, high = 1e-6, 100.0
        for _ in range(100):
            middle = (low + high) / 2
            if _series(order, middle) / _series(0, middle) < moment:
                low = middle
            else:
                high = middle
        kappa = max(kappa, low)
    nu = 3 * 200 * kappa**2 * _series(2, 2 * kappa)
    nu = (nu / (4 * math.sqrt(math.pi) * _series(0, kappa) ** 2)) ** 0.4
    assert concentration(angles, minutes) == pytest.approx(nu, rel=1e-6)


def test_the_density_is_a_sum_of_von_mises_kernels_over_the_circle() -> None:
    minutes = _minutes(23.5, 23.9, 0.2, 0.5, 1, 5, 22, 23, 0, 0, 0.1)
    density = kernel_density(minutes)
    assert density.sum() / 60 == pytest.approx(1)
    assert density.argmax() / 60 >= 23 or density.argmax() / 60 < 1
    angles = (np.arange(1440) + 0.5) * 2 * math.pi / 1440
    nu = concentration(angles, minutes)
    each = np.repeat(angles, minutes)
    kernels = np.exp(nu * np.cos(angles[:, None] - each)).mean(axis=1)
    kernels *= 2 * math.pi / 24 / (2 * math.pi * _series(0, nu))
    assert density == pytest.approx(kernels, rel=1e-3, abs=1e-6)


def test_two_peaks_opposite_each_other_are_not_smoothed_away() -> None:
    chance = np.random.default_rng(2)
    hours = np.concatenate([chance.normal(6, 1, 200), chance.normal(18, 1, 200)])
    density = kernel_density(_minutes(*hours))
    assert density[6 * 60] > 3 * density[12 * 60]
    assert density[18 * 60] > 3 * density[0]


def test_activity_around_midnight_peaks_at_midnight() -> None:
    times = ["23:30", "23:45", "23:55", "00:05", "00:10", "00:20", "23:50", "00:00", "01:00"]
    rows = [("red fox", "n", f"2026-01-{day:02d}T{t}") for day, t in enumerate(times * 2, 1)]
    found = activity(seen(rows))
    peak = found.patterns[0].peak
    assert peak is not None and min(peak, 24 - peak) < 0.5
    assert found.alt == "Red fox: most active around 00:00, 18 detections."
    few = activity(seen(rows[:4]))
    assert few.patterns[0].density is None
    assert few.alt == "Red fox: 4 detections, too few for a curve."


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 1439), min_size=1, max_size=40))
def test_every_density_integrates_to_one(minutes: list[int]) -> None:
    density = kernel_density(np.bincount(minutes, minlength=1440))
    assert (density >= 0).all()
    assert density.sum() / 60 == pytest.approx(1, abs=1e-6)


def test_the_expected_curve_of_a_worked_example() -> None:
    # three samples; A in all of them, B and C in one each
    expected, deviation, estimated = mao_tau(np.array([3, 1, 1]), 3, np.array([0, 1, 2, 3]))
    assert expected == pytest.approx([0, 5 / 3, 7 / 3, 3])
    assert estimated == pytest.approx(3 + 2 / 3)
    assert deviation[1] ** 2 == pytest.approx(11 / 9 - (25 / 9) / (11 / 3))


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 6).flatmap(
        lambda samples: st.tuples(
            st.just(samples), st.lists(st.integers(1, samples), min_size=1, max_size=4)
        )
    )
)
def test_the_expected_curve_is_the_mean_over_all_choices_of_samples(
    example: tuple[int, list[int]],
) -> None:
    samples, often = example
    expected, _, _ = mao_tau(np.array(often), samples, np.arange(samples + 1))
    # where a species was seen does not matter, only how often: put it in the first samples
    for many in range(samples + 1):
        choices = list(itertools.combinations(range(samples), many))
        found = [sum(min(chosen, default=99) < count for count in often) for chosen in choices]
        assert expected[many] == pytest.approx(np.mean(found))


def test_camera_days_run_from_frame_to_frame_and_stop_where_nothing_came_for_long() -> None:
    found = seen(
        [
            ("hare", "a", "2026-01-01T12:00"),
            (None, "a", "2026-01-10T12:00"),
            (BLANK, "a", "2026-06-01T12:00"),
            ("badger", "b", "2026-01-03T23:59"),
        ]
    )
    work = effort(found)
    assert work.camera_days == 10 + 1 + 1
    day = (date(2026, 1, 3) - date(1970, 1, 1)).days
    assert work.until(day) == 3 + 1
    curve = accumulation(found)
    assert curve.camera_days[-1] == 12
    assert curve.found_at.tolist() == [1, 4]
    assert curve.expected[-1] == pytest.approx(2)
    assert "2 species in 12 camera-days" in curve.alt


@pytest.mark.parametrize(
    ("last", "unit", "starts"),
    [
        ("2026-01-20", "day", 20),
        ("2026-03-31", "week", 14),  # from Monday 29 December
        ("2028-02-01", "month", 26),
        ("2034-02-01", "year", 9),
    ],
)
def test_the_unit_of_time_grows_with_the_span(last: str, unit: str, starts: int) -> None:
    rows = [("hare", "a", "2026-01-01T00:00"), ("hare", "a", f"{last}T23:59"),
            ("fox", "a", "2026-01-05T00:00"), (BLANK, "a", "2026-01-05T00:00")]  # fmt: skip
    found = over_time(seen(rows))
    assert (found.unit, len(found.starts)) == (unit, starts)
    assert found.counts.sum() == 3
    for start, end, total in zip(found.starts, found.ends, found.counts.T, strict=True):
        days = [date.fromisoformat(at[:10]) for name, _, at in rows if name != BLANK]
        assert total.sum() == sum(start <= day < end for day in days)
    if unit == "week":
        assert all(start.weekday() == 0 for start in found.starts)


def test_rare_species_are_counted_together() -> None:
    rows = [(f"s{n}", "a", f"2026-01-{d:02d}T10:00") for n in range(9) for d in range(1, 12 - n)]
    found = over_time(seen(rows))
    assert found.species == ("s0", "s1", "s2", "s3", "s4", "s5", OTHER_SPECIES)
    assert found.counts[-1].sum() == 5 + 4 + 3
    assert over_time(seen(rows), ["s8"]).counts.sum() == 3


def test_a_choice_narrows_time_place_and_species(log: SpeciesLog) -> None:
    for media_id in frames(log, 5, minutes=24 * 60):
        say(log, media_id, "hare")
    for media_id in frames(log, 2, deployment="south"):
        say(log, media_id, "badger")
    found = log.detections()
    since = datetime.fromisoformat("2026-04-02T06:00:00+00:00")
    until = datetime.fromisoformat("2026-04-04T06:00:00+00:00")

    def total(choice: Choice) -> int:
        return sum(int(row[2] or 0) for row in chart("over_time", found, [], choice).rows())

    assert total(Choice()) == 7
    assert total(Choice(since=since)) == 4
    assert total(Choice(since, until)) == 2
    assert total(Choice(deployment="south")) == 2
    assert total(Choice(deployment="nowhere")) == 0
    assert total(Choice(species=("hare",))) == 5
    names = [row[0] for row in chart("map", found, [], Choice(deployment="south")).rows()]
    assert names == ["south"]


def test_the_map_counts_by_deployment_and_names_those_without_coordinates() -> None:
    places = [Place("a", 52.0, 13.0), Place("b", 52.1, 13.1), Place("barn")]
    rows = [("hare", "a", "2026-01-01T10:00"), ("fox", "a", "2026-01-01T11:00"),
            ("fox", "barn", "2026-01-01T11:00"), (BLANK, "b", "2026-01-01T11:00")]  # fmt: skip
    found = places_map(seen(rows, places))
    assert [row[3:] for row in found.rows()] == [(2, 2), (0, 0), (1, 1)]
    written = " ".join(texts(paper.svg(found)))
    assert "Without coordinates: barn" in written
    assert "km" in written and "N" in written
    assert "52.04° N" in written and "13.04° E" in written


@pytest.mark.parametrize(
    "places",
    [
        [Place("a", 0.0, 179.99), Place("b", 0.1, -179.99)],
        [Place("pole", 90.0, 0.0), Place("near", 89.999, 180.0)],
        [Place("alone", -33.9, 18.4)],
        [Place("same", 1.0, 1.0), Place("spot", 1.0, 1.0)],
        [Place(f"{n:03d}", 52 + n / 1000, 13 + n % 7 / 100) for n in range(120)],
    ],
)
def test_every_place_on_earth_can_be_drawn(places: list[Place]) -> None:
    found = places_map(seen([("hare", places[0].name, "2026-01-01T10:00")], places))
    assert "</svg>" in paper.svg(found).decode()


def test_cameras_on_both_sides_of_the_date_line_are_neighbours() -> None:
    places = [Place("a", 0.0, 179.99), Place("b", 0.1, -179.99)]
    written = texts(paper.svg(places_map(seen([("hare", "a", "2026-01-01T10:00")], places))))
    assert {"a", "b"} <= set(written)
    assert "5 km" in written


def test_night_is_when_the_sun_is_down_in_berlin() -> None:
    berlin = [Place("a", 52.52, 13.405)]
    june = night(seen([("hare", "a", "2026-06-21T12:00")], berlin, offset_hours=2))
    assert june is not None
    assert june == pytest.approx((21 + 33 / 60, 4 + 43 / 60), abs=0.15)
    december = night(seen([("hare", "a", "2026-12-21T12:00")], berlin, offset_hours=1))
    assert december == pytest.approx((15 + 54 / 60, 8 + 15 / 60), abs=0.15)
    cape = [Place("a", 71.2, 25.8)]
    assert night(seen([("hare", "a", "2026-06-21T12:00")], cape, offset_hours=2)) is None
    assert night(seen([("hare", "a", "2026-06-21T12:00")])) is None


# -- drawings ---------------------------------------------------------------------------------


def _version(number: int, state: ModelState, **figures: object) -> VersionRow:
    live = NOW.isoformat() if state in (ModelState.LIVE, ModelState.RETIRED) else None
    name, at = f"v{number:04d}", f"2026-0{number}-01T00:00:00.000Z"
    return VersionRow(number, name, state, at, live, "vgg16", "x", "0" * 64, "", figures)


VERSIONS = [
    _version(3, ModelState.LIVE, held_out={"accuracy": 0.9, "macro_recall": 0.8, "media": 40}),
    _version(2, ModelState.REJECTED, held_out={"accuracy": None, "macro_recall": 0.3, "media": 40}),
    _version(1, ModelState.RETIRED),
]


@pytest.fixture(scope="module")
def season() -> Detections:
    """A season at four cameras."""
    chance = np.random.default_rng(5)
    places = [Place("oak", 52.2, 13.4), Place("creek", 52.21, 13.42), Place("barn")]
    names = ["red fox", "badger", "roe deer", BLANK, None, "hare", "lynx"]
    rows = []
    for _ in range(600):
        at = datetime(2026, 1, 1) + timedelta(minutes=int(chance.integers(0, 200 * 1440)))
        name = names[min(int(chance.exponential(1.5)), 6)]
        rows.append((name, ["oak", "creek", "barn"][int(chance.integers(3))], at.isoformat()))
    return seen(rows, places, offset_hours=1)


@pytest.mark.parametrize("name", NAMES)
def test_equal_numbers_give_equal_bytes(name: str, season: Detections) -> None:
    first, second = (chart(name, season, VERSIONS) for _ in range(2))  # type: ignore[arg-type]
    assert paper.svg(first) == paper.svg(second)
    assert paper.png(first) == paper.png(second)
    assert paper.table(first) == paper.table(second)


@pytest.mark.parametrize("name", NAMES)
def test_a_drawing_is_small_loads_nothing_runs_nothing_and_says_what_it_shows(
    name: str, season: Detections
) -> None:
    made = chart(name, season, VERSIONS)  # type: ignore[arg-type]
    drawn = paper.svg(made)
    assert dangers(drawn) == []
    assert b"<!DOCTYPE" not in drawn and b"<metadata" not in drawn
    assert made.alt in texts(drawn)
    assert len(drawn) < 200_000
    with Image.open(io.BytesIO(paper.png(made))) as image:
        assert image.size[0] == int(paper.WIDTH * paper.PNG_DPI)
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    lines = paper.table(made).decode().splitlines()
    assert lines[0] == ",".join(made.columns)
    assert len(lines) > 1


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_log_gives_a_chart_that_says_so(name: str, log: SpeciesLog) -> None:
    made = chart(name, log.detections(), log.versions())  # type: ignore[arg-type]
    assert made.alt in (
        "No detections in this period.",
        "No deployments yet.",
        "No model was trained yet.",
    )
    drawn = paper.svg(made)
    assert texts(drawn).count(made.alt) == 2  # the title, and where the chart would be
    assert list(made.rows()) == [] or name == "accumulation"
    assert paper.png(made).startswith(b"\x89PNG")


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("name", ["over_time", "activity", "map"])
def test_names_are_shown_as_they_are_whatever_they_hold(name: str, hostile: str) -> None:
    rows = [(hostile, hostile, f"2026-01-{day:02d}T10:00") for day in range(1, 15)]
    found = seen(rows, [Place(hostile, 1.0, 1.0)])
    made = chart(name, found, [])  # type: ignore[arg-type]
    drawn = paper.svg(made)
    assert dangers(drawn) == []
    shown = paper.plain(hostile)[:20]
    assert any(shown in text for text in texts(drawn)[1:]), texts(drawn)  # 0 is the title
    assert paper.png(made).startswith(b"\x89PNG")
    assert hostile in paper.table(made).decode() or '"' in hostile or name == "over_time"


def test_a_chart_of_all_times_that_a_camera_may_believe_in_can_be_drawn() -> None:
    rows = [("hare", "a", "0001-01-01T00:00"), ("hare", "a", "9998-12-31T23:59"),
            ("hare", "a", "2026-01-01T00:00")]  # fmt: skip
    for name in ("over_time", "activity", "accumulation"):
        made = chart(name, seen(rows), [])  # type: ignore[arg-type]
        assert dangers(paper.svg(made)) == []
        assert len(paper.table(made)) < 10_000_000


def test_versions_without_figures_have_their_place_in_the_curve() -> None:
    curve = learning_curve(VERSIONS)
    assert [point.name for point in curve.points] == ["v0001", "v0002", "v0003"]
    assert [point.went_live for point in curve.points] == [True, False, True]
    assert "v0003 is live: accuracy 90%, mean recall per species 80%" in curve.alt
    assert any("v0001" in text for text in texts(paper.svg(curve)))


def test_charts_may_be_drawn_by_several_threads_at_once(season: Detections) -> None:
    alone = {name: paper.svg(chart(name, season, VERSIONS)) for name in NAMES}
    drawn: dict[tuple[str, int], bytes] = {}

    def draw(turn: int) -> None:
        for name in NAMES:
            drawn[name, turn] = paper.svg(chart(name, season, VERSIONS))

    threads = [threading.Thread(target=draw, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 4 * len(NAMES)
    assert all(content == alone[name] for (name, _), content in drawn.items())


def test_drawing_needs_no_pyplot_and_the_numbers_need_no_matplotlib() -> None:
    script = (
        "import sys; from monitor.report.charts.catalogue import chart"
        "; assert 'matplotlib' not in sys.modules"
        "; from monitor.report.charts import paper"
        "; from monitor.report.charts.learning import learning_curve"
        "; paper.svg(learning_curve([])); assert 'matplotlib' in sys.modules"
        "; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_gap_of_events_is_that_of_the_log(log: SpeciesLog) -> None:
    """The charts count events as the log cut them."""
    frames(log, 3, minutes=GAP.total_seconds() / 60 - 1)
    frames(log, 3, minutes=GAP.total_seconds() / 60, deployment="south")
    assert len(log.detections()) == 1 + 3
