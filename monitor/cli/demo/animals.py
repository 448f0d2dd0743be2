"""A species in one moment: its skeleton, posed by its gait, but no pixels.

A pose is a list of round cones ("bones"), in the units of `monitor.cli.demo.species`;
`monitor.cli.demo.fur` gives them volume and hair.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from monitor.cli.demo.species import ANATOMIES, Anatomy, Ball, Colour, Leg, Point


@dataclass(frozen=True, slots=True)
class Bone:
    """A round cone between two balls.

    Attributes:
        tail, head: the two end balls.
        coat: colours across the bone, from its underside to its top.
        lift: how far it stands out towards the camera.
        far: drawn behind the body, in its shade.
    """

    tail: Ball
    head: Ball
    coat: tuple[Colour, ...]
    lift: float = 0.0
    far: bool = False


@dataclass(frozen=True, slots=True)
class Pose:
    """One moment of one animal.

    Attributes:
        phase: of the gait cycle, radians.
        walking: 0 stands, 1 full stride.
        head_up: 0 nose to the ground, 1 alert.
        antlers: whether a deer is a buck.
    """

    phase: float
    walking: float
    head_up: float
    antlers: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """A posed animal: its bones, where the eye is and how large."""

    bones: tuple[Bone, ...]
    eye: Ball


def figure(species: str, pose: Pose) -> Figure:
    """The bones of one animal in one pose.

    Raises:
        KeyError: the demo has no such species.
    """
    body = ANATOMIES[species]
    neck_angle = math.radians(_between(body.carriage, pose.head_up))
    nod = math.radians(-_between(body.nod, pose.head_up))
    chest = body.torso[-1]
    nape = _step((chest[0], chest[1] + 0.2 * chest[2]), neck_angle, body.neck[0])
    nose = _step(nape, nod, body.skull[0])
    bones = (
        *_legs(body, pose, far=True),
        *_chain(body.tail, body.coats["tail"], tip=body.coats["tip"]),
        *_chain(body.torso, body.coats["torso"]),
        _neck(body, nape),
        *_head(body, nape, nose, nod),
        *_extras(species, pose, nape, nose, nod),
        *_legs(body, pose, far=False),
    )
    return Figure(bones, _eye(body, nape, nod))


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * share


def _step(start: Point, angle: float, length: float) -> Point:
    return start[0] + math.cos(angle) * length, start[1] + math.sin(angle) * length


def _chain(
    balls: tuple[Ball, ...], coat: tuple[Colour, ...], tip: tuple[Colour, ...] | None = None
) -> Iterator[Bone]:
    """Bones through the balls; `tip` colours the last one. Their top is the animal's top."""
    last = len(balls) - 2
    for place, (a, b) in enumerate(pairwise(balls)):
        yield Bone(a, b, tip if tip is not None and place == last else coat)


def _neck(body: Anatomy, nape: Point) -> Bone:
    x, y, _ = body.torso[-1]
    return Bone((x, y, body.neck[1]), (*nape, body.neck[2]), body.coats["neck"], 0.02)


def _head(body: Anatomy, nape: Point, nose: Point, nod: float) -> Iterator[Bone]:
    length, back, front = body.skull
    ear_length, ear_width, ear_angle = body.ear
    crown = _step(nape, nod + math.pi / 2, 0.62 * back)
    for far in (True, False):
        angle = nod + math.radians(ear_angle - (16 if far else 0))
        root = (crown[0] + (0.25 * back if far else 0.0), crown[1])
        tip = _step(root, angle, ear_length)
        yield Bone(
            (*root, ear_width), (*tip, 0.22 * ear_width), body.coats["ear"], 0.0 if far else 0.1
        )
    brow = _step(nape, nod, 0.42 * length)
    yield Bone((*nape, back), (*brow, 0.66 * back), body.coats["skull"], 0.05)
    yield Bone((*brow, 0.66 * back), (*nose, front), body.coats["skull"], 0.05)
    pad = 0.55 * front + 0.006
    yield Bone((*nose, pad), (*_step(nose, nod, 0.4 * front), pad), ((22, 19, 19),), 0.09)


def _extras(species: str, pose: Pose, nape: Point, nose: Point, nod: float) -> Iterator[Bone]:
    """A boar's tusk, a buck's antlers."""
    coats = ANATOMIES[species].coats
    if species == "wild boar":
        root = _step(nose, nod + math.pi * 0.96, 0.13)
        tip = _step(root, nod + 1.9, 0.07)
        yield Bone((*root, 0.014), (*tip, 0.006), coats["tusk"], 0.2)
    if species == "roe deer" and pose.antlers:
        for lean in (1.75, 1.45):
            root = _step(nape, nod + 1.2, 0.08)
            fork = _step(root, nod + lean, 0.15)
            for turn in (0.35, -0.45):
                yield Bone(
                    (*fork, 0.011), (*_step(fork, nod + lean + turn, 0.08), 0.005), coats["antler"]
                )
            yield Bone((*root, 0.014), (*fork, 0.011), coats["antler"])


def _eye(body: Anatomy, nape: Point, nod: float) -> Ball:
    length, back, _ = body.skull
    x, y = _step(_step(nape, nod, 0.34 * length), nod + math.pi / 2, 0.30 * back)
    return x, y, max(0.011, 0.13 * back)


def _legs(body: Anatomy, pose: Pose, far: bool) -> Iterator[Bone]:
    """Hind and fore leg of one side, half a cycle apart; the other side is opposite."""
    for leg, lag in ((body.hind, 0.0), (body.fore, 0.55 * math.pi)):
        phase = pose.phase + lag + (math.pi if far else 0.0)
        yield from _leg(body, leg, phase, pose.walking, far)


def _leg(body: Anatomy, leg: Leg, phase: float, walking: float, far: bool) -> Iterator[Bone]:
    """Two-bone inverse kinematics from the hip to an ankle that follows the gait."""
    reach = sum(leg.lengths)
    shift = 0.10 * body.stride * (1 if far else -1)
    toe_x = leg.root[0] + shift + 0.5 * body.stride * walking * math.cos(phase)
    toe_y = 0.12 * reach * walking * max(0.0, -math.sin(phase))
    lean = 0.5 * walking * max(0.0, -math.sin(phase))
    ankle = (
        toe_x - leg.heel - lean * leg.lengths[2],
        toe_y + math.sqrt(max(leg.lengths[2] ** 2 - leg.heel**2, 0.0)) * (1 - 0.3 * lean),
    )
    knee = _knee(leg.root, ankle, leg.lengths[0], leg.lengths[1], leg.knee)
    hip, bend, hock, toe = leg.radii
    coats, lift = body.coats, 0.0 if far else 0.12
    yield Bone((*leg.root, hip), (*knee, bend), coats["thigh"], lift, far)
    yield Bone((*knee, bend), (*ankle, hock), coats["shank"], lift, far)
    yield Bone((*ankle, hock), (toe_x, toe_y + toe, toe), coats["foot"], lift, far)
    yield Bone((toe_x, toe_y + toe, toe), (toe_x + toe, toe_y + toe, toe), coats["foot"], lift, far)


def _knee(hip: Point, ankle: Point, upper: float, lower: float, side: int) -> Point:
    """Where two bones of fixed length meet; a leg too short is simply straight."""
    dx, dy = ankle[0] - hip[0], ankle[1] - hip[1]
    span = max(math.hypot(dx, dy), 1e-6)
    along = (upper**2 - lower**2 + span**2) / (2 * span) if span < upper + lower else span / 2
    off = side * math.sqrt(max(upper**2 - along**2, 0.0)) if span < upper + lower else 0.0
    return hip[0] + (dx * along - dy * off) / span, hip[1] + (dy * along + dx * off) / span
