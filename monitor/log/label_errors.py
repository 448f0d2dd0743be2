"""Labels that looked wrong to the last training, and what became of them since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.orm import aliased

from monitor.log.connection import LogPart
from monitor.log.species import resolve
from monitor.log.tables import Act, Label, Media, ModelVersion, Observation, Species, State
from monitor.log.tables import TrainingRun as Run

SUSPECTS_KEY = "suspects"
"""State: {"version": name, "media": [[media id, label, suggested, probability], ...]}, the most
suspicious first. A training writes it."""
AT_ONCE = 500
MOST_SUSPECTS = 2000
"""So many are looked at where somebody reviews them."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A label that looks wrong to a model that has not learnt from it.

    Attributes:
        label: what was said, as it is called today.
        suggested: what that model says, as it is called today.
        probability: how sure it is of that.
        version: the training that doubted.
    """

    media_id: int
    label: str
    by: str
    at: str
    suggested: str
    probability: float
    version: str


class SuspectQueries(LogPart):
    """Which doubts of the last training nobody has answered yet."""

    def suspects(self, limit: int) -> list[Suspect]:
        """Frames whose label is still the doubted one, the most suspicious first. A label that
        somebody gave after that training is no longer doubted, the same one again included."""
        found: list[Suspect] = []
        with self._read() as connection:
            kept = _kept(connection)
            if kept is None:
                return []
            version, until = kept["version"], _last_label_seen(connection, kept["version"])
            for part in _parts(kept["media"]):
                said = _labels(connection, [row[0] for row in part], until)
                found += _doubts(connection, part, said, version)
                if len(found) >= limit:
                    break
        return found[:limit]

    def suspects_version(self) -> str | None:
        """The training that looked for wrong labels last; None if none ever did."""
        with self._read() as connection:
            kept = _kept(connection)
            return str(kept["version"]) if kept is not None else None


def _kept(connection: Connection) -> dict[str, Any] | None:
    return connection.execute(select(State.value).where(State.key == SUSPECTS_KEY)).scalar()


def _parts(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), AT_ONCE):
        yield rows[start : start + AT_ONCE]


def _last_label_seen(connection: Connection, version: str) -> int:
    """The newest label that the training saw; without its run, the newest when it told."""
    run = (
        select(Run.last_label_id)
        .join(ModelVersion, ModelVersion.id == Run.model_version_id)
        .where(ModelVersion.name == version)
        .order_by(Run.id.desc())
        .limit(1)
    )
    seen = connection.execute(run).scalar()
    if seen is not None:
        return seen
    told = select(State.updated_at).where(State.key == SUSPECTS_KEY).scalar_subquery()
    query = (
        select(Label.id)
        .join(Act, Act.id == Label.act_id)
        .where(Act.at <= told)
        .order_by(Label.id.desc())
        .limit(1)
    )
    return connection.execute(query).scalar() or 0


def _labels(connection: Connection, media_ids: Sequence[int], until: int) -> dict[int, Any]:
    """Media -> (species id and name today, by whom, when); labels after `until` left out."""
    meant = aliased(Species)
    query = (
        select(Media.id, meant.id.label("species_id"), meant.name, Act.by, Act.at)
        .join(Label, Label.id == Media.label_id)
        .join(Act, Act.id == Label.act_id)
        .join(Observation, (Observation.label_id == Label.id) & (Observation.position == 0))
        .join(Species, Species.id == Observation.species_id)
        .join(meant, meant.id == func.coalesce(Species.merged_into, Species.id))
        .where(Media.id.in_(media_ids), Label.id <= until)
    )
    return {row.id: row for row in connection.execute(query)}


def _doubts(
    connection: Connection, rows: Sequence[Any], said: dict[int, Any], version: str
) -> list[Suspect]:
    names: dict[str, tuple[int | None, str]] = {}

    def today(name: str) -> tuple[int | None, str]:
        if name not in names:
            species_id = resolve(connection, name)
            query = select(Species.name).where(Species.id == species_id)
            names[name] = species_id, connection.execute(query).scalar() or name
        return names[name]

    found = []
    for media_id, label, suggested, probability in rows:
        label_now, suggested_now = today(label), today(suggested)
        now = said.get(media_id)
        if now is None or now.species_id != label_now[0] or suggested_now[0] == label_now[0]:
            continue
        found.append(
            Suspect(media_id, now.name, now.by, now.at, suggested_now[1], probability, version)
        )
    return found
