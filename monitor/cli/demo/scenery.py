"""What each of the demo's cameras always sees: three places, painted once and reused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from monitor.cli.demo.landscape import (
    OVERSAMPLING,
    Canvas,
    Colour,
    Floats,
    foliage,
    fractal,
    hills,
    pool,
    reeds,
    rock,
    sky,
    tint,
    trunk,
    tufts,
    woods,
)

_SWAYS = 5  # positions of the grass in front


@dataclass(frozen=True, slots=True, eq=False)
class Scenery:
    """A place without animals.

    Attributes:
        colour: float32 (h, w, 3), 0-1, by plain daylight.
        depth: float32 (h, w), 0 at the camera, 1 at the horizon.
        grass: uint8 (h, w, 4) layers of what grows in front, one a position of the sway.
    """

    colour: Floats
    depth: Floats
    grass: tuple[npt.NDArray[np.uint8], ...]


@lru_cache(maxsize=8)
def scenery(deployment: str, seed: int, size: tuple[int, int]) -> Scenery:
    """The place one camera looks at; the same for the same arguments.

    Raises:
        KeyError: the demo has no such camera.
    """
    rng = np.random.default_rng([seed, crc32(deployment.encode())])
    canvas = Canvas(size)
    straw = _PLACES[deployment](canvas, rng)
    picture = canvas.picture.reduce(OVERSAMPLING)
    sharp = np.asarray(picture.filter(ImageFilter.GaussianBlur(0.6)), np.float32) / 255.0
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(2.6)), np.float32) / 255.0
    depth = np.asarray(canvas.depths.reduce(OVERSAMPLING), np.float32) / 255.0
    far = np.clip((depth - 0.5) * 3, 0, 1)[..., None]  # a fixed-focus lens
    colour = np.asarray(sharp + (blurred - sharp) * far, np.float32)
    grain = 0.05 * fractal(rng, depth.shape, 6, 6, 2.2) + 0.05 * fractal(
        rng, depth.shape, 90, 3, 1.6
    )
    colour *= (1.0 + grain * (1.15 - depth))[..., None]
    return Scenery(
        colour, depth, tuple(_grass(size, seed, deployment, straw, s) for s in range(_SWAYS))
    )


def _waterhole(canvas: Canvas, rng: np.random.Generator) -> Colour:
    sky(canvas, rng, (126, 160, 198), (214, 222, 222), 0.36)
    hills(canvas, rng, 0.24, 0.022, (122, 140, 142), 0.98)
    woods(canvas, rng, 0.37, 0.11, (82, 102, 60), 0.9)
    canvas.ground(0.37, (118, 120, 78), (134, 118, 80))
    tufts(canvas, rng, 0.37, 1700, ((128, 134, 74), (150, 142, 88), (98, 112, 58)))
    pool(canvas, rng, 0.58, 0.50, 0.36, 0.055)
    for x, y, count in ((0.24, 0.505, 60), (0.30, 0.47, 40), (0.90, 0.49, 70), (0.80, 0.46, 40)):
        reeds(canvas, rng, x, y, count, (112, 126, 66))
    trunk(canvas, rng, 0.02, 0.58, 0.06, (112, 98, 80), 0.5)
    for _ in range(7):
        at = (
            0.04 + 0.07 * float(rng.standard_normal()),
            0.02 + 0.03 * float(rng.standard_normal()),
        )
        foliage(canvas, rng, at, (0.09, 0.06), (78, 104, 56), 0.5, 260)
    for x, y, size in ((0.13, 0.55, 0.022), (0.17, 0.56, 0.014), (0.96, 0.57, 0.026)):
        rock(canvas, rng, x, y, size, (146, 132, 106))
    tufts(canvas, rng, 0.57, 2300, ((142, 138, 84), (124, 110, 74), (112, 124, 66)))
    return 132, 138, 70


def _ridge(canvas: Canvas, rng: np.random.Generator) -> Colour:
    sky(canvas, rng, (104, 148, 204), (206, 220, 230), 0.42)
    hills(canvas, rng, 0.22, 0.035, (150, 168, 190), 1.0)
    hills(canvas, rng, 0.29, 0.028, (118, 138, 152), 0.97)
    woods(canvas, rng, 0.41, 0.06, (84, 104, 72), 0.93)
    canvas.ground(0.41, (142, 138, 92), (150, 134, 94))
    tufts(canvas, rng, 0.41, 1700, ((164, 154, 100), (140, 138, 84), (174, 160, 112)))
    for _ in range(26):
        y = float(rng.uniform(0.46, 0.66))
        size = (y - 0.38) * float(rng.uniform(0.03, 0.16))
        rock(canvas, rng, float(rng.random()), y, size, (160, 154, 142))
    trunk(canvas, rng, 0.93, 0.55, 0.035, (112, 88, 70), 0.5)
    for step in range(9):
        at = (0.93 + 0.03 * float(rng.standard_normal()), 0.01 + 0.045 * step)
        foliage(canvas, rng, at, (0.05 + 0.006 * step, 0.05), (70, 94, 60), 0.5, 300)
    tufts(canvas, rng, 0.57, 2300, ((164, 152, 100), (146, 138, 86), (128, 124, 78)))
    return 166, 156, 100


def _forest_edge(canvas: Canvas, rng: np.random.Generator) -> Colour:
    sky(canvas, rng, (126, 162, 198), (196, 210, 212), 0.4)
    woods(canvas, rng, 0.41, 0.36, (74, 96, 56), 0.95)
    for x in np.linspace(0.05, 0.95, 8) + 0.03 * rng.standard_normal(8):
        width = float(rng.uniform(0.005, 0.011))
        trunk(canvas, rng, float(x), 0.41, width, (66, 72, 52), 0.92, top=0.2)
    for _ in range(44):
        at = (float(rng.random()), float(rng.uniform(0.13, 0.28)))
        foliage(canvas, rng, at, (0.08, 0.07), tint(rng, (78, 102, 58), 0.08), 0.92, 120)
    for _ in range(24):
        foliage(canvas, rng, (float(rng.random()), 0.40), (0.05, 0.035), (84, 104, 56), 0.85, 80)
    canvas.ground(0.41, (104, 108, 66), (132, 114, 76))
    tufts(canvas, rng, 0.41, 1700, ((110, 122, 64), (136, 130, 78), (94, 108, 56)))
    for y in np.sort(rng.uniform(0.44, 1.0, 900)):
        near = (float(y) - 0.41) / 0.59
        hue = ((142, 106, 66), (120, 92, 60), (158, 124, 80))[int(rng.integers(3))]
        size = 0.002 + 0.006 * near
        leaf = tint(rng, hue, 0.15, 0.95)
        canvas.blob(float(rng.random()), float(y), size, 0.5 * size, leaf, 0.9 * (1 - near) ** 1.4)
    trunk(canvas, rng, 0.97, 0.55, 0.055, (108, 96, 78), 0.5)
    for x, y in ((0.02, 0.54), (0.10, 0.52), (0.98, 0.55), (0.90, 0.53)):
        foliage(canvas, rng, (x, y), (0.06, 0.07), (88, 112, 56), 0.55, 420)
    tufts(canvas, rng, 0.55, 2300, ((116, 128, 66), (136, 126, 78), (104, 116, 60)))
    return 112, 130, 62


_PLACES: dict[str, Callable[[Canvas, np.random.Generator], Colour]] = {
    "waterhole": _waterhole,
    "ridge": _ridge,
    "forest-edge": _forest_edge,
}


DEPLOYMENTS: tuple[str, ...] = tuple(_PLACES)


def _grass(
    size: tuple[int, int], seed: int, deployment: str, straw: Colour, sway: int
) -> npt.NDArray[np.uint8]:
    """Blades right before the lens: the same blades for each sway, bent by another wind."""
    rng = np.random.default_rng([seed, crc32(deployment.encode()), 7])
    w, h = size[0] * OVERSAMPLING, size[1] * OVERSAMPLING
    layer = Image.new("RGBA", (w, h), (*straw, 0))
    pen = ImageDraw.Draw(layer)
    wind = 0.9 * math.sin(2 * math.pi * sway / _SWAYS)
    clumps = rng.uniform(-0.05, 1.05, 7)
    for _ in range(230):
        x = (float(rng.choice(clumps)) + 0.05 * float(rng.standard_normal())) * w
        length, wide = h * float(rng.uniform(0.05, 0.19)), w * float(rng.uniform(0.0012, 0.0028))
        bend = (0.35 * float(rng.standard_normal()) + 0.22 * wind) * length
        colour = tint(rng, straw, 0.2, 0.8)
        middle = (x + 0.3 * bend, h - 0.6 * length)
        left, right = (middle[0] - 0.7 * wide, middle[1]), (middle[0] + 0.7 * wide, middle[1])
        blade = [(x - wide, h), left, (x + bend, h - length), right, (x + wide, h)]
        pen.polygon(blade, fill=(*colour, 235))
    return np.asarray(layer.reduce(OVERSAMPLING), np.uint8)
