"""A report of the station as one file: to be mailed, printed, kept. Nothing in it is loaded from
elsewhere, and nothing in it runs."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from monitor.core.config import Settings
from monitor.core.days import per_hundred_days
from monitor.core.domain import TrapwatchError, iso_utc
from monitor.core.privacy import PrivateSpecies
from monitor.log.detected import Detections
from monitor.log.species_log import SpeciesLog
from monitor.report.camera_days import watched_days
from monitor.report.charts import paper
from monitor.report.charts.catalogue import NAMES, Choice, chart
from monitor.report.charts.places import Map
from monitor.report.frames import BestFrames, best_frames
from monitor.report.silent_deployments import silent_deployments
from monitor.report.tables import came_in, deployment_lines, period_words, species_lines
from monitor.system.files import write_whole

FILE_NAME = "report.html"
MOST_BYTES = 5_000_000
"""What mail servers and people's patience take."""

SHARE_OF_SCAN, SHARE_OF_CHARTS = 0.4, 0.1
Progress = Callable[[str, float], None]


class ReportError(TrapwatchError):
    """The report cannot be written; says where and why."""


@dataclass(frozen=True, slots=True)
class Written:
    """A finished report: its file, its size, how many pictures are in it."""

    path: Path
    size_bytes: int
    pictures: int


@dataclass(frozen=True, slots=True)
class Period:
    """What a report is about; None: from the first, or to the last frame. `until` is exclusive."""

    since: datetime | None = None
    until: datetime | None = None

    @property
    def since_text(self) -> str | None:
        """As the log writes it."""
        return iso_utc(self.since) if self.since else None

    @property
    def until_text(self) -> str | None:
        """As the log writes it."""
        return iso_utc(self.until) if self.until else None


@dataclass(frozen=True, slots=True)
class ChartPicture:
    """A chart inside the page."""

    name: str
    title: str
    alt: str
    source: str


def write_report(
    settings: Settings,
    log: SpeciesLog,
    folder: Path,
    period: Period,
    now: datetime,
    progress: Progress = lambda stage, done: None,
) -> Written:
    """Write `report.html` into `folder` (made if it is not there); it appears whole.

    Raises:
        ReportError: the folder cannot be written.
    """
    _make(folder)
    private = PrivateSpecies(settings.web.private_species, log.called_today).names()
    everything = _scan(log, progress)
    shown = everything.without(private).within(period.since, period.until)
    charts = _charts(shown, log, progress)
    hidden = log.events_showing(private)  # no other frame of them is shown either
    rest = MOST_BYTES - sum(len(one.source) for one in charts) - 200_000  # the tables
    frames = best_frames(settings, log, shown, hidden, private, period, rest, progress)
    values = _values(settings, log, shown, private, period, now)
    page = _page(values | {"charts": charts, "frames": frames})
    return _written(folder / FILE_NAME, page, frames)


def _make(folder: Path) -> None:
    """Before the long work: whoever mistyped a folder should hear it at once."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{FILE_NAME}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _cannot(folder, error) from None


def _cannot(place: Path, error: OSError) -> ReportError:
    return ReportError(
        f"{place} cannot be written: {error.strerror}; name another folder with --out"
    )


def _scan(log: SpeciesLog, progress: Progress) -> Detections:
    def told(done: float) -> bool:
        progress("reading the log", SHARE_OF_SCAN * done)
        return True

    return log.detections(told)


def _charts(shown: Detections, log: SpeciesLog, progress: Progress) -> list[ChartPicture]:
    pictures = []
    versions = log.versions()
    for place, name in enumerate(NAMES):
        progress("drawing charts", SHARE_OF_SCAN + SHARE_OF_CHARTS * place / len(NAMES))
        one = chart(name, shown, versions, Choice())
        if isinstance(one, Map) and not one.has_places:
            continue  # the table of deployments says as much
        coded = base64.b64encode(paper.svg(one)).decode()
        pictures.append(
            ChartPicture(name, one.title, one.alt, f"data:image/svg+xml;base64,{coded}")
        )
    return pictures


def _values(
    settings: Settings,
    log: SpeciesLog,
    shown: Detections,
    private: frozenset[str],
    period: Period,
    now: datetime,
) -> dict[str, Any]:
    """What the template is given, without pictures."""
    zone = settings.station.zone
    silent, rule = set(), settings.effort.rule
    if period.until is None or period.until > now:
        silent = {row["deployment"] for row in silent_deployments(log, now, rule)}
    watched = watched_days(settings, log, now, period.since, period.until)
    return {
        "station": settings.station.name,
        "watched": watched,
        "rate": lambda events: per_hundred_days(events, sum(watched.values())),
        "zone": settings.station.timezone,
        "made": now.astimezone(zone).strftime("%Y-%m-%d %H:%M"),
        "period": period_words(shown, period.since, period.until, zone),
        "came_in": came_in(shown),
        "hidden_frames": log.frames_showing(private, period.since_text, period.until_text),
        "unreadable": log.counts()["rejected"],
        "species": species_lines(shown, {row.name: row.scientific_name for row in log.species()}),
        "deployments": deployment_lines(shown, silent),
        "live": log.live_version(),
        "gap_minutes": settings.deployments.event_gap_minutes,
        "unknown_below": settings.classifier.unknown_below,
    }


def _page(values: dict[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(FILE_NAME).render(values)


def _written(path: Path, page: str, frames: BestFrames) -> Written:
    content = page.encode("utf-8", "backslashreplace")
    try:
        write_whole(content, path)
    except OSError as error:
        raise _cannot(path, error) from None
    return Written(path, len(content), sum(len(one.frames) for one in frames.species))
