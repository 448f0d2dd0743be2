"""Worker threads: they go on after errors, end when told, and show when they hang."""

from __future__ import annotations

import threading
import time

import pytest

from monitor.system import workers
from monitor.system.workers import Doing, Worker


def test_a_step_that_raises_is_tried_again_after_a_growing_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    done = threading.Event()
    steps = iter([OSError("one"), OSError("two"), OSError("three"), None, OSError("four")])

    def step() -> bool:
        outcome = next(steps, None)
        if outcome is not None:
            raise outcome
        if len(pauses) > 4:
            done.set()
        return False

    worker = Worker("test", step, 0.5, 10)
    monkeypatch.setattr(workers, "LONGEST_PAUSE", 3.0)
    monkeypatch.setattr(worker, "_pause", lambda seconds, until: pauses.append(seconds))
    worker.start()
    assert done.wait(5)
    worker.stop()
    assert worker.join(5)
    assert pauses[:6] == [1.0, 2.0, 3.0, 0.5, 1.0, 0.5], "and a good step starts anew"


def test_its_problem_is_there_to_see_until_a_step_goes_well() -> None:
    go_well = threading.Event()

    def step() -> bool:
        if not go_well.is_set():
            raise ValueError("no card")
        return False

    worker = Worker("test", step, 0.01, 10)
    worker._wait = lambda seconds: time.sleep(0.01)  # type: ignore[method-assign]
    worker.start()
    _until(lambda: worker.problem == "ValueError: no card")
    go_well.set()
    _until(lambda: worker.problem is None)
    worker.stop()
    assert worker.join(5)


def test_it_goes_on_at_once_while_there_is_more_to_do() -> None:
    steps = []
    worker = Worker("test", lambda: not steps.append(1), idle_seconds=60, hang_seconds=10)
    worker.start()
    _until(lambda: len(steps) > 100)
    worker.stop()
    assert worker.join(5)


def test_a_step_that_does_not_come_back_counts_as_hung() -> None:
    release = threading.Event()
    worker = Worker("test", lambda: release.wait(30), 0.01, hang_seconds=5)
    worker.start()
    now = time.monotonic()
    assert not worker.hangs(now + 4)
    assert worker.hangs(now + 6)
    worker.stop()
    assert not worker.join(0.05)
    release.set()
    assert worker.join(5)
    assert worker.hangs(now), "a thread that is gone gives no sign of life either"


def test_a_long_pause_is_no_hang() -> None:
    worker = Worker("test", lambda: False, idle_seconds=30, hang_seconds=5)
    worker.start()
    _until(lambda: worker._beat > time.monotonic() + 20)
    assert not worker.hangs(time.monotonic() + 34)
    worker.stop()
    assert worker.join(1), "a pause is cut short"


def _until(true: object) -> None:
    deadline = time.monotonic() + 5
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_idle_worker_is_woken_when_there_is_something_to_do() -> None:
    news, steps = threading.Event(), threading.Semaphore(0)

    def step() -> bool:
        steps.release()
        return False

    worker = Worker("test", step, 3600, 10, news)
    worker.start()
    assert steps.acquire(timeout=10)
    news.set()
    assert steps.acquire(timeout=10)
    worker.stop()
    assert worker.join(10)


def _steps_of(seconds: float, hang_seconds: float) -> Worker:
    """A worker that has done two such steps."""
    steps = threading.Semaphore(0)

    def step() -> bool:
        time.sleep(seconds)
        steps.release()
        return True

    worker = Worker("test", step, 0.01, hang_seconds)
    worker.start()
    assert steps.acquire(timeout=5)
    assert steps.acquire(timeout=5)
    worker.stop()
    return worker


def test_a_worker_whose_steps_are_always_long_is_not_called_hung() -> None:
    worker = _steps_of(0.4, hang_seconds=1.0)
    assert not worker.hangs(worker._beat + 1.8), "five times the longest step before"
    assert worker.join(5)


def test_a_step_that_hung_is_no_measure_for_those_after_it() -> None:
    worker = _steps_of(0.4, hang_seconds=0.1)
    worker._thread.is_alive = lambda: True  # type: ignore[method-assign]
    assert worker.hangs(worker._beat + 0.2)


def test_a_long_step_that_gets_on_is_not_hung() -> None:
    release, path = threading.Event(), [0]
    worker = Worker("test", lambda: release.wait(30), 0.01, 10, at=lambda: path[0])
    worker.start()
    now = time.monotonic()
    assert not worker.hangs(now)
    for path[0] in range(1, 4):
        now += 9
        assert not worker.hangs(now)
    assert worker.hangs(now + 11)
    assert worker.words(now + 11) == "no sign of life for 11 s"
    worker.stop()
    release.set()
    assert worker.join(5)


def test_it_says_what_it_was_at_when_it_hangs() -> None:
    release = threading.Event()
    worker = Worker("test", lambda: release.wait(30), 0.01, 5, doing=lambda: "at north/1.jpg")
    worker.start()
    assert worker.words(worker._beat + 12) == "no sign of life for 12 s, at north/1.jpg"
    release.set()
    worker.stop()
    assert worker.join(5)
    assert worker.words(time.monotonic()) == "its thread is gone"


def test_of_several_threads_the_one_that_takes_longest_is_named() -> None:
    doing, release, begun = Doing(), threading.Event(), threading.Barrier(3)
    assert doing.longest() is None

    def work(name: str) -> None:
        with doing.note(lambda: name):
            begun.wait(5)
            release.wait(10)

    first = threading.Thread(target=work, args=("the first",))
    first.start()
    _until(lambda: doing.longest() is not None)
    second = threading.Thread(target=work, args=("the second",))
    second.start()
    begun.wait(5)
    assert str(doing.longest()).startswith("the first for 0 s")
    release.set()
    first.join(5)
    second.join(5)
    assert doing.longest() is None
