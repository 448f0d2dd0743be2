"""Media and files in the log: one row for each content, nothing lost, nothing twice."""

from __future__ import annotations

import pytest
from logbook import DAWN, NOW, frames, item, rows, take_in

from monitor.core.domain import FileStamp
from monitor.log.engine import LogError
from monitor.log.learning import SplitRow
from monitor.log.media import BatchResult


def test_the_same_bytes_under_two_paths_are_one_media(log):
    first, second = take_in(log, [item("a.jpg", content="x"), item("b.jpg", content="x")])
    assert first == second
    assert set(log.find_media([first])[0].paths) == {
        b"/frames/north/a.jpg",
        b"/frames/north/b.jpg",
    }


def test_new_bytes_under_an_old_path_are_a_new_media(log):
    first, second = take_in(log, [item("a.jpg", content="x"), item("a.jpg", content="y")])
    assert first != second
    assert log.media_of_path(b"/frames/north/a.jpg") == second
    assert log.counts()["media"] == 2


def test_the_newest_pending_comes_first_and_what_is_done_comes_no_more(log):
    old, new, _ = take_in(
        log,
        [
            item("old", DAWN),
            item("new", DAWN.replace(hour=9)),
            item("bad", DAWN.replace(hour=10), rejected="truncated"),
        ],
    )
    assert [m.media_id for m in log.pending(9)] == [new, old]
    assert [m.media_id for m in log.pending(1)] == [new]
    log.record(BatchResult(classified=(new,), rejected=((old, "cannot be decoded"),)), NOW)
    assert log.pending(9) == []
    assert log.sightings_of([old])[0].rejected_reason == "cannot be decoded"


def test_a_media_whose_file_is_gone_waits_until_it_is_back(log):
    (media_id,) = take_in(log, [item("a.jpg")])
    log.record(BatchResult(absent=(media_id,)), NOW)
    assert log.pending(9) == []
    assert log.counts()["waiting_for_their_file"] == 1
    assert log.known_files([b"/frames/north/a.jpg"])[b"/frames/north/a.jpg"].waiting
    log.mark_found([media_id])
    assert len(log.pending(9)) == 1
    log.record(BatchResult(absent=(media_id,)), NOW)
    take_in(log, [item("elsewhere.jpg", content="/frames/north/a.jpg")])
    assert len(log.pending(9)) == 1


def test_an_unreadable_file_is_remembered_until_it_is_read_or_gone(log):
    for path in (b"/frames/north/a.jpg", b"/frames/b.jpg"):
        log.note_unreadable(path, FileStamp(1, 1), "Permission denied")
    assert log.counts()["unreadable_files"] == 2
    take_in(log, [item("a.jpg")])
    assert log.unreadable_paths() == [b"/frames/b.jpg"]
    log.forget_unreadable([b"/frames/b.jpg", b"/frames/north/a.jpg"])
    log.forget_unreadable([])
    assert log.unreadable_paths() == []
    assert log.media_of_path(b"/frames/north/a.jpg")


def test_a_batch_that_cannot_be_written_whole_is_not_written_at_all(log):
    (media_id,) = take_in(log, [item("a.jpg")])
    with pytest.raises(LogError, match="no model version 'v9'"):
        log.record(
            BatchResult(classified=(media_id,), predictions=(_prediction(media_id),), version="v9"),
            NOW,
        )
    assert rows(log, "SELECT status FROM media") == [("pending",)]


def _prediction(media_id):
    from monitor.core.domain import Prediction

    return Prediction(media_id, "fox", 0.9, (("fox", 0.9),))


def test_a_side_of_training_is_never_changed(log):
    (media_id,) = frames(log, 1)
    log.add_split([SplitRow(media_id, "heldout", "deployment", 1)])
    log.add_split([])
    with pytest.raises(LogError, match="UNIQUE"):
        log.add_split([SplitRow(media_id, "train", "deployment", 1)])
    assert [(s.media_id, s.side) for s in log.split()] == [(media_id, "heldout")]
