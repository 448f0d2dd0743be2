"""What is said of frames outlives the log and the card they were on."""

from __future__ import annotations

import json
from datetime import timedelta

from logbook import DAWN, NOW, frames, item, rows, say, take_in
from test_label_journal import as_older_releases_wrote_it, backup, journal, restored

from monitor.core.config import Settings
from monitor.core.domain import FileStamp, Observation, Scope
from monitor.log.media import BatchResult
from monitor.log.restore import restore_backup
from monitor.log.species_log import SpeciesLog
from monitor.recovery.journal_file import read_lines
from monitor.recovery.journal_lines import line_values, record_of
from monitor.recovery.label_journal import bring_together, differences, keep_journal, records_of
from monitor.recovery.recovery import make_sound

FACTS = (
    "SELECT m.id, m.path, m.sha256, m.size, m.width, m.height, d.name, m.event_id, m.captured_wall,"
    " m.captured_at, m.captured_local, m.utc_offset_seconds, m.captured_at_source,"
    " m.utc_offset_source, m.taken_in_at, m.label_id FROM media m"
    " JOIN deployment d ON d.id = m.deployment_id ORDER BY m.id"
)
FAR = 1_000_000


def test_a_labelled_frame_whose_card_has_gone_comes_back_with_its_label(kept: SpeciesLog) -> None:
    older = backup(kept)
    media = frames(kept, 3, minutes=10)
    kept.label([media[0]], [Observation("fox")], "Ana", "web", NOW, scope=Scope.EVENT)
    before = rows(kept, FACTS)
    with restored(kept, older) as log:
        assert bring_together(journal(log), log, NOW).waiting == 0
        assert rows(log, FACTS) == before
        shown = log.sightings_of(media)
        assert [(s.species, s.source, s.status, s.labelled_by) for s in shown] == [
            ("fox", "label", "pending", "Ana")
        ] * 3
        assert log.pending(9) == [], "no file of it was found so far"
        assert log.counts()["waiting_for_their_file"] == 3


def test_a_frame_that_came_back_from_the_journal_is_known_when_its_file_is_there(
    kept: SpeciesLog,
) -> None:
    older = backup(kept)
    (media,) = frames(kept, 1)
    say(kept, media, "fox")
    with restored(kept, older) as log:
        bring_together(journal(log), log, NOW)
        elsewhere = item("0000.jpg")
        assert take_in(log, [elsewhere]) == [media]
        assert [waiting.paths for waiting in log.pending(9)] == [(elsewhere.path,)]
        log.record(BatchResult(classified=(media,)), NOW)
        (sighting,) = log.sightings_of([media])
        assert (sighting.species, sighting.status) == ("fox", "classified")


def test_frames_from_the_journal_fall_into_the_events_that_intake_makes(kept: SpeciesLog) -> None:
    first, last = (item(f"{n:04d}.jpg", DAWN + n * timedelta(minutes=25)) for n in (0, 2))
    take_in(kept, [first, last])
    older = backup(kept)
    (between,) = take_in(kept, [item("0001.jpg", DAWN + timedelta(minutes=25))])
    alone, other = take_in(
        kept, [item("0009.jpg", DAWN + timedelta(hours=9)), item("0001.jpg", deployment="south")]
    )
    for media in (between, alone, other):
        say(kept, media, "fox")
    kept.correct_clock("south", timedelta(days=2), "Ana", "cli", NOW)
    before = rows(kept, FACTS)
    with restored(kept, older) as log:
        bring_together(journal(log), log, NOW)
        assert rows(log, FACTS) == before
        assert len({row[7] for row in before}) == 3


def test_a_clock_that_was_set_right_before_the_label_counts_for_the_frame(kept: SpeciesLog) -> None:
    take_in(kept, [item("0000.jpg")])
    older = backup(kept)
    kept.correct_clock("north", timedelta(days=2), "Ana", "cli", NOW)
    (media,) = take_in(kept, [item("0001.jpg", DAWN + timedelta(hours=3))])
    say(kept, media, "fox")
    before = rows(kept, FACTS)
    with restored(kept, older) as log:
        bring_together(journal(log), log, NOW)
        assert rows(log, FACTS) == before


def test_a_flag_and_an_undo_of_a_frame_that_has_gone_come_back(kept: SpeciesLog) -> None:
    older = backup(kept)
    media = frames(kept, 2)
    kept.flag(media[1], True, "Ben", "web", NOW)
    say(kept, media[0], "fox")
    kept.undo(media[0], "Ben", "web", NOW)
    with restored(kept, older) as log:
        outcome = bring_together(journal(log), log, NOW)
        assert (outcome.waiting, outcome.left_out, outcome.acts) == (0, [], 3)
        assert rows(log, "SELECT media_id FROM flag") == [(media[1],)]
        assert rows(log, "SELECT label_id FROM media") == [(None,), (None,)]
        assert differences(journal(log), log) == []


def test_an_act_that_fails_leaves_no_frame_behind_and_the_next_one_brings_it(
    kept: SpeciesLog,
) -> None:
    older = backup(kept)
    (media,) = frames(kept, 1)
    say(kept, media, "fox")
    kept.undo(media, "Ben", "web", NOW)
    say(kept, media, "hare")
    lines = journal(kept).read_bytes().splitlines(keepends=True)
    journal(kept).write_bytes(b"".join(lines[1:]))  # what is taken back is lost
    with restored(kept, older) as log:
        outcome = bring_together(journal(log), log, NOW)
        assert outcome.labels == 1 and rows(log, "SELECT count(*) FROM media") == [(1,)]
        assert [s.species for s in log.sightings_of([media])] == ["hare"]


def test_lines_of_older_releases_wait_for_their_frames_as_before(kept: SpeciesLog) -> None:
    older = backup(kept)
    media = frames(kept, 2)
    say(kept, media[0], "fox")
    kept.flag(media[1], True, "Ben", "web", NOW)
    as_older_releases_wrote_it(journal(kept))
    with restored(kept, older) as log:
        assert bring_together(journal(log), log, NOW).waiting == 2
        assert rows(log, "SELECT count(*) FROM media") == [(0,)]
        frames(log, 2)
        assert bring_together(journal(log), log, NOW).waiting == 0
        assert rows(log, "SELECT count(*) FROM label") == [(1,)]


def test_the_species_list_comes_back_right_while_labels_wait(kept: SpeciesLog) -> None:
    first = take_in(kept, [item("0000.jpg")])[0]
    older = backup(kept)
    second = take_in(kept, [item("0001.jpg", DAWN + timedelta(hours=9))])[0]
    say(kept, second, "fox")
    kept.rename_species("fox", "red fox", "Ana", "cli", NOW)
    say(kept, first, "red fox")
    as_older_releases_wrote_it(journal(kept))
    with restored(kept, older) as log:
        outcome = bring_together(journal(log), log, NOW)
        assert (outcome.waiting, outcome.left_out) == (1, [])
        assert [row.name for row in log.species()] == ["red fox"]
        assert log.species_named("fox") == "red fox"
        bring_together(journal(log), log, NOW)
        take_in(log, [item("0001.jpg", DAWN + timedelta(hours=9))])
        assert bring_together(journal(log), log, NOW).waiting == 0
        assert [(row.name, row.labels) for row in log.species()] == [("red fox", 2)]


def test_the_id_of_a_frame_is_not_given_to_another_one(
    kept: SpeciesLog, settings: Settings
) -> None:
    first = take_in(kept, [item("0001.jpg")])[0]
    older = backup(kept)
    on_card, _ = take_in(kept, [item("0002.jpg"), item("0003.jpg")])
    say(kept, on_card, "fox")
    (late,) = take_in(kept, [item("0004.jpg")])
    with keep_journal(restored(kept, older), settings) as log:
        bring_together(journal(log), log, NOW)
        again = take_in(log, [item("0003.jpg"), item("0001.jpg"), item("0002.jpg")])
        assert again[1:] == [first, on_card]
        assert again[0] > FAR + late
        assert log.taken_in_since("2000").media == 3
        assert log.figures().media_taken_in == 3
        assert log.newest_media(9) == [again[0], on_card, first]


def test_whoever_restores_skips_ids_and_once_more_others(
    kept: SpeciesLog, settings: Settings
) -> None:
    take_in(kept, [item("0001.jpg")])
    older = backup(kept)
    given = set()
    kept.close()
    for _ in range(2):
        restore_backup(older, kept.path, NOW)
        with SpeciesLog(kept.path) as log:
            given |= {*take_in(log, [item("0002.jpg")])}
            assert log.figures().media_taken_in == 2
    assert len(given) == 2 and min(given) > FAR


def test_a_log_that_begins_anew_skips_ids_too(kept: SpeciesLog, settings: Settings) -> None:
    frames(kept, 2)
    kept.close()
    kept.path.write_bytes(b"nonsense" * 999)
    make_sound(settings, NOW)
    with SpeciesLog(kept.path) as log:
        assert take_in(log, [item("0002.jpg")])[0] > FAR
        assert log.figures().media_taken_in == 1


def test_a_line_says_once_what_frames_of_an_event_share(kept: SpeciesLog) -> None:
    media = frames(kept, 20, minutes=1)
    kept.label([media[0]], [Observation("fox")], "Ana", "web", NOW, scope=Scope.EVENT)
    (line,) = read_lines(journal(kept))
    assert line["labels"][0]["media"]["deployment"] == "north"
    assert set(line["labels"][1]["media"]) == {"id", "path", "wall"}
    (record,) = records_of(journal(kept))
    written = kept.acts_after(0, 9)[0]
    for there, back in zip(written.labels, record.labels, strict=True):
        assert {k: v for k, v in there.media.items() if v is not None} == back.media
    assert record_of(json.loads(json.dumps(line_values(record, 20, 20)))) == record


def test_a_frame_with_all_that_a_camera_says_is_a_line_of_bounded_length(kept: SpeciesLog) -> None:
    from dataclasses import replace

    one = item("DCIM/100RECNX/IMG_0001.JPG")
    camera = {"make": "RECONYX", "model": "HYPERFIRE 2", "serial": "H2UF1234"}
    metadata = replace(one.metadata, **camera, temperature_celsius=12.5)
    (media,) = take_in(kept, [replace(one, metadata=metadata, stamp=FileStamp(2_412_345, 1))])
    say(kept, media, "fox")
    with_it = len(journal(kept).read_bytes())
    as_older_releases_wrote_it(journal(kept))
    growth = with_it - len(journal(kept).read_bytes())
    assert growth < 400
