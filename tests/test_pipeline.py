"""Pending frames through decode, backbone and head; past ones re-scored; files that go and come."""

from __future__ import annotations

import gc
import os
import shutil
import threading
import time
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from field import LAYOUT, NOW, Camp, jpeg, sure_of

import monitor.pipeline.inference_threads as lanes_page
import monitor.pipeline.rescoring as rescoring_page
from monitor.core.domain import Observation

DAYS = [f"202605{day:02d}_120000.jpg" for day in range(1, 29)]
"""Names that tell the capture time, oldest first."""


@pytest.fixture(params=[2, 1], ids=["a lane for each thread", "one lane for all threads"])
def camp(tmp_path, request, monkeypatch):
    monkeypatch.setattr(lanes_page, "CALLS_AHEAD", 1)
    one = Camp(tmp_path, lanes=request.param)
    yield one
    one.close()


def count_reads(monkeypatch) -> list[bytes]:
    """Every path that is read for its pixels from now on."""
    read, real = [], lanes_page.read_verified

    def reading(paths, *others):
        read.extend(paths)
        return real(paths, *others)

    monkeypatch.setattr(lanes_page, "read_verified", reading)
    return read


def held_up_reads(monkeypatch) -> tuple[list[str], threading.Event]:
    """Names of files in the order in which threads begin to read them; all wait for the event."""
    begun, go_on, real = [], threading.Event(), lanes_page.read_verified

    def held_up(paths, *others):
        begun.append(os.path.basename(os.fsdecode(paths[0])))
        assert go_on.wait(20)
        return real(paths, *others)

    monkeypatch.setattr(lanes_page, "read_verified", held_up)
    return begun, go_on


def fill(camp: Camp, names=DAYS) -> None:
    for number, name in enumerate(names):
        camp.put(name, jpeg(number))
    camp.settle()


def small_pages(monkeypatch) -> None:
    """Past media are re-scored four at a time, one page at each step."""
    monkeypatch.setattr(rescoring_page, "FIRST_PAGE", 4)
    monkeypatch.setattr(rescoring_page, "next_size", lambda written, size, seconds: size)
    monkeypatch.setattr(rescoring_page, "WAIT_SECONDS", 20.0)


def number_of(camp: Camp, name: str) -> int:
    """The media of a file."""
    return next(s.media_id for s in camp.log.sightings() if s.path.endswith(name))


def forget_features(camp: Camp, *names: str) -> None:
    """Let the cache lose what it knows of these files."""
    for sighting in camp.log.sightings():
        if sighting.path.endswith(names):
            query = "DELETE FROM features WHERE sha256 = ?"
            camp.features._file._connection.execute(query, [bytes.fromhex(sighting.sha256)])


def classified(camp: Camp) -> list[str]:
    return sorted(path for path, status in camp.media() if status == "classified")


# --- order


def test_the_newest_frames_are_classified_first(camp):
    fill(camp)
    under_way = camp.pipeline._lanes.window
    assert under_way < len(DAYS)
    while camp.step():
        count = len(classified(camp))
        newest = DAYS[-min(count + under_way, len(DAYS)) :]  # those under way end in any order
        assert set(classified(camp)) <= set(newest)
    assert classified(camp) == DAYS


def test_a_frame_that_comes_during_a_backlog_goes_before_it(camp):
    for number in range(100):
        camp.put(f"20260501_12{number // 60:02d}{number % 60:02d}.jpg", jpeg(number))
    camp.settle()
    camp.step()
    camp.put("20260601_120000.jpg", jpeg(1000))
    camp.rescan()
    for _ in range(3):  # what is under way and done is taken first
        camp.step()
    assert "20260601_120000.jpg" in classified(camp)
    assert len(classified(camp)) < 100


def test_a_frame_that_comes_goes_before_those_that_wait_for_a_thread(camp, monkeypatch):
    begun, go_on = held_up_reads(monkeypatch)
    fill(camp)
    lanes = camp.pipeline._lanes
    lanes._schedule(camp.log.pending(lanes.window))
    camp.put("20260601_120000.jpg", jpeg(99))
    camp.rescan()
    lanes._schedule(camp.log.pending(lanes.window))
    go_on.set()
    camp.classify_all()
    assert begun.index("20260601_120000.jpg") <= 2 * 4  # two threads had begun on a part each
    assert sorted(begun) == sorted([*DAYS, "20260601_120000.jpg"])  # and nothing twice


def test_there_is_an_end(camp):
    assert camp.step() == 0
    fill(camp)
    brought_on = 0
    while done := camp.step():
        brought_on += done
    assert brought_on == len(DAYS)
    assert camp.step() == 0


# --- what becomes of a frame


def test_without_a_model_frames_are_read_and_their_species_stays_open(camp):
    fill(camp, DAYS[:3])
    camp.classify_all()
    assert set(camp.sightings().values()) == {(None, None, "none")}
    assert camp.features.count() == 3


def test_a_frame_that_cannot_be_decoded_is_rejected_with_the_reason(camp, caplog):
    fill(camp, DAYS[:2])
    camp.put("torn.jpg", jpeg(7, (400, 400))[:4000])
    camp.everything()
    rows = {os.path.basename(s.path): s for s in camp.log.sightings()}
    assert rows["torn.jpg"].status == "rejected"
    assert "truncated JPEG" in rows["torn.jpg"].rejected_reason
    assert [rows[name].status for name in DAYS[:2]] == ["classified"] * 2
    assert sum("torn.jpg" in r.getMessage() for r in caplog.records) == 1
    assert camp.step() == 0  # and never tried again


def test_a_live_model_names_species_and_itself(camp):
    camp.publish("v0001", sure_of("red fox"))
    fill(camp, DAYS[:3])
    camp.classify_all()
    assert set(camp.sightings().values()) == {("red fox", "v0001", "prediction")}


def test_below_the_threshold_it_is_unknown_and_the_alternatives_stay(camp):
    camp.publish("v0001", sure_of("red fox", ("badger", "blank"), sureness=0.1))
    camp.pipeline = camp.new_pipeline(unknown_below=0.4)
    fill(camp, DAYS[:1])
    camp.classify_all()
    (sighting,) = camp.log.sightings()
    assert sighting.species == "unknown"
    assert [name for name, _ in sighting.alternatives] == ["red fox", "badger", "blank"]
    assert sighting.probability == pytest.approx(sighting.alternatives[0][1], abs=1e-4)
    assert sighting.probability < 0.4


def test_features_in_the_cache_are_used_without_decoding(camp, monkeypatch):
    fill(camp, DAYS[:5])
    sums = [s.sha256 for s in camp.log.sightings()]
    vectors = np.ones((5, LAYOUT.size), np.float32)
    camp.features.put(list(zip(sums, vectors, strict=True)))
    read = count_reads(monkeypatch)
    camp.classify_all()
    assert read == []
    assert len(classified(camp)) == 5


def test_features_are_asked_for_by_media_and_computed_only_where_they_miss(camp, monkeypatch):
    fill(camp, DAYS[:6])
    camp.classify_all()
    ids = [s.media_id for s in camp.log.sightings()]
    lost = next(iter(camp.log.sightings()))
    forget_features(camp, os.path.basename(lost.path))
    read, told = count_reads(monkeypatch), []
    found = camp.pipeline.features_of(ids, lambda done, of: told.append((done, of)))
    assert len(found) == 6
    assert read == [os.fsencode(lost.path)]
    assert told[-1] == (6, 6)


def test_media_whose_file_is_gone_have_no_features(camp):
    fill(camp, DAYS[:3])
    camp.classify_all()
    forget_features(camp, *DAYS)
    (camp.root / DAYS[0]).unlink()
    assert len(camp.pipeline.features_of([1, 2, 3])) == 2


# --- files that are not there when they are wanted


def test_a_pulled_card_is_no_hot_loop_and_heals_when_it_is_back(camp, tmp_path, monkeypatch):
    fill(camp, DAYS[:6])
    os.rename(camp.root, tmp_path / "pulled")
    camp.root.mkdir()
    camp.classify_all()
    assert camp.log.counts()["waiting_for_their_file"] == 6
    read = count_reads(monkeypatch)
    for _ in range(20):
        assert camp.step() == 0
        camp.look(1.0)
    assert read == []
    camp.root.rmdir()
    os.rename(tmp_path / "pulled", camp.root)
    camp.everything()
    assert classified(camp) == DAYS[:6]
    assert camp.log.counts()["waiting_for_their_file"] == 0


def test_a_file_copied_back_from_elsewhere_is_classified_at_once(tmp_path):
    camp = Camp(tmp_path, polling=False)
    fill(camp, DAYS[:1])
    shutil.copy2(camp.root / DAYS[0], tmp_path / "kept.jpg")
    (camp.root / DAYS[0]).unlink()
    camp.classify_all()
    assert camp.log.counts()["waiting_for_their_file"] == 1
    shutil.copy2(tmp_path / "kept.jpg", camp.root / "back.jpg")
    camp.hear_until(lambda: b"back.jpg" in camp.known_paths())
    camp.classify_all()
    assert [status for _, status in camp.media()] == ["classified"]
    camp.close()


def test_a_file_that_came_back_after_it_was_tried_ahead_is_tried_again(camp):
    fill(camp)
    kept = {name: (camp.root / name) for name in DAYS[:12]}
    for name in kept:
        os.rename(camp.root / name, camp.root / f".{name}")
    camp.step()  # the older ones are tried ahead, and are not there
    for future in camp.pipeline._lanes._under_way.values():
        future.result()
    for name in kept:
        os.rename(camp.root / f".{name}", camp.root / name)
    camp.classify_all()
    assert classified(camp) == DAYS


def test_a_file_renamed_while_its_old_path_is_tried_does_not_wait_for_the_next_scan(
    camp, monkeypatch
):
    fill(camp, DAYS[:1])
    real = lanes_page.read_verified

    def renamed_meanwhile(paths, *others):
        data = real([b"/nothing"], *others)
        monkeypatch.setattr(lanes_page, "read_verified", real)
        os.rename(camp.root / DAYS[0], camp.root / "new name.jpg")
        return data

    def late(batch, now):  # the watcher hears of it just before the batch is recorded
        camp.rescan()
        monkeypatch.undo()
        camp.log.record(batch, now)

    monkeypatch.setattr(lanes_page, "read_verified", renamed_meanwhile)
    monkeypatch.setattr(camp.log, "record", late)
    camp.classify_all()
    assert [status for _, status in camp.media()] == ["classified"]


def test_bytes_that_changed_since_intake_are_never_predicted_on(camp):
    camp.publish("v0001", sure_of("red fox"))
    fill(camp, DAYS[:2])
    first = {s.sha256 for s in camp.log.sightings()}
    camp.put(DAYS[0], jpeg(50, (50, 50)))
    camp.classify_all()
    rows = {s.sha256: s for s in camp.log.sightings()}
    changed = next(s for s in rows.values() if s.status == "pending")
    assert changed.sha256 in first
    assert (changed.species, camp.features.get([changed.sha256])) == (None, {})
    camp.everything()
    assert camp.log.counts()["classified"] == 2  # the new bytes, and the other file
    assert camp.log.counts()["waiting_for_their_file"] == 1


def test_bytes_that_changed_behind_the_same_size_and_time_are_taken_in_anew(camp):
    fill(camp, DAYS[:1])
    path = camp.root / DAYS[0]
    facts, other = path.stat(), bytearray(jpeg(0))
    other[-3] ^= 1
    path.write_bytes(other)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    camp.classify_all()
    assert classified(camp) == []
    camp.everything()
    assert [status for _, status in camp.media()] == ["pending", "classified"]
    assert camp.problems() == []


# --- a new model


def test_a_model_that_goes_live_between_two_batches_names_the_next_and_rescores_the_past(camp):
    camp.publish("v0001", sure_of("red fox"))
    fill(camp)
    camp.step()
    before = camp.sightings()
    assert {v for _, v, _ in before.values() if v} == {"v0001"}
    camp.publish("v0002", sure_of("badger"))
    camp.classify_all()
    assert set(camp.sightings().values()) == {("badger", "v0002", "prediction")}
    assert len(camp.sightings()) == len(DAYS)


def test_past_frames_are_rescored_from_the_cache_without_their_files(camp, monkeypatch):
    fill(camp, DAYS[:10])
    camp.classify_all()
    shutil.rmtree(camp.root)
    read = count_reads(monkeypatch)
    camp.publish("v0001", sure_of("red fox"))
    camp.classify_all()
    assert set(camp.sightings().values()) == {("red fox", "v0001", "prediction")}
    assert read == []


def test_a_rescore_says_the_same_as_the_first_look(camp):
    head = sure_of("red fox", ("badger", "deer"))
    random = np.random.default_rng(3)
    head = replace(head, weights=random.normal(0, 1, head.weights.shape).astype(np.float32))
    said = []
    for name in ("v0001", "v0002"):  # the same head twice
        camp.publish(name, head)
        fill(camp, DAYS[:9])
        camp.classify_all()
        said.append({s.sha256: s.alternatives for s in camp.log.sightings()})
        assert {s.model_version for s in camp.log.sightings()} == {name}
    assert said[0] == said[1]


def test_labelled_frames_are_left_as_they_are(camp):
    fill(camp, DAYS[:3])
    camp.classify_all()
    media = number_of(camp, DAYS[0])
    camp.log.label([media], [Observation("badger")], "anna", "cli", NOW, insist=True)
    camp.publish("v0001", sure_of("red fox"))
    camp.classify_all()
    shown = camp.sightings()
    assert shown[DAYS[0]] == ("badger", None, "label")
    assert {shown[name][0] for name in DAYS[1:3]} == {"red fox"}


def test_a_frame_whose_label_was_withdrawn_is_scored_within_the_hour(camp):
    fill(camp, DAYS[:3])
    camp.classify_all()
    media = number_of(camp, DAYS[0])
    camp.log.label([media], [Observation("badger")], "anna", "cli", NOW, insist=True)
    camp.publish("v0001", sure_of("red fox"))
    camp.classify_all()
    camp.log.undo(media, "anna", "cli", NOW)
    camp.classify_all()
    assert camp.sightings()[DAYS[0]] == (None, None, "none")
    camp.clock = NOW + timedelta(hours=1)
    camp.classify_all()
    assert camp.sightings()[DAYS[0]] == ("red fox", "v0001", "prediction")


def test_features_lost_from_the_cache_are_read_from_the_files_when_nothing_else_is_to_do(
    camp, monkeypatch
):
    fill(camp, DAYS[:9])
    camp.classify_all()
    forget_features(camp, *DAYS[4:9])
    (camp.root / DAYS[8]).unlink()
    camp.put("20260701_120000.jpg", jpeg(70))
    camp.rescan()
    read = count_reads(monkeypatch)
    camp.publish("v0001", sure_of("red fox"))
    camp.step()
    assert read == [os.fsencode(camp.root / "20260701_120000.jpg")]
    camp.classify_all()
    shown = camp.sightings()
    assert sum(species == "red fox" for species, _, _ in shown.values()) == 9
    assert camp.step() == 0


def test_a_version_that_changes_in_the_middle_of_a_rescore_is_followed(camp, monkeypatch):
    small_pages(monkeypatch)
    fill(camp, DAYS[:20])
    camp.classify_all()
    camp.publish("v0001", sure_of("red fox"))
    camp.step()
    camp.step()
    half = [species for species, _, _ in camp.sightings().values()]
    assert 0 < half.count("red fox") < 20
    camp.publish("v0002", sure_of("badger"))
    camp.classify_all()
    assert set(camp.sightings().values()) == {("badger", "v0002", "prediction")}
    camp.log.roll_back("anna", NOW)
    camp.classify_all()
    assert set(camp.sightings().values()) == {("red fox", "v0001", "prediction")}


def test_a_rescore_does_not_hold_up_a_frame_that_comes(camp, monkeypatch):
    small_pages(monkeypatch)
    fill(camp, DAYS[:20])
    camp.classify_all()
    camp.publish("v0001", sure_of("red fox"))
    camp.step()
    camp.put("20260701_120000.jpg", jpeg(70))
    camp.rescan()
    camp.step()
    assert camp.sightings()["20260701_120000.jpg"] == ("red fox", "v0001", "prediction")


def test_a_damaged_head_does_not_stop_the_service(camp, caplog):
    camp.publish("v0001", sure_of("red fox"))
    fill(camp, DAYS[:2])
    camp.classify_all()
    camp.publish("v0002", sure_of("badger"), live=False)
    head = camp.store.directory / "v0002" / "head.safetensors"
    whole = head.read_bytes()
    head.chmod(0o644)
    head.write_bytes(whole[:-1])
    camp.log.go_live("v0002", "test", "test", NOW)
    camp.put(DAYS[2], jpeg(2))
    camp.everything()
    assert camp.sightings()[DAYS[2]] == ("red fox", "v0001", "prediction")
    assert "is damaged" in camp.log.version("v0002").reason
    assert sum("cannot be used" in r.getMessage() for r in caplog.records) == 1
    head.write_bytes(whole)
    camp.log.go_live("v0002", "promoted by Ana", "Ana", NOW)
    camp.classify_all()
    assert {species for species, _, _ in camp.sightings().values()} == {"badger"}
    assert camp.live.problem is None


def test_a_head_of_another_layout_is_told_and_frames_go_on_without_it(camp, caplog):
    camp.publish("v0001", replace(sure_of("red fox"), layout="vgg16-avg345/1"))
    fill(camp, DAYS[:12])
    camp.classify_all()
    assert set(camp.sightings().values()) == {(None, None, "none")}
    assert "vgg16-avg345/1" in camp.live.problem
    assert "small/1" in camp.live.problem
    assert sum("was trained on" in r.getMessage() for r in caplog.records) == 1
    camp.publish("v0002", sure_of("badger"))
    camp.classify_all()
    assert set(camp.sightings().values()) == {("badger", "v0002", "prediction")}
    assert camp.live.problem is None


# --- failures and memory


def test_a_batch_that_could_not_be_recorded_is_tried_again(camp, monkeypatch):
    fill(camp, DAYS[:6])
    with monkeypatch.context() as patch:
        patch.setattr(camp.log, "record", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            camp.step()
    assert classified(camp) == []
    camp.classify_all()
    assert classified(camp) == DAYS[:6]


def test_a_decode_that_fails_for_a_passing_reason_is_tried_again(camp, monkeypatch):
    fill(camp)
    with monkeypatch.context() as patch:
        patch.setattr(lanes_page, "decode", lambda *a: (_ for _ in ()).throw(MemoryError))
        for _ in range(3):
            with pytest.raises(MemoryError):
                camp.step()
    for _ in range(20):  # those decoded ahead failed too, and each is told once
        try:
            camp.classify_all()
        except MemoryError:
            continue
        break
    assert classified(camp) == DAYS


def test_what_has_begun_is_finished_though_newer_frames_push_it_out(camp, monkeypatch):
    fill(camp, DAYS[:8])
    begun, go_on = held_up_reads(monkeypatch)
    lanes = camp.pipeline._lanes
    lanes._schedule(camp.log.pending(lanes.window))
    while len(begun) < 2:
        time.sleep(0.001)
    for number in range(40):
        camp.put(f"20260601_1200{number:02d}.jpg", jpeg(100 + number))
    camp.rescan()
    lanes._schedule(camp.log.pending(lanes.window))
    go_on.set()
    camp.classify_all()
    assert len(begun) == len(set(begun)) == 48


def test_one_frame_that_fails_does_not_hold_up_the_others(camp, monkeypatch):
    fill(camp)
    real, poor = lanes_page.decode, jpeg(5)

    def decode(data, rules):
        if data == poor:
            raise MemoryError
        return real(data, rules)

    monkeypatch.setattr(lanes_page, "decode", decode)
    with pytest.raises(MemoryError):
        camp.classify_all()
    part = 4 if camp.lanes == 2 else 1
    assert len(classified(camp)) >= len(DAYS) - part
    assert DAYS[5] not in classified(camp)
    monkeypatch.undo()
    camp.classify_all()
    assert classified(camp) == DAYS


def test_memory_is_bounded_whatever_waits(camp):
    for number in range(300):
        camp.put(f"{number}.jpg", jpeg(number))
    camp.settle()
    most = 0
    for _ in range(30):
        camp.step()
        most = max(most, len(camp.pipeline._lanes._under_way))
    assert 0 < most <= camp.pipeline._lanes.window
    camp.classify_all()
    assert camp.pipeline._lanes._under_way == {}
    gc.collect()
    assert not [o for o in gc.get_objects() if isinstance(o, lanes_page.Frame)]


def test_closing_twice_or_without_a_single_frame_is_fine(tmp_path):
    camp = Camp(tmp_path)
    camp.pipeline.close()
    camp.pipeline.close()
    camp.close()
