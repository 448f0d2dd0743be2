"""A small believable world of camera-trap frames, rendered from a seed.

`plan` says what is in every frame (the truth of the demo), `render` draws one, `write_world` puts
them in folders as a camera would: JPEG with EXIF, each appearing whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image

from monitor.cli.demo.scenery import DEPLOYMENTS
from monitor.cli.demo.species import ANATOMIES, SPECIES
from monitor.cli.demo.stage import Actor, Shot, photograph
from monitor.core.domain import BLANK

SIZE = (1024, 768)
BURST = 3  # frames an event
_FIRST_DAY = datetime(2025, 6, 2)
_APART = timedelta(minutes=40)  # between events of one camera
_EVENTS_A_DAY = 6

# Hours (start, end) in which a species is about, by daylight and by night (infrared).
# Sunrise is near 5 and sunset near 21; a night may end after midnight, as hour 24 and more.
_HOURS: dict[str, tuple[tuple[tuple[float, float], ...], tuple[float, float]]] = {
    "red fox": (((5.7, 9.0), (17.5, 20.3)), (21.2, 28.6)),
    "roe deer": (((5.5, 9.5), (16.5, 20.5)), (21.2, 28.8)),
    "wild boar": (((5.5, 8.0), (18.0, 20.5)), (21.5, 28.5)),
    "badger": (((5.4, 7.0), (18.8, 20.6)), (21.3, 28.5)),
    BLANK: (((7.0, 19.5),), (21.5, 28.5)),
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame and the truth about it.

    Attributes:
        path: relative to the world's root.
        deployment: the camera, which is also the folder.
        species: one of `SPECIES` or `blank`.
        count: animals in the frame.
        captured_local: wall clock of the camera, to the millisecond.
        infrared: taken at night with the flash.
        event: number of its event, from 1, in the order of time.
        shot: place in its burst, from 0.
    """

    path: Path
    deployment: str
    species: str
    count: int
    captured_local: datetime
    infrared: bool
    event: int
    shot: int


@dataclass(frozen=True, slots=True)
class WorldPlan:
    """All frames, in the order in which they are taken, event by event."""

    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class _Visit:
    """One event before its frames: who comes where, when."""

    species: str
    deployment: str
    infrared: bool
    start: datetime
    count: int


def plan(seed: int, frames: int = 240) -> WorldPlan:
    """Decide what happens at the cameras; the same for the same seed.

    Species, cameras and lights are crossed evenly, so that none gives another away.
    """
    rng = np.random.default_rng([seed, 1])
    wanted = -(-frames // BURST)
    days = max(3, -(-wanted // (len(DEPLOYMENTS) * _EVENTS_A_DAY)))
    visits: list[_Visit] = []
    for species, deployment, infrared in _cast(rng, wanted):
        busy = [v.start for v in visits if v.deployment == deployment]
        start = _free_time(rng, species, infrared, days, busy)
        count = (
            int(rng.integers(1, ANATOMIES[species].largest_group + 1)) if species != BLANK else 0
        )
        visits.append(_Visit(species, deployment, infrared, start, count))
    visits.sort(key=lambda v: (v.start, v.deployment))
    return WorldPlan(tuple(_bursts(rng, visits))[:frames])


def render(frame: Frame, seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Draw one frame. The same arguments give the same pixels.

    Args:
        frame: of a plan.
        seed: of the world; fixes the places, the animals and the noise.
        size: width and height, pixels.
    """
    identity = [seed, crc32(frame.path.as_posix().encode())]
    event = np.random.default_rng([seed, 2, frame.event])
    actors = tuple(_actors(event, frame))
    shot = Shot(
        frame.deployment, frame.captured_local, frame.infrared, actors, frame.shot, seed, size
    )
    return photograph(shot, np.random.default_rng(identity))


def write_world(
    plan: WorldPlan,
    root: Path,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    only: slice | None = None,
) -> None:
    """Write frames as JPEG below `root`, each appearing whole under its final name.

    Args:
        plan: what to write.
        root: folder; it and the cameras' folders are made where missing.
        seed: the seed the plan was made with.
        progress: called after each frame with (frames done, frames in all).
        only: a part of `plan.frames`; None writes all.
    """
    frames = plan.frames if only is None else plan.frames[only]
    for done, frame in enumerate(frames, start=1):
        _write(render(frame, seed), _exif(frame), root / frame.path)
        if progress is not None:
            progress(done, len(frames))


def _cast(rng: np.random.Generator, wanted: int) -> Iterator[tuple[str, str, bool]]:
    """Species, camera and light of each event: every fourth is blank, the rest crossed evenly."""
    animals: list[tuple[str, str, bool]] = []
    blanks: list[tuple[str, str, bool]] = []
    for number in range(wanted):
        pool, kinds = (blanks, (BLANK,)) if number % 4 == 3 else (animals, SPECIES)
        if not pool:
            crossed = list(product(kinds, DEPLOYMENTS, (False, True)))
            pool.extend(crossed[i] for i in rng.permutation(len(crossed)))
        yield pool.pop()


def _free_time(
    rng: np.random.Generator, species: str, infrared: bool, days: int, busy: list[datetime]
) -> datetime:
    """A time that suits the species and is far enough from the camera's other events."""
    by_day, night = _HOURS[species]
    for attempt in range(1000):
        day = int(rng.integers(days + attempt // 50))  # a crowded plan grows longer
        low, high = night if infrared else by_day[int(rng.integers(len(by_day)))]
        millis = int(rng.uniform(low, high) * 3_600_000)
        start = _FIRST_DAY + timedelta(days=day, milliseconds=millis)
        if all(abs(start - other) >= _APART for other in busy):
            return start
    raise ValueError(f"no free time left for {species}: ask for fewer frames")


def _bursts(rng: np.random.Generator, visits: list[_Visit]) -> Iterator[Frame]:
    """Three frames a visit, a second or two apart, numbered as the camera would."""
    taken = dict.fromkeys(DEPLOYMENTS, 0)
    for event, visit in enumerate(visits, start=1):
        moment = visit.start
        for shot in range(BURST):
            taken[visit.deployment] += 1
            path = Path(visit.deployment, f"IMG_{taken[visit.deployment]:04d}.JPG")
            yield Frame(
                path,
                visit.deployment,
                visit.species,
                visit.count,
                moment,
                visit.infrared,
                event,
                shot,
            )
            moment += timedelta(milliseconds=int(rng.integers(900, 2100)))


def _actors(rng: np.random.Generator, frame: Frame) -> Iterator[Actor]:
    """Who walks through this event; each frame of a burst sees them a little further on."""
    if frame.species == BLANK:
        return
    heading = 1 if rng.random() < 0.5 else -1
    start = float(rng.uniform(0.36, 0.46))
    low, high = ANATOMIES[frame.species].width
    width = float(rng.uniform(low, high)) * (1.0, 0.86, 0.74)[frame.count - 1]
    for place in range(frame.count):
        yield Actor(
            species=frame.species,
            heading=heading,
            x=start - 0.27 * place + float(rng.uniform(-0.03, 0.03)),
            ground=float(rng.uniform(0.84, 0.93)) - 0.06 * place,
            width=width * (1.0 - 0.12 * place) * float(rng.uniform(0.95, 1.05)),
            phase=float(rng.uniform(0, 6.28)),
            walking=float(rng.uniform(0.35, 1.0)),
            head_up=float(rng.beta(1.2, 0.9)),
            antlers=bool(rng.random() < 0.4) and place == 0,
            speed=float(rng.uniform(0.05, 0.11)),
        )


def _exif(frame: Frame) -> Image.Exif:
    """Capture time and camera, as a trail camera writes them."""
    exif = Image.Exif()
    stamp = frame.captured_local.strftime("%Y:%m:%d %H:%M:%S")
    exif[0x010F] = "TrapWatch"  # Make
    exif[0x0110] = "Demo Trail Cam"  # Model
    exif[0x0132] = stamp  # DateTime
    details = exif.get_ifd(0x8769)
    details[0x9003] = details[0x9004] = stamp  # DateTimeOriginal, DateTimeDigitized
    subsec = f"{frame.captured_local.microsecond // 1000:03d}"
    details[0x9291] = details[0x9292] = subsec  # SubSecTimeOriginal, SubSecTimeDigitized
    details[0xA431] = f"TW{DEPLOYMENTS.index(frame.deployment) + 1:04d}"  # BodySerialNumber
    return exif


def _write(image: Image.Image, exif: Image.Exif, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    image.save(unfinished, format="JPEG", quality=85, exif=exif)
    os.replace(unfinished, path)
