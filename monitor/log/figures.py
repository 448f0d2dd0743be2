"""Figures for `/metrics` and the health: small counts, each from an index or a small table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select
from sqlalchemy.orm import aliased

from monitor.log.connection import LogPart, count_of
from monitor.log.media_ids import skipped_between
from monitor.log.tables import (
    Delivery,
    Media,
    Observation,
    PoisonFile,
    Prediction,
    Species,
    State,
    TrainingRun,
)


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of the whole log.

    Attributes:
        media_taken_in: how many media were ever taken in.
        runs: state -> training runs.
        labelled: species -> media whose label that counts names it first.
        predicted: species -> media of which the live model says it (labelled ones too).
        deliveries: state -> alerts on their way.
        poison_files: files that ended the process.
    """

    media_taken_in: int
    runs: dict[str, int]
    labelled: dict[str, int]
    predicted: dict[str, int]
    deliveries: dict[str, int]
    poison_files: int


class FigureQueries(LogPart):
    """Counts that are asked for often."""

    def figures(self) -> Figures:
        """All of them, of one moment."""
        with self._read() as connection:
            last = connection.execute(select(func.max(Media.id))).scalar() or 0
            return Figures(
                last - skipped_between(connection, 0, last),
                _counted(connection, TrainingRun.state),
                _labelled(connection),
                _predicted(connection),
                _counted(connection, Delivery.state),
                count_of(connection, PoisonFile),
            )

    def states(self, keys: Sequence[str]) -> dict[str, tuple[dict[str, Any], str]]:
        """Facts remembered by `put_state`, and when; those that were never told are missing."""
        query = select(State.key, State.value, State.updated_at).where(State.key.in_(keys))
        with self._read() as connection:
            return {row.key: (row.value, row.updated_at) for row in connection.execute(query)}


def _counted(connection: Connection, column: Any) -> dict[str, int]:
    rows = connection.execute(select(column, func.count()).group_by(column))
    return {row[0]: row[1] for row in rows}


def _labelled(connection: Connection) -> dict[str, int]:
    each = (
        select(Observation.species_id, func.count().label("media"))
        .select_from(Media)
        .join(Observation, (Observation.label_id == Media.label_id) & (Observation.position == 0))
        .where(Media.label_id.is_not(None))
        .group_by(Observation.species_id)
    )
    return _by_name(connection, each)


def _predicted(connection: Connection) -> dict[str, int]:
    each = (
        select(Prediction.species_id, func.count().label("media"))
        .where(Prediction.current == 1)
        .group_by(Prediction.species_id)
    )
    return _by_name(connection, each)


def _by_name(connection: Connection, each: Select[int, int]) -> dict[str, int]:
    """Counts by species as counts by name, those of merged ones added to what they became."""
    counted, meant = each.subquery(), aliased(Species)
    query = (
        select(meant.name, func.sum(counted.c.media))
        .select_from(counted)
        .join(Species, Species.id == counted.c.species_id)
        .join(meant, meant.id == func.coalesce(Species.merged_into, Species.id))
        .group_by(meant.id)
    )
    return {row[0]: int(row[1]) for row in connection.execute(query)}
