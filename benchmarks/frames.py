"""Frames to measure with: files with bytes of their own and the pixels of real photographs."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from bench import TOP
from PIL import Image

REAL_FRAMES = TOP.parent / "shared" / "data" / "camera-traps"
MOST_MEGAPIXELS = 13.0
FIRST_MOMENT = datetime(2024, 1, 1, 6)
BURST = 3
CAMERAS = 4
START_OF_IMAGE, COMMENT = b"\xff\xd8", b"\xff\xfe"
_EXIF_TIME = re.compile(rb"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d")


@dataclass(frozen=True, slots=True)
class Frames:
    """Files with different bytes. `about` says what is in them, without a path."""

    paths: tuple[Path, ...]
    about: str


def real_frames(
    wanted: int,
    folder: Path,
    least_megapixels: float = 8.0,
    source: Path | None = None,
    first: int = 0,
) -> Frames:
    """`wanted` JPEG files below `folder`: pixels of real frames, bytes of their own.

    Args:
        least_megapixels: smaller originals are not used.
        source: folder of originals; None takes the shared real frames, or else rendered ones.
        first: number of the first file; later numbers have later EXIF times.
    """
    originals, about = find_originals(least_megapixels, source)
    frames = copies(originals, wanted, folder, first)
    size = sum(path.stat().st_size for path in frames) / max(1, wanted) / 1e6
    return Frames(tuple(frames), f"{wanted} copies of {about}, {size:.1f} MB each")


def find_originals(least_megapixels: float, source: Path | None) -> tuple[list[bytes], str]:
    """(the JPEGs' bytes, what they are in words)."""
    folder = source or REAL_FRAMES
    found: list[bytes] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in {".jpg", ".jpeg"}:
            with Image.open(path) as image:
                pixels = image.width * image.height / 1e6
            if least_megapixels <= pixels <= MOST_MEGAPIXELS:
                found.append(path.read_bytes())
    if found:
        size = f" of {least_megapixels:g} MP or more" if least_megapixels else ""
        return found, f"{len(found)} real frames{size}"
    if source is not None:
        sys.exit(f"no JPEG of {least_megapixels:g} to {MOST_MEGAPIXELS:g} MP in --source")
    return rendered((4032, 3024), 4), "4 rendered frames scaled up to 12 MP (no real ones here)"


def rendered(size: tuple[int, int], wanted: int, seed: int = 7) -> list[bytes]:
    """JPEGs of the demo's world, scaled to `size` pixels, with an EXIF time."""
    from monitor.cli.demo.world import plan, render

    exif = Image.Exif()
    exif[0x0132] = exif.get_ifd(0x8769)[0x9003] = FIRST_MOMENT.strftime("%Y:%m:%d %H:%M:%S")
    found = []
    for frame in plan(seed, wanted * BURST).frames[::BURST]:
        file = io.BytesIO()
        image = render(frame, seed).resize(size, Image.Resampling.BICUBIC)
        image.save(file, "JPEG", quality=90, exif=exif)
        found.append(file.getvalue())
    return found


def copies(
    originals: Sequence[bytes], wanted: int, folder: Path, first: int = 0, cameras: int = CAMERAS
) -> list[Path]:
    """Write the originals in turn, each file with a number and a time of its own.

    Bursts of three, an hour apart, go to the cameras in turn. The files end in the page cache.
    """
    paths = []
    for number in range(first, first + wanted):
        burst = number // BURST
        moment = FIRST_MOMENT + timedelta(hours=burst, seconds=number % BURST)
        path = folder / f"camera-{burst % cameras + 1:03d}" / f"IMG_{number:07d}.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(numbered(originals[number % len(originals)], number, moment))
        os.utime(path, (moment.timestamp(), moment.timestamp()))
        paths.append(path)
    return paths


def numbered(original: bytes, number: int, moment: datetime) -> bytes:
    """The same pixels in other bytes: a comment after the start marker, another EXIF time."""
    text = f"copy {number:09d}".encode()
    comment = COMMENT + (len(text) + 2).to_bytes(2, "big") + text
    stamp = moment.strftime("%Y:%m:%d %H:%M:%S").encode()
    header = _EXIF_TIME.sub(stamp, original[2 : 64 * 1024])  # all EXIF lies in the first 64 KB
    return START_OF_IMAGE + comment + header + original[64 * 1024 :]


def linked(paths: Sequence[Path], folder: Path, cameras: int = CAMERAS) -> None:
    """The same files once more, as a folder of `cameras` cameras (hard links)."""
    for number, path in enumerate(paths):
        link = folder / f"camera-{number // BURST % cameras + 1:03d}" / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, link)
