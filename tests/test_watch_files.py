"""One file at a time: names, kinds, links, changes, and files that cannot be read."""

from __future__ import annotations

import errno
import logging
import os
import socket

import pytest
from field import Camp, Field, jpeg, snapshot

import monitor.pipeline.intake as intake_page
from monitor.core.domain import shown_path
from monitor.pipeline.filesystem_events import Hint
from monitor.pipeline.scan import MOST_KINDS, MOST_PROBLEMS, Scan, is_helper


def failing_open(monkeypatch, ending: str, number: int):
    """From now on, opening a file of that ending fails; returns the list of those attempts."""
    real, tried = os.open, []

    def refuse(path, *arguments, **named):
        if os.fsdecode(path).endswith(ending):
            tried.append(path)
            raise OSError(number, os.strerror(number))
        return real(path, *arguments, **named)

    monkeypatch.setattr(intake_page.os, "open", refuse)
    return tried


# --- which files are images


@pytest.mark.parametrize(
    "name",
    [
        "._a.jpg",
        ".~a.jpg",
        ".hidden.jpg",
        "Thumbs.db",
        "THUMBS.DB",
        "desktop.ini",
        "a.jpg.part",
        "a.jpg.partial",
        "a.jpg.tmp",
        "a.jpg.crdownload",
        "a.jpg~",
    ],
)
def test_hidden_and_helper_files_are_neither_taken_in_nor_counted(field, listening, name):
    assert is_helper(name)
    field.put(name, jpeg(1))
    field.settle()
    assert field.media() == []
    assert field.reports[-1]["other_types"] == {}
    assert field.watcher._file(Hint(field.root, os.fsencode(field.root / name))) is None


@pytest.mark.parametrize(
    "folder", [".trash", ".a/b", "@eaDir", "$RECYCLE.BIN", "System Volume Information/x"]
)
def test_hidden_folders_are_not_looked_into_by_scans_nor_by_events(listening, folder):
    listening.put(f"{folder}/a.jpg", jpeg(1))
    listening.put(f"cam/{folder}/b.jpg", jpeg(2))
    listening.put("cam/c.jpg", jpeg(3))
    listening.hear_until(lambda: listening.watcher._unsettled or listening.media())
    listening.rescan()
    assert listening.names() == ["cam/c.jpg"]


def test_a_hidden_folder_moved_in_is_not_looked_into(field):
    field.settle()
    field.put(".cache/a.jpg", jpeg(1))
    for name in (".cache", ".cache/deeper"):
        hint = Hint(field.root, os.fsencode(field.root / name), is_folder=True)
        field.watcher.hints._hear(hint)
    field.settle(9)
    assert field.media() == []


def test_a_watched_folder_may_itself_lie_in_a_hidden_one(tmp_path):
    root = tmp_path / ".station" / "frames"
    root.mkdir(parents=True)
    field = Field(tmp_path, polling=False, folders=(root,))
    field.settle()
    (root / "a.jpg").write_bytes(jpeg(1))
    field.hear_until(field.media)
    field.close()


def test_suffixes_count_in_either_case(field):
    for number, name in enumerate(("a.JPG", "b.Jpeg", "c.jpg", "d.PnG")):
        field.put(name, jpeg(number))
    field.settle()
    assert len(field.media()) == 4


def test_files_of_other_types_are_counted_by_type_after_each_scan(field):
    for name in ("a.avi", "b.AVI", "c.mp4", "notes", "d.x\n", "e.jpg"):
        field.put(name, jpeg(1))
    field.settle()
    assert field.reports[-1]["other_types"] == {".avi": 2, ".mp4": 1, "(no suffix)": 1, ".x\\n": 1}
    assert field.reports[-1]["files"] == 1
    os.remove(field.root / "c.mp4")
    field.rescan()
    assert ".mp4" not in field.reports[-1]["other_types"]


def test_a_thousand_kinds_of_suffixes_do_not_fill_the_memory(tmp_path):
    for number in range(MOST_KINDS + 50):
        (tmp_path / f"a.{number}").touch()
    scan = Scan(tmp_path, frozenset({".jpg"}))
    assert list(scan.files()) == []
    assert len(scan.others) == MOST_KINDS + 1
    assert scan.others["(other types)"] == 50


def test_a_disk_that_fails_at_every_file_does_not_fill_the_memory(tmp_path, monkeypatch):
    scan = Scan(tmp_path, frozenset({".jpg"}))
    for number in range(MOST_PROBLEMS + 50):
        scan._problem(b"/a/%d" % number, OSError(errno.EIO, "Input/output error"))
    assert len(scan.problems) == MOST_PROBLEMS


# --- names


NAMES = [
    b"line\nbreak.jpg",
    b"\"quotes\" and 'others'.jpg",
    "\N{FOX FACE} 狐.jpg".encode(),
    b"x" * 251 + b".jpg",
    b"not utf-8 \xff\xfe.jpg",
    b" leading and trailing .jpg",
    b"tab\tand\x1bescape.jpg",
    b"%s %d {x} $(y) `z`.jpg",
    b"back\\slash.jpg",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("events", [True, False])
def test_any_name_is_kept_exactly_and_shown_escaped(tmp_path, name, events):
    camp = Camp(tmp_path, polling=not events)
    camp.settle()
    camp.put(b"cam\xfe/" + name, jpeg(1))
    if events:
        camp.hear_until(lambda: camp.media() or camp.watcher._unsettled)
    camp.everything()
    assert set(camp.known_paths()) == {b"cam\xfe/" + name}
    (sighting,) = camp.log.sightings()
    assert sighting.path.isprintable()
    assert sighting.path == shown_path(os.fsencode(camp.root) + b"/cam\xfe/" + name)
    assert sighting.status == "classified"
    camp.close()


# --- kinds of files


def test_a_fifo_and_a_socket_are_counted_and_never_waited_for(field):
    os.mkfifo(field.root / "a.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(field.root)
        server.bind("b.jpg")  # the path of a socket may not be long
        os.chdir(here)
        field.put("c.jpg", jpeg(1))
        field.settle()
    assert field.names() == ["c.jpg"]
    assert field.reports[-1]["other_types"] == {"(no regular file)": 2}


def test_a_file_that_became_a_fifo_before_it_was_read_does_not_hang_the_intake(field):
    path = field.put("a.jpg", jpeg(1))
    field.look()
    found = field.watcher.step(field.now + 3)
    path.unlink()
    os.mkfifo(path)
    assert field.intake.take(found) == []
    assert field.problems() == ["not a regular file"]


def test_a_symbolic_link_to_a_file_is_taken_in_under_its_own_path(field, tmp_path):
    (tmp_path / "elsewhere.jpg").write_bytes(jpeg(1))
    (field.root / "a.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (field.root / "to nothing.jpg").symlink_to(tmp_path / "nothing")
    field.settle()
    assert field.media() == [("a.jpg", "pending")]
    assert field.reports[-1]["problems"] == []


def test_a_symbolic_link_to_a_folder_is_followed(field, tmp_path):
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "a.jpg").write_bytes(jpeg(1))
    (field.root / "cam").symlink_to(tmp_path / "card")
    field.settle()
    assert field.names() == ["cam/a.jpg"]


def test_loops_of_links_end(field):
    field.put("cam/a.jpg", jpeg(1))
    (field.root / "cam" / "up").symlink_to(field.root)
    (field.root / "cam" / "here").symlink_to(".")
    (field.root / "self.jpg").symlink_to("self.jpg")
    (field.root / "one").symlink_to("two")
    (field.root / "two").symlink_to("one")
    field.settle()
    assert field.media() == [("cam/a.jpg", "pending")]
    assert field.reports[-1]["problems"] == []


# --- files that change


def test_a_file_that_vanishes_between_scan_and_read_is_nothing(field, caplog):
    path = field.put("a.jpg", jpeg(1))
    field.look()
    found = field.watcher.step(field.now + 3)
    path.unlink()
    assert len(found) == 1
    assert field.intake.take(found) == []
    field.settle()
    assert (field.media(), field.problems()) == ([], [])
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_the_same_bytes_under_two_paths_are_one_media_with_both_paths(field):
    field.put("a.jpg", jpeg(1))
    field.settle()
    field.put("cam/b.jpg", jpeg(1))
    field.rescan()
    assert field.media() == [("a.jpg", "pending")]
    assert field.known_paths() == {b"a.jpg": 1, b"cam/b.jpg": 1}


def test_new_bytes_under_an_old_path_are_a_second_media_and_the_first_stays(field):
    field.put("a.jpg", jpeg(1))
    field.settle()
    field.put("a.jpg", jpeg(2, (50, 40)))
    field.rescan()
    assert field.media() == [("a.jpg", "pending"), ("a.jpg", "pending")]
    assert field.known_paths() == {b"a.jpg": 2}


def test_a_file_rewritten_within_one_tick_of_its_clock_is_read_again_when_it_is_closed(listening):
    path = listening.put("a.jpg", jpeg(1))
    listening.hear_until(listening.media)
    old = path.stat()
    other = jpeg(2)[:-2] + b"\0" * (old.st_size - len(jpeg(2))) + b"\xff\xd9"
    with open(path, "r+b") as file:  # the same size, and FAT keeps times to two seconds
        file.write(other[: old.st_size].ljust(old.st_size, b"\0"))
        file.flush()
        os.utime(file.fileno(), ns=(old.st_atime_ns, old.st_mtime_ns))
    listening.hear_until(lambda: len(listening.media()) == 2)


def test_a_file_written_to_between_scan_and_read_is_waited_for(field):
    field.put("a.jpg", jpeg(1)[:50])
    field.look()
    found = field.watcher.step(field.now + 3)
    field.put("a.jpg", jpeg(1))
    assert field.intake.take(found) == []
    assert not field.watcher.idle()
    field.settle(9)
    assert field.media() == [("a.jpg", "pending")]


# --- files that cannot be read


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_an_unreadable_file_is_told_once_and_retried_until_it_is_readable(
    field, caplog, monkeypatch, number
):
    field.put("locked.jpg", jpeg(1))
    field.put("b.jpg", jpeg(2))
    with monkeypatch.context() as patch:
        tried = failing_open(patch, "locked.jpg", number)
        for _ in range(3):
            field.rescan()
    assert len(tried) == 3
    assert field.names() == ["b.jpg"]
    assert field.problems() == [os.strerror(number)]
    assert field.log.counts()["unreadable_files"] == 1
    assert sum("it is tried again" in r.getMessage() for r in caplog.records) == 1
    field.rescan()
    assert field.names() == ["b.jpg", "locked.jpg"]
    assert field.problems() == []


def test_an_unreadable_file_is_tried_once_a_scan_not_all_the_time(field, monkeypatch):
    field.put("locked.jpg", jpeg(1))
    tried = failing_open(monkeypatch, "locked.jpg", errno.EACCES)
    for _ in range(100):
        field.look(0.1)
    assert len(tried) <= 2


def test_what_is_remembered_of_unreadable_files_does_not_grow_for_ever(field, monkeypatch):
    monkeypatch.setattr(intake_page, "MOST_TOLD", 3)
    failing_open(monkeypatch, ".jpg", errno.EACCES)
    for number in range(10):
        field.put(f"{number}.jpg", jpeg(number))
    field.settle()
    assert len(field.intake._told) <= 3
    assert field.log.counts()["unreadable_files"] == 10


# --- whose files they are


def test_no_file_of_the_user_is_written_moved_or_deleted_by_a_whole_run(tmp_path):
    camp = Camp(tmp_path)
    for number in range(6):
        camp.put(f"cam{number % 2}/{number}.jpg", jpeg(number))
    camp.put("cam0/again.jpg", jpeg(1))
    camp.put("cam0/torn.jpg", jpeg(7)[:200])
    camp.put("cam0/nothing.jpg", b"")
    camp.put("cam0/film.avi", b"RIFF")
    camp.put("cam0/.hidden.jpg", jpeg(8))
    (camp.root / "link.jpg").symlink_to(camp.root / "cam0" / "0.jpg")
    for path in camp.root.rglob("*"):
        os.utime(path, (1e9, 1e9), follow_symlinks=False)
    before = snapshot(camp.root)
    camp.everything()
    camp.everything()
    assert snapshot(camp.root) == before
    assert camp.log.counts()["pending"] == 0
    camp.close()
