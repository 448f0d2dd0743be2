"""Bytes to pixels: reads only what it knows, refuses the rest in words, never trusts a header.

Files come from memory cards that were pulled while the camera wrote, and may be hostile. So each
format is opened by its own Pillow reader, chosen by signature; the size in the header is checked
before a pixel is decoded; and whatever a reader raises ends as `ImageRejected`. Nothing here
changes a Pillow global (`LOAD_TRUNCATED_IMAGES`, `MAX_IMAGE_PIXELS`, the plugin registry), so
every function may run in a thread pool.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from monitor.core.domain import TrapwatchError
from monitor.images.formats import format_of
from monitor.images.resizing import to_rgb

# Odd EXIF and palettes; process-wide, as `catch_warnings` is unsafe in threads before 3.14.
warnings.filterwarnings("ignore", module=r"PIL\.")

Pixels = npt.NDArray[np.uint8]

_MIN_ROWS_PRESENT = 0.9
_MAX_SCANS = 500  # a progressive JPEG has about 10; each further one costs a pass over all blocks
_MAX_TIFF_TAGS, _MAX_TIFF_STRIPS = 200, 65_536
_TIFF_STRIP_TAGS = frozenset({273, 279, 324, 325})  # offsets and byte counts of strips and tiles
_TIFF_COMPRESSIONS = frozenset(
    {"raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "jpeg", "tiff_jpeg"}
)
_READERS = {  # imported when first needed: most stations only ever see JPEG
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WEBP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "HEIF": ("pillow_heif", "HeifImageFile"),
}
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF orientation: Image.Transpose


class ImageRejected(TrapwatchError):
    """The bytes cannot become a picture; the message is the reason, in words for a ranger."""


@dataclass(frozen=True, slots=True)
class DecodeRules:
    """What is accepted and what comes out.

    Attributes:
        max_pixels: width x height above which a file is refused unread.
        accept_truncated: accept a JPEG that has at least 90 % of its rows.
        size: side of the square that `decode` returns, in pixels.
    """

    max_pixels: int = 100_000_000
    accept_truncated: bool = False
    size: int = 224


def decode(data: bytes, rules: DecodeRules) -> Pixels:
    """Decode one picture, upright, squashed to a square (no crop: an animal may be at the edge).

    Of an animation, an MPO or a multi-page TIFF the first picture counts.

    Returns:
        uint8 (rules.size, rules.size, 3), RGB.

    Raises:
        ImageRejected: the reason in words.
    """
    image = open_header(data)
    _check_size(image, rules)
    small = max(image.size) < rules.size  # a thumbnail: linear interpolation would only blur it
    resample = Image.Resampling.BICUBIC if small else Image.Resampling.BILINEAR
    square = _upright(image, data, rules, (rules.size, rules.size), resample)
    return np.array(square, dtype=np.uint8)


def shrink(data: bytes, rules: DecodeRules, longest_side: int) -> Image.Image:
    """Decode one picture for people: upright RGB in its own proportions, never enlarged.

    It carries nothing of the file but its pixels: no EXIF, no place, no comment.

    Args:
        longest_side: of the result, in pixels, or less.

    Raises:
        ImageRejected: the reason in words.
    """
    image = open_header(data)
    _check_size(image, rules)
    scale = min(1.0, longest_side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = _upright(image, data, rules, size, Image.Resampling.HAMMING)
    small.info.clear()
    return small


def dimensions(data: bytes, rules: DecodeRules) -> tuple[int, int]:
    """Upright (width, height) in pixels, from the header only.

    Raises:
        ImageRejected: no header trapwatch reads, or more pixels than `rules.max_pixels`.
    """
    image = open_header(data)
    _check_size(image, rules)
    return upright_size(image)


def open_header(data: bytes) -> ImageFile.ImageFile:
    """Read the header with the one Pillow reader the signature names; no pixel is decoded.

    Raises:
        ImageRejected: empty, an unknown format, or a header that cannot be read.
    """
    if not data:
        raise ImageRejected("the file is empty")
    name = format_of(data)
    if name not in {"JPEG", "TIFF", *_READERS}:
        raise ImageRejected(f"not an image trapwatch reads (it looks like {name})")
    with _refused_in_words(name):
        image = _open(name, data)
    if image.width < 1 or image.height < 1:
        raise ImageRejected(f"damaged {name}: a picture of {image.width} x {image.height} pixels")
    return image


def upright_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """(width, height) in pixels after the EXIF orientation."""
    width, height = image.size
    return (height, width) if orientation_of(image) >= 5 else (width, height)


def exif_of(image: ImageFile.ImageFile) -> Image.Exif:
    """The EXIF tags that are in the header. Broken EXIF may raise anything."""
    if image.format == "PNG" and "exif" not in image.info:
        return Image.Exif()  # Pillow would decode every pixel to look behind them
    return image.getexif()


def orientation_of(image: ImageFile.ImageFile) -> int:
    """How `load` will leave the picture, EXIF 1-8; 1 (upright) where it says nothing sane."""
    if image.format in {"TIFF", "HEIF"}:  # these readers turn it themselves
        return 1
    try:
        value = exif_of(image).get(0x0112)
    except Exception:  # noqa: BLE001  broken EXIF is common, and says nothing about the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _open(name: str, data: bytes) -> ImageFile.ImageFile:
    if name == "JPEG":
        return _open_jpeg(data)
    if name == "TIFF":
        return _open_tiff(data)
    module, reader = _READERS[name]
    image: ImageFile.ImageFile = getattr(import_module(module), reader)(io.BytesIO(data))
    return image


def _open_jpeg(data: bytes) -> ImageFile.ImageFile:
    # A failed card leaves zeros where the end should be: they would decode as grey rows. And the
    # JPEG reader itself, not Image.open: so an MPO is its first picture, whatever its index says.
    image = JpegImageFile(io.BytesIO(data.rstrip(b"\x00")))
    if "progressive" in image.info and data.count(b"\xff\xda") > _MAX_SCANS:
        raise ImageRejected(f"damaged JPEG: more than {_MAX_SCANS} scans")
    return image


def _open_tiff(data: bytes) -> ImageFile.ImageFile:
    from PIL.TiffImagePlugin import TiffImageFile

    _check_tiff_directory(data)
    image = TiffImageFile(io.BytesIO(data))
    if image.info.get("compression") not in _TIFF_COMPRESSIONS:
        raise ImageRejected(f"TIFF compression {image.info.get('compression')} is not read")
    # A tile may be larger than its picture, and the decoder would fill the whole of it.
    width, length = (image.tag_v2.get(tag, 0) for tag in (322, 323))
    if width * length > 4 * max(image.width * image.height, 1 << 20):
        raise ImageRejected(f"damaged TIFF: tiles of {width} x {length} pixels")
    return image


def _check_tiff_directory(data: bytes) -> None:
    """Refuse directories that would cost memory or time to merely open."""
    order = "<" if data.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}L", data, 4)
    (tags,) = struct.unpack_from(f"{order}H", data, start)
    if tags > _MAX_TIFF_TAGS:
        raise ImageRejected(f"damaged TIFF: {tags:,} tags")
    for entry in range(tags):
        tag, _, count = struct.unpack_from(f"{order}HHL", data, start + 2 + entry * 12)
        if tag in _TIFF_STRIP_TAGS and count > _MAX_TIFF_STRIPS:
            raise ImageRejected(f"damaged TIFF: {count:,} strips or tiles")


def _check_size(image: ImageFile.ImageFile, rules: DecodeRules) -> None:
    width, height = image.size
    if width * height > rules.max_pixels:
        limit = f"{rules.max_pixels:,} (classifier.max_pixels)"
        raise ImageRejected(f"{width:,} x {height:,} pixels is over the limit of {limit}")


def _upright(
    image: ImageFile.ImageFile,
    data: bytes,
    rules: DecodeRules,
    size: tuple[int, int],
    resample: Image.Resampling,
) -> Image.Image:
    """Decode, resize to `size` (as the file stores it) in RGB, and turn upright."""
    orientation = orientation_of(image)
    with _refused_in_words(str(image.format)):
        small = to_rgb(_load(image, data, rules, size), size, resample)
        turn = _TURNS.get(orientation)
        return small if turn is None else small.transpose(Image.Transpose(turn))


def _load(
    image: ImageFile.ImageFile, data: bytes, rules: DecodeRules, size: tuple[int, int]
) -> ImageFile.ImageFile:
    """Decode; a JPEG no larger than it takes to come to `size`."""
    if image.format != "JPEG":
        image.load()
        return image
    try:
        image.draft(None, size)
        image.load()
    except OSError as error:
        if "truncated" not in str(error):
            raise
        return _load_truncated(data, rules, size)
    return image


def _load_truncated(data: bytes, rules: DecodeRules, size: tuple[int, int]) -> ImageFile.ImageFile:
    """Decode what is there of a JPEG whose end is missing, if the rules want it.

    An end marker is appended, so that libjpeg finishes; it leaves what it never saw at mid-grey.
    """
    there = data.rstrip(b"\x00")
    image = open_header(there + b"\xff\xd9")
    words = f"truncated JPEG: the picture is cut off after {len(there):,} bytes"
    if "progressive" in image.info:  # its rows are all there from the first scan on, only coarse
        raise ImageRejected(words)
    image.draft(None, size)
    image.load()
    present = _rows_present(np.asarray(image))
    if rules.accept_truncated and present >= _MIN_ROWS_PRESENT:
        return image
    needed = f"; {_MIN_ROWS_PRESENT:.0%} are needed" if rules.accept_truncated else ""
    raise ImageRejected(f"{words}, with {int(present * 100)}% of its rows there{needed}")


def _rows_present(pixels: Pixels) -> float:
    """Share of rows (0-1) above the last mid-grey ones; `pixels` is uint8 (rows, columns[, C])."""
    rows = pixels.reshape(len(pixels), -1)
    unseen = (rows == rows[-1, -1]).all(axis=1) & bool(126 <= rows[-1, -1] <= 129)
    seen = np.flatnonzero(~unseen)
    return float(seen[-1] + 1) / len(rows) if seen.size else 0.0


@contextmanager
def _refused_in_words(name: str) -> Iterator[None]:
    """Whatever a reader of hostile bytes raises ends as ImageRejected."""
    try:
        yield
    except ImageRejected:
        raise
    except Exception as error:  # a parser or decoder of hostile bytes may raise anything
        raise ImageRejected(_in_words(error, name)) from error


def _in_words(error: Exception, name: str) -> str:
    """A reason for a ranger from whatever a reader raised."""
    if isinstance(error, MemoryError):
        return f"damaged {name}, or too large: not enough memory to decode it"
    if isinstance(error, ImportError):
        return f"{name} needs the package {error.name}, which is not installed"
    said = "".join(letter if letter.isprintable() else " " for letter in str(error))
    return f"damaged {name}: {said.strip()[:200] or type(error).__name__}"
