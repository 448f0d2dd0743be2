"""Other ways from a JPEG's bytes to 224 x 224 pixels: what they cost, and what they change.

The reference of the differences is Pillow decoding every pixel of the frame.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from bench import Spread, say
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps
from variants_forward import features_by_lanes
from variants_row import Accuracy, Cost, Row, row_of

from monitor.images.decode import DecodeRules, decode, exif_of, open_header
from monitor.model.backbone import Backbone

Pixels = NDArray[np.uint8]
Decoder = Callable[[bytes], Pixels]
SIDE = 224
OFFSET, LENGTH = 0x0201, 0x0202  # of the thumbnail, in EXIF's second directory
EXIF_HEADER = 6  # `Exif\0\0`: offsets count from what follows
OURS, REFERENCE = "Pillow draft (trapwatch)", "Pillow full"


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """What the frames carry in their EXIF.

    Attributes:
        having: frames that have one, of `frames`.
        sizes: width x height -> how many.
        microseconds: processor time to find and decode one.
        whole_ms: the same for the whole frame at the thumbnail's size, by draft.
    """

    frames: int
    having: int
    sizes: dict[str, int]
    bytes_each: Spread | None
    microseconds: Spread | None
    whole_ms: Spread | None


def measure_decoders(
    large: Sequence[bytes], all_files: Sequence[bytes], backbone: Backbone, rounds: int
) -> Iterator[Row]:
    """Rows of all decoders that are installed.

    Args:
        large: files of 12 MP: the costs.
        all_files: every real frame: the differences.
    """
    decoders = _decoders()
    costs: dict[str, list[Cost]] = {name: [] for name in decoders}
    for data in large:
        decode(data, DecodeRules())  # warm up
    for number in range(rounds):
        names = list(decoders) if number % 2 == 0 else list(reversed(decoders))
        for name in names:
            costs[name].append(Cost(1000 * _seconds(decoders[name], large)))
    features = {
        name: features_by_lanes(backbone, np.stack([to_pixels(data) for data in all_files]))
        for name, to_pixels in decoders.items()
    }
    for name in decoders:
        accuracy = Accuracy.of(features[REFERENCE], features[name])
        note = "the reference of these differences" if name == REFERENCE else ""
        yield row_of("decoder", name, costs[name], costs[OURS], accuracy, note)


def measure_thumbnails(files: Sequence[bytes]) -> Thumbnails:
    """Of the frames' EXIF; only for people's eyes: 160 x 120 pixels classify nothing."""
    pairs = [(data, small) for data in files if (small := thumbnail(data))]
    sizes: dict[str, int] = {}
    for _, small in pairs:
        width, height = Image.open(io.BytesIO(small)).size
        sizes[f"{width} x {height}"] = sizes.get(f"{width} x {height}", 0) + 1
    having = [data for data, _ in pairs]
    quick = [1e6 * _seconds(_thumbnail_pixels, [data]) for data in having]
    slow = [1000 * _seconds(_small, [data]) for data in having]
    return Thumbnails(
        len(files),
        len(pairs),
        sizes,
        Spread.of([len(small) for _, small in pairs]) if pairs else None,
        Spread.of(quick) if pairs else None,
        Spread.of(slow) if pairs else None,
    )


def thumbnail(data: bytes) -> bytes | None:
    """The JPEG in a frame's EXIF, or None if it has none."""
    image = open_header(data)
    found = exif_of(image).get_ifd(ExifTags.IFD.IFD1)
    start, length = found.get(OFFSET), found.get(LENGTH)
    if not isinstance(start, int) or not isinstance(length, int):
        return None
    small: bytes = image.info["exif"][EXIF_HEADER + start :][:length]
    return small if small.startswith(b"\xff\xd8") and len(small) == length else None


def _decoders() -> dict[str, Decoder]:
    found: dict[str, Decoder] = {
        OURS: lambda data: decode(data, DecodeRules()),
        REFERENCE: _full,
        "Pillow draft for 448": _draft_448,
    }
    try:
        import simplejpeg
    except ImportError:
        say("simplejpeg is not installed: not measured (pip install simplejpeg)")
        return found

    def scaled(data: bytes) -> Pixels:
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=SIDE, min_width=SIDE)
        return _to_square(Image.fromarray(pixels))

    return found | {"simplejpeg, scaled": scaled}


def _full(data: bytes) -> Pixels:
    return _to_square(open_header(data), reducing_gap=None)


def _draft_448(data: bytes) -> Pixels:
    image = open_header(data)
    image.draft(None, (2 * SIDE, 2 * SIDE))
    return _to_square(image)


def _to_square(image: Image.Image, reducing_gap: float | None = 2.0) -> Pixels:
    """The same last step as in trapwatch."""
    upright = ImageOps.exif_transpose(image) if isinstance(image, ImageFile.ImageFile) else image
    plain = upright.convert("RGB")
    return np.asarray(plain.resize((SIDE, SIDE), Image.Resampling.BILINEAR, None, reducing_gap))


def _thumbnail_pixels(data: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(thumbnail(data) or b"")))


def _small(data: bytes) -> Pixels:
    image = open_header(data)
    image.draft(None, (160, 120))
    image.thumbnail((160, 120))
    return np.asarray(image)


def _seconds(act: Callable[[bytes], Pixels], files: Sequence[bytes]) -> float:
    """Processor seconds for each file, of this thread."""
    start = time.thread_time()
    for data in files:
        act(data)
    return (time.thread_time() - start) / len(files)
