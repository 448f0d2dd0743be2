"""Taking labels back: an undo is one more act, and nothing is deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, exists, func, insert, select, update
from sqlalchemy.orm import aliased

from monitor.log.connection import LogPart, new_act
from monitor.log.engine import LogError
from monitor.log.filters import aside
from monitor.log.tables import Act, Label, Media, Observation, Species

PAGE = 500
SHOWN_MEDIA = 50
"""So many media of one act are listed by `acts_of`; an event can have thousands."""


class NotTheirs(LogError):
    """Somebody would take back what another person said."""


@dataclass(frozen=True, slots=True)
class LabelAct:
    """One label act that still counts.

    Attributes:
        species: what was said, as species are called today.
        media_ids: of which it still counts, at most `SHOWN_MEDIA`.
        count: of how many media.
    """

    act_id: int
    at: str
    scope: str
    species: tuple[str, ...]
    media_ids: tuple[int, ...]
    count: int


class UndoQueries(LogPart):
    """What can be taken back, and taking it back."""

    def undo(
        self,
        media_id: int | None,
        by: str,
        how: str,
        now: datetime,
        *,
        act: int | None = None,
        of: str | None = None,
    ) -> tuple[int, ...]:
        """Withdraw the last label act that still counts (of one media, or of all).

        Args:
            act: this act instead.
            of: only what this person said.

        Returns:
            the media whose label changed.

        Raises:
            NotTheirs: `act` is another person's than `of`.
            LogError: there is nothing to undo.
        """
        withdrawal = aliased(Label)
        with self._write() as connection:
            undone = connection.execute(_counting(media_id, act, of).limit(1)).scalar()
            if undone is None:
                raise _nothing(connection, act, of)
            undoing = new_act(connection, "undo", by, how, now, details={"act": undone})
            labels = connection.execute(
                select(Label.id, Label.media_id)
                .outerjoin(withdrawal, withdrawal.withdraws_id == Label.id)
                .where(Label.act_id == undone, withdrawal.id.is_(None))
            ).all()
            for label in labels:
                connection.execute(
                    insert(Label).values(
                        act_id=undoing, media_id=label.media_id, withdraws_id=label.id
                    )
                )
            media_ids = tuple(label.media_id for label in labels)
            point_to_newest(connection, media_ids)
        return media_ids

    def acts_of(self, by: str, limit: int) -> list[LabelAct]:
        """The last label acts of a person that still count, the newest first: what `undo` will
        take back, in this order."""
        with self._read() as connection:
            ids = list(connection.execute(_counting(None, None, by).limit(limit)).scalars())
            rows = connection.execute(select(Act).where(Act.id.in_(ids)).order_by(Act.id.desc()))
            media, species = _counting_media(connection, ids), _species_said(connection, ids)
            return [
                LabelAct(
                    row.id,
                    row.at,
                    row.scope,
                    species[row.id],
                    tuple(media[row.id][:SHOWN_MEDIA]),
                    len(media[row.id]),
                )
                for row in rows
            ]


def _counts() -> tuple[Any, ...]:
    """Conditions on `Label`: it says something, and that was not withdrawn."""
    withdrawal = aliased(Label)
    says = aside(Label.withdraws_id).is_(None)  # true of nearly all: its index leads nowhere
    return says, ~exists().where(withdrawal.withdraws_id == Label.id)


def _counting(media_id: int | None, act: int | None, of: str | None) -> Select[int]:
    """Acts of which a label still counts, of those that fit, the newest first."""
    counts = exists().where(Label.act_id == Act.id, *_counts())
    if media_id is not None:
        counts = counts.where(Label.media_id == media_id)
    query = select(Act.id).where(Act.kind == "label", counts)
    if act is not None:
        query = query.where(Act.id == act)
    if of is not None:
        query = query.where(Act.by == of)
    return query.order_by(Act.id.desc())


def _counting_media(connection: Connection, acts: Sequence[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    query = select(Label.act_id, Label.media_id).where(Label.act_id.in_(acts), *_counts())
    for row in connection.execute(query.order_by(Label.id)):
        found.setdefault(row.act_id, []).append(row.media_id)
    return found


def _species_said(connection: Connection, acts: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """What each act says, read from its first label: an act says the same of all its media."""
    first = select(func.min(Label.id)).where(Label.act_id.in_(acts)).group_by(Label.act_id)
    meant = aliased(Species)
    query = (
        select(Label.act_id, meant.name)
        .join(Observation, Observation.label_id == Label.id)
        .join(Species, Species.id == Observation.species_id)
        .join(meant, meant.id == func.coalesce(Species.merged_into, Species.id))
        .where(Label.id.in_(first))
        .order_by(Label.id, Observation.position)
    )
    found: dict[int, tuple[str, ...]] = {}
    for row in connection.execute(query):
        found[row.act_id] = (*found.get(row.act_id, ()), row.name)
    return found


def _nothing(connection: Connection, act: int | None, of: str | None) -> LogError:
    """Why there is nothing to undo, in words."""
    if act is None:
        return LogError("there is no label to undo")
    said = connection.execute(select(Act.by).where(Act.id == act, Act.kind == "label")).first()
    if said is None:
        return LogError(f"there is no label act {act}")
    if of is not None and said.by != of:
        return NotTheirs(f"{said.by} said that; only {said.by} or an admin can take it back")
    return LogError("there is no label to undo: this act was taken back before")


def point_to_newest(connection: Connection, media_ids: Sequence[int]) -> None:
    """Let media point to their newest label that was not withdrawn, or to none."""
    newest = select(func.max(Label.id)).where(Label.media_id == Media.id, *_counts())
    values = {"label_id": newest.scalar_subquery()}
    for start in range(0, len(media_ids), PAGE):
        page = media_ids[start : start + PAGE]
        connection.execute(update(Media).where(Media.id.in_(page)).values(**values))
