"""When a backup is due, which are kept, and what the service makes of it on real disks."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from faults.full_disk import CannotMount, small_disk
from hypothesis import given
from hypothesis import strategies as st
from logbook import NOW, rows, say

from monitor.core.config import ConfigError, load_settings
from monitor.core.pauses import BACKUP, Reason
from monitor.health.doctor import examine
from monitor.health.status import status_lines, status_of
from monitor.log import restore
from monitor.log.backup import verify_backup, write_backup
from monitor.log.backup_facts import BackupError, backups_in, facts_of
from monitor.log.engine import choose_sqlite
from monitor.log.restore import restore_backup
from monitor.log.species_log import SpeciesLog
from monitor.recovery import backup_places, backups
from monitor.recovery.backup_places import mark_of, newest_good, own_backups
from monitor.recovery.backup_schedule import (
    ALWAYS_KEPT,
    FEWEST_LOOKS,
    LOOK_SECONDS,
    Last,
    due,
    looked,
    to_drop,
)
from monitor.recovery.backup_task import keep_backups
from monitor.recovery.backups import STATE, back_up, spare, too_little_room
from monitor.service.station import Station

EVERY = timedelta(hours=24)
LOOK = timedelta(seconds=LOOK_SECONDS)
LOOKS_A_DAY = int(EVERY / LOOK)
AT = datetime(2026, 11, 26, 2, 15, tzinfo=UTC)
ANY_TIME = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
JUMPS = st.one_of(st.just(timedelta(0)), st.just(timedelta(0)), st.just(timedelta(0)), ANY_TIME)


def name_of(at: datetime) -> str:
    return f"trapwatch-{at:%Y-%m-%dT%H%MZ}.db"


def backups_made(clock: list[datetime], every: timedelta = EVERY) -> list[int]:
    """Which looks make a backup, if each of these times is what the clock says at one look."""
    last, made = Last(), []
    for look, now in enumerate(clock):
        if due(last, now, every):
            made.append(look)
            last = Last(now)
        else:
            last = looked(last, now)
    return made


def test_the_first_backup_is_made_at_once_then_one_a_day():
    clock = [AT + n * LOOK for n in range(3 * LOOKS_A_DAY + 1)]
    assert backups_made(clock) == [n * LOOKS_A_DAY for n in range(4)]


def test_a_station_that_was_off_for_a_month_makes_one_backup_not_thirty():
    clock = [AT, *(AT + timedelta(days=30) + n * LOOK for n in range(20))]
    assert backups_made(clock) == [0, FEWEST_LOOKS + 1]


def test_a_clock_that_stands_still_stops_no_backup():
    assert backups_made([datetime(1970, 1, 1, tzinfo=UTC)] * 300) == [0, 145, 290]


def test_a_station_that_starts_in_1970_each_time_makes_no_backup_for_that():
    """On for two hours a day: the clock is wrong for one look, then set."""
    clock: list[datetime] = []
    for day in range(10):
        clock.append(datetime(1970, 1, 1, tzinfo=UTC))
        clock += [AT + timedelta(days=day) + n * LOOK for n in range(1, 12)]
    made = backups_made(clock)
    assert 9 <= len(made) <= 12, made


def test_a_clock_that_was_ahead_by_years_is_not_waited_for():
    """On for an hour a day: to count running time alone would take 24 days."""
    ahead = [AT.replace(year=2040) + n * LOOK for n in range(5)]
    right = [AT + timedelta(days=day) + n * LOOK for day in range(5) for n in range(6)]
    assert len(backups_made(ahead + right)) == 5


@given(st.lists(JUMPS, min_size=1, max_size=400), ANY_TIME, st.integers(1, 48))
def test_whatever_the_clock_does_backups_are_neither_stalled_nor_a_flood(steps, start, hours):
    clock, now = [], start
    for step in steps:
        now = step if isinstance(step, datetime) else now + LOOK
        clock.append(now)
    made = backups_made(clock, timedelta(hours=hours))
    assert made[0] == 0
    longest = hours * 3600 / LOOK_SECONDS + 1
    for before, after in pairwise([*made, len(clock)]):
        assert after - before <= longest
    for before, after in pairwise(made):
        assert after - before > FEWEST_LOOKS


@given(st.integers(0, 5000))
def test_after_failures_it_is_tried_again_ever_less_often_but_always(failures):
    last, looks = Last(AT, 1000, failures, 0), 0
    while not due(last, AT + 2 * EVERY, EVERY):
        last, looks = looked(last, AT + 2 * EVERY), looks + 1
    assert looks == (min(2**failures, 36) if failures else 0)


def test_the_newest_of_seven_days_and_four_weeks_are_kept():
    kept: list[tuple[int, str]] = []
    for number in range(1, 101):
        kept.append((number, name_of(AT + timedelta(days=number))))
        drop = to_drop(kept, 7, 4)
        kept = [pair for pair in kept if pair[1] not in drop]
    days = [name for _, name in kept]
    last = AT + timedelta(days=100)
    assert days[-7:] == [name_of(last - timedelta(days=n)) for n in range(6, -1, -1)]
    weeks = {(AT + timedelta(days=number)).isocalendar()[:2] for number, _ in kept}
    assert len(weeks) == 4
    assert len(kept) <= 7 + 4


BACKUPS = st.lists(
    st.tuples(
        st.integers(0, 50),
        st.one_of(ANY_TIME.map(name_of), st.sampled_from([name_of(AT), "mine.db", "", "x" * 40])),
    ),
    unique_by=lambda pair: pair[1],
    max_size=60,
)


@given(BACKUPS, st.integers(1, 9), st.integers(0, 6))
def test_the_last_written_are_never_dropped_whatever_day_they_say(backups, daily, weekly):
    drop = to_drop(backups, daily, weekly)
    ours = sorted((p for p in backups if p[1].startswith("trapwatch-")), reverse=True)
    assert not {name for _, name in ours[:ALWAYS_KEPT]} & set(drop)
    assert set(drop) <= {name for _, name in ours}
    left = [pair for pair in backups if pair[1] not in drop]
    assert to_drop(left, daily, weekly) == []
    assert len(ours) - len(drop) <= daily + weekly + ALWAYS_KEPT


@pytest.mark.parametrize(
    "name",
    [
        "trapwatch-before-0004-2026-11-26T0215Z.db",
        "trapwatch-2026-05-01.db",
        "trapwatch-2026-13-41T0215Z.db",
        "trapwatch-2026-11-26T0215Z-mine.db",
    ],
)
def test_files_that_are_none_of_the_schedule_are_never_dropped(name):
    others = [(100 + n, name_of(AT + timedelta(days=n))) for n in range(30)]
    assert name not in to_drop([(1, name), *others], 1, 0)


@pytest.fixture
def station(config, filled):
    """A whole station; its disks may be as full as they like."""
    filled.close()
    with config.open("a") as file:
        file.write("disk: {warn_mb: 2, stop_mb: 1}\n")
    clock = Clock()
    station = Station(load_settings(config, {}), clock)
    station.test_clock = clock
    yield station
    station.close()


class Clock:
    now = AT

    def __call__(self) -> datetime:
        return self.now


def folder(station: Station) -> Path:
    return station.settings.data_directory / "backups"


def with_backup(station: Station, **values: object) -> None:
    rules = station.settings.backup.model_copy(update=values)
    station.settings = station.settings.model_copy(update={"backup": rules})


def test_the_duty_makes_a_backup_and_tells_of_it(station):
    keep_backups(station)
    (path,) = folder(station).iterdir()
    assert path.name == "trapwatch-2026-11-26T0215Z.db"
    told = station.log.state(STATE)
    assert (told["at"], told["path"]) == ("2026-11-26T02:15:00.000Z", str(path))
    assert (told["problem"], told["second_problem"]) == (None, None)
    assert told["size_bytes"] == path.stat().st_size
    facts = status_of(station.settings, station.log)
    assert facts["backup"]["path"] == str(path)
    assert any(what == "backup" and str(path) in line for what, line in status_lines(facts))
    (check,) = [c for c in examine(station.settings) if c.name == "backups"]
    assert (check.state, "holds 11 media, 3 labels" in check.finding) == ("ok", True)


def test_the_duty_waits_until_the_next_is_due(station):
    for _ in range(LOOKS_A_DAY):
        keep_backups(station)
        station.test_clock.now += LOOK
    assert len(list(folder(station).iterdir())) == 1
    keep_backups(station)
    assert [path.name for path in backups_in(folder(station))] == [
        "trapwatch-2026-11-27T0215Z.db",
        "trapwatch-2026-11-26T0215Z.db",
    ]


def test_a_disk_without_room_is_told_and_nothing_is_written(station, tmp_path):
    try:
        with small_disk(tmp_path / "stick", 200) as disk:
            with_backup(station, folder=disk.folder)
            keep_backups(station)
            assert list(disk.folder.iterdir()) == []
            problem = station.log.state(STATE)["problem"]
            assert "are needed (twice the log)" in problem
            health = status_of(station.settings, station.log)["health"]
            assert health["checks"]["backup"] == "degraded"
    except CannotMount as error:
        pytest.skip(f"no small disk can be mounted here: {error}")


def test_room_is_asked_for_the_log_with_its_journal_and_for_the_work(station, monkeypatch):
    settings, log = station.settings, station.log.path
    folder(station).mkdir()
    size = sum(Path(f"{log}{suffix}").stat().st_size for suffix in ("", "-wal"))
    usage = shutil.disk_usage(folder(station))
    for free, enough in ((2 * size + 1_100_000, True), (2 * size + 1_099_999, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, f=free: usage._replace(free=f))
        assert (too_little_room(settings, None) is None) is enough


def test_while_backups_rest_the_reason_is_told(station):
    station.rest.set("battery", Reason(frozenset({BACKUP}), "battery at 12 %"))
    keep_backups(station)
    assert station.log.state(STATE)["problem"] == "battery at 12 %"
    station.rest.set("battery", None)
    for _ in range(3):
        keep_backups(station)
    assert station.log.state(STATE)["problem"] is None
    assert len(list(folder(station).iterdir())) == 1


def test_a_service_that_ends_stops_its_backup_and_makes_it_the_next_time(station):
    keep_backups(station, lambda: True)
    assert list(folder(station).iterdir()) == []
    assert station.log.state(STATE) is None
    keep_backups(station)
    assert len(list(folder(station).iterdir())) == 1


def test_none_is_made_where_that_is_the_wish(station):
    with_backup(station, enabled=False)
    keep_backups(station)
    assert not folder(station).exists()
    facts = status_of(station.settings, station.log)
    assert ("backup", "none is made (backup.enabled)") in status_lines(facts)


def test_each_backup_goes_to_the_second_disk_too(station, tmp_path):
    try:
        with small_disk(tmp_path / "usb", 20_000) as disk:
            with_backup(station, second_folder=disk.folder, keep_daily=1, keep_weekly=0)
            for _ in range(6):
                back_up(station.settings, station.test_clock.now)
                station.test_clock.now += EVERY
            names = [path.name for path in backups_in(disk.folder)]
            assert names == [path.name for path in backups_in(folder(station))]
            assert len(names) == ALWAYS_KEPT
            first, second = (facts_of(f / names[0]) for f in (folder(station), disk.folder))
            assert (first.number, first.labels) == (second.number, second.labels) == (6, 3)
            shutil.rmtree(folder(station))
            assert newest_good(station.settings, None) is None, "it may be another station's"
            own = mark_of(station.settings)
            assert newest_good(station.settings, own) == disk.folder / names[0]
    except CannotMount as error:
        pytest.skip(f"no small disk can be mounted here: {error}")


@pytest.mark.parametrize("kind", ["missing", "same disk"])
def test_a_second_disk_that_is_not_mounted_is_told(station, tmp_path, kind):
    second = tmp_path / "usb"
    if kind == "same disk":
        second.mkdir()
    with_backup(station, second_folder=second)
    keep_backups(station)
    problem = station.log.state(STATE)["second_problem"]
    assert "mounted?" in problem
    assert not second.exists() or list(second.iterdir()) == []
    lines = status_lines(status_of(station.settings, station.log))
    assert ("backup", f"not on the second disk: {problem}") in lines


def test_a_damaged_log_found_by_a_backup_is_handed_over_to_be_restored(station):
    """A row that names one that is not there: SQLite reads it without an error."""
    with closing(choose_sqlite().module.connect(station.log.path)) as connection, connection:
        connection.execute("UPDATE media SET deployment_id = 999 WHERE id = 1")
    keep_backups(station)
    assert "deployment" in station.log.damage
    assert "no sound log" in station.log.state(STATE)["problem"]
    assert list(folder(station).iterdir()) == []


def test_a_damaged_backup_is_passed_over_for_the_one_before(station, caplog):
    back_up(station.settings, AT)
    say(station.log, 4, "lynx")
    newest = back_up(station.settings, AT + EVERY).facts.path
    older = folder(station) / name_of(AT)
    assert newest_good(station.settings, mark_of(station.settings)) == newest
    content = bytearray(newest.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    newest.write_bytes(content)
    assert newest_good(station.settings, mark_of(station.settings)) == older
    assert newest.name in caplog.text
    labels = facts_of(older).labels
    log = station.log.path
    station.close()
    restore_backup(older, log, NOW)
    with SpeciesLog(log) as restored:
        assert len(rows(restored, "SELECT 1 FROM label WHERE withdraws_id IS NULL")) == labels


def test_no_backup_is_newest_where_there_is_none(station, tmp_path):
    with_backup(station, second_folder=tmp_path / "not there")
    assert newest_good(station.settings, mark_of(station.settings)) is None


def test_a_backup_of_a_newer_program_is_not_the_newest_good_one(station):
    path = back_up(station.settings, AT).facts.path
    newer = folder(station) / name_of(AT + EVERY)
    write_backup(station.log.path, newer, number=2)
    with closing(choose_sqlite().module.connect(newer)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert newest_good(station.settings, mark_of(station.settings)) == path


def test_two_backups_in_a_minute_are_two_files(station):
    first, second = (back_up(station.settings, AT).facts for _ in range(2))
    assert first.path != second.path
    assert backups_in(folder(station)) == [second.path, first.path]
    assert verify_backup(second.path).number == 2


def test_a_folder_that_cannot_be_made_is_told(station):
    with_backup(station, folder=station.log.path / "below a file")
    with pytest.raises(BackupError, match=r"no backup can be kept in .*Not a directory"):
        back_up(station.settings, AT)


def test_the_config_has_absolute_folders_and_sensible_bounds(config):
    text = config.read_text()
    config.write_text(text + "backup: {folder: copies, second_folder: /mnt/usb}\n")
    rules = load_settings(config, {}).backup
    assert (rules.folder, rules.second_folder) == (config.parent / "copies", Path("/mnt/usb"))
    for fault in ("keep_daily: 0", "every_hours: 0.5", "keep_weekly: -1", "foldr: x"):
        config.write_text(text + f"backup: {{{fault}}}\n")
        with pytest.raises(ConfigError, match=r"backup\."):
            load_settings(config, {})


def of_another(station: Station, path: Path, number: int) -> Path:
    """A backup that another station left there."""
    write_backup(station.log.path, path, number=number)
    with closing(choose_sqlite().module.connect(path)) as connection, connection:
        connection.execute("UPDATE state SET value = '{\"id\": \"other\"}' WHERE key = 'identity'")
    return path


def test_another_stations_backups_are_neither_restored_nor_replaced_nor_dropped(station, tmp_path):
    try:
        with small_disk(tmp_path / "usb", 20_000) as disk:
            with_backup(station, second_folder=disk.folder, keep_daily=1, keep_weekly=0)
            others = [
                of_another(station, disk.folder / name_of(AT + n * EVERY), 500 + n)
                for n in range(5)
            ]
            before = [path.read_bytes() for path in others]
            for n in range(5):
                outcome = back_up(station.settings, AT + n * EVERY)
                assert outcome.second_problem is None
            assert [path.read_bytes() for path in others] == before
            assert outcome.number == 5, "their numbers are not counted"
            own = mark_of(station.settings)
            newest = folder(station) / name_of(AT + 4 * EVERY)
            assert newest_good(station.settings, own) == newest
            assert (disk.folder / f"{newest.stem}-2.db").exists(), "beside the other of that name"
            assert not set(others) & set(own_backups(station.settings, own))
            assert len(own_backups(station.settings, own)) == 2 * ALWAYS_KEPT
            shutil.rmtree(folder(station))
            for path in own_backups(station.settings, own):
                path.unlink()
            assert newest_good(station.settings, own) is None
            (check,) = [c for c in examine(station.settings) if c.name == "backups"]
            assert check.state == "warn"
    except CannotMount as error:
        pytest.skip(f"no small disk can be mounted here: {error}")


class SmallStorage:
    """A disk on which nothing but these backups takes room."""

    def __init__(self, folder: Path, free: int) -> None:
        self.folder, self.free, self.usage = folder, free, shutil.disk_usage(folder.parent)

    def __call__(self, _: object) -> object:
        used = sum(path.stat().st_size for path in self.folder.glob("*.db"))
        return self.usage._replace(free=self.free - used)


def test_backups_make_room_for_the_newest_and_never_fill_the_disk(station, monkeypatch):
    size = facts_of(station.log.path, is_live=True).size_bytes
    size += Path(f"{station.log.path}-wal").stat().st_size
    storage = SmallStorage(folder(station), 1_100_000 + 5 * size)
    monkeypatch.setattr(shutil, "disk_usage", storage)
    for n in range(12):
        back_up(station.settings, AT + n * EVERY)
        assert storage(None).free >= 1_100_000, "disk.stop_mb is never touched"
    names = [path.name for path in backups_in(folder(station))]
    assert names[0] == name_of(AT + 11 * EVERY)
    assert ALWAYS_KEPT <= len(names) < 7
    storage.free = 1_100_000
    with pytest.raises(BackupError, match=r"twice the log, and disk\.stop_mb"):
        back_up(station.settings, AT + 12 * EVERY)
    assert [path.name for path in backups_in(folder(station))] == names[:ALWAYS_KEPT]


def test_only_scheduled_backups_beyond_the_newest_three_are_spare(station):
    for n in range(5):
        back_up(station.settings, AT + n * EVERY)
    write_backup(
        station.log.path, folder(station) / "trapwatch-before-0004-2026-11-26T0215Z.db", number=1
    )
    of_another(station, folder(station) / name_of(AT - EVERY), 1)
    names = [path.name for path in spare(folder(station), mark_of(station.settings))]
    assert names == [name_of(AT), name_of(AT + EVERY)]


def test_a_second_disk_that_hangs_holds_up_no_backup(station, tmp_path, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(backups, "_copy_on", lambda *_: go.wait(30))
    monkeypatch.setattr(backup_places, "SECONDS", 0.2)
    with_backup(station, second_folder=tmp_path / "usb")
    try:
        for _ in range(2):
            began = time.monotonic()
            keep_backups(station)
            assert time.monotonic() - began < 10
            told = station.log.state(STATE)
            assert told["problem"] is None
            assert "does not answer" in told["second_problem"]
            station.test_clock.now += 2 * EVERY
            for _ in range(FEWEST_LOOKS):
                keep_backups(station)
    finally:
        go.set()
    assert len(backups_in(folder(station))) >= 2


def test_a_backup_that_cannot_be_restored_does_not_count(station, monkeypatch):
    whole = restore.restore_backup

    def loses(backup: Path, log: Path, *others: object) -> None:
        whole(backup, log, *others)
        with closing(choose_sqlite().module.connect(log)) as connection, connection:
            connection.execute("DELETE FROM state WHERE key = 'identity'")

    monkeypatch.setattr(restore, "restore_backup", loses)
    keep_backups(station)
    assert "restored holds something else" in station.log.state(STATE)["problem"]
    assert list(folder(station).iterdir()) == []
    monkeypatch.setattr(restore, "restore_backup", whole)
    back_up(station.settings, AT)
    assert [path.name for path in folder(station).iterdir()] == [name_of(AT)]


def test_numbers_only_grow_although_the_first_folder_was_lost(station):
    keep_backups(station)
    for _ in range(LOOKS_A_DAY + 1):
        station.test_clock.now += LOOK
        keep_backups(station)
    shutil.rmtree(folder(station))
    station.test_clock.now += EVERY
    for _ in range(FEWEST_LOOKS + 1):
        keep_backups(station)
    assert facts_of(Path(station.log.state(STATE)["path"])).number == 3
