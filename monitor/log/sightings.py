"""Sightings: the view, searched through the indexes that find its newest rows fast."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, column, exists, func, select, table
from sqlalchemy.orm import aliased

from monitor.domain import MediaStatus, Observation, Sighting, Source
from monitor.log.connection import LogPart
from monitor.log.species import _must_resolve, same_species
from monitor.log.tables import Deployment, Label, Media, Prediction
from monitor.log.tables import Observation as ObservationRow

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
FEW = 2000
"""Up to so many rows are looked up one by one; above, a walk along time finds the newest sooner."""
PAGE = 500
Branch = tuple[Select[*tuple[Any, ...]], Any, Any]
"""A query for (captured_at, media id), and its two columns, by which it is ordered."""


@dataclass(frozen=True, slots=True)
class SightingFilter:
    """What to list. Times are `iso_utc` text; `until` is exclusive. `limit` None lists all."""

    species: str | None = None
    since: str | None = None
    until: str | None = None
    deployment: str | None = None
    min_probability: float | None = None
    unreviewed: bool = False
    limit: int | None = None


class SightingQueries(LogPart):
    """Reading the species log."""

    def sightings(self, wanted: SightingFilter = SightingFilter()) -> Iterator[Sighting]:
        """Sightings that fit, newest capture first.

        A label counts as certain, so `min_probability` keeps labelled media; a media that shows
        two species is found by either.

        Raises:
            UnknownSpecies: no species answers to that name.
        """
        left, after = wanted.limit, None
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            with self._read() as connection:
                page = _page(connection, wanted, size, after)
            yield from self.sightings_of([media_id for _, media_id in page])
            if len(page) < size:
                return
            after = page[-1]
            left = left - size if left is not None else None

    def sightings_of(self, media_ids: Sequence[int]) -> list[Sighting]:
        """The sightings of given media, in the order given."""
        rows: dict[int, Any] = {}
        with self._read() as connection:
            for start in range(0, len(media_ids), PAGE):
                part = media_ids[start : start + PAGE]
                query = select(VIEW).where(VIEW.c.media_id.in_(part))
                rows |= {row["media_id"]: row for row in connection.execute(query).mappings()}
        return [_sighting(rows[media_id]) for media_id in media_ids if media_id in rows]

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


def _page(
    connection: Connection, wanted: SightingFilter, size: int, after: tuple[str, int] | None
) -> list[tuple[str, int]]:
    """(captured_at, media id) of the `size` newest that fit and come `after` a place reached."""
    found: set[tuple[str, int]] = set()
    for branch, at, media_id in _branches(connection, wanted):
        query = branch
        if wanted.since is not None:
            query = query.where(at >= wanted.since)
        if wanted.until is not None:
            query = query.where(at < wanted.until)
        if after is not None:
            query = query.where(at <= after[0], (at < after[0]) | (media_id < after[1]))
        query = query.order_by(at.desc(), media_id.desc()).limit(size)
        found |= {(row[0], row[1]) for row in connection.execute(query)}
    return sorted(found, reverse=True)[:size]


def _branches(connection: Connection, wanted: SightingFilter) -> list[Branch]:
    """One query for each index that can answer in order of time; what fits is their union."""
    species: list[int] | None = None
    if wanted.species is not None:
        species = same_species(connection, _must_resolve(connection, wanted.species))
    if species is None and wanted.min_probability is None:
        return [_plain(wanted)]
    branches = [_predicted(wanted, one) for one in species or (None,)]
    if not wanted.unreviewed:
        branches.append(_labelled(connection, wanted, species))
    return branches


def _deployment(name: str) -> Any:
    return select(Deployment.id).where(Deployment.name == name).scalar_subquery()


def _plain(wanted: SightingFilter) -> Branch:
    """Any species: walk along time (of one deployment, if asked)."""
    query = select(Media.captured_at, Media.id)
    if wanted.deployment is not None:
        query = query.where(Media.deployment_id == _deployment(wanted.deployment))
    if wanted.unreviewed:
        query = query.where(Media.label_id.is_(None), Media.status != MediaStatus.REJECTED)
    return query, Media.captured_at, Media.id


def _predicted(wanted: SightingFilter, species: int | None) -> Branch:
    """Media whose sighting is a prediction."""
    p = aliased(Prediction)
    query = select(p.captured_at, p.media_id).where(
        p.current == 1, exists().where(Media.id == p.media_id, Media.label_id.is_(None))
    )
    if wanted.deployment is not None:
        query = query.where(p.deployment_id == _deployment(wanted.deployment))
    if species is not None:
        query = query.where(p.species_id == species)
    if wanted.min_probability is not None:
        query = query.where(p.probability >= wanted.min_probability)
    return query, p.captured_at, p.media_id


def _labelled(connection: Connection, wanted: SightingFilter, species: list[int] | None) -> Branch:
    """Media whose sighting is a label that names one of `species` (or any)."""
    query = select(Media.captured_at, Media.id).where(Media.label_id.is_not(None))
    if wanted.deployment is not None:
        query = query.where(Media.deployment_id == _deployment(wanted.deployment))
    if species is not None:
        named = select(ObservationRow.label_id).where(ObservationRow.species_id.in_(species))
        rows = connection.execute(
            select(func.count()).select_from(named.limit(FEW + 1).subquery())
        ).scalar_one()
        if rows <= FEW:
            media_ids = select(Label.media_id).where(Label.id.in_(named))
            query = query.where(Media.id.in_(media_ids), Media.label_id.in_(named))
        else:
            query = query.where(
                exists().where(
                    ObservationRow.label_id == Media.label_id,
                    ObservationRow.species_id.in_(species),
                )
            )
    return query, Media.captured_at, Media.id


def _sighting(row: Any) -> Sighting:
    observations = tuple(Observation(**o) for o in json.loads(row["observations"] or "[]"))
    alternatives = tuple((name, p) for name, p in json.loads(row["alternatives"] or "[]"))
    facts = {name: row[name] for name in COLUMNS}
    facts |= {
        "observations": observations,
        "alternatives": alternatives,
        "source": Source(row["source"]),
        "status": MediaStatus(row["status"]),
    }
    return Sighting(**facts)
