"""The words of the project (Camtrap DP 1.0.x where it has one), as plain values.

Everything here is immutable and knows nothing of files, SQL or networks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

BLANK = "blank"
"""A frame with no animal: a species name like any other."""

UNKNOWN = "unknown"
"""What a sighting says when the model's best guess is below `classifier.unknown_below`, or the
frame is like nothing that it learnt."""


class TrapwatchError(Exception):
    """An error for the person who can act: the message says what, where, and what to do."""


class MediaStatus(StrEnum):
    """Where one media stands. `classified` means: has been through the classifier."""

    PENDING = "pending"
    CLASSIFIED = "classified"
    REJECTED = "rejected"


class Source(StrEnum):
    """Who a sighting's species comes from."""

    LABEL = "label"
    PREDICTION = "prediction"
    NONE = "none"


class TimeSource(StrEnum):
    """Where a capture time was read."""

    EXIF = "exif"
    NAME = "name"
    MTIME = "mtime"


class OffsetSource(StrEnum):
    """Where the UTC offset of a capture time comes from."""

    EXIF = "exif"
    STATION = "station"


class How(StrEnum):
    """The way a label came in."""

    CLI = "cli"
    CSV = "csv"
    FOLDER = "folder"
    WEB = "web"
    DEMO = "demo"


class Scope(StrEnum):
    """Whether a label was said of one frame or of its whole event."""

    FRAME = "frame"
    EVENT = "event"


class ModelState(StrEnum):
    """The life of a model version. `damaged`: was live until its files were found broken."""

    CANDIDATE = "candidate"
    LIVE = "live"
    RETIRED = "retired"
    REJECTED = "rejected"
    DAMAGED = "damaged"


class RunState(StrEnum):
    """The life of one training run."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What a directory listing says of a file; equal stamps mean 'not written since'."""

    size: int  # bytes
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class CaptureTime:
    """When a frame was taken, as the camera wrote it, and how that reads in UTC.

    Attributes:
        local: naive wall clock, exactly as written (microsecond resolution).
        utc_offset: offset of that wall clock from UTC.
        source: where the wall clock was read.
        offset_source: where the offset comes from.
    """

    local: datetime
    utc_offset: timedelta
    source: TimeSource
    offset_source: OffsetSource


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file says of itself besides its pixels. Fields it does not carry are None."""

    width: int | None
    height: int | None
    captured: CaptureTime
    make: str | None = None
    model: str | None = None
    serial: str | None = None
    temperature_celsius: float | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """One species in one label (Camtrap DP observation). None: nothing was said of it."""

    species: str
    count: int | None = None
    sex: str | None = None
    life_stage: str | None = None
    behaviour: str | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one model version said of one media.

    Attributes:
        media_id: row of the media.
        species: the label shown; `unknown` when unsure, or when the frame is strange to the model.
        probability: calibrated probability of the best alternative, 0-1.
        alternatives: (species, probability), best first; the species set is among them.
    """

    media_id: int
    species: str
    probability: float
    alternatives: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Sighting:
    """The current best statement about a media: a row of the database view `sightings`.

    `species_set`: what the frame may show, likeliest first, so chosen that it holds the truth as
    often as the model version promises; None where a person named it or nothing is promised.
    """

    media_id: int
    path: str
    sha256: str
    captured_at: str  # ISO 8601, UTC
    captured_local: str  # ISO 8601, wall clock at the camera
    deployment: str
    species: str | None
    probability: float | None
    source: Source
    model_version: str | None
    labelled_by: str | None
    event_id: int | None
    status: MediaStatus
    rejected_reason: str | None
    novelty: float | None = None
    box: tuple[float, float, float, float] | None = None
    alternatives: tuple[tuple[str, float], ...] = ()
    observations: tuple[Observation, ...] = field(default=())
    species_set: tuple[str, ...] | None = None


def utc_now() -> datetime:
    """The present, in UTC; called at the edges only, everything inside is told the time."""
    return datetime.now(UTC)


def iso_utc(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and a fixed width, so that text order is time order."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def parse_iso_utc(text: str) -> datetime:
    """The inverse of `iso_utc`. Raises ValueError on anything else."""
    return datetime.fromisoformat(text).astimezone(UTC)


def iso_local(wall: datetime) -> str:
    """A naive wall clock as ISO 8601, with milliseconds only where the camera wrote them."""
    return wall.isoformat(timespec="milliseconds" if wall.microsecond else "seconds")


def shown_path(path: bytes) -> str:
    """A path for people and JSON: UTF-8 where it is, other bytes and controls escaped."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
