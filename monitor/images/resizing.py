"""Any Pillow mode to RGB of another size: transparency, CMYK, and more than 8 bits a pixel."""

from __future__ import annotations

import numpy as np
from PIL import Image

_BACKGROUND = (124, 117, 104)  # behind transparency: the ImageNet mean, 0 to VGG
_GAP = 2.0  # how much larger a picture may be shrunk roughly to, before it is resized well


def to_rgb(
    image: Image.Image,
    size: tuple[int, int],
    resample: Image.Resampling = Image.Resampling.BILINEAR,
) -> Image.Image:
    """The whole picture as RGB of this (width, height).

    Args:
        resample: Pillow's BILINEAR averages over all source pixels; HAMMING is sharper, as fast.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep_to_rgb(image, size, resample)
    if image.has_transparency_data:
        small = image.convert("RGBA").resize(size, resample, None, _GAP)
        ground = Image.new("RGBA", small.size, _BACKGROUND)
        return Image.alpha_composite(ground, small).convert("RGB")
    plain = image if image.mode in {"L", "RGB", "CMYK", "YCbCr"} else image.convert("RGB")
    return plain.resize(size, resample, None, _GAP).convert("RGB")


def _deep_to_rgb(
    image: Image.Image, size: tuple[int, int], resample: Image.Resampling
) -> Image.Image:
    """More than 8 bits a pixel: scaled by `_white_level`, where Pillow would clip at 255."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0.0, neginf=0.0)
    white = _white_level(float(values.max()))
    small = Image.fromarray(values).resize(size, resample)
    eight_bit = np.clip(np.asarray(small) / white * 255.0, 0, 255).round().astype(np.uint8)
    return Image.fromarray(eight_bit).convert("RGB")


def _white_level(peak: float) -> float:
    """The value that means white: the smallest usual depth that holds the brightest pixel.

    Files declare 16 bits for 10-, 12- and 14-bit sensors alike; taken at their word those frames
    would come out near black.
    """
    levels = (1.0, 255.0, 1023.0, 4095.0, 16383.0, 65535.0)
    return next((level for level in levels if peak <= level), peak)
