"""A station on a disk that fills to the last byte, and goes on by itself when there is room."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from monitor.system.locks import LOCK_NAME, OwnerLock, is_held

from .drill import COLOURS, Drill, Zygote, draw_frame, fill
from .full_disk import CannotMount, SmallDisk, small_disk
from .losses import imported_losses, losses
from .systemd import Ears, running, stopped, wait_until

DISK_KB = 12 * 1024


@pytest.fixture
def disk(drill: Drill) -> Iterator[SmallDisk]:
    """Only the station's data lie on it: photographs go on coming elsewhere."""
    try:
        with small_disk(drill.data, DISK_KB) as disk:
            yield disk
    except CannotMount as error:
        pytest.skip(f"a small disk takes root and a system that lets it mount: {error}")


def classified(drill: Drill) -> int:
    return drill.number("SELECT count(*) FROM media WHERE status = 'classified'")


def new_frames(drill: Drill, count: int, seed: int = 5000) -> None:
    species = list(COLOURS)
    for number in range(seed, seed + count):
        at = datetime(2024, 7, 1) + timedelta(minutes=45 * number)
        path = drill.frames / "east" / f"IMG_{number}.JPG"
        draw_frame(path, species[number % len(species)], at, number)


def status(drill: Drill) -> dict[str, object]:
    result = drill.trapwatch("status", "--json")
    assert result.returncode == 0, result.stderr
    facts: dict[str, object] = json.loads(result.stdout)
    return facts


def test_work_rests_on_a_full_disk_and_goes_on_when_there_is_room(
    drill: Drill, disk: SmallDisk, ears: Ears
) -> None:
    drill.configure(warn_mb=4, stop_mb=3)
    fill(drill, each=2, unlabelled=0)
    with running(drill, ears) as service:
        wait_until(lambda: classified(drill) == 18)
        disk.fill(leave_bytes=2_000_000)
        ears.hear(30, until="disk full")
        new_frames(drill, 12)
        heard = "\n".join(ears.hear(30, until="disk full"))
        assert "WATCHDOG=1" in heard
        assert "intake, classifying, training, backing up rest: disk full" in heard
        frame = drill.frames / "north" / "IMG_0001.JPG"
        labelled = drill.trapwatch("label", "set", str(frame), "lynx", "--new", "--by", "Ana")
        assert labelled.returncode == 0, labelled.stderr
        facts = status(drill)
        assert facts["disk"]["state"] == "full"
        assert set(facts["rest"]) == {"intake", "classify", "train", "backup"}
        assert classified(drill) == 18
        assert drill.number("SELECT count(*) FROM media") == 19
        assert drill.trapwatch("sightings", "--json").returncode == 0
        disk.make_room()
        wait_until(lambda: classified(drill) == 30)
        wait_until(lambda: status(drill)["rest"] == {})
        assert service.poll() is None
        assert stopped(service) == 0
    assert losses(drill) == []
    assert drill.number("SELECT count(*) FROM label") == 1


def test_a_lock_is_held_on_a_full_disk(drill: Drill, disk: SmallDisk) -> None:
    disk.fill()
    lock = drill.data / LOCK_NAME
    with OwnerLock(lock, "the log", datetime(2026, 5, 1, tzinfo=UTC)):
        assert is_held(lock)
    assert not is_held(lock)


@pytest.mark.parametrize("leave", [0])
def test_a_disk_that_fills_to_the_brim_while_frames_come_loses_nothing(
    drill: Drill, disk: SmallDisk, ears: Ears, leave: int
) -> None:
    """The guard stops nothing here: every write finds the disk full itself."""
    drill.configure(warn_mb=1, stop_mb=0)
    fill(drill, each=2, unlabelled=0)
    with running(drill, ears) as service:
        wait_until(lambda: classified(drill) >= 5)
        disk.fill(leave)
        new_frames(drill, 60)
        ears.hear(6)
        assert service.poll() is None
        disk.make_room()
        ears.hear(30, until="WATCHDOG=1")
        wait_until(lambda: classified(drill) == 78, 100)
        assert stopped(service) == 0
    assert "made anew" not in drill.output.read_text()
    assert losses(drill) == []


def test_a_service_that_starts_on_a_full_disk_waits_for_room(
    drill: Drill, disk: SmallDisk, ears: Ears
) -> None:
    fill(drill, each=1, unlabelled=0)
    assert drill.trapwatch("run", "--once").returncode == 0
    new_frames(drill, 3)
    disk.fill()
    vectors = (drill.data / "features.db").stat().st_size
    with drill.service({"NOTIFY_SOCKET": str(ears.path)}) as service:
        ears.hear(30, until="disk full")
        assert service.poll() is None
        assert (drill.data / "features.db").stat().st_size == vectors
        disk.make_room()
        wait_until(lambda: classified(drill) == 12, 60)
        assert stopped(service) == 0
    assert losses(drill) == []
    assert "made anew" not in drill.output.read_text()


@pytest.mark.parametrize("leave", [100_000])
def test_a_training_on_a_full_disk_leaves_nothing_half_written(
    drill: Drill, disk: SmallDisk, zygote: Zygote, leave: int
) -> None:
    drill.configure(warn_mb=1, stop_mb=0)
    fill(drill)
    assert zygote.run(drill, "run", "--once") == 0
    assert zygote.run(drill, "label", "import-folder", str(drill.sorted)) == 0
    disk.fill(leave)
    drill.output.unlink()
    code, said = zygote.run(drill, "train", "--force"), drill.output.read_text()
    assert "Traceback" not in said
    if code:
        assert "disk is full" in said or "No space left" in said, said
    disk.make_room()
    assert zygote.run(drill, "train", "--force") == 0
    assert zygote.run(drill, "run", "--once") == 0
    assert losses(drill) == []
    assert imported_losses(drill) == []
    assert drill.number("SELECT count(*) FROM training_run WHERE state = 'running'") == 0
    names = {row[0] for row in drill.query("SELECT name FROM model_version")}
    assert {p.name for p in (drill.data / "models").iterdir()} == names


def test_labels_on_a_full_disk_are_refused_in_words_or_whole(drill: Drill, disk: SmallDisk) -> None:
    drill.configure(warn_mb=1, stop_mb=0)
    fill(drill)
    assert drill.trapwatch("run", "--once").returncode == 0
    disk.fill()
    refused = drill.trapwatch("label", "import-folder", str(drill.sorted))
    assert refused.returncode == 1
    assert "the disk is full" in refused.stderr and "Traceback" not in refused.stderr
    disk.make_room()
    assert drill.trapwatch("label", "import-folder", str(drill.sorted)).returncode == 0
    assert losses(drill) == []
    assert imported_losses(drill) == []


@pytest.mark.slow
@pytest.mark.parametrize("leave", [50_000])
def test_past_media_are_scored_to_the_end_after_the_disk_was_full(
    drill: Drill, disk: SmallDisk, ears: Ears, zygote: Zygote, leave: int
) -> None:
    drill.configure(warn_mb=1, stop_mb=0)
    fill(drill)
    for command in (
        ("run", "--once"),
        ("label", "import-folder", str(drill.sorted)),
        ("train", "--force"),
        ("run", "--once"),
        ("train", "--force"),
        ("models", "promote", "v0002"),
    ):
        assert zygote.run(drill, *command) == 0
    disk.fill(leave)
    with drill.service({"NOTIFY_SOCKET": str(ears.path)}) as service:
        ears.hear(10)
        assert service.poll() is None
        disk.make_room()
        unscored = (
            "SELECT count(*) FROM media WHERE label_id IS NULL AND status = 'classified' AND "
            "NOT EXISTS (SELECT 1 FROM prediction p JOIN model_version v ON v.id = "
            "p.model_version_id WHERE p.media_id = media.id AND v.name = 'v0002')"
        )
        wait_until(lambda: drill.number(unscored) == 0, 60)
        assert stopped(service) == 0
    assert losses(drill) == []
