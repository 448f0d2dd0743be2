"""The benchmarks' shared pages: frames that differ, true fits, files that name nobody."""

from __future__ import annotations

import getpass
import hashlib
import json
import platform
import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import bench
import plots
from frames import REAL_FRAMES, copies, linked, real_frames

from monitor.images.decode import DecodeRules, decode
from monitor.images.metadata import read_metadata

SOME = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two originals, as a user would give."""
    root = tmp_path_factory.mktemp("originals")
    exif = Image.Exif()
    exif[0x0132] = exif.get_ifd(0x8769)[0x9003] = "2024:01:01 06:00:00"
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 256, (240, 320, 3), np.uint8)
        Image.fromarray(noise).save(root / f"{number}.jpg", exif=exif)
    return root


def test_copies_have_bytes_of_their_own_and_the_same_pixels(folder: Path, tmp_path: Path) -> None:
    frames = real_frames(SOME, tmp_path, least_megapixels=0.05, source=folder)
    data = [path.read_bytes() for path in frames.paths]
    assert len({hashlib.sha256(one).hexdigest() for one in data}) == SOME
    pixels = [decode(one, DecodeRules()) for one in data]
    assert np.array_equal(pixels[0], pixels[2]) and np.array_equal(pixels[0], pixels[4])
    assert not np.array_equal(pixels[0], pixels[1])
    assert str(folder) not in frames.about


def test_copies_of_the_real_frames_decode_alike(tmp_path: Path) -> None:
    if not REAL_FRAMES.is_dir():
        pytest.skip("the real frames are not here")
    frames = real_frames(5, tmp_path)
    first, again = (path.read_bytes() for path in (frames.paths[0], frames.paths[4]))
    assert first != again
    assert np.array_equal(decode(first, DecodeRules()), decode(again, DecodeRules()))


def test_later_copies_were_taken_later(folder: Path, tmp_path: Path) -> None:
    originals = [(folder / "0.jpg").read_bytes()]
    taken: list[datetime] = []
    for path in [*copies(originals, 4, tmp_path), *copies(originals, 2, tmp_path, first=10)]:
        facts = read_metadata(path.read_bytes(), name=path.name, mtime_ns=0, zone=ZoneInfo("UTC"))
        taken.append(facts.captured.local)
    assert taken == sorted(set(taken))


def test_links_stand_in_as_many_cameras_as_asked_for(folder: Path, tmp_path: Path) -> None:
    paths = copies([(folder / "0.jpg").read_bytes()], 9, tmp_path / "cards")
    linked(paths, tmp_path / "links", cameras=3)
    assert sorted(p.name for p in (tmp_path / "links").iterdir()) == [
        "camera-001",
        "camera-002",
        "camera-003",
    ]
    assert len(list((tmp_path / "links").rglob("*.JPG"))) == 9


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_fit_finds_a_known_power(power: float) -> None:
    sizes = [1, 2, 4, 8, 16]
    assert bench.exponent(sizes, [3.0 * n**power for n in sizes]) == pytest.approx(power, abs=1e-9)


def test_machine_and_versions_name_no_path_and_nobody() -> None:
    text = json.dumps([bench.machine(), bench.versions(), bench.machine_in_words()])
    assert "python" in text and "cores" in text
    for private in (str(bench.TOP), str(Path.home()) + "/", platform.node()):
        assert private not in text
    assert f"/{getpass.getuser()}" not in text


def test_what_is_saved_is_the_same_twice(tmp_path: Path) -> None:
    rows = [("one", bench.Spread.of([1.0, 2.0, 4.0])), ("two", bench.Spread.of([3.0]))]

    def draw(axes: Any) -> None:
        plots.bars(axes, rows, "images per second")

    saved = []
    for name in ("first", "second"):
        figures = {"speed": rows[0][1], "list": [1 / 3]}
        bench.save("trial", figures, "A trial", draw, tmp_path / name)
        written = json.loads((tmp_path / name / "benchmarks/results/trial.json").read_text())
        assert written["speed"] == {"median": 2.0, "low": 1.0, "high": 4.0}
        assert written["list"] == [0.33333]
        assert {"date", "machine", "versions"} <= set(written)
        saved.append((tmp_path / name / "docs/performance/trial.svg").read_bytes())
    assert saved[0] == saved[1]
    assert len(saved[0]) < 100_000 and b"images per second" in saved[0]
    assert str(tmp_path).encode() not in saved[0]
