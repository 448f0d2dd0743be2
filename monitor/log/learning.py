"""What training, the review queue and `status` read from the log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.orm import aliased

from monitor.core.domain import MediaStatus, TimeSource
from monitor.log.connection import LogPart, count_of, put_state
from monitor.log.queues import QueueQueries
from monitor.log.tables import (
    Act,
    Deployment,
    File,
    Label,
    Media,
    ModelVersion,
    Observation,
    Prediction,
    Species,
    Split,
    State,
)

IDENTITY = "identity"
SPREAD, SPREAD_OVER = 7919, 1_000_003
"""Primes: ids times the one modulo the other are in an order that looks like none."""


@dataclass(frozen=True, slots=True)
class LabelledMedia:
    """One media a person named: what the classifier learns from.

    `species` is the first observation's; frames with several species are marked by `several`.
    `timed` is False where only the file's own time is known, so that its event means little.
    """

    media_id: int
    sha256: str
    species: str
    several: bool
    scope: str
    deployment_id: int
    deployment: str
    event_id: int
    timed: bool = True


@dataclass(frozen=True, slots=True)
class UnnamedMedia:
    """One media that nobody labelled; fields as of `LabelledMedia`."""

    sha256: str
    deployment_id: int
    event_id: int
    timed: bool


@dataclass(frozen=True, slots=True)
class SplitRow:
    """The side of one labelled media: 'train' or 'heldout', decided by its unit."""

    media_id: int
    side: str
    unit: str  # 'deployment' or 'event'
    unit_key: int


@dataclass(frozen=True, slots=True)
class LabelCount:
    """The labels of one species that a training can use: media that show it alone.

    Attributes:
        labels: all of them.
        trained: on the training side.
        held_out: on the other side; those on neither came after the last training.
    """

    species: str
    labels: int
    trained: int
    held_out: int


class LearningQueries(QueueQueries):
    """Labelled media and their sides."""

    def labelled(self) -> list[LabelledMedia]:
        """Every media with a label that counts, oldest label first; rejected media left out."""
        merged = Species.__table__.alias()
        other = aliased(Observation)
        several = (
            select(func.count())
            .where(other.label_id == Media.label_id, other.position > 0)
            .scalar_subquery()
        )
        query = (
            select(
                Media.id,
                Media.sha256,
                merged.c.name,
                several.label("several"),
                Act.scope,
                Media.deployment_id,
                Deployment.name.label("deployment"),
                Media.event_id,
                (Media.captured_at_source != TimeSource.MTIME).label("timed"),
            )
            .join(Label, Label.id == Media.label_id)
            .join(Act, Act.id == Label.act_id)
            .join(Deployment, Deployment.id == Media.deployment_id)
            .join(
                Observation,
                (Observation.label_id == Media.label_id) & (Observation.position == 0),
            )
            .join(Species, Species.id == Observation.species_id)
            .join(merged, merged.c.id == func.coalesce(Species.merged_into, Species.id))
            .where(Media.label_id.is_not(None), Media.status != MediaStatus.REJECTED)
            .order_by(Media.label_id)
        )
        with self._read() as connection:
            return [
                LabelledMedia(
                    row.id,
                    row.sha256,
                    row.name,
                    row.several > 0,
                    row.scope,
                    row.deployment_id,
                    row.deployment,
                    row.event_id,
                    bool(row.timed),
                )
                for row in connection.execute(query)
            ]

    def labels_by_side(self) -> list[LabelCount]:
        """For each species, by name, how many labels stand where. `unknown` is in it, too."""
        meant = Species.__table__.alias()
        other = aliased(Observation)
        query = (
            select(
                meant.c.name,
                func.count(),
                func.count().filter(Split.side == "train"),
                func.count().filter(Split.side == "heldout"),
            )
            .select_from(Media)
            .join(
                Observation,
                (Observation.label_id == Media.label_id) & (Observation.position == 0),
            )
            .join(Species, Species.id == Observation.species_id)
            .join(meant, meant.c.id == func.coalesce(Species.merged_into, Species.id))
            .outerjoin(other, (other.label_id == Media.label_id) & (other.position == 1))
            .outerjoin(Split, Split.media_id == Media.id)
            .where(Media.label_id.is_not(None), Media.status != MediaStatus.REJECTED)
            .where(other.label_id.is_(None))
            .group_by(meant.c.id)
            .order_by(meant.c.name)
        )
        with self._read() as connection:
            return [LabelCount(*row) for row in connection.execute(query)]

    def unnamed(self, limit: int) -> list[UnnamedMedia]:
        """Media without a label, from all over the log, the same ones for the same log."""
        timed = (Media.captured_at_source != TimeSource.MTIME).label("timed")
        query = (
            select(Media.sha256, Media.deployment_id, Media.event_id, timed)
            .where(Media.label_id.is_(None), Media.status == MediaStatus.CLASSIFIED)
            .order_by(Media.id * SPREAD % SPREAD_OVER, Media.id)
            .limit(limit)
        )
        with self._read() as connection:
            return [
                UnnamedMedia(row.sha256, row.deployment_id, row.event_id or 0, bool(row.timed))
                for row in connection.execute(query)
            ]

    def split(self) -> list[SplitRow]:
        """The sides chosen so far."""
        with self._read() as connection:
            return [
                SplitRow(row.media_id, row.side, row.unit, row.unit_key)
                for row in connection.execute(select(Split))
            ]

    def add_split(self, rows: Iterable[SplitRow]) -> None:
        """Remember the sides of media that have none yet. A side is never changed."""
        values = [
            {"media_id": r.media_id, "side": r.side, "unit": r.unit, "unit_key": r.unit_key}
            for r in rows
        ]
        if values:
            with self._write() as connection:
                connection.execute(insert(Split), values)


class StatusQueries(LogPart):
    """Counts and small facts for `status`."""

    def counts(self) -> dict[str, int]:
        """How many media stand where; every figure comes from an index."""
        by_status = select(Media.status, func.count()).group_by(Media.status)
        with self._read() as connection:
            counts = {status.value: 0 for status in MediaStatus}
            counts |= {row[0]: row[1] for row in connection.execute(by_status)}
            counts["media"] = sum(counts.values())
            counts["waiting_for_their_file"] = count_of(
                connection, Media, Media.status == "pending", Media.absent_since.is_not(None)
            )
            counts["labelled"] = count_of(connection, Media, Media.label_id.is_not(None))
            counts["unreadable_files"] = count_of(connection, File, File.problem.is_not(None))
            live = select(ModelVersion.id).where(ModelVersion.state == "live").scalar_subquery()
            counts["predicted_by_live"] = count_of(
                connection, Prediction, Prediction.model_version_id == live, Prediction.current == 1
            )
        return counts

    def oldest_pending(self) -> str | None:
        """When the media that waits longest was taken in."""
        query = select(Media.taken_in_at).where(
            Media.id
            == select(func.min(Media.id))
            .where(Media.status == "pending", Media.absent_since.is_(None))
            .scalar_subquery()
        )
        with self._read() as connection:
            return connection.execute(query).scalar()

    def unreadable(self, limit: int) -> list[tuple[str, str]]:
        """(path, problem) of files that could not be read so far."""
        query = select(File.path, File.problem).where(File.problem.is_not(None)).limit(limit)
        with self._read() as connection:
            return [(row.path, row.problem or "") for row in connection.execute(query)]

    def identity(self, now: datetime) -> str:
        """The mark of this station, made once: its backups and journals are told from others' by
        it, and a log that is restored keeps it."""
        if (known := self.state(IDENTITY)) is None:
            with self._write() as connection:
                known = _state(connection, IDENTITY) or {"id": uuid4().hex}
                put_state(connection, IDENTITY, known, now)
        return str(known["id"])

    def put_state(self, key: str, value: dict[str, Any], now: datetime) -> None:
        """Remember a small fact for other processes to see."""
        with self._write() as connection:
            put_state(connection, key, value, now)

    def change_state(self, key: str, changes: dict[str, Any], now: datetime) -> None:
        """Remember some facts more under `key`, in the place of those of the same names."""
        with self._write() as connection:
            put_state(connection, key, (_state(connection, key) or {}) | changes, now)

    def state(self, key: str) -> dict[str, Any] | None:
        """A fact remembered by `put_state`."""
        with self._read() as connection:
            return _state(connection, key)


def _state(connection: Connection, key: str) -> dict[str, Any] | None:
    return connection.execute(select(State.value).where(State.key == key)).scalar()
