"""The demo's four species as tables: proportions, coat and gait.

Units are the animal's own (about one body length), x forward, y up, feet at y = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

Colour = tuple[int, int, int]


Point = tuple[float, float]


Ball = tuple[float, float, float]  # x, y, radius


@dataclass(frozen=True, slots=True)
class Leg:
    """Lengths of upper, lower and foot bone; radii from hip to toe; `knee` +1 bends forward."""

    root: Point
    lengths: tuple[float, float, float]
    radii: tuple[float, float, float, float]
    knee: int
    heel: float  # how far the ankle stays behind the toe


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Everything that makes one species look like itself."""

    torso: tuple[Ball, ...]  # rump to chest
    neck: tuple[float, float, float]  # length, radius at the chest, radius at the skull
    carriage: tuple[float, float]  # neck angle head down and head up, degrees above forward
    skull: tuple[float, float, float]  # length, radius at the back, radius of the nose
    nod: tuple[float, float]  # head angle below forward, head down and head up
    ear: tuple[float, float, float]  # length, width, angle above forward
    tail: tuple[Ball, ...]
    hind: Leg
    fore: Leg
    coats: MappingProxyType[str, tuple[Colour, ...]]
    stride: float
    bristle: float  # hair length against body length
    width: tuple[float, float]  # of the animal as a share of the frame
    largest_group: int


def _coats(**parts: tuple[Colour, ...]) -> MappingProxyType[str, tuple[Colour, ...]]:
    return MappingProxyType(parts)


_FOX = Anatomy(
    torso=((-0.36, 0.45, 0.105), (-0.12, 0.45, 0.10), (0.12, 0.44, 0.115), (0.32, 0.45, 0.12)),
    neck=(0.19, 0.105, 0.085),
    carriage=(-12, 42),
    skull=(0.235, 0.088, 0.02),
    nod=(48, 8),
    ear=(0.125, 0.045, 100),
    tail=(
        (-0.44, 0.47, 0.045),
        (-0.62, 0.40, 0.075),
        (-0.82, 0.28, 0.095),
        (-0.98, 0.22, 0.075),
        (-1.08, 0.21, 0.02),
    ),
    hind=Leg((-0.34, 0.43), (0.22, 0.21, 0.13), (0.10, 0.048, 0.028, 0.026), 1, 0.06),
    fore=Leg((0.30, 0.40), (0.19, 0.19, 0.07), (0.08, 0.042, 0.029, 0.028), -1, 0.0),
    coats=_coats(
        torso=((222, 196, 168), (206, 116, 52), (196, 98, 38), (168, 80, 34)),
        neck=((242, 236, 226), (214, 126, 62), (190, 92, 36)),
        skull=((246, 242, 236), (240, 226, 208), (204, 108, 46), (192, 94, 38)),
        ear=((40, 32, 28),),
        tail=((176, 118, 80), (190, 98, 44), (150, 76, 36)),
        tip=((244, 240, 232),),
        thigh=((196, 104, 46),),
        shank=((44, 32, 26),),
        foot=((30, 24, 22),),
    ),
    stride=0.36,
    bristle=0.016,
    width=(0.42, 0.60),
    largest_group=1,
)


_DEER = Anatomy(
    torso=((-0.44, 0.83, 0.165), (-0.15, 0.81, 0.17), (0.14, 0.80, 0.18), (0.34, 0.82, 0.165)),
    neck=(0.44, 0.135, 0.078),
    carriage=(-42, 62),
    skull=(0.27, 0.088, 0.036),
    nod=(66, 18),
    ear=(0.20, 0.05, 138),
    tail=((-0.575, 0.86, 0.06), (-0.585, 0.78, 0.075)),
    hind=Leg((-0.42, 0.80), (0.36, 0.33, 0.30), (0.15, 0.06, 0.03, 0.022), 1, 0.07),
    fore=Leg((0.31, 0.78), (0.32, 0.30, 0.24), (0.115, 0.046, 0.03, 0.022), -1, 0.0),
    coats=_coats(
        torso=((204, 176, 142), (176, 132, 92), (166, 118, 78), (142, 102, 70)),
        neck=((196, 166, 132), (170, 124, 86), (146, 104, 72)),
        skull=((206, 186, 164), (150, 104, 70), (116, 80, 56)),
        ear=((120, 92, 74), (150, 118, 92)),
        tail=((250, 246, 236),),
        tip=((250, 246, 236),),
        thigh=((168, 120, 80),),
        shank=((164, 124, 88),),
        foot=((92, 68, 52),),
        antler=((112, 96, 76),),
    ),
    stride=0.42,
    bristle=0.006,
    width=(0.36, 0.47),
    largest_group=2,
)


_BOAR = Anatomy(
    torso=(
        (-0.50, 0.56, 0.21),
        (-0.22, 0.58, 0.245),
        (0.08, 0.61, 0.275),
        (0.32, 0.64, 0.29),
    ),
    neck=(0.27, 0.265, 0.19),
    carriage=(-26, -6),
    skull=(0.47, 0.185, 0.052),
    nod=(46, 24),
    ear=(0.17, 0.055, 112),
    tail=((-0.69, 0.62, 0.025), (-0.75, 0.47, 0.018), (-0.75, 0.36, 0.03)),
    hind=Leg((-0.46, 0.50), (0.25, 0.19, 0.15), (0.18, 0.075, 0.042, 0.038), 1, 0.05),
    fore=Leg((0.28, 0.48), (0.23, 0.18, 0.11), (0.15, 0.07, 0.044, 0.04), -1, 0.0),
    coats=_coats(
        torso=((88, 75, 66), (120, 103, 89), (106, 90, 78), (64, 54, 49)),
        neck=((84, 71, 62), (104, 88, 76), (52, 44, 40)),
        skull=((118, 105, 93), (106, 92, 81), (70, 60, 54)),
        ear=((36, 30, 28),),
        tail=((46, 38, 34),),
        tip=((28, 24, 22),),
        thigh=((84, 71, 62),),
        shank=((52, 44, 40),),
        foot=((34, 29, 27),),
        tusk=((226, 216, 190),),
    ),
    stride=0.26,
    bristle=0.026,
    width=(0.42, 0.60),
    largest_group=2,
)


_BADGER = Anatomy(
    torso=(
        (-0.44, 0.265, 0.165),
        (-0.16, 0.285, 0.19),
        (0.12, 0.275, 0.18),
        (0.34, 0.25, 0.145),
    ),
    neck=(0.14, 0.135, 0.108),
    carriage=(-14, 12),
    skull=(0.34, 0.115, 0.036),
    nod=(26, 10),
    ear=(0.05, 0.035, 96),
    tail=((-0.58, 0.28, 0.05), (-0.74, 0.21, 0.055), (-0.82, 0.17, 0.02)),
    hind=Leg((-0.40, 0.22), (0.13, 0.10, 0.08), (0.12, 0.062, 0.042, 0.042), 1, 0.05),
    fore=Leg((0.30, 0.21), (0.12, 0.10, 0.06), (0.10, 0.06, 0.046, 0.048), -1, 0.0),
    coats=_coats(
        torso=((30, 28, 28), (98, 97, 97), (156, 155, 153), (172, 171, 168), (150, 149, 147)),
        neck=((36, 34, 34), (100, 98, 96), (158, 155, 150), (172, 169, 163), (150, 147, 142)),
        skull=((214, 210, 202), (250, 248, 244), (18, 17, 17), (18, 17, 17), (252, 250, 246)),
        ear=((232, 228, 222), (30, 28, 28)),
        tail=((176, 172, 164),),
        tip=((206, 202, 194),),
        thigh=((52, 50, 49),),
        shank=((28, 26, 26),),
        foot=((24, 22, 22),),
    ),
    stride=0.17,
    bristle=0.024,
    width=(0.44, 0.60),
    largest_group=1,
)


ANATOMIES: MappingProxyType[str, Anatomy] = MappingProxyType(
    {"red fox": _FOX, "roe deer": _DEER, "wild boar": _BOAR, "badger": _BADGER}
)


SPECIES: tuple[str, ...] = tuple(ANATOMIES)
