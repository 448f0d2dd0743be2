"""Events as hints: threads that die, limits that are reached, folders that go and come."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time

import pytest
from field import Field, jpeg
from watchdog.observers import Observer

import monitor.pipeline.filesystem_events as hints_page
from monitor.pipeline.filesystem_events import CHECK_SECONDS, LIMIT_CHECK_SECONDS, Hints


@pytest.fixture
def hints(tmp_path):
    one = Hints((tmp_path,), enabled=True)
    one.keep_alive(0.0)
    yield one
    one.close()


def wait_for(hints: Hints, name: str, seconds: float = 8.0) -> list:
    """The hints up to the first complete one of that name."""
    heard, end = [], time.monotonic() + seconds
    while not any(h.path.endswith(name.encode()) and h.is_complete for h in heard):
        assert time.monotonic() < end, heard
        heard += hints.take(100)
        time.sleep(0.01)
    return heard


def warnings_of(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def refuse_start(monkeypatch, number: int, after: int = 0) -> None:
    """Observers of the rest of this test cannot start, but for the first `after`."""
    real, started = Observer.start, []

    def start(self):
        started.append(self)
        if len(started) > after:
            raise OSError(number, os.strerror(number))
        real(self)

    monkeypatch.setattr(Observer, "start", start)


def test_closing_a_file_is_heard_as_complete_and_writing_to_it_is_not(hints, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"1")
    heard = wait_for(hints, "a.jpg")
    assert heard[0].is_complete is False
    assert all(h.folder == tmp_path and not h.is_folder for h in heard)


def test_a_new_folder_is_heard_and_files_in_it_too(hints, tmp_path):
    (tmp_path / "cam" / "deep").mkdir(parents=True)
    (tmp_path / "cam" / "deep" / "a.jpg").write_bytes(b"1")
    end, heard = time.monotonic() + 8, []
    while not any(h.is_folder for h in heard):
        assert time.monotonic() < end
        heard += hints.take(100)
        time.sleep(0.01)


def test_deleting_is_no_hint(hints, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"1")
    wait_for(hints, "a.jpg")
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "b.jpg").write_bytes(b"1")
    assert not [h for h in wait_for(hints, "b.jpg") if h.path.endswith(b"a.jpg")]


@pytest.mark.parametrize("who", ["emitter", "observer", "reader"])
def test_a_dead_event_thread_is_started_again(hints, tmp_path, caplog, who):
    observer = hints._observers[tmp_path]
    reader = getattr(observer, "_inotify_fd", None)
    (emitter,) = observer.emitters
    thread = {"emitter": emitter, "observer": observer, "reader": reader}[who]
    if thread is None:
        pytest.skip("this watchdog has no reader of its own")
    thread.stop()
    thread.join(5)
    assert hints.keep_alive(CHECK_SECONDS) is True  # so everything is scanned
    assert hints._observers[tmp_path] is not observer
    assert len(warnings_of(caplog)) == 1
    assert "died" in warnings_of(caplog)[0]
    (tmp_path / "a.jpg").write_bytes(b"1")
    wait_for(hints, "a.jpg")


def test_a_thread_that_dies_again_and_again_is_told_once(hints, tmp_path, caplog):
    for number in range(1, 5):
        hints._observers[tmp_path].stop()
        hints._observers[tmp_path].join(5)
        hints.keep_alive(number * CHECK_SECONDS)
    assert len(warnings_of(caplog)) == 1


def test_a_dead_emitter_costs_no_frame(tmp_path):
    field = Field(tmp_path, polling=False)
    field.settle()
    (emitter,) = field.watcher.hints._observers[field.root].emitters
    emitter.stop()
    emitter.join(5)
    field.put("a.jpg", jpeg(1))
    field.look(CHECK_SECONDS)
    field.settle(9)
    assert field.names() == ["a.jpg"]
    field.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE])
def test_at_the_inotify_limit_folders_are_scanned_with_one_clear_message(
    tmp_path, caplog, monkeypatch, number
):
    refuse_start(monkeypatch, number)
    other = tmp_path / "other"
    other.mkdir()
    field = Field(tmp_path, polling=False, folders=(tmp_path / "frames", other))
    field.settle()
    assert not field.watcher.hints.listening()
    field.put("a.jpg", jpeg(1))
    field.settle(20)
    for _ in range(60):
        field.look(1.0)
    assert field.names() == ["a.jpg"]
    (said,) = warnings_of(caplog)
    assert "limit" in said
    assert "sysctl fs.inotify.max_user_" in said
    field.close()


def test_whoever_takes_files_in_is_told_of_a_closed_one(hints, tmp_path):
    hints.keep_alive(0.0)
    (tmp_path / "a.jpg").write_bytes(b"a")
    assert hints.complete.wait(10)


def test_no_inotify_instance_to_be_had_is_no_end(tmp_path, caplog, monkeypatch):
    def none_left():
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr(hints_page, "Observer", none_left)
    hints = Hints((tmp_path,), enabled=True)
    assert hints.keep_alive(0.0) is False
    assert not hints.listening()
    assert "max_user_instances" in warnings_of(caplog)[0]


def test_a_limit_reached_by_a_subfolder_is_noticed_though_watchdog_says_nothing(
    tmp_path, caplog, monkeypatch
):
    refuse_start(monkeypatch, errno.ENOSPC, after=2)
    hints = Hints((tmp_path,), enabled=True)
    hints.keep_alive(0.0)
    assert hints.listening()
    hints.keep_alive(LIMIT_CHECK_SECONDS)
    assert not hints.listening()
    assert len(warnings_of(caplog)) == 1
    hints.close()


def test_another_reason_for_no_events_is_told_once_and_tried_again(tmp_path, caplog, monkeypatch):
    hints = Hints((tmp_path,), enabled=True)
    with monkeypatch.context() as patch:
        refuse_start(patch, errno.EIO)
        for number in range(20):
            assert hints.keep_alive(number * CHECK_SECONDS) is False
    assert len(warnings_of(caplog)) == 1
    assert not hints.listening()
    assert hints.keep_alive(100.0) is True
    assert hints.listening()
    hints.close()


def test_failed_starts_leave_no_threads_and_no_descriptors(tmp_path, monkeypatch):
    hints = Hints((tmp_path,), enabled=True)
    refuse_start(monkeypatch, errno.EIO)
    hints.keep_alive(0.0)
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for number in range(1, 20):
        hints.keep_alive(number * CHECK_SECONDS)
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before


def test_closing_ends_every_thread(tmp_path):
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    hints = Hints((tmp_path,), enabled=True)
    hints.keep_alive(0.0)
    assert threading.active_count() > before[0]
    hints.close()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before


def test_a_full_queue_drops_hints_and_says_so(hints, tmp_path, monkeypatch):
    hint = hints_page.Hint(tmp_path, b"/x")
    assert hints.lost is False
    for _ in range(hints_page.QUEUE_LENGTH + 5):
        hints._hear(hint)
    assert hints.lost is True
    assert len(hints.take(10**6)) == hints_page.QUEUE_LENGTH


def test_polling_starts_no_threads_but_sees_folders_come_back(tmp_path, caplog):
    folder = tmp_path / "share"
    before = threading.active_count()
    hints = Hints((folder,), enabled=False)
    assert hints.keep_alive(0.0) is False
    folder.mkdir()
    assert hints.keep_alive(2.0) is True
    assert hints.keep_alive(4.0) is False
    assert threading.active_count() == before
    assert not hints.listening()
    assert len(warnings_of(caplog)) == 1
