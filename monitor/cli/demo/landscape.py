"""Brushes for landscapes: sky, hills, trees, water, grass, each with its depth."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Floats = npt.NDArray[np.float32]


Colour = tuple[int, int, int]


OVERSAMPLING = 2


class Canvas:
    """A picture and its depth map, drawn together at twice the size."""

    def __init__(self, size: tuple[int, int]) -> None:
        """An empty picture of `size` (width, height; pixels of the finished frame)."""
        self.width, self.height = size[0] * OVERSAMPLING, size[1] * OVERSAMPLING
        self.picture = Image.new("RGB", (self.width, self.height))
        self.depths = Image.new("L", (self.width, self.height), 255)
        self._pen = ImageDraw.Draw(self.picture)
        self._sounder = ImageDraw.Draw(self.depths)

    def polygon(self, points: list[tuple[float, float]], colour: Colour, depth: float) -> None:
        """Points as shares of width and height; depth 0-1."""
        pixels = [(x * self.width, y * self.height) for x, y in points]
        self._pen.polygon(pixels, fill=colour)
        self._sounder.polygon(pixels, fill=int(depth * 255))

    def blob(self, x: float, y: float, rx: float, ry: float, colour: Colour, depth: float) -> None:
        """An ellipse; centre and radii as shares of width and height."""
        w, h = self.width, self.height
        box = ((x - rx) * w, (y - ry) * h, (x + rx) * w, (y + ry) * h)
        self._pen.ellipse(box, fill=colour)
        self._sounder.ellipse(box, fill=int(depth * 255))

    def ground(self, horizon: float, far: Colour, near: Colour) -> None:
        """Everything below the horizon, with depth falling towards the camera."""
        rows = np.linspace(0, 1, int(self.height * (1 - horizon)))[:, None]
        strip = np.asarray(far) * (1 - rows) + np.asarray(near) * rows
        top = self.height - len(rows)
        plain = Image.fromarray(strip[:, None, :].astype(np.uint8))
        self.picture.paste(plain.resize((self.width, len(rows))), (0, top))
        slope = Image.fromarray((230 * (1 - rows) ** 1.4).astype(np.uint8))
        self.depths.paste(slope.resize((self.width, len(rows))), (0, top))


def fractal(
    rng: np.random.Generator, shape: tuple[int, int], cells: int, octaves: int, stretch: float = 1.0
) -> Floats:
    """Smooth noise of several scales, mean 0, standard deviation 1.

    Args:
        shape: (h, w) wanted.
        cells: bumps across the width at the coarsest scale.
        octaves: how often the bumps are halved.
        stretch: how much wider than high a bump is.
    """
    height, width = shape
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        across = cells * 2**octave
        down = max(int(across * stretch * height / width), 2)
        grid = rng.standard_normal((down, across), dtype=np.float32)
        picture = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(picture) * 0.6**octave
    return np.asarray((total - total.mean()) / (total.std() + 1e-6), np.float32)


def soften(values: Floats, factor: int) -> Floats:
    """A cheap blur: shrink by averaging, enlarge smoothly. Shape (h, w)."""
    h, w = values.shape
    image = Image.fromarray(values)
    small = image.resize((max(w // factor, 2), max(h // factor, 2)), Image.Resampling.BOX)
    return np.asarray(small.resize((w, h), Image.Resampling.BICUBIC), np.float32)


def tint(rng: np.random.Generator, colour: Colour, spread: float, light: float = 1.0) -> Colour:
    """A colour near the given one: `light` times as bright, each channel jittered."""
    bright = light * (1 + spread * rng.standard_normal())
    r, g, b = (
        min(max(int(c * bright * (1 + 0.04 * rng.standard_normal())), 0), 255) for c in colour
    )
    return r, g, b


def sky(canvas: Canvas, rng: np.random.Generator, top: Colour, low: Colour, end: float) -> None:
    """From `top` at the upper edge to `low` at `end`, with clouds."""
    rows = int(canvas.height * end)
    share = np.linspace(0, 1, rows)[:, None, None]
    cloud = np.clip(fractal(rng, (rows, canvas.width), 3, 5, 2.5), 0, 2)[..., None] * 0.22
    sky = np.asarray(top) * (1 - share) + np.asarray(low) * share
    sky = sky * (1 - cloud) + 246 * cloud
    canvas.picture.paste(Image.fromarray(np.clip(sky, 0, 255).astype(np.uint8)), (0, 0))


def hills(
    canvas: Canvas,
    rng: np.random.Generator,
    level: float,
    relief: float,
    colour: Colour,
    depth: float,
) -> None:
    """A line of hills, or of distant trees where `relief` is small and rough."""
    steps = 160
    line = level + relief * fractal(rng, (4, steps), 4, 5)[0]
    points = [(i / (steps - 1), float(y)) for i, y in enumerate(line)]
    canvas.polygon([*points, (1, 1), (0, 1)], colour, depth)


def foliage(
    canvas: Canvas,
    rng: np.random.Generator,
    centre: tuple[float, float],
    radii: tuple[float, float],
    colour: Colour,
    depth: float,
    leaves: int,
) -> None:
    """A bush or crown: leaves scattered over a ball, lit from above."""
    spots = rng.standard_normal((leaves, 2)) * 0.42
    for u, v in spots[np.argsort(-spots[:, 1])]:
        light = min(max(0.78 - 0.36 * float(v), 0.48), 1.2)
        leaf = (0.4 + 0.5 * rng.random()) / math.sqrt(leaves)
        canvas.blob(
            centre[0] + float(u) * radii[0],
            centre[1] + float(v) * radii[1],
            leaf * radii[0],
            leaf * radii[1],
            tint(rng, colour, 0.14, light),
            depth,
        )


def trunk(
    canvas: Canvas,
    rng: np.random.Generator,
    x: float,
    foot: float,
    width: float,
    colour: Colour,
    depth: float,
    top: float = -0.02,
) -> None:
    """A trunk from its foot up to `top`, rounded by light, with furrows of bark."""
    lean = 0.03 * float(rng.standard_normal())
    for strip in range(14):
        share = strip / 13
        a, b = x + (share - 0.5) * width, x + (share - 0.42) * width
        flare = 1.35
        light = 0.55 + 0.75 * math.sin(math.pi * (0.15 + 0.7 * (1 - share)))
        low = [(x + (a - x) * flare, foot), (x + (b - x) * flare, foot)]
        shade = tint(rng, colour, 0.03, light)
        canvas.polygon([(a + lean, top), (b + lean, top), low[1], low[0]], shade, depth)
    for _ in range(int(900 * width)):
        u, y = float(rng.uniform(-0.48, 0.48)), float(rng.uniform(top, foot))
        length = float(rng.uniform(0.01, 0.05))
        at = x + u * width + lean * (foot - y) / (foot - top)
        mark = tint(rng, colour, 0.3, 0.62)
        canvas.polygon([(at, y), (at + 0.05 * width, y), (at, min(y + length, foot))], mark, depth)


def rock(
    canvas: Canvas, rng: np.random.Generator, x: float, y: float, size: float, colour: Colour
) -> None:
    """A boulder in facets; it stands on y."""
    depth = max(0.0, 0.9 * (1 - (y - 0.4) / 0.6)) ** 1.4
    angles = np.sort(rng.uniform(math.pi, 2 * math.pi, 7))
    rim = [(x + size * math.cos(a), y + 0.9 * size * math.sin(a)) for a in angles]
    outline = [(x - size, y), *rim, (x + size, y)]
    canvas.polygon(outline, tint(rng, colour, 0.05, 0.75), depth)
    peak = (x + 0.2 * size, y - 0.35 * size)
    for place, (a, b) in enumerate(pairwise(outline)):
        canvas.polygon([a, b, peak], tint(rng, colour, 0.06, 1.15 - 0.08 * place), depth)


def tufts(
    canvas: Canvas, rng: np.random.Generator, start: float, count: int, colours: tuple[Colour, ...]
) -> None:
    """Grass all over the ground, larger towards the camera."""
    for y in np.sort(start + (1 - start) * rng.random(count) ** 0.8):
        near = (float(y) - start) / (1 - start)
        x, length = float(rng.random()), (0.006 + 0.035 * near) * float(rng.uniform(0.5, 1.2))
        colour = tint(rng, colours[int(rng.integers(len(colours)))], 0.16)
        depth = 0.9 * (1 - near) ** 1.4
        for _ in range(3):
            bend = 0.5 * length * float(rng.standard_normal())
            wide = 0.0006 + 0.0010 * near
            root = x + 0.3 * length * float(rng.standard_normal())
            canvas.polygon(
                [
                    (root - wide, float(y)),
                    (root + wide, float(y)),
                    (root + bend, float(y) - length),
                ],
                colour,
                depth,
            )


def pool(
    canvas: Canvas, rng: np.random.Generator, x: float, y: float, rx: float, ry: float
) -> None:
    """Open water with a muddy bank; it mirrors the trees behind and the sky above."""
    turn = np.linspace(0, 2 * math.pi, 72, endpoint=False)
    rim = 1 + 0.10 * np.sin(2 * turn + 1) + 0.06 * np.sin(3 * turn) + 0.03 * np.sin(7 * turn + 2)
    for grow, colour in ((1.13, (104, 96, 66)), (1.07, (92, 80, 58)), (1.02, (74, 66, 50))):
        shore = [
            (x + rx * grow * float(r) * math.cos(a), y + ry * grow * float(r) * math.sin(a))
            for a, r in zip(turn, rim, strict=True)
        ]
        canvas.polygon(shore, colour, 0.6)
    for row in np.linspace(-1.1, 1.1, 60):
        inside = np.abs(np.sin(turn) * rim - row) < 0.08
        if not inside.any():
            continue
        reach = np.cos(turn[inside]) * rim[inside]
        sky = np.clip(0.5 + 0.75 * row + 0.1 * rng.standard_normal(), 0, 1)
        r, g, b = (
            (1 - sky) * np.asarray((78, 92, 74)) + sky * np.asarray((158, 176, 188))
        ).tolist()
        left, right = x + rx * float(reach.min()), x + rx * float(reach.max())
        level, thick = y + ry * float(row), ry * 0.022
        strip = [
            (left, level - thick),
            (right, level - thick),
            (right, level + thick),
            (left, level + thick),
        ]
        canvas.polygon(strip, (int(r), int(g), int(b)), 0.62)


def reeds(
    canvas: Canvas, rng: np.random.Generator, x: float, y: float, count: int, colour: Colour
) -> None:
    """A stand of tall thin blades."""
    for _ in range(count):
        root, foot = (
            x + 0.035 * float(rng.standard_normal()),
            y + 0.012 * float(rng.standard_normal()),
        )
        length, bend = float(rng.uniform(0.04, 0.13)), 0.012 * float(rng.standard_normal())
        blade = [(root - 0.0012, foot), (root + 0.0012, foot), (root + bend, foot - length)]
        canvas.polygon(blade, tint(rng, colour, 0.18), 0.55)


def woods(
    canvas: Canvas,
    rng: np.random.Generator,
    level: float,
    tall: float,
    colour: Colour,
    depth: float,
) -> None:
    """A distant edge of trees, crown beside crown, standing on `level`."""
    hills(canvas, rng, level - 0.6 * tall, 0.07 * tall, tint(rng, colour, 0.0, 0.55), depth)
    for _ in range(64):
        at = (float(rng.random()), level - tall * float(rng.uniform(0.25, 0.85)))
        foliage(canvas, rng, at, (0.055, 0.5 * tall), tint(rng, colour, 0.08), depth, 110)
