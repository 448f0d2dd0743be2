"""Ticks that no clock can stall or flood, with the real APScheduler."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import time_machine

from monitor.service.ticks import MOST_LEFT, Ticks


def test_ticks_come_at_once_and_again_and_an_error_ends_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = threading.Semaphore(0)

    def fail() -> None:
        calls.release()
        raise OSError("disk is full")

    ticks = Ticks({"training": (0.05, fail)})
    ticks.start()
    assert all(calls.acquire(timeout=5) for _ in range(3))
    ticks.close()
    assert ticks.join(5) == []
    told = "it failed (OSError: disk is full); it is tried again by itself"
    assert ticks.problems() == {"training": told}
    assert "training failed (disk is full); it is tried again at its next time" in caplog.text
    assert "disk is full" in caplog.text


def test_a_tick_that_takes_long_is_never_run_twice_at_once() -> None:
    running, most = [0], [0]

    def slow() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.2)
        running[0] -= 1

    ticks = Ticks({"slow": (0.02, slow)})
    ticks.start()
    time.sleep(0.6)
    ticks.close()
    assert most[0] == 1


def test_a_clock_that_was_set_sets_the_ticks_anew(caplog: pytest.LogCaptureFixture) -> None:
    calls = threading.Semaphore(0)
    ticks = Ticks({"hourly": (3600.0, calls.release)})
    ticks.start()
    assert calls.acquire(timeout=5)
    wall, monotonic = time.time(), time.monotonic()
    assert not ticks.check_clock(wall, monotonic), "the first look only remembers"
    assert not ticks.check_clock(wall + 60, monotonic + 60), "time passes"
    assert not calls.acquire(timeout=0.2)
    two_years = 2 * 365 * 86400
    assert ticks.check_clock(wall + 60 - two_years, monotonic + 60)
    assert calls.acquire(timeout=5), "it ticks now, not in two years"
    assert "the clock was set by -63072000 s" in caplog.text
    assert not ticks.check_clock(wall + 61 - two_years, monotonic + 61)
    ticks.close()


def test_a_clock_set_from_1970_to_today_is_no_list_of_all_that_was_missed() -> None:
    """Also where nobody has looked at the clock yet: that would take hours and all memory."""
    calls = threading.Semaphore(0)
    with time_machine.travel(datetime(1970, 1, 1, tzinfo=UTC), tick=True) as traveller:
        ticks = Ticks({"often": (0.05, calls.release)})
        ticks.start()
        assert calls.acquire(timeout=5)
        traveller.move_to(datetime(2026, 11, 26, tzinfo=UTC))
        assert all(calls.acquire(timeout=5) for _ in range(5))
        ticks.close()


class Hanging:
    """A function that does not come back until it may."""

    def __init__(self) -> None:
        self.started, self.release = threading.Semaphore(0), threading.Event()

    def __call__(self) -> None:
        self.started.release()
        assert self.release.wait(30)


@pytest.fixture
def hang() -> Iterator[Hanging]:
    hang = Hanging()
    yield hang
    hang.release.set()


def test_closing_does_not_wait_and_names_what_runs(hang: Hanging) -> None:
    ticks = Ticks({"hang": (60.0, hang), "well": (60.0, lambda: None)})
    ticks.start()
    assert hang.started.acquire(timeout=5)
    before = time.monotonic()
    ticks.close()
    assert ticks.join(0.2) == ["hang"]
    assert time.monotonic() - before < 1
    assert ticks.hanging() == set() and ticks.problems() == {}, "it takes no longer than it may"
    hang.release.set()
    assert ticks.join(5) == []


def test_one_that_hangs_is_named_and_begun_anew_a_few_times_and_the_others_go_on(
    hang: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    calls = threading.Semaphore(0)
    jobs = {f"hang {number}": (60.0, hang) for number in range(12)}  # more than any pool holds
    ticks = Ticks(
        {**jobs, "alerts": (0.02, hang), "backup": (0.02, hang), "well": (0.02, calls.release)},
        {"alerts": 0.1, "backup": 0.1},
        {"backup"},
    )
    ticks.start()
    times = len(jobs) + 2 + MOST_LEFT
    assert all(hang.started.acquire(timeout=5) for _ in range(times))
    assert not hang.started.acquire(timeout=0.5), "no thread is lost for each tick"
    assert all(calls.acquire(timeout=5) for _ in range(10))
    assert ticks.hanging() == set(ticks.problems()) == {"alerts", "backup"}
    assert "has not come to an end" in ticks.problems()["backup"]
    assert "alerts hangs; it is left to itself and begun anew" in caplog.text
    assert "backup hangs" not in caplog.text
    hang.release.set()
    ticks.close()
    assert ticks.join(5) == []
    assert ticks.problems() == {}
