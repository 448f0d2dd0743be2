"""From a settled file to one row: hashes, stamps, reasons, and transactions that fail."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import threading
from datetime import UTC, datetime, timedelta

import pytest
from field import NOW, Camp, Field, jpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import monitor.pipeline.intake as intake_page
import monitor.system.reading as reading_page
from monitor.core.domain import FileStamp
from monitor.pipeline.intake import Missed
from monitor.pipeline.scan import Found, stamp_of
from monitor.system.reading import read_content, read_verified


def found_at(field: Field, path) -> Found:
    stamp = stamp_of(os.fsencode(path))
    assert stamp is not None
    return Found(field.root, os.fsencode(path), stamp)


def test_content_is_hashed_and_stamped(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(1))
    content = read_content(os.fsencode(path))
    assert content.data == jpeg(1)
    assert content.sha256 == hashlib.sha256(jpeg(1)).hexdigest()
    assert content.stamp == FileStamp(len(jpeg(1)), path.stat().st_mtime_ns)


def test_reading_waits_for_no_writer(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(OSError, match="not a regular file"):
        read_content(os.fsencode(tmp_path / "a.jpg"))


def test_a_file_that_grows_while_it_is_read_is_not_believed(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(1))
    real = os.fstat

    def after_a_writer(descriptor):
        facts = real(descriptor)
        with open(path, "ab") as file:
            file.write(b"more")
        return facts

    monkeypatch.setattr(intake_page.os, "fstat", after_a_writer)
    with pytest.raises(OSError, match="changed while it was read") as caught:
        read_content(os.fsencode(path))
    assert caught.value.errno == errno.ESTALE


def test_a_file_that_changed_since_it_was_listed_is_brought_again(field):
    path = field.put("a.jpg", jpeg(1))
    found = found_at(field, path)
    field.put("a.jpg", jpeg(2, (60, 60)))
    assert field.intake.read(found) is Missed.CHANGING
    assert field.intake.take([found]) == []
    assert not field.watcher.idle()


def test_a_file_that_is_too_large_is_hashed_whole_and_rejected_unread(field, monkeypatch):
    monkeypatch.setattr(intake_page, "MAX_FILE_BYTES", 1000)
    monkeypatch.setattr(reading_page, "MAX_FILE_BYTES", 1000)
    monkeypatch.setattr(reading_page, "HEAD_BYTES", 100)
    data = jpeg(1) + b"\0" * 5000
    field.intake.take([found_at(field, field.put("a.jpg", data))])
    (sighting,) = field.log.sightings()
    assert sighting.sha256 == hashlib.sha256(data).hexdigest()
    assert sighting.status == "rejected"
    assert "reads up to 1,000" in sighting.rejected_reason


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"GIF89a" + b"\0" * 50, "GIF"),
        (b"\0" * 500, "zero bytes"),
        (b"\xff\xd8\xff\xe0", "damaged JPEG"),
        (b"hello", "not an image"),
    ],
)
def test_what_is_no_image_is_rejected_with_a_reason_and_never_again(field, data, words, caplog):
    path = field.put("a.jpg", data)
    field.settle()
    (sighting,) = field.log.sightings()
    assert words in sighting.rejected_reason
    field.taken.clear()
    field.rescan()
    assert field.taken == []
    assert sum("rejected media" in r.getMessage() for r in caplog.records) == 1
    path.write_bytes(jpeg(1))
    field.rescan()
    assert [status for _, status in field.media()] == ["rejected", "pending"]


def test_the_ids_of_known_media_come_back_too(field):
    first = field.intake.take([found_at(field, field.put("a.jpg", jpeg(1)))])
    second = field.intake.take([found_at(field, field.put("b.jpg", jpeg(1)))])
    assert first == second == [1]


def test_hundreds_of_files_go_in_in_order_and_whole(field):
    found = [found_at(field, field.put(f"{n:03d}.jpg", jpeg(n))) for n in range(200)]
    assert field.intake.take(found) == list(range(1, 201))
    assert field.names() == [f"{n:03d}.jpg" for n in range(200)]
    assert field.intake.take([]) == []


def test_no_more_than_two_transactions_worth_of_files_is_read_ahead(field, monkeypatch):
    monkeypatch.setattr(intake_page, "PER_TRANSACTION", 10)
    done, most, lock = 0, 0, threading.Lock()
    real_read, real_take = field.intake.read, field.log.take_in
    reading = 0

    def read(found):
        nonlocal reading, most
        with lock:
            reading += 1
            most = max(most, reading - done)
        return real_read(found)

    def take(items, *others):
        nonlocal done
        outcome = real_take(items, *others)
        with lock:
            done += len(outcome)
        return outcome

    monkeypatch.setattr(field.intake, "read", read)
    monkeypatch.setattr(field.log, "take_in", take)
    field.intake.take([found_at(field, field.put(f"{n}.jpg", jpeg(n))) for n in range(100)])
    assert done == 100
    assert most <= 20


def test_the_row_says_what_the_file_says(field):
    path = field.put("north/20260430_235959.jpg", jpeg(1, (48, 36)))
    field.intake.take([found_at(field, path)])
    (sighting,) = field.log.sightings()
    assert sighting.deployment == "north"
    assert sighting.captured_at == "2026-04-30T23:59:59.000Z"
    assert sighting.status == "pending"


def test_verified_bytes_come_from_the_first_path_that_still_has_them(tmp_path):
    other, gone, right = (os.fsencode(tmp_path / name) for name in ("other", "gone", "right"))
    for path, seed in ((other, 1), (right, 2)):
        with open(path, "wb") as file:
            file.write(jpeg(seed))
    wanted, strange = hashlib.sha256(jpeg(2)).hexdigest(), []
    paths = [other, gone, right]
    data = read_verified(paths, wanted, lambda path, stamp: strange.append((path, stamp)))
    assert data == jpeg(2)
    assert strange == [(other, stamp_of(other))]
    assert read_verified([other, gone], wanted) is None


# --- the invariant, whatever the files are


MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("good"), st.integers(0, 5), st.integers(0, 9)),
        st.tuples(st.just("torn"), st.integers(0, 5), st.integers(0, 9)),
        st.tuples(st.just("bytes"), st.integers(0, 5), st.binary(max_size=40)),
        st.tuples(st.just("copy"), st.integers(0, 5), st.integers(0, 5)),
        st.tuples(st.just("rename"), st.integers(0, 5), st.integers(6, 9)),
        st.tuples(st.just("delete"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("look"), st.just(0), st.just(0)),
        st.tuples(st.just("classify"), st.just(0), st.just(0)),
    ),
    max_size=14,
)


TICKS = itertools.count(10**18, 10**9)
"""Times of writing that differ, however quick the test is."""


def write(camp: Camp, slot: int, data: bytes) -> None:
    tick = next(TICKS)
    os.utime(camp.put(f"{slot}.jpg", data), ns=(tick, tick))


def make_move(camp: Camp, kind: str, slot: int, what) -> None:
    path = camp.root / f"{slot}.jpg"
    if kind == "good":
        write(camp, slot, jpeg(what))
    elif kind == "torn":
        write(camp, slot, jpeg(what)[: 60 + 40 * what])
    elif kind == "bytes":
        write(camp, slot, what)
    elif kind == "copy" and path.exists():
        write(camp, what, path.read_bytes())
    elif kind == "rename" and path.exists():
        os.replace(path, camp.root / f"{what}.jpg")
    elif kind == "delete":
        path.unlink(missing_ok=True)
    elif kind == "look":
        camp.look(0.7)
    elif kind == "classify":
        camp.step()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(moves=MOVES)
def test_whatever_happens_every_file_ends_as_one_media_row(tmp_path_factory, moves):
    camp = Camp(tmp_path_factory.mktemp("camp"))
    try:
        for kind, slot, what in moves:
            make_move(camp, kind, slot, what)
        camp.everything()
        there = {path.read_bytes() for path in camp.root.iterdir()}
        rows = {s.sha256: s for s in camp.log.sightings()}
        assert len(rows) == camp.log.counts()["media"]
        for data in there:
            row = rows[hashlib.sha256(data).hexdigest()]
            assert row.status == "classified" or (row.status == "rejected" and row.rejected_reason)
        counts = camp.log.counts()
        assert counts["pending"] == counts["waiting_for_their_file"]
        assert counts["unreadable_files"] == 0
        assert camp.step() == 0
    finally:
        camp.close()


def test_times_are_told_to_the_log_not_asked_of_the_machine(field):
    field.intake.take([found_at(field, field.put("a.jpg", jpeg(1)))])
    assert field.log.oldest_pending() == "2026-05-01T12:00:00.000Z"
    assert datetime(2026, 5, 1, 12, tzinfo=UTC) - NOW == timedelta(0)
