"""From a folder to settled files: what is taken in, what is left alone, what heals."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path

import pytest
from field import Field, jpeg, snapshot
from hypothesis import given
from hypothesis import strategies as st

import monitor.pipeline.filesystem_events as hints_page
import monitor.pipeline.watch as watch_page
from monitor.core.domain import FileStamp
from monitor.log.media import KnownFile
from monitor.pipeline.filesystem_events import Hint
from monitor.pipeline.watch import Watcher, is_settled, needs_intake

STAMP = FileStamp(10, 20)


def warnings_of(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


# --- when is a file settled


@given(st.floats(0, 10), st.floats(0, 10))
def test_a_file_is_settled_once_it_held_still_for_long_enough(still, quiet):
    assert is_settled(STAMP, STAMP, still, quiet) == (still >= quiet)
    assert not is_settled(FileStamp(11, 20), STAMP, still, quiet)
    assert not is_settled(FileStamp(10, 21), STAMP, still, quiet)


def test_a_file_needs_intake_unless_the_log_knows_it_as_it_is():
    assert needs_intake(STAMP, None)
    assert needs_intake(STAMP, KnownFile(STAMP, None, False))
    assert needs_intake(STAMP, KnownFile(FileStamp(10, 21), 1, False))
    assert not needs_intake(STAMP, KnownFile(STAMP, 1, False))


def test_a_file_still_being_copied_is_left_alone(field):
    data = jpeg(1)
    for end in (100, 200, 300):
        field.put("cam/a.jpg", data[:end])
        field.look(11)
        field.look(1.5)
        assert field.media() == []
    field.put("cam/a.jpg", data)
    field.settle()
    assert field.media() == [("cam/a.jpg", "pending")]


def test_a_slow_writer_is_waited_for_until_it_closes_the_file(listening):
    data = jpeg(1)
    with open(listening.root / "a.jpg", "wb", buffering=0) as file:
        file.write(data[:100])
        listening.hear_until(lambda: listening.watcher._unsettled)
        file.write(data[100:200])
        assert listening.media() == []
        file.write(data[200:])
    listening.hear_until(listening.media)
    assert listening.media() == [("a.jpg", "pending")]
    assert listening.watcher.idle()


def test_a_file_renamed_into_place_is_taken_in_at_once(listening):
    part = listening.put(".a.jpg.Xy12", jpeg(1))
    os.rename(part, listening.root / "a.jpg")
    listening.hear_until(listening.media)
    assert listening.media() == [("a.jpg", "pending")]


def test_a_file_renamed_in_from_elsewhere_is_taken_in_when_it_holds_still(listening, tmp_path):
    (tmp_path / "b.jpg").write_bytes(jpeg(2))
    os.rename(tmp_path / "b.jpg", listening.root / "b.jpg")
    listening.hear_until(lambda: listening.watcher._unsettled)
    listening.settle()
    assert listening.names() == ["b.jpg"]


def test_a_file_that_comes_and_is_renamed_before_it_settles_is_taken_in_once(field):
    path = field.put("a.jpg", jpeg(1))
    field.look(11)
    os.rename(path, field.root / "b.jpg")
    field.rescan()
    assert field.media() == [("b.jpg", "pending")]


# --- folders


def test_a_folder_moved_in_is_taken_in_whole(listening, tmp_path):
    for number in range(5):
        (tmp_path / "card" / f"{number % 2}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "card" / f"{number % 2}" / f"{number}.jpg").write_bytes(jpeg(number))
    os.rename(tmp_path / "card", listening.root / "card")
    listening.hear_until(lambda: len(listening.watcher._unsettled) == 5)
    listening.settle()
    assert len(listening.media()) == 5


def test_a_moved_in_folder_larger_than_a_batch_is_scanned_in_slices(field, monkeypatch):
    monkeypatch.setattr(watch_page, "BATCH", 10)
    field.settle()
    for number in range(35):
        field.put(f"card/{number}.jpg", jpeg(number))
    asked = []
    known = field.watcher._known_files
    field.watcher._known_files = lambda paths: asked.append(len(paths)) or known(paths)
    field.watcher.hints._hear(Hint(field.root, os.fsencode(field.root / "card"), is_folder=True))
    assert not field.watcher.idle()
    field.settle(9)  # before the next poll
    assert len(field.media()) == 35
    assert max(asked) <= 10


def test_a_folder_deleted_loses_nothing_of_the_log(field, caplog):
    field.put("cam/a.jpg", jpeg(1))
    field.put("b.jpg", jpeg(2))
    field.settle()
    before = field.media()
    shutil.rmtree(field.root / "cam")
    field.rescan()
    assert field.media() == before
    assert field.log.counts()["waiting_for_their_file"] == 0
    assert warnings_of(caplog) == []


def test_a_folder_that_does_not_exist_yet_is_waited_for_with_one_warning(tmp_path, caplog):
    late = tmp_path / "late"
    field = Field(tmp_path, polling=False, folders=(late,))
    for _ in range(50):
        field.look(1.0)
    assert len(warnings_of(caplog)) == 1
    assert f"{late} is not there" in warnings_of(caplog)[0]
    field.root = late
    field.put("a.jpg", jpeg(1))
    field.look(3)
    field.settle(9)
    assert field.names() == ["a.jpg"]
    field.put("b.jpg", jpeg(2))
    field.hear_until(lambda: len(field.media()) == 2)
    field.close()


def test_an_unmounted_folder_that_comes_back_is_taken_up_again(tmp_path, caplog):
    field = Field(tmp_path, polling=False)
    field.put("a.jpg", jpeg(1))
    field.settle()
    before = field.media()
    os.rename(field.root, tmp_path / "gone")
    for _ in range(60):
        field.look(1.0)
    assert len(warnings_of(caplog)) == 1
    assert field.media() == before
    assert field.log.counts()["waiting_for_their_file"] == 0
    os.rename(tmp_path / "gone", field.root)
    field.put("b.jpg", jpeg(2))
    field.look(3)
    field.settle(9)
    assert field.names() == ["a.jpg", "b.jpg"]
    assert len(warnings_of(caplog)) == 1
    field.put("c.jpg", jpeg(3))
    field.hear_until(lambda: len(field.media()) == 3)
    field.close()


def test_a_root_replaced_by_another_is_said_once_and_listened_to(tmp_path, caplog):
    field = Field(tmp_path, polling=False)
    field.put("a.jpg", jpeg(1))
    field.settle()
    os.rename(field.root, tmp_path / "card")  # as an empty mount point shows after umount
    field.root.mkdir()
    for _ in range(60):
        field.look(1.0)
    said = warnings_of(caplog)
    assert len(said) == 1
    assert "another one now" in said[0]
    assert field.media() == [("a.jpg", "pending")]
    field.put("b.jpg", jpeg(2))
    field.hear_until(lambda: len(field.media()) == 2)
    field.close()


@pytest.mark.parametrize("polling", [True, False])
def test_a_folder_that_comes_back_during_a_scan_is_scanned_after_it(tmp_path, polling):
    first, second = tmp_path / "1", tmp_path / "2"
    for name in "ab":
        second.mkdir(exist_ok=True)
        (second / f"{name}.jpg").write_bytes(jpeg(ord(name)))
    field = Field(tmp_path, polling=polling, folders=(first, second))
    field.look(3)  # the scan has passed the first folder, which is not there
    first.mkdir()
    (first / "c.jpg").write_bytes(jpeg(3))
    field.look(3)
    field.settle(9)
    assert len(field.media()) == 3
    field.close()


def test_an_unreadable_folder_is_told_once_and_again_only_after_it_was_well(
    field, caplog, monkeypatch
):
    field.put("locked/a.jpg", jpeg(1))
    real = os.scandir

    def refuse(path):
        if os.fsdecode(path).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        for _ in range(4):
            field.rescan()
    assert len(warnings_of(caplog)) == 1
    assert field.reports[-1]["problems"] == [f"{field.root}/locked: Permission denied"]
    field.rescan()
    assert field.reports[-1]["problems"] == []
    assert field.names() == ["locked/a.jpg"]


# --- what a failing step must not lose


def test_what_a_failed_look_into_the_log_had_in_hand_is_found_again(field):
    field.put("a.jpg", jpeg(1))
    known = field.watcher._known_files

    def broken(paths):
        raise OSError("the log cannot be read")

    field.watcher._known_files = broken
    with pytest.raises(OSError, match="cannot be read"):
        field.look()
    assert not field.watcher.idle()
    field.watcher._known_files = known
    field.settle(9)
    assert field.names() == ["a.jpg"]


def test_files_that_the_log_could_not_take_in_are_brought_again(field, monkeypatch):
    for number in range(150):
        field.put(f"{number}.jpg", jpeg(number))
    field.look()
    real, calls = field.log.take_in, []

    def second_fails(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("disk full")
        return real(*arguments)

    monkeypatch.setattr(field.log, "take_in", second_fails)
    with pytest.raises(RuntimeError, match="disk full"):
        field.settle()
    assert len(field.media()) == 64
    assert not field.watcher.idle()
    field.settle(9)
    assert len(field.media()) == 150


# --- many files, many hints


def test_a_scan_goes_on_under_a_constant_flow_of_hints(field, monkeypatch):
    monkeypatch.setattr(watch_page, "BATCH", 10)
    for number in range(60):
        field.put(f"{number}.jpg", jpeg(number))
    noisy = Hint(field.root, os.fsencode(field.root / "0.jpg"))
    for _ in range(40):
        for _ in range(20):
            field.watcher.hints._hear(noisy)
        field.look(0.5)
    assert len(field.media()) == 60


def test_no_more_files_wait_than_memory_allows_and_none_is_forgotten(field, monkeypatch):
    monkeypatch.setattr(watch_page, "MOST_UNSETTLED", 20)
    monkeypatch.setattr(watch_page, "BATCH", 10)
    for number in range(95):
        field.put(f"{number}.jpg", jpeg(number))
    most = 0
    for _ in range(60):
        field.look(0.5)
        most = max(most, len(field.watcher._unsettled))
        if len(field.watcher._unsettled) >= 20:
            assert not field.watcher.busy() or field.watcher._more_settled  # no spinning
    assert most <= 30
    field.settle()
    assert len(field.media()) == 95


def test_hints_beyond_what_memory_allows_are_healed_by_a_scan(field, monkeypatch):
    field.settle()
    monkeypatch.setattr(watch_page, "MOST_UNSETTLED", 2)
    for number in range(6):
        path = field.put(f"{number}.jpg", jpeg(number))
        field.watcher.hints._hear(Hint(field.root, os.fsencode(path)))
        field.look()
    assert not field.watcher.idle()
    field.settle(40)
    assert len(field.media()) == 6


def test_an_overflow_of_hints_is_healed_by_a_scan_within_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(hints_page, "QUEUE_LENGTH", 3)
    field = Field(tmp_path, polling=False)
    field.settle()
    for number in range(10):
        field.put(f"{number}.jpg", jpeg(number))
    field.hear_until(lambda: field.watcher.hints.lost)
    assert not field.watcher.idle()
    field.settle(20)  # reconcile_seconds are 300
    assert len(field.media()) == 10
    field.close()


def test_a_new_frame_does_not_wait_for_a_backlog_to_hold_still(tmp_path):
    field = Field(tmp_path, polling=False, settle_seconds=3600)
    for number in range(50):
        field.put(f"old{number}.jpg", jpeg(number))
    field.look()
    field.put("new.jpg", jpeg(99))
    field.hear_until(field.media)
    assert field.names() == ["new.jpg"]
    field.close()


def test_polling_rests_longer_where_a_scan_takes_long(field):
    field.settle()
    field.watcher._scan_seconds = 30.0
    scans = len(field.reports)
    for _ in range(130):
        field.look(1.0)
    assert len(field.reports) == scans + 1


def test_with_events_the_folders_are_scanned_only_now_and_then(listening):
    scans = len(listening.reports)
    for _ in range(290):
        listening.look(1.0)
    assert len(listening.reports) == scans
    for _ in range(12):
        listening.look(1.0)
    assert len(listening.reports) == scans + 1


# --- at rest


def test_a_station_is_not_at_rest_before_its_first_scan_or_while_a_hint_waits(listening, tmp_path):
    assert listening.watcher.idle()
    assert not Watcher(listening.watcher.settings, dict, list, list).idle()
    listening.watcher.hints._hear(Hint(listening.root, b"/nothing"))
    assert not listening.watcher.idle()
    listening.look()
    assert listening.watcher.idle()


def test_a_scan_of_known_files_changes_nothing_at_all(field):
    for number in range(5):
        field.put(f"cam/{number}.jpg", jpeg(number))
    field.settle()
    rows, files = field.media(), snapshot(field.root)
    field.taken.clear()
    for _ in range(3):
        field.rescan()
    assert (field.media(), snapshot(field.root), field.taken) == (rows, files, [])


def test_a_symbolic_link_as_watched_folder_is_heard(tmp_path):
    (tmp_path / "card").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "card")
    field = Field(tmp_path, polling=False, folders=(link,))
    field.settle()
    (link / "a.jpg").write_bytes(jpeg(1))
    field.hear_until(field.media)
    path = next(iter(field.known_paths()))
    assert Path(os.fsdecode(os.path.join(os.fsencode(field.root), path))).parent.name == "link"
    field.close()
