"""The demo's world: a plan that makes sense, frames drawn alike again, files that are whole."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from monitor.cli.demo import world
from monitor.cli.demo.scenery import DEPLOYMENTS
from monitor.cli.demo.species import SPECIES
from monitor.cli.demo.world import BURST, Frame, WorldPlan, plan, render, write_world
from monitor.core.domain import BLANK

SMALL = (320, 240)
SEED = 3


@pytest.fixture(scope="module")
def whole() -> WorldPlan:
    return plan(SEED)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, whole: WorldPlan) -> Path:
    root = tmp_path_factory.mktemp("station") / "incoming"
    write_world(whole, root, SEED, only=slice(0, 24))
    return root


def _events(frames: tuple[Frame, ...]) -> dict[int, list[Frame]]:
    events: dict[int, list[Frame]] = defaultdict(list)
    for frame in frames:
        events[frame.event].append(frame)
    return dict(events)


def _exif_time(path: Path) -> datetime:
    with Image.open(path) as image:
        details = image.getexif().get_ifd(0x8769)
    text = f"{details[0x9003]}.{details[0x9291]}"
    return datetime.strptime(text, "%Y:%m:%d %H:%M:%S.%f")


def test_a_plan_is_fixed_by_its_seed(whole: WorldPlan) -> None:
    assert plan(SEED) == whole
    assert plan(SEED + 1) != whole


@pytest.mark.parametrize("frames", [1, 2, 10, 240, 900])
def test_a_plan_has_as_many_frames_as_asked_for(frames: int) -> None:
    assert len(plan(SEED, frames).frames) == frames


def test_no_two_frames_share_a_path_and_every_path_stays_below_the_root(whole: WorldPlan) -> None:
    paths = [frame.path for frame in whole.frames]
    assert len(set(paths)) == len(paths)
    for frame in whole.frames:
        assert not frame.path.is_absolute()
        assert frame.path.parts[0] == frame.deployment
        assert len(frame.path.parts) == 2


def test_every_species_visits_every_camera_in_both_lights(whole: WorldPlan) -> None:
    seen = Counter((f.species, f.deployment, f.infrared) for f in whole.frames)
    for cell in product((*SPECIES, BLANK), DEPLOYMENTS, (False, True)):
        assert seen[cell] >= 2 * BURST, cell


def test_about_a_quarter_of_the_frames_is_blank_and_only_those_count_nothing(
    whole: WorldPlan,
) -> None:
    share = sum(f.species == BLANK for f in whole.frames) / len(whole.frames)
    assert share == pytest.approx(0.25, abs=0.05)
    assert all((f.count == 0) == (f.species == BLANK) for f in whole.frames)


def test_events_of_one_camera_are_more_than_half_an_hour_apart(whole: WorldPlan) -> None:
    for deployment in DEPLOYMENTS:
        frames = [f for f in whole.frames if f.deployment == deployment]
        for before, after in pairwise(frames):
            gap = after.captured_local - before.captured_local
            if before.event == after.event:
                assert timedelta(0) < gap < timedelta(seconds=5)
            else:
                assert gap > timedelta(minutes=30)


def test_an_event_is_one_burst_of_one_camera(whole: WorldPlan) -> None:
    for frames in _events(whole.frames).values():
        assert [f.shot for f in frames] == list(range(BURST))
        assert len({(f.deployment, f.species, f.count, f.infrared) for f in frames}) == 1


def test_infrared_is_the_night(whole: WorldPlan) -> None:
    for frame in whole.frames:
        clock = frame.captured_local.hour + frame.captured_local.minute / 60
        assert frame.infrared == (clock < 5.2 or clock > 20.9), frame


def test_a_frame_is_drawn_the_same_again_and_otherwise_from_another_seed(whole: WorldPlan) -> None:
    frame = next(f for f in whole.frames if f.species == "red fox")
    once = render(frame, SEED, SMALL)
    assert once.size == SMALL
    assert once.mode == "RGB"
    assert once.tobytes() == render(frame, SEED, SMALL).tobytes()
    assert once.tobytes() != render(frame, SEED + 1, SMALL).tobytes()


def test_infrared_frames_have_no_colour_and_day_frames_have(whole: WorldPlan) -> None:
    for infrared in (True, False):
        frame = next(f for f in whole.frames if f.infrared == infrared)
        pixels = np.asarray(render(frame, SEED, SMALL), np.int16)
        assert (np.ptp(pixels, axis=-1).mean() < 0.5) == infrared


@pytest.mark.parametrize("species", SPECIES)
def test_the_animal_is_seen_and_moves_on_within_its_event(whole: WorldPlan, species: str) -> None:
    """Far more changes than the grain alone, which is all that changes in a still blank frame."""
    frames = [f for f in whole.frames if f.species == species and not f.infrared]
    first, second = (render(f, SEED, SMALL).convert("L") for f in frames[:2])
    changed = np.asarray(ImageChops.difference(first, second)) > 24
    assert changed[: int(0.8 * SMALL[1])].mean() > 0.01


def test_every_planned_species_can_be_drawn_at_every_camera(whole: WorldPlan) -> None:
    cells = {(f.species, f.deployment, f.infrared): f for f in whole.frames}
    for frame in cells.values():
        assert np.asarray(render(frame, SEED, (160, 120))).std() > 5


def test_written_frames_carry_the_planned_time_and_camera(folder: Path, whole: WorldPlan) -> None:
    for frame in whole.frames[:24]:
        path = folder / frame.path
        assert _exif_time(path) == frame.captured_local
        with Image.open(path) as image:
            image.load()
            assert (image.format, image.size) == ("JPEG", world.SIZE)
            exif = image.getexif()
        assert exif[0x010F] and exif[0x0110]
        assert exif.get_ifd(0x8769)[0xA431] == f"TW{DEPLOYMENTS.index(frame.deployment) + 1:04d}"


def test_only_the_frames_asked_for_are_there_and_nothing_half_written(
    folder: Path, whole: WorldPlan
) -> None:
    found = {p.relative_to(folder.parent) for p in folder.parent.rglob("*") if p.is_file()}
    assert found == {Path(folder.name, f.path) for f in whole.frames[:24]}


def test_the_same_frame_is_written_byte_for_byte_the_same(
    folder: Path, whole: WorldPlan, tmp_path: Path
) -> None:
    write_world(whole, tmp_path, SEED, only=slice(4, 6))
    for frame in whole.frames[4:6]:
        assert (tmp_path / frame.path).read_bytes() == (folder / frame.path).read_bytes()


def test_progress_counts_up_to_the_end(whole: WorldPlan, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_world(
        whole,
        tmp_path,
        SEED,
        progress=lambda done, all_: seen.append((done, all_)),
        only=slice(0, 2),
    )
    assert seen == [(1, 2), (2, 2)]


def test_a_write_that_fails_leaves_no_finished_name(
    whole: WorldPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="no space"):
        write_world(whole, tmp_path, SEED, only=slice(0, 1))
    assert not [p for p in tmp_path.rglob("*.JPG") if not p.name.startswith(".")]
