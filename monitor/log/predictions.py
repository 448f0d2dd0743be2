"""Predictions in the log: recording, re-scoring, keeping what changed as history."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, Select, and_, delete, exists, insert, select, update
from sqlalchemy.orm import aliased

from monitor.domain import MediaStatus, Prediction, iso_utc
from monitor.log.connection import LogPart
from monitor.log.engine import LogError
from monitor.log.species import species_id_for_class
from monitor.log.tables import Media, ModelVersion
from monitor.log.tables import Prediction as Row


class PredictionQueries(LogPart):
    """What the re-scoring of past media needs of the log."""

    def to_rescore(self, version: str, limit: int, after: int) -> list[tuple[int, str]]:
        """Unlabelled classified media whose sighting is not from `version`, by falling id.

        Args:
            after: the last media id of the page before; 0 to start at the newest.

        Returns:
            (media id, SHA-256).
        """
        shown = aliased(Row)
        query = (
            select(Media.id, Media.sha256)
            .where(
                Media.status == MediaStatus.CLASSIFIED,
                Media.label_id.is_(None),
                ~exists().where(
                    and_(
                        shown.media_id == Media.id,
                        shown.current.is_(True),
                        shown.model_version_id == _version_id(version).scalar_subquery(),
                    )
                ),
            )
            .order_by(Media.id.desc())
            .limit(limit)
        )
        if after:
            query = query.where(Media.id < after)
        with self._read() as connection:
            return [(row.id, row.sha256) for row in connection.execute(query)]

    def rescore(self, version: str, predictions: Sequence[Prediction], now: datetime) -> None:
        """Write what `version` says of past media; what it changes stays as history."""
        with self._write() as connection:
            record_predictions(connection, version, predictions, now)

    def drop_unchanged_history(self, limit: int) -> int:
        """Forget superseded predictions that said the same species as the current one.

        Returns:
            how many rows went (at most `limit`).
        """
        old, new = aliased(Row), aliased(Row)
        same = (
            select(old.id)
            .join(new, and_(new.media_id == old.media_id, new.current.is_(True)))
            .where(old.current.is_(False), old.species_id == new.species_id)
            .limit(limit)
        )
        with self._read() as connection:  # the search is long, and must not keep writers waiting
            ids = list(connection.execute(same).scalars())
        if ids:
            with self._write() as connection:
                connection.execute(delete(Row).where(Row.id.in_(ids), Row.current.is_(False)))
        return len(ids)


def record_predictions(
    connection: Connection, version: str, predictions: Sequence[Prediction], now: datetime
) -> None:
    """Make these the current predictions of their media (one row for each media and version)."""
    if not predictions:
        return
    version_id = connection.execute(_version_id(version)).scalar()
    if version_id is None:
        raise LogError(f"there is no model version '{version}'; see: trapwatch models list")
    species = {
        name: species_id_for_class(connection, name) for name in {p.species for p in predictions}
    }
    ids = [p.media_id for p in predictions]
    connection.execute(
        update(Row).where(Row.media_id.in_(ids), Row.current.is_(True)).values(current=False)
    )
    connection.execute(delete(Row).where(Row.media_id.in_(ids), Row.model_version_id == version_id))
    columns = (Media.id, Media.deployment_id, Media.captured_at)
    media = {row.id: row for row in connection.execute(select(*columns).where(Media.id.in_(ids)))}
    rows = [
        {
            "media_id": p.media_id,
            "model_version_id": version_id,
            "species_id": species[p.species],
            "probability": p.probability,
            "alternatives": [[name, round(value, 5)] for name, value in p.alternatives],
            "at": iso_utc(now),
            "deployment_id": media[p.media_id].deployment_id,
            "captured_at": media[p.media_id].captured_at,
            "current": True,
        }
        for p in predictions
    ]
    connection.execute(insert(Row), rows)


def _version_id(name: str) -> Select[int]:
    return select(ModelVersion.id).where(ModelVersion.name == name)
