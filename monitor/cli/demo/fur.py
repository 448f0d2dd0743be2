"""From bones to pixels: volume, light, hair and a soft outline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monitor.cli.demo.animals import Bone
from monitor.cli.demo.landscape import Floats, soften

_LEVELS = 16  # shades kept across one bone's coat


@dataclass(frozen=True, slots=True)
class Light:
    """Where light comes from (x right, y up, z to the camera; unit length) and how soft it is."""

    direction: tuple[float, float, float]
    ambient: float


@dataclass(frozen=True, slots=True)
class Sprite:
    """A painted animal.

    Attributes:
        rgb: float32 (h, w, 3), 0-1, lit.
        alpha: float32 (h, w), 0-1.
    """

    rgb: Floats
    alpha: Floats


@dataclass(slots=True)
class _Relief:
    """What is nearest to the camera at each pixel, while bones are being added."""

    height: Floats
    alpha: Floats
    shade: npt.NDArray[np.int16]


def paint(
    bones: Sequence[Bone], shape: tuple[int, int], hair: Floats, bristle: float, light: Light
) -> Sprite:
    """Paint bones given in pixels (y down).

    Args:
        bones: the far ones are drawn first and darker.
        shape: height and width of the sprite.
        hair: (h, w) streaky noise, about -1 to 1, at least as large as `shape`.
        bristle: length of the hair that breaks the outline, pixels.
        light: sun, sky or flash.
    """
    hair = hair[: shape[0], : shape[1]]
    far = _layer([b for b in bones if b.far], shape, hair, bristle, light)
    near = _layer([b for b in bones if not b.far], shape, hair, bristle, light)
    over = near.alpha[..., None]
    rgb = near.rgb * over + far.rgb * 0.55 * (1 - over)
    return Sprite(rgb, np.maximum(near.alpha, far.alpha))


def _layer(
    bones: Sequence[Bone], shape: tuple[int, int], hair: Floats, bristle: float, light: Light
) -> Sprite:
    relief = _Relief(
        np.full(shape, -1.0, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.int16)
    )
    for place, bone in enumerate(bones):
        _add(relief, bone, place, hair, bristle)
    palette = np.concatenate([_palette(b) for b in bones])
    rgb = palette[relief.shade]
    rgb = np.stack([_blend(np.ascontiguousarray(rgb[..., c])) for c in range(3)], axis=-1)
    contrast = min(0.07 + 0.013 * bristle, 0.2)  # long hair casts shadows on itself
    lit = _lit(np.maximum(relief.height, 0.0), contrast * hair, light)
    return Sprite(np.asarray(rgb * lit[..., None], np.float32), relief.alpha)


def _blend(channel: Floats) -> Floats:
    """Coat colours run into each other, most where two bones meet."""
    return np.asarray(0.8 * soften(channel, 3) + 0.2 * soften(channel, 9), np.float32)


def _palette(bone: Bone) -> Floats:
    coat = np.asarray(bone.coat, np.float32) / 255.0
    at = np.linspace(0.0, len(coat) - 1.0, _LEVELS)
    steps = np.arange(len(coat))
    return np.stack([np.interp(at, steps, coat[:, c]) for c in range(3)], axis=-1).astype(
        np.float32
    )


def _add(relief: _Relief, bone: Bone, place: int, hair: Floats, bristle: float) -> None:
    """Raise the relief by one round cone, inside its bounding box only."""
    (x0, y0, r0), (x1, y1, r1) = bone.tail, bone.head
    margin = bristle + 2.0
    height, width = relief.alpha.shape
    left = max(int(min(x0 - r0, x1 - r1) - margin), 0)
    right = min(int(max(x0 + r0, x1 + r1) + margin) + 1, width)
    top = max(int(min(y0 - r0, y1 - r1) - margin), 0)
    bottom = min(int(max(y0 + r0, y1 + r1) + margin) + 1, height)
    if left >= right or top >= bottom:
        return
    box = np.s_[top:bottom, left:right]
    x = np.arange(left, right, dtype=np.float32)[None, :] - x0
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - y0
    dx, dy = x1 - x0, y1 - y0
    squared = max(dx * dx + dy * dy, 1e-6)
    along = np.clip((x * dx + y * dy) / squared, 0.0, 1.0)
    radius = r0 + (r1 - r0) * along
    distance = np.hypot(x - along * dx, y - along * dy)
    # thin bones (legs, ears) are short-haired: hair never exceeds a quarter of the radius
    reach = np.minimum(bristle, 0.25 * radius)
    cover = np.clip((radius - distance + hair[box] * reach) / (1.5 + 0.3 * reach) + 0.5, 0.0, 1.0)
    bulge = np.sqrt(np.maximum(radius**2 - distance**2, 0.0)) + bone.lift * max(r0, r1)
    wins = (cover > 0) & (bulge > relief.height[box])
    side = (x * dy - y * dx) / np.sqrt(squared) / radius
    side = -side if dx < 0 else side
    level = np.clip((side + hair[box] * 0.18 + 1) * 0.5 * _LEVELS, 0, _LEVELS - 1)
    np.copyto(relief.height[box], bulge.astype(np.float32), where=wins)
    np.copyto(relief.shade[box], (place * _LEVELS + level).astype(np.int16), where=wins)
    np.maximum(relief.alpha[box], cover, out=relief.alpha[box], casting="same_kind")


def _lit(height: Floats, hair: Floats, light: Light) -> Floats:
    """Lambert's law on the relief plus sky light from above, broken by hair."""
    smooth = 0.6 * soften(height, 4) + 0.4 * soften(height, 9)
    down, across = np.gradient(smooth)
    norm = 1.0 / np.sqrt(across**2 + down**2 + 1.0)
    x, y, z = light.direction
    direct = np.maximum((-across * x + down * y + z) * norm, 0.0)
    sky = 0.62 + 0.38 * np.clip(down * norm, -1.0, 1.0)
    shade = light.ambient * sky + (1.0 - light.ambient) * direct
    rim = 0.62 + 0.38 * height / (height + 3.0)
    return np.asarray(1.18 * shade * rim * (1.0 + hair), np.float32)
