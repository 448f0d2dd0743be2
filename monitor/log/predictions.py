"""Predictions in the log: recording, re-scoring, keeping what changed as history."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, Select, and_, delete, exists, or_, select
from sqlalchemy.orm import aliased

from monitor.core.domain import MediaStatus, Prediction, iso_utc
from monitor.log.batch_predictions import (
    Said,
    as_page,
    known_ids,
    labelled_among,
    species_ids_of,
    take_over,
)
from monitor.log.connection import LogPart, count_of
from monitor.log.engine import LogError
from monitor.log.filters import ONE, aside
from monitor.log.tables import Media, ModelVersion
from monitor.log.tables import Prediction as Row


class PastMedia(NamedTuple):
    """A media of which another version spoke, or none. `says`: the species it is shown as."""

    media_id: int
    sha256: str
    says: int | None


class PredictionQueries(LogPart):
    """What the re-scoring of past media needs of the log."""

    def to_rescore(self, version: str, limit: int, after: int) -> list[PastMedia]:
        """Unlabelled classified media whose sighting is not from `version`, by falling id.

        Args:
            after: the last media id of the page before; 0 to start at the newest.
        """
        query = (
            select(Media.id, Media.sha256, Row.species_id)
            .outerjoin(Row, and_(Row.media_id == Media.id, Row.current == ONE))
            .where(
                aside(Media.status) == MediaStatus.CLASSIFIED,
                aside(Media.label_id).is_(None),
                or_(
                    Row.model_version_id.is_(None),
                    Row.model_version_id != _version_id(version).scalar_subquery(),
                ),
            )
            .order_by(Media.id.desc())
            .limit(limit)
        )
        if after:
            query = query.where(Media.id < after)
        with self._read() as connection:
            return [PastMedia(*row) for row in connection.execute(query)]

    def rescore(
        self, version: str, said: Said, before: Sequence[int | None], now: datetime
    ) -> None:
        """Write what `version` says of past media; what it changes stays as history.

        A media that was labelled, or shown as another species, since it was found is left as it is.

        Args:
            before: what each of them is shown as (`PastMedia.says`).
        """
        with self._read() as connection:
            ids = known_ids(connection, said.names)
        stays = [b is not None and b == ids[s] for b, s in zip(before, said.species, strict=True)]
        same, other = _parted(said, stays, ())
        with self._write() as connection:
            if labelled := labelled_among(connection, said.media_ids):
                same, other = _parted(said, stays, labelled)
            _take_over(connection, version, said, same, other, now)

    def not_rescored(self, version: str) -> int:
        """How many media `to_rescore` would find; reads an index of its predictions and what is
        labelled, not all media."""
        number = _version_id(version).scalar_subquery()
        by_it = and_(Row.media_id == Media.id, Row.current == ONE, Row.model_version_id == number)
        classified = aside(Media.status) == MediaStatus.CLASSIFIED
        with self._read() as connection:
            all_media = count_of(connection, Media, Media.status == MediaStatus.CLASSIFIED)
            spoken = count_of(connection, Row, Row.model_version_id == number, Row.current == ONE)
            labelled = count_of(
                connection, Media, Media.label_id.is_not(None), classified, ~exists().where(by_it)
            )
        return max(0, all_media - spoken - labelled)

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
    if predictions:
        said = Said.of(predictions)
        words = as_page(said.words())
        _take_over(connection, version, said, words, words, now)


def _parted(said: Said, stays: Sequence[bool], but: Collection[int]) -> tuple[str, str]:
    """Pages of the words by which the species stays, and of the others; without some media."""
    parts: tuple[list[str], list[str]] = ([], [])
    for media, stay, word in zip(said.media_ids, stays, said.words(), strict=True):
        if media not in but:
            parts[not stay].append(word)
    return as_page(parts[0]), as_page(parts[1])


def _take_over(
    connection: Connection, version: str, said: Said, same: str, other: str, now: datetime
) -> None:
    version_id = connection.execute(_version_id(version)).scalar()
    if version_id is None:
        raise LogError(f"there is no model version '{version}'; see: trapwatch models list")
    species_ids = species_ids_of(connection, said.names)
    take_over(connection, version_id, species_ids, iso_utc(now), same, other)


def _version_id(name: str) -> Select[int]:
    return select(ModelVersion.id).where(ModelVersion.name == name)
