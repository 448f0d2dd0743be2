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
FEW = 20_000
"""Up to so many rows are looked up one by one; above, a walk along time finds the newest sooner."""
PAGE = 500


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
        with self._read() as connection:
            ids = _matching_ids(connection, wanted)
        for start in range(0, len(ids), PAGE):
            yield from self.sightings_of(ids[start : start + PAGE])

    def sightings_of(self, media_ids: Sequence[int]) -> list[Sighting]:
        """The sightings of given media, in the order given."""
        with self._read() as connection:
            query = select(VIEW).where(VIEW.c.media_id.in_(media_ids))
            rows = {row["media_id"]: row for row in connection.execute(query).mappings()}
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
        for start in range(0, len(ids), PAGE):
            for sighting in self.sightings_of(ids[start : start + PAGE]):
                frames.setdefault(sighting.event_id or 0, []).append(sighting)
        return frames


def _matching_ids(connection: Connection, wanted: SightingFilter) -> list[int]:
    species = None
    if wanted.species is not None:
        species = same_species(connection, _must_resolve(connection, wanted.species))
    if species is None and wanted.min_probability is None:
        return _ids(connection, [_plain(wanted)], wanted.limit)
    branches = [_predicted(wanted, species)]
    if not wanted.unreviewed:
        branches.append(_labelled(connection, wanted, species))
    return _ids(connection, branches, wanted.limit)


def _ids(
    connection: Connection, branches: Sequence[Select[*tuple[Any, ...]]], limit: int | None
) -> list[int]:
    found: list[tuple[str, int]] = []
    for branch in branches:
        ordered = branch.limit(limit) if limit is not None else branch
        found += [(at, media_id) for at, media_id in connection.execute(ordered)]
    found.sort(reverse=True)
    return [media_id for _, media_id in found[:limit]]


def _narrow(
    query: Select[*tuple[Any, ...]], wanted: SightingFilter, at: Any
) -> Select[*tuple[Any, ...]]:
    if wanted.since is not None:
        query = query.where(at >= wanted.since)
    if wanted.until is not None:
        query = query.where(at < wanted.until)
    return query


def _of_deployment(name: str) -> Any:
    return (
        Media.deployment_id
        == select(Deployment.id).where(Deployment.name == name).scalar_subquery()
    )


def _plain(wanted: SightingFilter) -> Select[*tuple[Any, ...]]:
    """Any species: walk along time (of one deployment, if asked)."""
    query = select(Media.captured_at, Media.id).order_by(Media.captured_at.desc(), Media.id.desc())
    if wanted.deployment is not None:
        query = query.where(_of_deployment(wanted.deployment))
    if wanted.unreviewed:
        query = query.where(Media.label_id.is_(None), Media.status != MediaStatus.REJECTED)
    return _narrow(query, wanted, Media.captured_at)


def _predicted(wanted: SightingFilter, species: list[int] | None) -> Select[*tuple[Any, ...]]:
    """Media whose sighting is a prediction."""
    p = aliased(Prediction)
    query = (
        select(p.captured_at, p.media_id)
        .where(p.current == 1, exists().where(Media.id == p.media_id, Media.label_id.is_(None)))
        .order_by(p.captured_at.desc(), p.media_id.desc())
    )
    if wanted.deployment is not None:  # walk along the deployment's media instead
        query = (
            select(Media.captured_at, Media.id)
            .join(p, (p.media_id == Media.id) & (p.current == 1))
            .where(Media.label_id.is_(None), _of_deployment(wanted.deployment))
            .order_by(Media.captured_at.desc(), Media.id.desc())
        )
    if species is not None:
        query = query.where(p.species_id.in_(species))
    if wanted.min_probability is not None:
        query = query.where(p.probability >= wanted.min_probability)
    at = Media.captured_at if wanted.deployment is not None else p.captured_at
    return _narrow(query, wanted, at)


def _labelled(
    connection: Connection, wanted: SightingFilter, species: list[int] | None
) -> Select[*tuple[Any, ...]]:
    """Media whose sighting is a label that names one of `species` (or any)."""
    query = (
        select(Media.captured_at, Media.id)
        .where(Media.label_id.is_not(None))
        .order_by(Media.captured_at.desc(), Media.id.desc())
    )
    if wanted.deployment is not None:
        query = query.where(_of_deployment(wanted.deployment))
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
    return _narrow(query, wanted, Media.captured_at)


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
