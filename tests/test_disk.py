"""The disk guard: when a disk is low or full, what rests then, and what is cleaned."""

from __future__ import annotations

import os
import threading
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from faults.drill import Drill, draw_frame, fill
from faults.full_disk import CannotMount, small_disk
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from monitor.core.config import Settings, load_settings
from monitor.core.config.station import Disk
from monitor.core.domain import ModelState
from monitor.core.pauses import KINDS_OF_WORK, Rest
from monitor.health.doctor import examine
from monitor.health.status import status_lines, status_of
from monitor.images.picture_folder import PictureFolder
from monitor.log.engine import LogError
from monitor.log.features import FeatureStore
from monitor.log.shrinking import size_of
from monitor.log.versions import VersionRow
from monitor.model.options import backbone_options, decode_rules
from monitor.service.cleaning import clean_files, drop_old_weights, watch_the_disk, weights_to_drop
from monitor.service.once import StepFailed, run_once
from monitor.service.station import Station
from monitor.service.supervisor import Service
from monitor.service.training_process import Resting, TrainingProcess, train_now
from monitor.system.disk import MEGABYTE, DiskGuard, DiskState, Room, standing, storages
from monitor.system.locks import LOCK_NAME, TRAINING_LOCK_NAME, OwnerLock
from monitor.training.bench import Bench, open_maps
from monitor.training.feature_maps import MapStore

OK, LOW, FULL = DiskState.OK, DiskState.LOW, DiskState.FULL
RULES = Disk(warn_mb=2000, stop_mb=500)
NOW = datetime(2026, 5, 1, tzinfo=UTC)


def mb(number: float) -> int:
    return int(number * MEGABYTE)


@pytest.mark.parametrize(
    ("free", "before", "now"),
    [
        (2000, OK, OK),
        (1999.9, OK, LOW),
        (500, OK, LOW),
        (499.9, OK, FULL),
        (0, LOW, FULL),
        (2100, LOW, LOW),
        (2200, LOW, OK),
        (540, FULL, FULL),
        (550, FULL, LOW),
        (2100, FULL, LOW),
        (2200, FULL, OK),
    ],
)
def test_a_disk_is_low_or_full_and_better_only_with_a_margin(free, before, now):
    assert standing(mb(free), RULES, before) is now


@given(st.integers(0, 3000), st.sampled_from([OK, LOW, FULL]), st.integers(-20, 20))
def test_a_little_more_or_less_never_flaps(free, before, change):
    first = standing(mb(free), RULES, before)
    second = standing(mb(max(0, free + change)), RULES, first)
    third = standing(mb(free), RULES, second)
    assert not (first is third and second is not first and second is OK)
    assert len({first, second, third}) < 3


def test_nothing_rests_at_a_threshold_of_nothing():
    assert standing(0, Disk(warn_mb=1, stop_mb=0), OK) is LOW


@pytest.mark.parametrize(("warn", "stop"), [(500, 500), (400, 500), (0, 0), (10, -1)])
def test_thresholds_that_make_no_sense_are_refused(warn, stop):
    with pytest.raises(ValidationError):
        Disk(warn_mb=warn, stop_mb=stop)


def test_a_config_with_the_thresholds_the_wrong_way_round_says_so(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("disk: {warn_mb: 300, stop_mb: 400}\n")
    with pytest.raises(Exception, match=r"disk: stop_mb \(400\) must be smaller than warn_mb"):
        load_settings(file)


class Machine:
    """A machine whose disks are as full as the test says; the only thing that is made up."""

    def __init__(self, free_mb: float, total_mb: float = 30_000) -> None:
        self.free_mb, self.total_mb, self.looks, self.now = free_mb, total_mb, 0, 0.0
        self.total_files, self.free_files = 0, 0  # a file system that does not count them

    def statvfs(self, path: Path) -> os.statvfs_result:
        self.looks += 1
        free, total = int(self.free_mb * 1000), int(self.total_mb * 1000)
        files = (self.total_files, self.free_files, self.free_files)
        return os.statvfs_result((1000, 1000, total, free, free, *files, 0, 255))

    def guard(self, settings, rest=None) -> DiskGuard:
        return DiskGuard(settings, rest, self.statvfs, lambda: self.now)


@pytest.fixture
def settings(tmp_path):
    drill = Drill(tmp_path / "station")
    drill.configure(warn_mb=2000, stop_mb=500)
    drill.data.mkdir()
    return load_settings(drill.config)


def test_all_places_of_the_data_are_looked_at(settings):
    paths = {storage.path for storage in storages(settings)}
    data = settings.data_directory
    assert {data, settings.models.directory, data / "pictures", data / "maps"} <= paths
    assert sum(not storage.is_vital for storage in storages(settings)) == 1
    backup = settings.backup.model_copy(update={"folder": Path("/mnt/stick")})
    storage = storages(settings.model_copy(update={"backup": backup}))[-2]
    assert (storage.path, storage.is_vital) == (Path("/mnt/stick"), False)


def test_a_full_disk_is_a_reason_to_rest_and_room_takes_it_back(settings):
    machine, rest = Machine(310), Rest()
    guard = machine.guard(settings, rest)
    room = guard.look()
    assert room.state is FULL
    assert room.words.startswith("disk full, 310 MB free where the log lies (")
    assert room.words.endswith("); 500 needed")
    assert rest.facts() == dict.fromkeys(KINDS_OF_WORK, room.words)
    machine.free_mb, machine.now = 3000, 60
    assert guard.look().state is OK
    assert rest.facts() == {}


def test_a_low_disk_is_told_and_stops_nothing(settings):
    rest = Rest()
    room = Machine(1500).guard(settings, rest).look()
    assert (room.state, rest.facts()) == (LOW, {})
    assert "disk low, 1,500 MB free" in room.words and "2,000 needed" in room.words


def test_a_disk_without_room_for_more_files_is_full_although_megabytes_are_free(settings):
    machine, rest = Machine(9000), Rest()
    machine.total_files = 2_000_000
    guard = machine.guard(settings, rest)

    def with_room_for(files: int) -> Room:
        machine.free_files = files
        return guard.look(anew=True)

    assert with_room_for(10_000).state is OK
    low = with_room_for(9_999)
    assert (low.state, low.few_files, rest.facts()) == (LOW, True, {})
    full = with_room_for(999)
    assert (full.state, full.is_out) == (FULL, True)
    assert full.words.startswith("disk full, room for only 999 more files (inodes) where the log")
    assert "although 9,000 MB are free; 1,000 needed" in full.words
    assert rest.facts() == dict.fromkeys(KINDS_OF_WORK, full.words)
    assert with_room_for(1_050).state is FULL, "no flapping"
    assert with_room_for(1_100).state is LOW
    better = with_room_for(11_000)
    assert (better.state, better.few_files, rest.facts()) == (OK, False, {})
    assert better.facts()["free_files"] == 11_000


def test_where_bytes_are_short_too_bytes_are_named_and_small_disks_need_few_files(settings):
    machine = Machine(310)
    machine.total_files, machine.free_files = 2_000_000, 5
    assert machine.guard(settings).look().words.startswith("disk full, 310 MB free")
    machine = Machine(9000)
    machine.total_files, machine.free_files = 1000, 100
    assert machine.guard(settings).look().state is OK
    machine.free_files = 99
    assert machine.guard(settings).look().state is LOW
    assert Machine(9000).guard(settings).look().state is OK, "who counts no files has room"


def test_for_want_of_files_only_what_is_many_files_is_cleaned(settings):
    kinds, machine = rubbish(settings.data_directory), Machine(9000)
    machine.total_files, machine.free_files = 2_000_000, 5
    clean_files(settings, machine.guard(settings))
    assert there(kinds["partials"]) == there(kinds["pictures"]) == 0
    assert there(kinds["maps"]) == there(kinds["checkpoint"]) == 1


def test_the_feature_cache_is_left_alone_where_files_are_short(station, monkeypatch):
    monkeypatch.setattr("monitor.service.cleaning.FEWEST_FEATURES", 10**12)  # all may go
    put_rows(FeatureStore(station.features.path, "vgg16-avg345/1", 1280, 2**30), 0, 3000)
    machine = Machine(9000)
    machine.total_files, machine.free_files = 2_000_000, 5
    station.disk, before = machine.guard(station.settings, station.rest), size(station)
    watch_the_disk(station)
    assert size(station) == before
    assert station.log.state("disk")["state"] == "full"


def size(station: Station) -> int:
    return station.features.path.stat().st_size


def test_a_file_system_that_is_full_of_files_is_noticed_and_so_is_that_it_has_room(settings):
    try:
        with small_disk(settings.data_directory, 20_000, files=200) as disk:
            modest = settings.model_copy(update={"disk": Disk(warn_mb=2, stop_mb=1)})
            rest = Rest()
            guard = DiskGuard(modest, rest)
            assert guard.look().state is OK
            crumbs = []
            with pytest.raises(OSError, match="No space left"):
                for number in range(300):
                    crumbs.append(disk.folder / f"crumb-{number}")
                    crumbs[-1].touch()
            room = guard.look(anew=True)
            assert (room.state, room.free_files) == (FULL, 0)
            assert "room for only 0 more files" in rest.words("intake")
            for crumb in crumbs[:-1]:
                crumb.unlink()
            assert guard.look(anew=True).state is OK
            assert rest.facts() == {}
    except CannotMount as error:
        pytest.skip(f"a small disk takes root and a system that lets it mount: {error}")


def test_a_look_serves_for_a_few_seconds(settings):
    machine = Machine(9000)
    guard = machine.guard(settings)
    for _ in range(1000):
        guard.look()
    first = machine.looks
    machine.now += 5
    guard.look()
    assert machine.looks == 2 * first <= 2 * len(storages(settings))
    guard.look(anew=True)
    assert machine.looks == 3 * first


def test_a_small_disk_for_passing_files_stops_nothing(settings, tmp_path, monkeypatch):
    try:
        with small_disk(tmp_path / "passing", 2048) as disk:
            monkeypatch.setattr("tempfile.tempdir", str(disk.folder))
            disk.fill()
            rest = Rest()
            DiskGuard(settings.model_copy(update={"disk": Disk(warn_mb=2, stop_mb=1)}), rest).look()
            assert rest.facts() == {}
    except CannotMount as error:
        pytest.skip(f"a small disk takes root and a system that lets it mount: {error}")


def test_a_disk_that_hangs_and_is_not_vital_holds_up_nobody(settings, tmp_path):
    stick, go = tmp_path / "stick", threading.Event()
    stick.mkdir()

    def statvfs(path: Path) -> os.statvfs_result:
        assert path != stick or go.wait(30)
        return os.statvfs(path)

    backup = settings.backup.model_copy(update={"second_folder": stick})
    settings = settings.model_copy(update={"backup": backup, "disk": Disk(warn_mb=2, stop_mb=1)})
    guard = DiskGuard(settings, Rest(), statvfs, patience=0.3)
    try:
        looks = [threading.Thread(target=guard.look, kwargs={"anew": True}) for _ in range(5)]
        began = time.monotonic()
        for look in looks:
            look.start()
        for look in looks:
            look.join(5)
        assert 0.3 <= time.monotonic() - began < 2, "all wait at once, and for a moment"
        began, before = time.monotonic(), threading.active_count()
        for _ in range(20):
            assert DiskGuard(settings, None, statvfs, patience=0.3).look().state is OK
        assert guard.look(anew=True).state is OK
        assert time.monotonic() - began < 0.3, "nobody waits for it again"
        assert threading.active_count() <= before, "and no thread is lost by that"
        assert list(guard.hanging()) == [stick] and guard.hanging(30) == {}
        assert guard.hanging()[stick].startswith("no answer for ")
    finally:
        go.set()
    deadline = time.monotonic() + 5
    while guard.look(anew=True) and guard.hanging():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_data_folder_that_is_not_there_yet_is_looked_for_above(settings):
    settings.data_directory.rmdir()
    assert Machine(9000).guard(settings).look().state is OK


class Cleaned(Machine):
    """A disk on which each deleted file of these gives a hundred megabytes back."""

    def __init__(self, free_mb: float, files: list[Path]) -> None:
        super().__init__(free_mb)
        self.begun_mb, self.files = free_mb, files

    def statvfs(self, path: Path) -> os.statvfs_result:
        self.free_mb = self.begun_mb + 100 * sum(not file.exists() for file in self.files)
        return super().statvfs(path)


def rubbish(data: Path) -> dict[str, list[Path]]:
    """What may be cleaned, and what may not, all written long ago."""
    kinds = {
        "partials": [data / ".engine.json.12.partial", data / "weights" / ".w.bin.77.partial"],
        "pictures": [data / "pictures" / f"{n:02x}" / f"{n:02x}-thumb.jpg" for n in range(40)],
        "maps": [data / "maps" / "vgg16-block3_pool.maps"],
        "checkpoint": [data / "finetune.safetensors"],
        "kept": [
            data / "models" / "v0001" / "head.safetensors",
            data / "trapwatch.db",
            data / "labels.jsonl",
            data / "backups" / "trapwatch-2026-05-01.db",
            data / "weights" / "vgg16.safetensors",
            data / "notes of the ranger.txt",
        ],
    }
    for number, path in enumerate(p for paths in kinds.values() for p in paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1000)
        os.utime(path, (10**9 + number, 10**9 + number))
    return kinds


def there(paths: list[Path]) -> int:
    return sum(path.exists() for path in paths)


def test_only_what_can_be_made_anew_is_cleaned(settings):
    kinds = rubbish(settings.data_directory)
    cleaned = clean_files(settings, Machine(0).guard(settings))
    assert [there(kinds[k]) for k in ("partials", "pictures", "maps", "checkpoint")] == [0] * 4
    assert there(kinds["kept"]) == len(kinds["kept"])
    assert "resized pictures (40 files, 0 MB)" in cleaned


def test_the_cheapest_go_first_and_no_more_than_needed(settings):
    kinds = rubbish(settings.data_directory)
    files = [*kinds["partials"], *kinds["pictures"]]
    machine = Cleaned(600, files)
    clean_files(settings, machine.guard(settings))
    assert there(kinds["partials"]) == 0
    assert 0 < there(kinds["pictures"]) < 40
    assert kinds["pictures"][-1].exists() and not kinds["pictures"][0].exists()
    assert there(kinds["maps"]) == there(kinds["checkpoint"]) == 1


def test_old_backups_go_last_and_only_where_all_work_rests(settings):
    data = settings.data_directory
    kinds = rubbish(data)
    backups = [data / "backups" / f"trapwatch-2026-05-0{n}T0215Z.db" for n in range(1, 8)]
    for path in backups:
        path.write_bytes(b"x" * 1000)
    machine = Cleaned(600 - 4300, [p for k in ("partials", "pictures", "maps") for p in kinds[k]])
    clean_files(settings, machine.guard(settings))
    assert there(backups) == 7, "the disk is low, and work goes on"
    machine = Cleaned(350, backups)
    clean_files(settings, machine.guard(settings))
    assert [path.exists() for path in backups] == [False] * 2 + [True] * 5, "work goes on"
    clean_files(settings, Machine(0).guard(settings))
    assert [path.exists() for path in backups] == [False] * 4 + [True] * 3


def test_where_there_is_room_nothing_is_cleaned(settings):
    kinds = rubbish(settings.data_directory)
    assert clean_files(settings, Machine(9000).guard(settings)) == []
    assert all(there(paths) == len(paths) for paths in kinds.values())


def test_what_was_written_today_may_still_be_written(settings):
    kinds = rubbish(settings.data_directory)
    under_way = settings.data_directory / "pictures" / "00" / ".00-grid.jpg.7.8.partial"
    under_way.write_bytes(b"x")
    for path in (*kinds["partials"], *kinds["checkpoint"], under_way):
        os.utime(path, (time.time() - 3600, time.time() - 3600))
    clean_files(settings, Machine(0).guard(settings))
    assert under_way.exists()
    assert there(kinds["partials"]) == 2 and there(kinds["checkpoint"]) == 1


def test_what_a_training_uses_is_left_to_it(settings):
    kinds = rubbish(settings.data_directory)
    with OwnerLock(settings.data_directory / TRAINING_LOCK_NAME, "training", NOW):
        clean_files(settings, Machine(0).guard(settings))
    assert there(kinds["maps"]) == there(kinds["checkpoint"]) == 1


def test_photographs_below_the_data_folder_are_never_cleaned(settings):
    data = settings.data_directory
    watch = settings.watch.model_copy(update={"folders": (data / "pictures",)})
    kinds = rubbish(data)
    odd = settings.model_copy(update={"watch": watch})
    clean_files(odd, Machine(0).guard(odd))
    assert there(kinds["pictures"]) == 40


def of_vgg16(path: Path, rows: int) -> FeatureStore:
    store = FeatureStore(path, "vgg16-avg345/1", 1280, 2**30)
    put_rows(store, 0, rows)
    return store


def put_rows(store: FeatureStore, first: int, rows: int) -> None:
    for start in range(first, first + rows, 100):
        numbers = range(start, start + 100)
        store.put([(f"{n:064x}", np.full(1280, n % 1000, np.float32)) for n in numbers])


def test_the_feature_cache_gives_room_back_step_by_step_and_keeps_the_newest(tmp_path):
    store = of_vgg16(tmp_path / "features.db", 6000)
    freed = store.shrink(lambda: False, 8 * 2**20)
    assert freed > 5 * 2**20
    assert 6 * 2**20 < store.path.stat().st_size <= 8 * 2**20
    assert f"{5999:064x}" in store.get([f"{5999:064x}"])
    assert store.get([f"{0:064x}"]) == {}
    put_rows(store, 10_000, 4000)
    assert store._file.work(size_of) <= 9 * 2**20
    store.end_shrinking()
    put_rows(store, 20_000, 4000)
    assert store.count() > 6000
    store.close()


def test_shrinking_ends_as_soon_as_it_is_enough(tmp_path):
    store = of_vgg16(tmp_path / "features.db", 6000)
    before, asked = store.count(), iter([False, False, True])
    store.shrink(lambda: next(asked), 0)
    assert before - 1200 < store.count() < before
    store.close()


def test_a_feature_cache_of_an_older_release_can_be_shrunk_too(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("monitor.log.features.make_shrinkable", lambda connection: None)
        store = of_vgg16(tmp_path / "features.db", 3000)
    monkeypatch.setattr("monitor.log.shrinking.MOST_REWRITTEN", 3 * 2**20)
    before = store.path.stat().st_size
    assert store.shrink(lambda: False, 4 * 2**20) > before // 2
    assert store.path.stat().st_size <= 4 * 2**20
    assert f"{2999:064x}" in store.get([f"{2999:064x}"])
    assert store.shrink(lambda: False, 2**20) > 0
    store.close()


def test_what_cannot_be_kept_is_told_once_and_ends_nothing(tmp_path, caplog):
    store = of_vgg16(tmp_path / "features.db", 100)
    connection = store._file._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count={pages}")
    many = [(f"{n:064x}", np.zeros(1280, np.float32)) for n in range(1000, 2000)]
    for _ in range(3):
        store.keep(many)
    assert len([r for r in caplog.records if "frames go on without it" in r.getMessage()]) == 1
    connection.execute("PRAGMA max_page_count=1000000")
    store.keep(many)
    assert store.count() == 1100
    store.close()


def test_a_map_that_was_cut_short_is_not_there(tmp_path):
    try:
        with small_disk(tmp_path / "maps", 256) as disk:
            store = MapStore(disk.folder / "m.maps", 8, (14, 14, 128), 10**8)
            layer = np.zeros((14, 14, 128), np.float16)
            with pytest.raises(OSError, match="No space left"):
                for number in range(100):
                    store.put((f"{number:064x}", 0), np.zeros(8, np.float32), layer)
            whole = len(store)
            assert whole >= 3
            for number in range(whole):
                store.get([(f"{number:064x}", 0)])
            store.close()
    except CannotMount as error:
        pytest.skip(f"a small disk takes root and a system that lets it mount: {error}")


@pytest.fixture
def station(settings):
    station = Station(settings, lambda: NOW)
    yield station
    station.close()


def test_the_duty_tells_the_log_how_the_disk_stands(station):
    station.disk = Machine(310).guard(station.settings, station.rest)
    watch_the_disk(station)
    told = station.log.state("disk")
    assert told["state"] == "full" and told["words"].startswith("disk full, 310 MB")
    station.disk = Machine(9000).guard(station.settings, station.rest)
    watch_the_disk(station)
    assert station.log.state("disk")["state"] == "ok"
    assert station.rests("classify") is None


def test_workers_rest_while_the_disk_is_full(station):
    machine = Machine(310)
    station.disk = machine.guard(station.settings, station.rest)
    folder = station.settings.watch.folders[0] / "north"
    draw_frame(folder / "a.jpg", "red fox", datetime(2026, 4, 1), 1)
    station.take_in_file(os.fsencode(folder / "a.jpg"))
    draw_frame(folder / "b.jpg", "red fox", datetime(2026, 4, 2), 2)
    for _ in range(20):
        assert not station.watch_step()
        assert not station.classify_step()
        time.sleep(0.02)
    counts = station.log.counts()
    assert (counts["media"], counts["pending"]) == (1, 1)
    machine.free_mb, machine.now = 9000, 60
    deadline = time.monotonic() + 20
    while station.log.counts()["classified"] < 2:
        assert time.monotonic() < deadline
        station.watch_step()
        station.classify_step()


def row(number: int, state: ModelState, live: str | None = None) -> VersionRow:
    name = f"v{number:04d}"
    return VersionRow(number, name, state, "2026", live, "small", "l", "sha", "why", {})


def test_old_versions_keep_only_their_card_but_none_that_one_can_go_back_to():
    live, retired, rejected = ModelState.LIVE, ModelState.RETIRED, ModelState.REJECTED
    versions = [
        row(9, ModelState.CANDIDATE),
        row(8, rejected),
        row(7, live),
        row(6, retired),
        row(5, rejected),
        row(4, retired),  # brought back after 6
        row(3, rejected),
        row(2, retired),
        row(1, retired),
    ]
    order = {"v0001": 10, "v0002": 20, "v0006": 50, "v0004": 60, "v0007": 70}
    assert weights_to_drop(versions, order, 2) == ["v0001", "v0002", "v0003"]
    assert weights_to_drop(versions, order, 1) == ["v0001", "v0002", "v0003", "v0005", "v0006"]
    assert weights_to_drop(versions, order, 9) == []


def test_a_clock_that_was_wrong_when_versions_went_live_drops_no_newer_ones():
    """And those of which no act tells that they were ever live go first, the oldest before all."""
    retired = ModelState.RETIRED
    dates = ["2031-01-01", None, "2026-05-01", "1970-01-01", None, "2026-06-01"]
    versions = [row(n, retired, live) for n, live in enumerate(dates, 1)]
    order = {"v0001": 10, "v0003": 20, "v0004": 30, "v0006": 40}
    assert weights_to_drop(versions, order, 3) == ["v0001", "v0002", "v0005"]
    assert weights_to_drop(versions, order, 5) == ["v0002"]
    assert weights_to_drop(versions, {}, 2) == ["v0001", "v0002", "v0003", "v0004"]


def test_what_is_dropped_is_what_a_roll_back_comes_to_last(station):
    log, clocks = station.log, (2031, 2026, 1970, 2027)
    for number, year in enumerate(clocks, 1):
        name, now = f"v{number:04d}", NOW.replace(year=year)
        log.add_version(name, ModelState.CANDIDATE, "small", "l", "sha", "why", {}, now)
        log.go_live(name, "better", "gate", now)
    dropped = weights_to_drop(log.versions(), log.order_of_going_live(), 1)
    back = [log.roll_back("Ana", NOW) for _ in range(3)]
    assert back == ["v0003", *reversed(dropped)]


def test_the_duty_drops_weights_and_keeps_cards(station):
    folder = station.settings.models.directory
    for number in range(1, 13):
        name = f"v{number:04d}"
        station.log.add_version(name, ModelState.REJECTED, "small", "l", "sha", "why", {}, NOW)
        (folder / name).mkdir(parents=True)
        for file in ("head.safetensors", "tail.safetensors", "model_card.json", "recall.svg"):
            (folder / name / file).write_bytes(b"{}")
    drop_old_weights(station)
    left = {p.name for p in (folder / "v0001").iterdir()}
    assert left == {"model_card.json", "recall.svg"}
    assert not station.store.has_weights("v0002") and station.store.has_weights("v0003")
    assert len(station.log.versions()) == 12
    drop_old_weights(station)


def test_a_frame_whose_features_find_no_room_is_classified_all_the_same(station):
    fill(Drill(station.settings.data_directory.parent), each=1, unlabelled=0)
    station.features._file._connection.execute(
        "CREATE TRIGGER full BEFORE INSERT ON features BEGIN "
        "SELECT RAISE(ABORT, 'database or disk is full'); END"
    )
    deadline = time.monotonic() + 30
    while (counts := station.log.counts())["classified"] < 9:
        assert time.monotonic() < deadline, counts
        station.watch_step()
        station.classify_step()
    assert station.features.count() == 0


def always(settings: Settings, warn_mb: int, stop_mb: int) -> Settings:
    return settings.model_copy(update={"disk": Disk(warn_mb=warn_mb, stop_mb=stop_mb)})


NEVER = 10**9
"""Megabytes that no disk has."""


def test_status_and_doctor_say_that_the_disk_is_low_or_full(settings):
    full, low = always(settings, NEVER + 1, NEVER), always(settings, NEVER, 0)
    with closing(Station(full)) as station:
        facts = status_of(full, station.log, NOW)
        assert facts["disk"]["state"] == "full"
        assert any("disk full" in line for what, line in status_lines(facts) if what == "disk")
        assert status_of(low, station.log, NOW)["disk"]["state"] == "low"
    [of_full], [of_low] = ([c for c in examine(s) if c.name == "disk"] for s in (full, low))
    assert (of_full.state, of_low.state) == ("FAIL", "warn")
    assert "disk full" in of_full.finding and of_low.advice


def test_status_says_which_work_rests_while_the_service_runs(settings):
    lock = OwnerLock(settings.data_directory / LOCK_NAME, "the log", NOW)
    with closing(Station(settings)) as station, lock:
        station.log.put_state("rest", {"classify": "disk full"}, NOW)
        lines = status_lines(status_of(settings, station.log, NOW))
    assert ("rests", "classifying rests: disk full") in lines


def test_no_training_begins_on_a_full_disk(settings):
    full = always(settings, NEVER + 1, NEVER)
    with pytest.raises(Resting, match="training rests: disk full"):
        train_now(full, trigger="cli", force=True, progress=lambda stage, done: None)


def test_the_service_starts_no_training_while_the_disk_is_full(station, monkeypatch):
    started = []
    monkeypatch.setattr(TrainingProcess, "start_if_due", lambda *args: started.append(args))
    machine = Machine(310)
    station.disk = machine.guard(station.settings, station.rest)
    service = Service(station.settings)
    service._train_if_due(station)
    assert started == []
    machine.free_mb, machine.now = 9000, 60
    service._train_if_due(station)
    assert len(started) == 1


def test_run_once_says_why_it_cannot_go_on(settings):
    rounds = iter(range(50))
    with pytest.raises(StepFailed, match=r"intake, classifying.* rest: disk full"):
        run_once(always(settings, NEVER + 1, NEVER), lambda done, all_: [next(rounds)])


def test_pictures_are_made_but_not_kept_where_the_disk_is_full(tmp_path):
    picture = b"\xff\xd8 a picture \xff\xd9"
    PictureFolder(tmp_path / "a", 10**6, spare_bytes=10**18).keep("ab-thumb.jpg", picture)
    PictureFolder(tmp_path / "b", 10**6, spare_bytes=1).keep("ab-thumb.jpg", picture)
    assert not (tmp_path / "a" / "ab" / "ab-thumb.jpg").exists()
    assert (tmp_path / "b" / "ab" / "ab-thumb.jpg").read_bytes() == picture


def test_maps_leave_the_disk_what_it_should_have_free(settings):
    options = backbone_options(settings)
    options = replace(options, backbone="vgg16")
    none, rules = cast(Any, None), decode_rules(settings)
    roomy = Bench(options, rules, settings.training, settings.data_directory, none, none, 0)
    assert open_maps(roomy, "vgg16-avg345/1").capacity > 100
    assert open_maps(replace(roomy, spare_bytes=10**18), "vgg16-avg345/1").capacity == 0


def test_a_feature_cache_is_not_thrown_away_because_the_disk_is_full(tmp_path):
    """SQLite calls it `disk I/O error` if its lock file finds no room: so it does with damages."""
    try:
        with small_disk(tmp_path / "data", 4096) as disk:
            path = disk.folder / "features.db"
            of_vgg16(path, 100).close()
            disk.fill()
            with pytest.raises(LogError, match="the disk is full"):
                FeatureStore(path, "vgg16-avg345/1", 1280, 2**30)
            disk.make_room()
            store = FeatureStore(path, "vgg16-avg345/1", 1280, 2**30)
            assert store.count() == 100
            store.close()
    except CannotMount as error:
        pytest.skip(f"a small disk takes root and a system that lets it mount: {error}")
