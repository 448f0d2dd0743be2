"""Acts of people, whole and by content: what a journal beside the log keeps of each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, text
from sqlalchemy.orm import aliased

from monitor.log.connection import LogPart
from monitor.log.media_again import FACTS, Facts, facts_of
from monitor.log.species import fold
from monitor.log.tables import Act, Deployment, Label, Media, Observation, Species

REPLAYED = "journal"
"""In the details of an act that was written again under another id: its key."""
OF_MEDIA = ("flag", "unflag", "reveal")
"""Kinds of act whose details name a media."""
HEADER = ("kind", "at", "by", "how", "scope", "request")

Said = tuple[str, int | None, str | None, str | None, str | None]
"""One observation: species, count, sex, life stage, behaviour."""


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """What an act said of one media, which is named by its content.

    Attributes:
        withdraws: the key of the act whose label of this media counts no longer.
        media: what else is known of the media; None in lines of older releases.
    """

    id: int
    sha256: str
    observations: tuple[Said, ...] = ()
    withdraws: str | None = None
    media: Facts | None = None


@dataclass(frozen=True, slots=True)
class ActRecord:
    """One act with all that it said; `key` names it whatever its id is in another log."""

    id: int
    key: str
    kind: str
    at: str
    by: str
    how: str
    scope: str | None
    request: str | None
    details: Mapping[str, Any] | None
    labels: tuple[LabelRecord, ...]


class ActQueries(LogPart):
    """Reading acts for the journal, and comparing them with it."""

    def acts_after(self, act_id: int, limit: int) -> list[ActRecord]:
        """The acts with a larger id, in order; those not that were written again from a journal."""
        query = select(Act).where(Act.id > act_id).order_by(Act.id).limit(limit)
        with self._read() as connection:
            acts = connection.execute(query).all()
            found = _records(connection, [act for act in acts if not _is_replayed(act)])
            while acts and not found:  # a page of nothing but acts from the journal
                acts = connection.execute(query.where(Act.id > acts[-1].id)).all()
                found = _records(connection, [act for act in acts if not _is_replayed(act)])
            return found

    def act_records(self, act_ids: Sequence[int]) -> dict[int, ActRecord]:
        """These acts, by id; those that are not there are left out."""
        with self._read() as connection:
            acts = connection.execute(select(Act).where(Act.id.in_(act_ids)).order_by(Act.id))
            return {record.id: record for record in _records(connection, acts.all())}

    def act_key(self, act_id: int) -> str | None:
        """The key of an act; None if there is none of that id."""
        with self._read() as connection:
            act = connection.execute(select(Act).where(Act.id == act_id)).first()
            return key_of(act) if act is not None else None

    def newest_ids(self) -> tuple[int, int]:
        """The largest id of an act and of a label; 0 where there is none."""
        with self._read() as connection:
            acts = connection.execute(select(func.max(Act.id))).scalar() or 0
            return acts, connection.execute(select(func.max(Label.id))).scalar() or 0

    def reserve_ids(self, act_id: int, label_id: int) -> None:
        """Give new acts and labels only larger ids than these, which belong to acts of the journal
        that are still to be written again."""
        with self._write() as connection:
            for table, number in (("act", act_id), ("label", label_id)):
                values = {"table": table, "number": number}
                known = text("SELECT seq FROM sqlite_sequence WHERE name = :table")
                if connection.execute(known, values).first() is None:
                    add = "INSERT INTO sqlite_sequence (name, seq) VALUES (:table, :number)"
                    connection.execute(text(add), values)
                raise_it = "UPDATE sqlite_sequence SET seq = max(seq, :number) WHERE name = :table"
                connection.execute(text(raise_it), values)

    def meanings(self) -> dict[str, int]:
        """Every name of a species, folded -> the species that it means today."""
        with self._read() as connection:
            rows = connection.exec_driver_sql("SELECT folded, species_id FROM species_name")
            return {row.folded: row.species_id for row in rows}


def key_of(act: Any) -> str:
    """The key of a row of `act`."""
    if _is_replayed(act):
        return str(act.details[REPLAYED])
    header = [act.id, *(getattr(act, name) for name in HEADER)]
    return hashlib.sha256(json.dumps(header).encode()).hexdigest()[:16]


def same_words(written: ActRecord, kept: ActRecord, meanings: Mapping[str, int]) -> bool:
    """True if what is in the log is what the journal kept, a species being the same under any of
    its names. Labels whose media the log does not know are no difference."""

    def said(record: ActRecord) -> dict[str, Any]:
        return {
            label.sha256: (
                [(meanings.get(fold(o[0]), fold(o[0])), *o[1:]) for o in label.observations],
                label.withdraws,
            )
            for label in record.labels
        }

    return written.key == kept.key and said(written).items() <= said(kept).items()


def is_one_act(one: Any, other: Any) -> bool:
    """True if two acts of one id can only be the same act, one of them with a wrong letter."""
    pairs = [(getattr(one, name), getattr(other, name)) for name in HEADER]
    different = [(a or "", b or "") for a, b in pairs if a != b]
    if not different:
        return True
    (a, b), *more = different
    return not more and len(a) == len(b) and sum(map(str.__ne__, a, b)) == 1


def _is_replayed(act: Any) -> bool:
    return isinstance(act.details, dict) and REPLAYED in act.details


def _records(connection: Connection, acts: Sequence[Any]) -> list[ActRecord]:
    if not acts:
        return []
    ids = [act.id for act in acts]
    said, labels = _observations(connection, ids), _labels(connection, ids)
    shas = _media_of_details(connection, acts)
    names = _NamesOfThen(connection, ids[0])
    return [
        ActRecord(
            act.id,
            key_of(act),
            act.kind,
            act.at,
            act.by,
            act.how,
            act.scope,
            act.request,
            shas.get(act.id, act.details),
            tuple(
                LabelRecord(
                    row.id,
                    row.sha256,
                    tuple(names.at(act.id, o) for o in said.get(row.id, ())),
                    row.withdraws,
                    row.media,
                )
                for row in labels.get(act.id, ())
            ),
        )
        for act in acts
    ]


@dataclass(frozen=True, slots=True)
class _LabelRow:
    id: int
    sha256: str
    withdraws: str | None
    media: Facts


def _labels(connection: Connection, act_ids: Sequence[int]) -> dict[int, list[_LabelRow]]:
    before, said = aliased(Label), aliased(Act)
    query = (
        select(Label.id.label("label"), Label.act_id, Media.sha256, before.act_id.label("before"))
        .add_columns(*FACTS)
        .join(Media, Media.id == Label.media_id)
        .join(Deployment, Deployment.id == Media.deployment_id)
        .outerjoin(before, before.id == Label.withdraws_id)
        .where(Label.act_id.in_(act_ids))
        .order_by(Label.id)
    )
    rows = connection.execute(query).all()
    withdrawn = {row.before for row in rows if row.before is not None}
    keys = {
        act.id: key_of(act)
        for act in connection.execute(select(said).where(said.id.in_(withdrawn)))
    }
    found: dict[int, list[_LabelRow]] = {}
    for row in rows:
        label = _LabelRow(row.label, row.sha256, keys.get(row.before), facts_of(row))
        found.setdefault(row.act_id, []).append(label)
    return found


def _observations(connection: Connection, act_ids: Sequence[int]) -> dict[int, list[Said]]:
    query = (
        select(Observation, Species.name)
        .join(Label, Label.id == Observation.label_id)
        .join(Species, Species.id == Observation.species_id)
        .where(Label.act_id.in_(act_ids))
        .order_by(Observation.label_id, Observation.position)
    )
    found: dict[int, list[Said]] = {}
    for row in connection.execute(query).mappings():
        said = (row["name"], row["count"], row["sex"], row["life_stage"], row["behaviour"])
        found.setdefault(row["label_id"], []).append(said)
    return found


def _media_of_details(connection: Connection, acts: Iterable[Any]) -> dict[int, dict[str, Any]]:
    """Act -> its details with the content of a media in the place of its id."""
    named = {
        act.id: act.details.get("media")
        for act in acts
        if act.kind in OF_MEDIA and isinstance(act.details, dict)
    }
    query = (
        select(Media.sha256, *FACTS)
        .join(Deployment, Deployment.id == Media.deployment_id)
        .where(Media.id.in_(set(named.values())))
    )
    found = {row.id: (row.sha256, facts_of(row)) for row in connection.execute(query)}
    return {
        act: {"sha256": found[media][0], "media": found[media][1]}
        for act, media in named.items()
        if media in found
    }


class _NamesOfThen:
    """Names of species as they were before later renames: the journal is read in order, and a
    name must be known where it is read."""

    def __init__(self, connection: Connection, first: int) -> None:
        query = select(Act.id, Act.details).where(Act.kind == "species-rename", Act.id > first)
        self._renames = [
            (row.id, str(row.details["old"]), fold(str(row.details["new"])))
            for row in connection.execute(query.order_by(Act.id.desc()))
        ]

    def at(self, act_id: int, said: Said) -> Said:
        name = said[0]
        for later, old, new in self._renames:
            if later > act_id and fold(name) == new:
                name = old
        return (name, *said[1:])
