"""The trail camera's own part in a picture: gain, sensor noise and the printed strip."""

from __future__ import annotations

import math
from datetime import datetime
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from monitor.cli.demo.landscape import Floats, soften

_NOISE_TILE = 1280  # pixels, either way
_STRIP = 0.045  # height of the strip with date and time, share of the frame


def exposure(picture: Floats, infrared: bool) -> float:
    """The camera's own gain: it goes most of the way to a fixed mean brightness."""
    wanted = 0.19 if infrared else 0.40
    return math.pow(wanted / max(float(picture[::8, ::8].mean()), 0.02), 0.75)


@lru_cache(maxsize=2)
def _grain(seed: int) -> Floats:
    """One tile of sensor noise; a frame takes a random part of it (drawing it anew is slow)."""
    rng = np.random.default_rng([seed, 5])
    fine = rng.standard_normal((_NOISE_TILE, _NOISE_TILE), dtype=np.float32)
    return np.asarray(0.7 * fine + 0.5 * soften(fine, 2), np.float32)


def noise(picture: Floats, infrared: bool, seed: int, rng: np.random.Generator) -> None:
    """Grain, stronger at night; the same part of the tile would show, so it is turned and moved."""
    h, w = picture.shape[:2]
    tile = np.roll(_grain(seed), tuple(int(n) for n in rng.integers(0, _NOISE_TILE, 2)), (0, 1))
    tile = tile[:: int(rng.choice([1, -1])), :: int(rng.choice([1, -1]))]
    tile = np.tile(tile, (-(-h // _NOISE_TILE), -(-w // _NOISE_TILE)))[:h, :w]
    picture += (tile * (0.030 if infrared else 0.014))[..., None]


@lru_cache(maxsize=4)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def strip(image: Image.Image, moment: datetime, name: str, number: int, seed: int) -> None:
    """The black strip a trail camera prints along the bottom: date, time, temperature, name."""
    w, h = image.size
    top = int(h * (1 - _STRIP))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, top, w, h), fill=(12, 12, 12))
    day = np.random.default_rng([seed, 6, moment.toordinal()])
    hour = moment.hour + moment.minute / 60
    warm = 14 + float(day.uniform(-3, 3)) + 7 * math.sin(math.pi * (hour - 9) / 12)
    text = f"{moment:%Y-%m-%d  %H:%M:%S}   {warm:.0f}°C   {number + 1}/3"
    font = _font(int(h * _STRIP * 0.62))
    middle = (top + h) / 2
    pen.text((w * 0.02, middle), text, fill=(236, 236, 236), font=font, anchor="lm")
    pen.text((w * 0.98, middle), name.upper(), fill=(236, 236, 236), font=font, anchor="rm")
