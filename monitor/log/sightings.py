"""Sightings: the view `sightings`, read as values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, column, select, table

from monitor.core.domain import MediaStatus, Observation, Sighting, Source
from monitor.log.connection import LogPart
from monitor.log.tables import Media, ModelVersion

COLUMNS = (
    "media_id",
    "path",
    "sha256",
    "captured_at",
    "captured_local",
    "deployment",
    "species",
    "probability",
    "source",
    "model_version",
    "labelled_by",
    "alternatives",
    "observations",
    "event_id",
    "status",
    "rejected_reason",
    "novelty",
    "box",
)
VIEW = table("sightings", *(column(name) for name in COLUMNS))
PAGE = 500
CONFORMAL = "conformal"
"""In the figures of a version: {"coverage": …, "thresholds": {species: probability}}."""
Thresholds = Mapping[str, Mapping[str, float]]


class SightingQueries(LogPart):
    """Sightings of media that are known by their ids."""

    def sightings_of(self, media_ids: Sequence[int]) -> list[Sighting]:
        """The sightings of given media, in the order given."""
        rows: dict[int, Any] = {}
        with self._read() as connection:
            for start in range(0, len(media_ids), PAGE):
                part = media_ids[start : start + PAGE]
                query = select(VIEW).where(VIEW.c.media_id.in_(part))
                rows |= {row["media_id"]: row for row in connection.execute(query).mappings()}
            sets = _thresholds(connection, rows.values())
        return [_sighting(rows[media_id], sets) for media_id in media_ids if media_id in rows]

    def event_frames(self, event_ids: Sequence[int]) -> dict[int, list[Sighting]]:
        """All frames of given events (rejected ones left out), oldest first."""
        query = (
            select(Media.id)
            .where(Media.event_id.in_(event_ids), Media.status != MediaStatus.REJECTED)
            .order_by(Media.captured_at, Media.id)
        )
        with self._read() as connection:
            ids = list(connection.execute(query).scalars())
        frames: dict[int, list[Sighting]] = {}
        for sighting in self.sightings_of(ids):
            frames.setdefault(sighting.event_id or 0, []).append(sighting)
        return frames


def _thresholds(connection: Connection, rows: Iterable[Any]) -> Thresholds:
    """Of the versions that speak in these rows and promise something."""
    names = {row["model_version"] for row in rows if row["source"] == Source.PREDICTION}
    query = select(ModelVersion.name, ModelVersion.figures).where(ModelVersion.name.in_(names))
    if not names:
        return {}
    figures = {row.name: row.figures.get(CONFORMAL) for row in connection.execute(query)}
    return {name: promise["thresholds"] for name, promise in figures.items() if promise}


def species_set(
    alternatives: Sequence[tuple[str, float]], thresholds: Mapping[str, float]
) -> tuple[str, ...]:
    """Those alternatives that may be the truth: the best one, and whatever reaches its threshold.

    Args:
        alternatives: (species, probability), best first.
        thresholds: of the version that said them.
    """
    return tuple(
        name
        for place, (name, probability) in enumerate(alternatives)
        if place == 0 or probability >= thresholds.get(name, 1.0)
    )


def _sighting(row: Any, sets: Thresholds) -> Sighting:
    observations = tuple(Observation(**o) for o in json.loads(row["observations"] or "[]"))
    alternatives = tuple((name, p) for name, p in json.loads(row["alternatives"] or "[]"))
    facts = {name: row[name] for name in COLUMNS}
    facts |= {
        "observations": observations,
        "alternatives": alternatives,
        "source": Source(row["source"]),
        "status": MediaStatus(row["status"]),
    }
    if row["source"] == Source.PREDICTION and row["model_version"] in sets:
        facts["species_set"] = species_set(alternatives, sets[row["model_version"]])
    return Sighting(**facts)
