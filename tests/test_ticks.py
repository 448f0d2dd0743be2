"""Ticks that no clock can stall or flood, with the real APScheduler."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import pytest
import time_machine

from monitor.scheduler import Ticks


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
    assert "training failed; it is tried again at its next time" in caplog.text
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


def test_closing_can_do_without_waiting() -> None:
    started, release = threading.Event(), threading.Event()

    def hang() -> None:
        started.set()
        release.wait(10)

    ticks = Ticks({"hang": (60.0, hang)})
    ticks.start()
    assert started.wait(5)
    before = time.monotonic()
    ticks.close(wait=False)
    assert time.monotonic() - before < 1
    release.set()
