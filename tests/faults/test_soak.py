"""The soak run in short: what it calls flat, and that a few hundred frames go through it whole."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from .drill import Drill, draw_frame
from .soak import Sample, faults_of, growth, soak
from .soak_frames import FIRST_MOMENT, frame_bytes

FRAMES = 600
FLAT = [
    Sample(media, media / 100, 200.0 + media % 7, 110.0, 19, 13, media / 500, media / 400)
    for media in range(0, 100_001, 1000)
]


def test_what_wavers_is_flat_and_what_the_start_took_does_not_count() -> None:
    warming = [replace(s, resident_mb=min(s.resident_mb, 80 + s.media / 100)) for s in FLAT]
    assert faults_of(FLAT) == faults_of(warming) == []
    grown, usual = growth(FLAT, "log_mb")
    assert grown == pytest.approx(160) and usual == pytest.approx(120)


@pytest.mark.parametrize(
    ("what", "each"), [("resident_mb", 1e-3), ("web_mb", 5e-4), ("handles", 2e-4)]
)
def test_what_grows_with_the_frames_is_named(what: str, each: float) -> None:
    leaking = [replace(s, **{what: getattr(s, what) + each * s.media}) for s in FLAT]
    assert [fault.split()[0] for fault in faults_of(leaking)] == [what]


def test_every_frame_has_bytes_and_a_time_of_its_own(tmp_path: Path) -> None:
    draw_frame(tmp_path / "base.jpg", "red fox", FIRST_MOMENT, 1)
    base = (tmp_path / "base.jpg").read_bytes()
    frames = [frame_bytes(base, number) for number in (0, 1, 99_999_999)]
    assert len({hashlib.sha256(one).hexdigest() for one in frames}) == 3
    pictures = [Image.open(io.BytesIO(one)) for one in frames]
    assert len({picture.getexif()[0x0132] for picture in pictures}) == 3
    assert len({picture.convert("RGB").tobytes() for picture in pictures}) == 1


@pytest.mark.slow
def test_some_hundred_frames_come_and_go_and_none_is_lost(tmp_path: Path) -> None:
    figures = soak(Drill(tmp_path), FRAMES, 0, None)
    lost = [fault for fault in figures["found"] if " grew by " not in fault]  # too short for that
    assert lost == []
    assert figures["media"] == FRAMES and figures["samples"]
