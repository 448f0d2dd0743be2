"""One photograph: the place, who walks through it, and the light of the hour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np
from PIL import Image

from monitor.cli.demo.animals import Bone, Figure, Pose, figure
from monitor.cli.demo.camera import exposure, noise, strip
from monitor.cli.demo.fur import Light, Sprite, paint
from monitor.cli.demo.landscape import Floats, fractal, soften
from monitor.cli.demo.scenery import Scenery, scenery
from monitor.cli.demo.species import ANATOMIES, Ball

_INFRARED = np.asarray((0.55, 0.33, 0.12), np.float32)  # the sensor's share of red, green, blue


@dataclass(frozen=True, slots=True)
class Actor:
    """One animal during one event.

    Attributes:
        heading: +1 walks to the right, -1 to the left.
        x: middle of the animal at the first shot, share of the width, as if it walked right.
        ground: where its feet are, share of the height.
        width: of the animal, share of the frame's.
        phase: of its gait at the first shot, radians.
        walking, head_up, antlers: see `Pose`.
        speed: share of the width it moves on between two shots.
    """

    species: str
    heading: int
    x: float
    ground: float
    width: float
    phase: float
    walking: float
    head_up: float
    antlers: bool
    speed: float


@dataclass(frozen=True, slots=True)
class Shot:
    """What to photograph: `number` counts within the burst, from 0."""

    deployment: str
    moment: datetime
    infrared: bool
    actors: tuple[Actor, ...]
    number: int
    seed: int
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Weather:
    """The light of one frame: its colour, strength, direction; haze 0-1."""

    tint: tuple[float, float, float]
    strength: float
    light: Light
    haze: float


@dataclass(frozen=True, slots=True)
class _Placed:
    """An actor in pixels: its sprite's corner, the sprite, its eye and where it stands."""

    left: int
    top: int
    sprite: Sprite
    eye: Ball
    ground: float


def photograph(shot: Shot, rng: np.random.Generator) -> Image.Image:
    """Draw one frame, RGB; `rng` is this frame's own (noise, exposure, wind)."""
    place = scenery(shot.deployment, shot.seed, shot.size)
    weather = _weather(shot, rng)
    picture = place.colour.copy()
    placed = [_place(actor, shot, weather) for actor in shot.actors]
    for one in sorted(placed, key=lambda p: p.ground):
        _shadow(picture, one, weather, shot.infrared)
        _stamp(picture, one.sprite.rgb, one.sprite.alpha, one.left, one.top)
    _front(picture, place, int(rng.integers(len(place.grass))))
    picture = (
        _night(picture, place, placed, rng) if shot.infrared else _day(picture, place, weather)
    )
    picture *= exposure(picture, shot.infrared) * (1.0 + 0.05 * float(rng.standard_normal()))
    noise(picture, shot.infrared, shot.seed, rng)
    image = Image.fromarray((np.clip(picture, 0.0, 1.0) * 255).astype(np.uint8))
    strip(image, shot.moment, shot.deployment, shot.number, shot.seed)
    return image


def _weather(shot: Shot, rng: np.random.Generator) -> _Weather:
    """From the hour: low sun is warm and from the side, high sun is white and from above."""
    if shot.infrared:
        return _Weather((1, 1, 1), 1.0, Light((0.0, 0.16, 0.987), 0.25), 0.0)
    hour = shot.moment.hour + shot.moment.minute / 60
    height = max(math.sin(math.pi * (hour - 5.0) / 16.0), 0.02)
    side = 0.75 if hour < 13 else -0.75
    x, y, z = side * (1.1 - height), 0.35 + 0.6 * height, 0.55
    norm = math.sqrt(x * x + y * y + z * z)
    low = (1 - height) ** 2
    day = np.random.default_rng([shot.seed, 3, shot.moment.toordinal()])
    cloudy = float(day.random())
    warmth = low * (1 - 0.6 * cloudy)
    tint = (1.0 + 0.13 * warmth, 1.0 - 0.02 * warmth, 1.0 - 0.24 * warmth + 0.06 * cloudy)
    haze = 0.35 * float(day.random()) * (1.0 if hour < 9 else 0.25)
    strength = 1.0 - 0.22 * low - 0.08 * cloudy + 0.03 * float(rng.standard_normal())
    light = Light((x / norm, y / norm, z / norm), 0.52 + 0.2 * cloudy)
    return _Weather(tint, strength, light, haze)


def _place(actor: Actor, shot: Shot, weather: _Weather) -> _Placed:
    """Pose the actor for this shot, bring it to pixels and paint it."""
    width, height = shot.size
    travelled = actor.speed * actor.walking * shot.number
    pose = Pose(
        actor.phase + 9.0 * travelled / actor.width,
        actor.walking,
        min(max(actor.head_up + 0.07 * math.sin(actor.phase + 2.1 * shot.number), 0.0), 1.0),
        actor.antlers,
    )
    body = figure(actor.species, pose)
    west = min(min(b.tail[0] - b.tail[2], b.head[0] - b.head[2]) for b in body.bones)
    east = max(max(b.tail[0] + b.tail[2], b.head[0] + b.head[2]) for b in body.bones)
    high = max(max(b.tail[1] + b.tail[2], b.head[1] + b.head[2]) for b in body.bones)
    reference = figure(actor.species, Pose(0.0, 0.0, 0.6)).bones
    span = max(b.head[0] + b.head[2] for b in reference) - min(b.tail[0] for b in reference)
    scale = actor.width * width / span
    pad = 10
    shape = (int(high * scale) + 2 * pad, int((east - west) * scale) + 2 * pad)
    body = _in_pixels(body, scale, (west, high), pad, shape[1] if actor.heading < 0 else None)
    hair = _hair(shot.seed, (shape[0] // 128 + 1) * 128, (shape[1] // 128 + 1) * 128)
    bristle = ANATOMIES[actor.species].bristle * scale
    hair = hair if actor.heading > 0 else hair[:, ::-1]
    sprite = paint(body.bones, shape, hair, bristle, weather.light)
    _eye(sprite, body.eye)
    middle = actor.x + travelled
    middle = middle if actor.heading > 0 else 1.0 - middle
    ground = actor.ground * height
    left, top = int(middle * width - shape[1] / 2), int(ground - shape[0] + pad)
    return _Placed(left, top, sprite, body.eye, ground)


def _eye(sprite: Sprite, eye: Ball) -> None:
    """A dark eye with a glint of sky."""
    x, y, radius = int(eye[0]), int(eye[1]), max(eye[2], 2.0)
    half = int(radius) + 2
    area = sprite.rgb[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
    rows, columns = np.ogrid[: area.shape[0], : area.shape[1]]
    far = np.hypot(rows - half, columns - half)[..., None]
    area *= 1.0 - 0.92 * np.clip(radius + 0.5 - far, 0, 1).astype(np.float32)
    glint = np.hypot(rows - half + 0.35 * radius, columns - half - 0.2 * radius)[..., None]
    area += 0.55 * np.clip(0.3 * radius + 0.5 - glint, 0, 1).astype(np.float32)


def _in_pixels(
    body: Figure, scale: float, corner: tuple[float, float], pad: int, mirrored: int | None
) -> Figure:
    """Animal units, y up, to pixels, y down; `mirrored` is the width to mirror in."""

    def ball(b: Ball) -> Ball:
        x = (b[0] - corner[0]) * scale + pad
        y = (corner[1] - b[1]) * scale + pad
        return (x if mirrored is None else mirrored - x), y, max(b[2] * scale, 0.8)

    bones = tuple(Bone(ball(b.tail), ball(b.head), b.coat, b.lift, b.far) for b in body.bones)
    return Figure(bones, ball(body.eye))


@lru_cache(maxsize=32)
def _hair(seed: int, height: int, width: int) -> Floats:
    """Streaks along the body, about -1 to 1."""
    rng = np.random.default_rng([seed, 4, height, width])
    room = (2 * height + width, 2 * width + height)  # what a turned picture needs
    fine = fractal(rng, room, room[1] // 14, 2, 5.0)
    turned = np.asarray(Image.fromarray(fine).rotate(-24, Image.Resampling.BILINEAR), np.float32)
    top, left = (room[0] - height) // 2, (room[1] - width) // 2
    streaks = turned[top : top + height, left : left + width]
    coarse = fractal(rng, (height, width), 9, 2, 2.0)
    return np.asarray(np.clip(0.62 * streaks + 0.22 * coarse, -1.4, 1.4), np.float32)


def _stamp(picture: Floats, rgb: Floats, alpha: Floats, left: int, top: int) -> None:
    """Lay a sprite over the picture, cut at the frame's edges."""
    h, w = picture.shape[:2]
    y0, y1 = max(top, 0), min(top + alpha.shape[0], h)
    x0, x1 = max(left, 0), min(left + alpha.shape[1], w)
    if y0 >= y1 or x0 >= x1:
        return
    cut = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    over = alpha[cut][..., None]
    area = picture[y0:y1, x0:x1]
    area += (rgb[cut] - area) * over


def _shadow(picture: Floats, one: _Placed, weather: _Weather, infrared: bool) -> None:
    """The silhouette laid flat on the ground, away from the light, blurred."""
    h, w = one.sprite.alpha.shape
    flat = max(int(h * 0.16), 8)
    silhouette = Image.fromarray(one.sprite.alpha).resize((w, flat), Image.Resampling.BOX)
    margin = 24
    field = np.zeros((flat + 2 * margin, w + 2 * margin), np.float32)
    field[margin : margin + flat, margin : margin + w] = np.asarray(silhouette)[::-1]
    dark = soften(field, 12) * (0.45 if infrared else 0.62 - 0.3 * weather.light.ambient)
    slide = int(-weather.light.direction[0] * 0.10 * w)
    top = int(one.ground - margin - 0.35 * flat)
    _stamp(
        picture,
        np.zeros((*dark.shape, 3), np.float32),
        np.clip(dark, 0, 1),
        one.left - margin + slide,
        top,
    )


def _front(picture: Floats, place: Scenery, sway: int) -> None:
    """Grass right before the lens."""
    layer = place.grass[sway]
    start = int(np.argmax(layer[..., 3].any(axis=1)))
    part = layer[start:].astype(np.float32) / 255.0
    area = picture[start:]
    area += (part[..., :3] - area) * part[..., 3:]


def _day(picture: Floats, place: Scenery, weather: _Weather) -> Floats:
    far = (weather.haze * place.depth**1.5)[..., None]
    hazy = picture + (np.float32(0.82) - picture) * far
    return np.asarray(hazy * (np.asarray(weather.tint, np.float32) * weather.strength), np.float32)


def _night(
    picture: Floats, place: Scenery, placed: list[_Placed], rng: np.random.Generator
) -> Floats:
    """Infrared flash: grey, bright in front, black behind, dark corners, shining eyes."""
    grey = 0.07 + 0.93 * (picture @ _INFRARED) ** 0.8
    h, w = grey.shape
    reach = np.exp(-2.6 * place.depth)
    for one in placed:  # what stands in front is lit, however far the ground behind it is
        _lift(reach, one)
    x = np.linspace(-1, 1, w, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, h, dtype=np.float32)[:, None]
    cone = np.exp(-0.75 * (x**2 + 0.8 * (y - 0.25) ** 2) ** 1.3)
    grey = 1.12 * grey * reach * cone * (1 + 0.08 * float(rng.standard_normal())) + 0.02
    for one in placed:
        if not any(_covers(other, one) for other in placed):
            _shine(grey, one)
    return np.repeat(grey[..., None], 3, axis=-1).astype(np.float32)


def _lift(reach: Floats, one: _Placed) -> None:
    light = np.full((*one.sprite.alpha.shape, 1), 0.88, np.float32)
    _stamp(reach[..., None], light, one.sprite.alpha, one.left, one.top)


def _covers(other: _Placed, one: _Placed) -> bool:
    """Whether `other` stands before the eye of `one`."""
    row = int(one.top + one.eye[1]) - other.top
    column = int(one.left + one.eye[0]) - other.left
    h, w = other.sprite.alpha.shape
    inside = 0 <= row < h and 0 <= column < w
    return other.ground > one.ground and inside and bool(other.sprite.alpha[row, column] > 0.3)


def _shine(grey: Floats, one: _Placed) -> None:
    """The eye returns the flash: a small white disc with a glow."""
    radius = max(one.eye[2] * 0.8, 2.2)
    half = int(radius * 6)
    x, y = one.left + one.eye[0], one.top + one.eye[1]
    x0, y0 = int(x) - half, int(y) - half
    area = grey[max(y0, 0) : max(y0 + 2 * half, 0), max(x0, 0) : max(x0 + 2 * half, 0)]
    rows = np.arange(area.shape[0], dtype=np.float32)[:, None] + max(y0, 0) - y
    columns = np.arange(area.shape[1], dtype=np.float32)[None, :] + max(x0, 0) - x
    far = np.hypot(rows, columns) / radius
    area += np.clip(1.6 - far, 0, 1) * 0.95 + 0.22 * np.exp(-0.5 * (far / 2.2) ** 2)
