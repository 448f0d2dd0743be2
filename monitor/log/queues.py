"""What waits for a label: the candidates of the review queues, each found through an index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Select, func, select
from sqlalchemy.orm import aliased

from monitor.core.domain import MediaStatus
from monitor.log.connection import count_of
from monitor.log.filters import aside, percents
from monitor.log.label_errors import SuspectQueries
from monitor.log.species import _must_resolve, same_species
from monitor.log.tables import Deployment, Media, Prediction, Species

UNREADY = (MediaStatus.PENDING, MediaStatus.REJECTED)
"""Nothing to ask about yet, or never."""
Dated = tuple[str, int]
"""(captured_at, media id): what `newest` is decided by."""


IDS_AT_ONCE = 500
Alternatives = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class QueueCandidate:
    """An unlabelled media that could be asked about.

    Attributes:
        species: what is predicted, as it is called today; None if nothing is.
        alternatives: (species, probability) of the prediction, best first; only from `candidates`
            and `newest_candidates`: to read them of tens of thousands takes long.
    """

    media_id: int
    event_id: int | None
    deployment_id: int
    species: str | None
    probability: float | None
    sha256: str = ""
    alternatives: Alternatives = ()


class QueueQueries(SuspectQueries):
    """Unlabelled media, for those who look at them."""

    def queue_candidates(
        self, limit: int, species: str | None = None, deployment: str | None = None
    ) -> list[QueueCandidate]:
        """Unlabelled media, the least sure predictions first, then those never predicted.

        Where the limit falls among some that are equally sure by whole percents, those of the
        lowest ids are found.

        Args:
            species: only what is predicted so. Of one species or at one deployment the newest
                `limit` are found: to find the least sure of hundreds of thousands takes long.

        Raises:
            UnknownSpecies: no species answers to that name.
        """
        with self._read() as connection:
            if species is None and deployment is None:
                found = connection.execute(
                    _predicted()
                    .order_by(percents(Prediction.probability), Prediction.media_id)
                    .limit(limit)
                ).all()
            else:
                found = _newest_predicted(connection, species, deployment, limit)
            rows = [_candidate(row) for row in found]
            rows.sort(key=lambda row: row.probability or 0.0)
            if len(rows) < limit and species is None:
                rows += [
                    QueueCandidate(row.id, row.event_id, row.deployment_id, None, None, row.sha256)
                    for row in connection.execute(_never_predicted(deployment, limit))
                ]
        return rows[:limit]

    def newest_candidates(
        self, limit: int, species: str | None = None, deployment: str | None = None
    ) -> list[QueueCandidate]:
        """Unlabelled media that went through the classifier, as `newest_unlabelled` has them."""
        return self.candidates(self.newest_unlabelled(limit, species, deployment))

    def candidates(self, media_ids: Sequence[int]) -> list[QueueCandidate]:
        """These media with all that is predicted of them, in this order; unknown ones left out."""
        found: dict[int, QueueCandidate] = {}
        with self._read() as connection:
            for start in range(0, len(media_ids), IDS_AT_ONCE):
                part = media_ids[start : start + IDS_AT_ONCE]
                for row in connection.execute(_perhaps_predicted().where(Media.id.in_(part))):
                    said = tuple((name, p) for name, p in row.alternatives or ())
                    found[row.id] = replace(_candidate(row), alternatives=said)
        return [found[media_id] for media_id in media_ids if media_id in found]

    def labelled_in_events(self, event_ids: Sequence[int]) -> list[tuple[int, str]]:
        """(event, SHA-256) of every labelled media of these events."""
        found: list[tuple[int, str]] = []
        query = select(Media.event_id, Media.sha256).where(aside(Media.label_id).is_not(None))
        with self._read() as connection:
            for start in range(0, len(event_ids), IDS_AT_ONCE):
                part = event_ids[start : start + IDS_AT_ONCE]
                rows = connection.execute(query.where(Media.event_id.in_(part)))
                found += [(row.event_id, row.sha256) for row in rows]
        return found

    def newest_labelled(self, limit: int) -> list[str]:
        """SHA-256 of the labelled media that were taken last."""
        query = (
            select(Media.sha256)
            .where(Media.label_id.is_not(None))
            .order_by(Media.captured_at.desc())
            .limit(limit)
        )
        with self._read() as connection:
            return list(connection.execute(query).scalars())

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


_MEDIA_COLUMNS = (
    Media.id,
    Media.event_id,
    Media.deployment_id,
    Media.captured_at,
    Media.sha256,
)


def _predicted() -> Select[*tuple[Any, ...]]:
    """Unlabelled media with a prediction, and the species it means today."""
    shown = aliased(Species)
    return (
        select(*_MEDIA_COLUMNS, shown.name, Prediction.probability)
        .select_from(Prediction)
        .join(Media, Media.id == Prediction.media_id)
        .join(Species, Species.id == Prediction.species_id)
        .join(shown, shown.id == func.coalesce(Species.merged_into, Species.id))
        .where(Prediction.current == 1, Media.label_id.is_(None))
    )


def _perhaps_predicted() -> Select[*tuple[Any, ...]]:
    """Media, each with its prediction if there is one."""
    shown = aliased(Species)
    return (
        select(*_MEDIA_COLUMNS, shown.name, Prediction.probability, Prediction.alternatives)
        .outerjoin(Prediction, (Prediction.media_id == Media.id) & (Prediction.current == 1))
        .outerjoin(Species, Species.id == Prediction.species_id)
        .outerjoin(shown, shown.id == func.coalesce(Species.merged_into, Species.id))
    )


def _candidate(row: Any) -> QueueCandidate:
    place = row.id, row.event_id, row.deployment_id
    return QueueCandidate(*place, row.name, row.probability, row.sha256)


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
        select(Media.id, Media.event_id, Media.deployment_id, Media.sha256)
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
