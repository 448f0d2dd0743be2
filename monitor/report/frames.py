"""The best frames of each species, as small JPEGs inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from monitor.core.config import Settings
from monitor.core.domain import Sighting, Source
from monitor.core.privacy import hides
from monitor.images.pictures import PICTURES_FOLDER, PictureMissing, Pictures
from monitor.log.detected import Detections
from monitor.log.species_log import SpeciesLog
from monitor.model.options import decode_rules
from monitor.report.charts.choice import top_species

MOST_SPECIES = 12
FRAMES_A_SPECIES = 3
CANDIDATES = 60
"""The surest frames of a species that are looked at for some of different events and places."""

LONGEST_SIDE, QUALITY = 900, 78
"""Pixels and JPEG quality: some 80 KB each, sharp in a third of a printed page."""

DONE_BEFORE = 0.5


class Span(Protocol):
    """The period of a report, as the log writes times."""

    @property
    def since_text(self) -> str | None:
        """Its start."""
        ...

    @property
    def until_text(self) -> str | None:
        """Its end, exclusive."""
        ...


@dataclass(frozen=True, slots=True)
class BestFrame:
    """One frame: its picture, and what is known of it."""

    source: str  # data: URI
    width: int
    height: int
    deployment: str
    when: str
    said_by: str


@dataclass(frozen=True, slots=True)
class SpeciesFrames:
    """The best frames of one species."""

    name: str
    frames: tuple[BestFrame, ...]


@dataclass(frozen=True, slots=True)
class BestFrames:
    """What pictures there are, and how many species had to go without."""

    species: tuple[SpeciesFrames, ...]
    left_out: int


def best_frames(
    settings: Settings,
    log: SpeciesLog,
    shown: Detections,
    private_events: frozenset[int],
    private: frozenset[str],
    period: Span,
    most_bytes: int,
    progress: Callable[[str, float], None],
) -> BestFrames:
    """The surest frames of the most frequent species: first one of each, then a second …

    Args:
        shown: detections of the period, private species left out.
        private_events, private: no frame of those events, or that shows those species.
        most_bytes: of all pictures together, as they stand in the page.
    """
    animals = top_species(shown.animals(), len(shown.species))
    names = animals[:MOST_SPECIES]
    pictures = Pictures(
        log.find_media,
        settings.data_directory / PICTURES_FOLDER,
        settings.web.picture_cache_mb * 1024 * 1024,
        decode_rules(settings),
        folders=settings.watch.folders,
    )
    try:
        queues = [
            _made(pictures, _chosen(log, name, private_events, private, period)) for name in names
        ]
        found: list[list[BestFrame]] = [[] for _ in names]
        for turn in range(FRAMES_A_SPECIES):
            for place, queue in enumerate(queues):
                done = (turn * len(names) + place) / (FRAMES_A_SPECIES * len(names))
                progress("making pictures", DONE_BEFORE + (1 - DONE_BEFORE) * done)
                frame = next(queue, None) if most_bytes > 0 else None
                if frame is not None and len(frame.source) <= most_bytes:
                    found[place].append(frame)
                    most_bytes -= len(frame.source)
    finally:
        pictures.close()
    with_frames = [
        SpeciesFrames(name, tuple(some)) for name, some in zip(names, found, strict=True) if some
    ]
    return BestFrames(tuple(with_frames), len(animals) - len(with_frames))


def _chosen(
    log: SpeciesLog,
    name: str,
    private_events: frozenset[int],
    private: frozenset[str],
    period: Span,
) -> list[Sighting]:
    """Frames of different events, the surest first; other deployments before a second frame of
    the same."""
    media_ids = log.most_certain(name, period.since_text, period.until_text, CANDIDATES)
    events: set[int | None] = set(private_events)
    sites: set[str] = set()
    first: list[Sighting] = []
    more: list[Sighting] = []
    for sighting in log.sightings_of(media_ids):
        if sighting.event_id in events or hides(sighting, private):
            continue
        events.add(sighting.event_id)
        (more if sighting.deployment in sites else first).append(sighting)
        sites.add(sighting.deployment)
    return first + more


def _made(pictures: Pictures, chosen: list[Sighting]) -> Iterator[BestFrame]:
    """Their pictures, as long as there are files; made when asked for."""
    for sighting in chosen:
        try:
            picture = pictures.get(sighting.media_id, "screen")
        except PictureMissing:
            continue  # the next best one will do
        content, width, height = _smaller(picture)
        yield BestFrame(
            f"data:image/jpeg;base64,{base64.b64encode(content).decode()}",
            width,
            height,
            sighting.deployment,
            sighting.captured_local[:16].replace("T", " "),
            _said_by(sighting),
        )


def _said_by(sighting: Sighting) -> str:
    if sighting.source is Source.LABEL:
        return "labelled by people"
    return f"the model's word, {sighting.probability or 0:.0%} sure"


def _smaller(picture: bytes) -> tuple[bytes, int, int]:
    """A JPEG of at most LONGEST_SIDE, without any metadata, and its width and height."""
    from PIL import Image

    with Image.open(io.BytesIO(picture), formats=("JPEG",)) as image:
        image.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        stream = io.BytesIO()
        image.convert("RGB").save(stream, "JPEG", quality=QUALITY, optimize=True)
        return stream.getvalue(), *image.size
