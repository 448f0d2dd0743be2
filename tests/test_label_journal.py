"""The journal of labels: nothing that a person said is only in the log."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from logbook import DAWN, NOW, frames, item, publish, rows, say, take_in

from monitor.core.config import Settings, load_settings
from monitor.core.domain import Observation, Scope
from monitor.log.engine import choose_sqlite
from monitor.log.media import BatchResult
from monitor.log.species_log import SpeciesLog
from monitor.recovery.journal_file import line_of, locked, read_lines, values_of
from monitor.recovery.label_journal import (
    bring_together,
    catch_up,
    damaged_lines,
    differences,
    is_apart,
    keep_journal,
    records_of,
)

LABELS = (
    "SELECT a.id, a.at, a.by, a.how, a.kind, a.scope, a.request, l.id, m.sha256, l.withdraws_id,"
    " o.position, s.name, o.count, o.sex, o.life_stage, o.behaviour, m.label_id FROM act a"
    " LEFT JOIN label l ON l.act_id = a.id LEFT JOIN media m ON m.id = l.media_id"
    " LEFT JOIN observation o ON o.label_id = l.id LEFT JOIN species s ON s.id = o.species_id"
    " ORDER BY a.id, l.id, o.position"
)
SPECIES = (
    "SELECT s.name, s.scientific_name, s.names, s.group_name, i.name, n.folded FROM species s"
    " JOIN species_name n ON n.species_id = s.id LEFT JOIN species i ON i.id = s.merged_into"
    " ORDER BY 1, 6"
)


def journal(log: SpeciesLog) -> Path:
    return log.path.parent / "labels.jsonl"


def said(log: SpeciesLog) -> list[object]:
    return [rows(log, LABELS), rows(log, SPECIES), rows(log, "SELECT media_id FROM flag")]


def everything_people_do(log: SpeciesLog, media: list[int]) -> None:
    say(log, media[0], "fox")
    log.add_species(
        "lynx",
        "Ana",
        "cli",
        NOW,
        names={"de": "Luchs"},
        aliases=("bobcat",),
        group="cats",
        hotkey="k",
    )
    fine = [Observation("red deer", 2, "female", "adult", "foraging"), Observation("lynx")]
    log.label([media[1]], fine, "Ben", "web", NOW, scope=Scope.EVENT, insist=True, request="r-1")
    blanks = log.label(media[2:5], [Observation("blank")], "Ana", "csv", NOW)
    say(log, media[2], "badger")
    log.undo(media[2], "Ben", "web", NOW + timedelta(seconds=1))
    log.undo(None, "Ana", "cli", NOW, act=blanks.act_id)
    log.flag(media[3], True, "Ben", "web", NOW)
    log.flag(media[4], True, "Ben", "web", NOW)
    log.flag(media[4], False, "Ben", "web", NOW)
    log.rename_species("fox", "red fox", "Ana", "cli", NOW)
    log.merge_species("red deer", "lynx", "Ana", "cli", NOW)
    say(log, media[0], "Luchs", by="Cleo")


def backup(log: SpeciesLog, name: str = "older.db") -> Path:
    target = log.path.parent / name
    log.backup(target)
    return target


def restored(log: SpeciesLog, older: Path) -> SpeciesLog:
    """The log again as it was when `older` was made."""
    log.close()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{log.path}{suffix}").unlink(missing_ok=True)
    shutil.copy(older, log.path)
    return SpeciesLog(log.path)


def as_older_releases_wrote_it(path: Path) -> None:
    """A journal whose lines say nothing of a frame but its content: labels wait for it."""
    lines = []
    for line in read_lines(path):
        line.pop("newest_media", None)
        (line.get("details") or {}).pop("media", None)
        for label in line.get("labels", ()):
            label.pop("media", None)
        lines.append(line_of(line))
    path.write_bytes(b"".join(lines))


def test_a_label_is_a_line_as_soon_as_it_is_said(kept: SpeciesLog) -> None:
    (media,) = frames(kept, 1)
    kept.label([media], [Observation("fox", 2, "male")], "Ana", "web", NOW, request="r-7")

    (line,) = [json.loads(text) for text in journal(kept).read_text().splitlines()]
    assert (line["kind"], line["by"], line["how"], line["request"]) == (
        "label",
        "Ana",
        "web",
        "r-7",
    )
    assert line["labels"] == [
        {
            "id": 1,
            "sha256": rows(kept, "SELECT sha256 FROM media")[0][0],
            "observations": [{"species": "fox", "count": 2, "sex": "male"}],
            "media": {
                "id": 1,
                "deployment": "north",
                "path": "/frames/north/0000.jpg",
                "size": 900,
                "width": 64,
                "height": 48,
                "wall": "2026-04-01T06:00:00",
                "wall_from": "exif",
                "offset": 0,
                "offset_from": "station",
                "taken_in": "2026-05-01T12:00:00.000Z",
            },
        }
    ]
    kept.undo(media, "Ben", "cli", NOW)
    undo = json.loads(journal(kept).read_text().splitlines()[1])
    assert undo["labels"][0]["withdraws"] == f"{line['key']}/{line['labels'][0]['sha256']}"


def test_all_that_people_said_since_an_old_copy_comes_back(kept: SpeciesLog) -> None:
    media = frames(kept, 6, minutes=20)
    say(kept, media[5], "hare")
    older = backup(kept)
    everything_people_do(kept, media)
    before = said(kept)

    with restored(kept, older) as log:
        assert said(log) != before
        outcome = bring_together(journal(log), log, NOW)
        assert (outcome.left_out, outcome.waiting) == ([], 0)
        assert said(log) == before
        assert differences(journal(log), log) == []


def test_replaying_twice_is_as_once(kept: SpeciesLog) -> None:
    media = frames(kept, 6, minutes=20)
    older = backup(kept)
    everything_people_do(kept, media)
    with restored(kept, older) as log:
        bring_together(journal(log), log, NOW)
        once, lines = said(log), journal(log).read_bytes()
        again = bring_together(journal(log), log, NOW)
        assert (again.acts, again.labels) == (0, 0)
        assert said(log) == once
        assert journal(log).read_bytes() == lines


def test_labels_wait_for_their_media_and_keep_their_order(kept: SpeciesLog) -> None:
    older = backup(kept)
    media = frames(kept, 6, minutes=20)
    everything_people_do(kept, media)
    before = said(kept)
    as_older_releases_wrote_it(journal(kept))
    with restored(kept, older) as log:
        outcome = bring_together(journal(log), log, NOW)
        assert outcome.waiting > 0 and is_apart(log)
        # somebody goes on labelling before the frames came back
        log.add_species("wolf", "Dan", "cli", NOW)
        media = frames(log, 6, minutes=20)
        say(log, media[0], "wolf", by="Dan")
        assert bring_together(journal(log), log, NOW).waiting == 0
        now = said(log)
        shown = rows(
            log,
            "SELECT by FROM act JOIN label l ON l.act_id = act.id JOIN media m "
            f"ON m.label_id = l.id WHERE m.id = {media[0]}",
        )
        assert shown == [("Dan",)], "the newest word counts, although the others came back later"
        theirs = [row[:-1] for row in now[0] if row[2] != "Dan"]
        assert theirs == [row[:-1] for row in before[0]]
        assert not is_apart(log)


def test_an_event_label_of_which_some_frames_are_gone_comes_back_for_the_others(
    kept: SpeciesLog,
) -> None:
    older = backup(kept)
    media = frames(kept, 4, minutes=1)
    kept.label([media[0]], [Observation("fox")], "Ana", "web", NOW, scope=Scope.EVENT)
    as_older_releases_wrote_it(journal(kept))
    with restored(kept, older) as log:
        some = [item(f"{n:04d}.jpg", DAWN + n * timedelta(minutes=1)) for n in (0, 1)]
        log.record(BatchResult(classified=tuple(take_in(log, some))), NOW)
        assert bring_together(journal(log), log, NOW).waiting == 2
        assert rows(log, "SELECT count(*), count(DISTINCT act_id) FROM label") == [(2, 1)]
        rest = [item(f"{n:04d}.jpg", DAWN + n * timedelta(minutes=1)) for n in (2, 3)]
        take_in(log, rest)
        assert bring_together(journal(log), log, NOW).waiting == 0
        assert rows(log, "SELECT count(*), count(DISTINCT act_id) FROM label") == [(4, 1)]
        assert rows(log, "SELECT count(*) FROM media WHERE label_id IS NULL") == [(0,)]


def test_a_log_that_somebody_put_back_by_hand_is_noticed_with_the_next_label(
    kept: SpeciesLog, settings: Settings
) -> None:
    media = frames(kept, 3)
    older = backup(kept)
    say(kept, media[0], "fox")
    say(kept, media[1], "hare")
    with keep_journal(restored(kept, older), settings) as log:
        say(log, media[2], "boar", by="Dan")  # takes an id that the journal knows otherwise
        assert is_apart(log)
        say(log, media[2], "pig", by="Dan")
        outcome = bring_together(journal(log), log, NOW)
        assert outcome.left_out == []
        assert sorted(
            rows(log, "SELECT name FROM observation JOIN species ON id = species_id")
        ) == [("boar",), ("fox",), ("hare",), ("pig",)]
        bring_together(journal(log), log, NOW)
        assert rows(log, "SELECT count(*) FROM label") == [(4,)]
    with restored(log, older) as once_more:
        bring_together(journal(log), once_more, NOW)
        assert rows(once_more, "SELECT count(*) FROM label") == [(4,)]


def test_an_act_sent_again_meanwhile_counts_once(kept: SpeciesLog) -> None:
    (media,) = frames(kept, 1)
    older = backup(kept)
    kept.label([media], [Observation("fox")], "Ana", "web", NOW, request="r-1")
    with restored(kept, older) as log:
        log.reserve_ids(10, 10)
        log.label([media], [Observation("fox")], "Ana", "web", NOW, request="r-1")
        assert bring_together(journal(log), log, NOW).left_out == []
        assert rows(log, "SELECT count(*) FROM label") == [(1,)]


def test_a_kill_between_the_log_and_the_journal_loses_no_line(kept: SpeciesLog) -> None:
    media = frames(kept, 3)
    say(kept, media[0], "fox")
    kept.after_act = lambda: None  # killed just there
    say(kept, media[1], "hare")
    kept.rename_species("hare", "brown hare", "Ana", "cli", NOW)
    assert catch_up(journal(kept), kept, NOW) == 2
    assert catch_up(journal(kept), kept, NOW) == 0
    records = list(records_of(journal(kept)))
    assert [record.kind for record in records] == ["label", "label", "species-rename"]
    assert records[1].labels[0].observations[0][0] == "hare", "as it was called when it was said"


@pytest.mark.parametrize("rest", [b'{"crc": "0000', b"\0" * 4096, b'{"crc": "00000000", "v": 1}'])
def test_a_torn_last_line_swallows_nothing(kept: SpeciesLog, rest: bytes) -> None:
    media = frames(kept, 2)
    say(kept, media[0], "fox")
    with journal(kept).open("ab") as file:
        file.write(rest)
    say(kept, media[1], "hare")
    assert [r.id for r in records_of(journal(kept))] == [1, 2]
    assert damaged_lines(journal(kept)) == 1


def test_a_last_line_that_only_lost_its_end_of_line_still_counts(kept: SpeciesLog) -> None:
    media = frames(kept, 2)
    say(kept, media[0], "fox")
    os.truncate(journal(kept), journal(kept).stat().st_size - 1)
    say(kept, media[1], "hare")
    assert [r.id for r in records_of(journal(kept))] == [1, 2]
    assert damaged_lines(journal(kept)) == 0


def test_no_changed_byte_of_a_line_goes_unnoticed() -> None:
    line = line_of({"act": 1, "by": "Zoë", "labels": []})
    assert values_of(line) is not None and json.loads(line)["by"] == "Zoë"
    for place in range(len(line) - 1):
        changed = bytearray(line)
        changed[place] ^= 0x01
        assert values_of(bytes(changed)) is None


def test_a_line_that_was_damaged_is_written_again_from_the_log(kept: SpeciesLog) -> None:
    media = frames(kept, 3)
    for number in range(3):
        say(kept, media[number], "fox")
    content = bytearray(journal(kept).read_bytes())
    content[200] ^= 0xFF
    journal(kept).write_bytes(content)
    assert [r.id for r in records_of(journal(kept))] == [2, 3]
    bring_together(journal(kept), kept, NOW)
    assert sorted(r.id for r in records_of(journal(kept))) == [1, 2, 3]
    assert is_apart(kept) is False


def test_a_label_that_changed_in_the_log_is_told(kept: SpeciesLog) -> None:
    media = frames(kept, 2)
    say(kept, media[0], "fox")
    say(kept, media[1], "hare")
    kept.rename_species("fox", "red fox", "Ana", "cli", NOW)
    assert differences(journal(kept), kept) == []
    connection = choose_sqlite().module.connect(str(kept.path), isolation_level=None)
    connection.execute("DROP TRIGGER observation_is_never_changed")
    connection.execute("UPDATE observation SET species_id = 2 WHERE label_id = 1")
    (told,) = differences(journal(kept), kept)
    assert "act 1 " in told
    connection.execute("UPDATE observation SET species_id = 1 WHERE label_id = 1")
    connection.execute("DROP TRIGGER act_is_never_changed")
    connection.execute("UPDATE act SET by = 'Ena' WHERE id = 2")
    (told,) = differences(journal(kept), kept)
    assert "act 2 " in told
    connection.close()


def test_the_live_model_is_known_again(kept: SpeciesLog) -> None:
    publish(kept, "v0001")
    older = backup(kept)
    publish(kept, "v0002")
    with restored(kept, older) as log:
        log.add_version("v0002", "candidate", "small", "small", "0" * 64, "found", {}, NOW)
        bring_together(journal(log), log, NOW)
        assert log.live_version().name == "v0002"
    with restored(log, older) as log:
        told = bring_together(journal(log), log, NOW).left_out
        assert len(told) == 1 and "v0002 is not in the models directory" in told[0]
        assert log.live_version().name == "v0001"


def test_a_journal_that_cannot_be_written_stops_no_label(
    kept: SpeciesLog, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    media = frames(kept, 2)
    journal(kept).mkdir()
    say(kept, media[0], "fox")
    assert "cannot be written" in caplog.text and "labels.jsonl" in caplog.text
    journal(kept).rmdir()
    say(kept, media[1], "hare")
    assert [r.id for r in records_of(journal(kept))] == [1, 2]


def test_no_journal_where_the_config_wants_none(config: Path) -> None:
    config.write_text(config.read_text() + "journal: {enabled: false}\n")
    settings = load_settings(config)
    with SpeciesLog(settings.data_directory / "trapwatch.db", create=True) as log:
        say(keep_journal(log, settings), frames(log, 1)[0], "fox")
        assert not journal(log).exists()


WRITER = """
import sys; from pathlib import Path
from monitor.core.config import load_settings; from monitor.core.domain import Observation, utc_now
from monitor.log.species_log import open_log
from monitor.recovery.label_journal import keep_journal
settings = load_settings(Path(sys.argv[1]))
with keep_journal(open_log(settings.database.url), settings) as log:
    for n in range(25):
        log.label([1 + n % 3], [Observation("fox")], sys.argv[2], "cli", utc_now())
"""


def test_several_processes_write_one_journal_line_by_line(kept: SpeciesLog, config: Path) -> None:
    frames(kept, 3)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(config), name]) for name in "ABC"
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert damaged_lines(journal(kept)) == 0
    assert [r.id for r in records_of(journal(kept))] == list(range(1, 76))


def test_a_command_that_labels_keeps_the_journal(kept: SpeciesLog, config: Path) -> None:
    frames(kept, 2)
    for arguments in (
        ["label", "set", "1", "fox", "--by", "Ana"],
        ["label", "undo", "--by", "Ana"],
        ["species", "add", "lynx", "--by", "Ana"],
    ):
        command = [sys.executable, "-m", "monitor", *arguments, "--config", str(config)]
        subprocess.run(command, check=True, capture_output=True)
    assert [r.kind for r in records_of(journal(kept))] == ["label", "undo", "species-add"]


def test_a_large_journal_is_read_line_by_line(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "labels.jsonl"
    line = line_of({"act": 1, "labels": ["x" * 300]})
    with path.open("wb") as file:
        for _ in range(100):
            file.write(line * 500)
    tracemalloc.start()
    started = time.monotonic()
    assert sum(values is not None for values in read_lines(path)) == 50_000
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
    with locked(path) as file:
        assert file.last()["act"] == 1
    assert time.monotonic() - started < 30


def test_the_last_line_is_found_however_long_it_is(tmp_path: Path) -> None:
    with locked(tmp_path / "labels.jsonl") as file:
        assert file.last() is None
        file.append([{"act": 1}, {"act": 2, "labels": ["y" * 500_000]}])
        assert file.last()["act"] == 2


def test_a_new_journal_survives_a_power_cut_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, fsync = [], os.fsync

    def remember(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", remember)
    with locked(tmp_path / "labels.jsonl") as file:
        file.append([{"act": 1}])
    assert synced == [tmp_path, tmp_path / "labels.jsonl"]
