"""What waits for a label: the candidates of the review queues, each found through an index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select
from sqlalchemy.orm import aliased

from monitor.domain import MediaStatus
from monitor.log.connection import LogPart, count_of
from monitor.log.species import _must_resolve, same_species
from monitor.log.tables import Deployment, Media, Prediction, Species

UNREADY = (MediaStatus.PENDING, MediaStatus.REJECTED)
"""Nothing to ask about yet, or never."""
Dated = tuple[str, int]
"""(captured_at, media id): what `newest` is decided by."""


@dataclass(frozen=True, slots=True)
class QueueCandidate:
    """An unlabelled media that could be asked about."""

    media_id: int
    event_id: int | None
    deployment_id: int
    species: str | None
    probability: float | None


class QueueQueries(LogPart):
    """Unlabelled media, for those who look at them."""

    def queue_candidates(
        self, limit: int, species: str | None = None, deployment: str | None = None
    ) -> list[QueueCandidate]:
        """Unlabelled media, the least sure predictions first, then those never predicted.

        Args:
            species: only what is predicted so. Of one species or at one deployment the newest
                `limit` are found: to find the least sure of hundreds of thousands takes long.

        Raises:
            UnknownSpecies: no species answers to that name.
        """
        with self._read() as connection:
            if species is None and deployment is None:
                found = connection.execute(
                    _predicted().order_by(Prediction.probability).limit(limit)
                ).all()
            else:
                found = _newest_predicted(connection, species, deployment, limit)
            rows = [
                QueueCandidate(row.id, row.event_id, row.deployment_id, row.name, row.probability)
                for row in found
            ]
            rows.sort(key=lambda row: row.probability or 0.0)
            if len(rows) < limit and species is None:
                rows += [
                    QueueCandidate(row.id, row.event_id, row.deployment_id, None, None)
                    for row in connection.execute(_never_predicted(deployment, limit))
                ]
        return rows[:limit]

    def newest_unlabelled(
        self, limit: int, species: str | None = None, deployment: str | None = None
    ) -> list[int]:
        """Unlabelled media that went through the classifier, the newest capture first.

        Args:
            species: only what is predicted so.

        Raises:
            UnknownSpecies: no species answers to that name.
        """
        with self._read() as connection:
            if species is not None:
                found = _newest_predicted(connection, species, deployment, limit)
                return [row.id for row in found]
            query = select(Media.id).where(Media.label_id.is_(None), Media.status.not_in(UNREADY))
            if deployment is not None:
                query = query.where(Media.deployment_id == _deployment(deployment))
            query = query.order_by(Media.captured_at.desc(), Media.id.desc()).limit(limit)
            return list(connection.execute(query).scalars())

    def waiting(self) -> int:
        """How many classified media nobody labelled; every figure comes from an index."""
        is_labelled = Media.label_id.is_not(None)
        with self._read() as connection:
            classified = count_of(connection, Media, Media.status == MediaStatus.CLASSIFIED)
            labelled = count_of(connection, Media, is_labelled)
            unready = count_of(connection, Media, is_labelled, Media.status.in_(UNREADY))
        return classified - (labelled - unready)


def _predicted() -> Select[*tuple[Any, ...]]:
    """Unlabelled media with a prediction, and the species it means today."""
    shown = aliased(Species)
    columns = (Media.id, Media.event_id, Media.deployment_id, Media.captured_at)
    return (
        select(*columns, shown.name, Prediction.probability)
        .select_from(Prediction)
        .join(Media, Media.id == Prediction.media_id)
        .join(Species, Species.id == Prediction.species_id)
        .join(shown, shown.id == func.coalesce(Species.merged_into, Species.id))
        .where(Prediction.current == 1, Media.label_id.is_(None))
    )


def _newest_predicted(
    connection: Connection, species: str | None, deployment: str | None, limit: int
) -> Sequence[Any]:
    """Rows of `_predicted` of this species (and those merged into it), the newest first."""
    query = _predicted()
    if deployment is not None:
        query = query.where(Prediction.deployment_id == _deployment(deployment))
    query = query.order_by(Prediction.captured_at.desc(), Prediction.media_id.desc()).limit(limit)
    if species is None:
        return connection.execute(query).all()
    rows: list[Any] = []
    for one in same_species(connection, _must_resolve(connection, species)):
        rows += connection.execute(query.where(Prediction.species_id == one))
    newest: Callable[[Any], Dated] = lambda row: (row.captured_at, row.id)  # noqa: E731
    return sorted(rows, key=newest, reverse=True)[:limit]


def _never_predicted(deployment: str | None, limit: int) -> Select[*tuple[Any, ...]]:
    query = (
        select(Media.id, Media.event_id, Media.deployment_id)
        .outerjoin(Prediction, (Prediction.media_id == Media.id) & (Prediction.current == 1))
        .where(Media.status.not_in(UNREADY), Media.label_id.is_(None), Prediction.id.is_(None))
        .order_by(Media.captured_at.desc())
        .limit(limit)
    )
    if deployment is not None:
        query = query.where(Media.deployment_id == _deployment(deployment))
    return query


def _deployment(name: str) -> Any:
    return select(Deployment.id).where(Deployment.name == name).scalar_subquery()
