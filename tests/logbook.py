"""A species log for tests, filled through its own door."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from monitor.core.domain import (
    CaptureTime,
    FileStamp,
    Metadata,
    ModelState,
    Observation,
    OffsetSource,
    Prediction,
    TimeSource,
)
from monitor.log.media import BatchResult
from monitor.log.species_log import SpeciesLog
from monitor.log.taking_in import IntakeItem

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAWN = datetime(2026, 4, 1, 6)
GAP = timedelta(minutes=30)


@functools.cache
def _template() -> bytes:
    """An empty log, made once for each process: four migrations take longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        SpeciesLog(path, create=True).close()
        return path.read_bytes()


def new_log(path: Path) -> SpeciesLog:
    """An empty log at this path; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_template())
    return SpeciesLog(path, create=True)


def item(
    name: str | bytes,
    at: datetime = DAWN,
    deployment: str = "north",
    *,
    content: str | None = None,
    rejected: str | None = None,
) -> IntakeItem:
    """One settled file, as intake reads it."""
    path = name if isinstance(name, bytes) else f"/frames/{deployment}/{name}".encode()
    sha256 = hashlib.sha256(path if content is None else content.encode()).hexdigest()
    captured = CaptureTime(at, timedelta(0), TimeSource.EXIF, OffsetSource.STATION)
    return IntakeItem(
        path, FileStamp(900, 1), sha256, deployment, Metadata(64, 48, captured), rejected
    )


def take_in(log: SpeciesLog, items: Iterable[IntakeItem], gap: timedelta = GAP) -> list[int]:
    """Take these files in; returns the media ids."""
    return [media_id for media_id, _ in log.take_in(items, NOW, gap)]


def frames(
    log: SpeciesLog, count: int, minutes: float = 60, deployment: str = "north"
) -> list[int]:
    """So many classified media, one every so many minutes."""
    step = timedelta(minutes=minutes)
    items = [item(f"{n:04d}.jpg", DAWN + n * step, deployment) for n in range(count)]
    media_ids = take_in(log, items)
    log.record(BatchResult(classified=tuple(media_ids)), NOW)
    return media_ids


def say(
    log: SpeciesLog, media_id: int, *species: str, by: str = "Ana", **options: object
) -> object:
    """Label one media."""
    observations = [Observation(name) for name in species]
    return log.label([media_id], observations, by, "cli", NOW, insist=True, **options)


def publish(log: SpeciesLog, name: str = "v0001", *, live: bool = True) -> None:
    """Register a version, and let it go live."""
    log.add_version(name, ModelState.CANDIDATE, "small", "small", "0" * 64, "made", {}, NOW)
    if live:
        log.go_live(name, "first", "Ana", NOW)


def predict(log: SpeciesLog, said: dict[int, tuple[str, float]], version: str = "v0001") -> None:
    """Record what a version says of these media."""
    predictions = tuple(
        Prediction(media_id, species, p, ((species, p), ("blank", round(1 - p, 5))))
        for media_id, (species, p) in said.items()
    )
    log.record(BatchResult(predictions=predictions, version=version), NOW)


def rows(log: SpeciesLog, query: str) -> list[tuple]:
    """What SQL answers."""
    with log._read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def fill(path: Path) -> SpeciesLog:
    """A log that has something in every table: the fixture of its revision is a dump of it."""
    log = new_log(path)
    media_ids = frames(log, 6, minutes=20) + frames(log, 3, deployment="südhang")
    take_in(log, [item("bad.jpg", deployment="north", rejected="truncated")])
    take_in(log, [item(b"/frames/north/caf\xe9 \xf0\x9f\xa6\x8a.jpg", content="more")])
    log.note_unreadable(b"/frames/locked.jpg", FileStamp(1, 1), "Permission denied")
    log.set_deployments([{"name": "north", "latitude": 52.5, "clock_shift_seconds": 3600.0}])
    log.add_species("red fox", "Ana", "cli", NOW, names={"de": "Rotfuchs"}, aliases=("fox",))
    publish(log)
    predict(log, {media_ids[0]: ("badger", 0.8), media_ids[1]: ("red fox", 0.6)})
    log.label(
        [media_ids[0]],
        [Observation("red fox", 2, "female", "adult", "foraging"), Observation("badger")],
        "Ana",
        "cli",
        NOW,
    )
    say(log, media_ids[1], "silver fox")
    say(log, media_ids[2], "blank")
    log.undo(media_ids[2], "Ben", "cli", NOW)
    log.merge_species("silver fox", "red fox", "Ana", "cli", NOW)
    run = log.start_run("head", "cli", 4242, NOW)
    log.run_progress(run, "fitting", 0.5)
    log.put_state("watch", {"other_types": {".txt": 3}}, NOW)
    log.flag(media_ids[3], True, "Ben", "web", NOW)
    log.lease([media_ids[4]], "Ben", 1, NOW, GAP)
    from monitor.log.learning import SplitRow

    log.add_split([SplitRow(media_ids[0], "train", "deployment", 1)])
    return log
