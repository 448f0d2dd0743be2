"""Files that end the program: found, tried alone, set aside; nothing else is."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from faults.drill import Drill, draw_frame, fill
from faults.losses import losses
from faults.systemd import wait_until

from monitor.images.decode import DecodeRules
from monitor.images.pictures import PictureMissing, Pictures
from monitor.log.engine import LogError
from monitor.log.media import PendingMedia
from monitor.log.species_log import SpeciesLog
from monitor.pipeline.crash_test import CannotTell, death_of
from monitor.pipeline.quarantine import CAREFUL_READS, READING_KEY, Quarantine
from monitor.pipeline.scan import stamp_of

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
RULES = DecodeRules(size=64)
PLUG = Path(__file__).parent / "faults" / "deadly"
MOST_RUNS = 6


@pytest.fixture
def drill(tmp_path: Path) -> Drill:
    drill = Drill(tmp_path / "station")
    fill(drill, each=2, unlabelled=0)
    return drill


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Processes started from now on die of marked files; the file that a slow one touches."""
    monkeypatch.setenv("PYTHONPATH", str(PLUG))
    flag = tmp_path / "under way"
    monkeypatch.setenv("DRILL_FLAG", str(flag))
    return flag


def put(drill: Drill, name: str, mark: bytes, seed: int = 999) -> Path:
    path = drill.frames / "north" / name
    draw_frame(path, "red fox", datetime(2024, 5, 9, 6), seed)
    path.write_bytes(path.read_bytes() + mark)
    return path


def runs_until_it_ends_well(drill: Drill) -> list[int]:
    """Exit statuses of `run --once`, started again and again as systemd would."""
    codes = []
    while len(codes) < MOST_RUNS and (not codes or codes[-1] != 0):
        codes.append(drill.trapwatch("run", "--once").returncode)
    return codes


def reasons(drill: Drill) -> dict[str, str]:
    rows = drill.query("SELECT path, rejected_reason FROM media WHERE status = 'rejected'")
    return {Path(path).name: reason for path, reason in rows}


def quarantine(log: SpeciesLog, deaths: dict[bytes, str | None]) -> Quarantine:
    return Quarantine(log, RULES, lambda: NOW, lambda path, rules: deaths[path])


def state(log: SpeciesLog) -> dict[str, object] | None:
    return log.state(READING_KEY)


@pytest.mark.parametrize("mark", [b"DEADLY-DECODE", b"DEADLY-HEADER"], ids=["pixels", "header"])
def test_a_file_that_ends_the_process_twice_is_set_aside_and_all_others_are_classified(
    drill: Drill, deadly: Path, mark: bytes
) -> None:
    path = put(drill, "deadly.jpg", mark)
    assert runs_until_it_ends_well(drill) == [-signal.SIGSEGV, -signal.SIGSEGV, 0]
    assert reasons(drill)["deadly.jpg"] == (
        "reading it ended the program twice (SIGSEGV); set aside until its bytes change"
    )
    assert drill.number("SELECT count(*) FROM media WHERE status = 'classified'") == 18
    assert losses(drill) == []
    assert drill.trapwatch("run", "--once").returncode == 0, "and it is left alone from now on"
    put(drill, "deadly.jpg", b"")
    assert drill.trapwatch("run", "--once").returncode == 0
    assert drill.number("SELECT count(*) FROM media WHERE status = 'classified'") == 19
    assert path.exists()


def test_two_such_files_are_both_found(drill: Drill, deadly: Path) -> None:
    put(drill, "one.jpg", b"DEADLY-DECODE", 998)
    put(drill, "two.jpg", b"DEADLY-DECODE", 999)
    codes = runs_until_it_ends_well(drill)
    assert codes[-1] == 0 and len(codes) <= 4
    assert {"one.jpg", "two.jpg"} <= reasons(drill).keys()
    assert losses(drill) == []


def test_without_the_trial_it_would_die_for_ever(drill: Drill, deadly: Path) -> None:
    """The negative control of the test above."""
    put(drill, "deadly.jpg", b"DEADLY-DECODE")
    code = (
        "import sys, monitor.pipeline.quarantine\n"
        "monitor.pipeline.quarantine.Quarantine.objection = lambda quarantine, paths: None\n"
        f"sys.argv = ['trapwatch', 'run', '--once', '--config', {str(drill.config)!r}]\n"
        "from monitor.cli import main\nmain()"
    )
    command = [drill.command()[0], "-c", code]
    codes = [subprocess.run(command, check=False, timeout=60).returncode for _ in range(4)]
    assert codes == [-signal.SIGSEGV] * 4


def test_a_good_file_that_is_under_way_at_three_power_cuts_is_not_condemned(
    drill: Drill, deadly: Path
) -> None:
    put(drill, "slow.jpg", b"SLOW-DECODE")
    for _ in range(3):
        deadly.unlink(missing_ok=True)
        with drill.service(command=drill.command("run", "--once")) as process:
            wait_until(deadly.exists, 30)
            process.kill()
    ((marker,),) = drill.query("SELECT value FROM state WHERE key = 'reading'")
    assert os.fsencode(drill.frames / "north" / "slow.jpg").hex() in marker, "it is suspected"
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(drill.command("run", "--once"), env=environ, check=False, timeout=60)
    assert ended.returncode == 0
    assert "slow.jpg" not in reasons(drill)
    assert drill.query("SELECT deaths FROM poison_file") == []
    assert losses(drill) == []


def test_where_the_last_run_ended_tidily_nothing_is_noted(drill: Drill) -> None:
    for _ in range(2):
        assert drill.trapwatch("run", "--once").returncode == 0
    assert drill.query("SELECT value FROM state WHERE key = 'reading'") == []
    assert drill.query("SELECT value FROM state WHERE key = 'run'") == [('{"tidy": true}',)]


def test_a_first_start_and_one_after_a_tidy_end_are_not_careful(log: SpeciesLog) -> None:
    first = quarantine(log, {})
    first.run_begins()
    assert not first.is_on
    first.run_ends()
    second = quarantine(log, {})
    second.run_begins()
    assert not second.is_on
    third = quarantine(log, {})
    third.run_begins()
    assert third.is_on, "the second has not ended"


def test_it_is_careful_for_so_many_reads_and_then_no_more(log: SpeciesLog, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "a.jpg")
    Path(os.fsdecode(path)).write_bytes(b"abc")
    quarantine(log, {}).run_begins()
    careful = quarantine(log, {})
    careful.run_begins()
    for _ in range(3):
        with careful.reading(path):
            assert state(log)["path"] == path.hex()
    careful._reads_left = 1
    with careful.reading(path):
        assert not careful.is_on
    assert state(log) == {}, "no marker is left that would accuse the last file"
    assert CAREFUL_READS > 1000


def test_what_was_read_when_it_died_is_tried_alone_and_cleared_or_condemned(
    log: SpeciesLog, tmp_path: Path
) -> None:
    good, bad = (os.fsencode(tmp_path / name) for name in ("good.jpg", "bad.jpg"))
    deaths = {good: None, bad: "SIGSEGV"}
    for path in (good, bad):
        Path(os.fsdecode(path)).write_bytes(b"abc")
        quarantine(log, deaths).run_begins()
        died = quarantine(log, deaths)
        died.run_begins()
        with died.reading(path):
            pass  # and here it died
    again = quarantine(log, deaths)
    again.run_begins()
    assert again.objection([good]) is None
    assert "ended the program twice (SIGSEGV)" in str(again.objection([b"/elsewhere", bad]))
    deaths.clear()
    assert again.objection([bad]), "without a trial, which would be a KeyError by now"
    assert [(one.path, one.deaths) for one in log.deadly_files()] == [(bad, 2)]
    next_run = quarantine(log, {})
    next_run.run_begins()
    assert next_run.objection([good]) is None
    assert next_run.objection([bad]), "its media may not have been marked as refused in time"


def test_a_suspect_with_other_bytes_is_no_suspect(log: SpeciesLog, tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"abc")
    path = os.fsencode(file)
    log.count_death(path, stamp_of(path), NOW)
    file.write_bytes(b"others")
    fresh = quarantine(log, {path: "SIGSEGV"})
    fresh.run_begins()
    assert fresh.objection([path]) is None
    assert log.deadly_files() == []


def test_deaths_are_counted_for_the_same_bytes_only(log: SpeciesLog, tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    path = os.fsencode(file)

    def died() -> int:
        log.count_death(path, stamp_of(path), NOW)
        (known,) = log.deadly_files()
        return known.deaths

    file.write_bytes(b"abc")
    assert [died(), died()] == [1, 2]
    file.write_bytes(b"others")
    assert died() == 1


def test_a_trial_that_cannot_get_at_the_bytes_tells_nothing(tmp_path: Path) -> None:
    with pytest.raises(CannotTell, match="did not begin"):
        death_of(os.fsencode(tmp_path / "gone.jpg"), RULES)


def test_a_damaged_file_is_no_deadly_one(tmp_path: Path) -> None:
    file = tmp_path / "damaged.jpg"
    file.write_bytes(b"\xff\xd8\xff\xe0 no photograph")
    assert death_of(os.fsencode(file), RULES) is None


def test_a_file_that_was_set_aside_is_not_shown_either(log: SpeciesLog, tmp_path: Path) -> None:
    """Or the process of the pages would die of it, whenever somebody looks."""
    path = tmp_path / "deadly.jpg"
    draw_frame(path, "red fox", datetime(2024, 5, 9, 6), 1)
    data, name = path.read_bytes(), os.fsencode(path)
    sha256 = hashlib.sha256(data).hexdigest()
    media = PendingMedia(1, sha256, "north", "2024-05-09T06:00:00.000Z", (name,))
    pictures = Pictures(
        lambda ids: [media], tmp_path / "kept", 10**7, RULES, is_deadly=log.is_set_aside
    )
    log.count_death(name, stamp_of(name), NOW)
    assert not log.is_set_aside([name]), "a suspect is tried first, and shown meanwhile"
    log.count_death(name, stamp_of(name), NOW)
    with pytest.raises(PictureMissing, match="reading it ends the program"):
        pictures.get(1, "thumb")
    log.clear_of_suspicion([name])
    assert pictures.get(1, "thumb")
    pictures.close()


def test_a_log_that_cannot_be_written_makes_it_less_careful_and_stops_nothing(
    log: SpeciesLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    def full(*_: object) -> None:
        raise LogError("the disk is full")

    path = tmp_path / "a.jpg"
    path.write_bytes(b"abc")
    quarantine(log, {}).run_begins()
    monkeypatch.setattr(log, "put_state", full)
    careful = quarantine(log, {})
    careful.run_begins()
    with careful.reading(os.fsencode(path)):
        pass
    careful.run_ends()
    assert "the disk is full" in caplog.text
