"""Writing acts of a journal into a log that lacks them: under their own ids, at their own times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select
from sqlalchemy.exc import IntegrityError

from monitor.log.act_records import OF_MEDIA, REPLAYED, ActRecord, LabelRecord, is_one_act, key_of
from monitor.log.connection import LogPart, inserted_id
from monitor.log.effects import take_effect
from monitor.log.engine import LogError
from monitor.log.media_again import Facts, write_again
from monitor.log.species import fold, resolve_or_add
from monitor.log.tables import Act, Label, Media, Observation, Species
from monitor.log.undoing import point_to_newest

MOST_TOLD = 20

# Built once: building a statement costs more than SQLite takes to run it.
_ACT = select(Act.id).where(Act.id == bindparam("number"))
_LABEL = select(Label.id).where(Label.id == bindparam("number"))
_MERGED = select(Species.id, Species.name).where(Species.merged_into == bindparam("into"))
_ADD_ACT, _ADD_LABEL, _ADD_OBSERVATION = insert(Act), insert(Label), insert(Observation)


@dataclass(slots=True)
class Replayed:
    """What replaying came to.

    Attributes:
        acts, labels: that were written again (an undo is a label, too).
        waiting: labels whose media the log does not know yet.
        left_out: what could not be written again, with the reason (the first `MOST_TOLD`).
        others: how many more of them there are.
        present: ids in the log of the acts that are there, those just written among them.
        changed: acts that are there with a wrong letter: the log is damaged.
        touched: media that have a label more.
    """

    acts: int = 0
    labels: int = 0
    waiting: int = 0
    left_out: list[str] = field(default_factory=list)
    others: int = 0
    present: list[int] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    touched: list[int] = field(default_factory=list)

    def add(self, other: Replayed) -> None:
        """Count `other` in."""
        self.acts, self.labels = self.acts + other.acts, self.labels + other.labels
        self.waiting, self.others = self.waiting + other.waiting, self.others + other.others
        self.present += other.present
        self.changed += other.changed
        self.touched += other.touched
        for reason in other.left_out:
            self.leave_out(reason)

    def leave_out(self, reason: str) -> None:
        """Tell what could not be written again."""
        if len(self.left_out) < MOST_TOLD:
            self.left_out.append(reason)
        else:
            self.others += 1


class ReplayQueries(LogPart):
    """The way back from the journal."""

    def replayed_acts(self) -> dict[str, int]:
        """Key -> id of the acts that were written again under another id than their own."""
        key = Act.details[REPLAYED].as_string()
        with self._read() as connection:
            rows = connection.execute(select(key.label("key"), Act.id).where(key.is_not(None)))
            return {row.key: row.id for row in rows}

    def replay_acts(self, records: Sequence[ActRecord], again: dict[str, int]) -> Replayed:
        """Write those of `records` that the log lacks, in their order. Doing it twice is as once.

        A media that the log has not, but the journal describes, gets its row again and waits for
        its file. An act keeps its id (see `reserve_ids`) and so its place among all others; where
        another act has taken that id, it gets a new one and remembers its key.

        Args:
            again: what `replayed_acts` says; kept up to date.
        """
        outcome = Replayed()
        with self._read() as connection:
            there = _present(connection, records, again)
            taken = _taken_ids(connection, [r for r in records if r.key not in there])
        lacking = [r for r in records if r.key not in there or there[r.key].labels < len(r.labels)]
        outcome.present += [place.id for place in there.values()]
        if not lacking:
            return outcome
        written: set[str] = set()
        with self._write() as connection:
            media = _media(connection, [sha256 for r in lacking for sha256 in _named(r)])
            for record in lacking:
                if record.id in taken and is_one_act(taken[record.id], record):
                    outcome.changed.append(f"act {record.id} is not what the journal kept")
                    outcome.present.append(record.id)
                    continue
                try:
                    with connection.begin_nested():
                        if record.key in written:  # a line that is there twice
                            there |= _present(connection, [record], again)
                        found = media | _media_again(connection, record, media)
                        done = _replay(connection, record, there.get(record.key), found)
                    media = found
                    written.add(record.key)
                    if done.acts and done.present[-1] != record.id:
                        again[record.key] = done.present[-1]
                    outcome.add(done)
                except (LogError, IntegrityError, KeyError, TypeError, ValueError) as error:
                    reason = error.orig if isinstance(error, IntegrityError) else error
                    what = f"{record.kind} by {record.by} at {record.at}"
                    outcome.leave_out(f"{what}: {reason}")
            point_to_newest(connection, outcome.touched)
        return outcome


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an act is in the log, and how many labels it has."""

    id: int
    labels: int


def _present(
    connection: Connection, records: Sequence[ActRecord], again: Mapping[str, int]
) -> dict[str, _Place]:
    """Key -> place of those of `records` that are in the log."""
    ids = [record.id for record in records]
    found = {key_of(act): act.id for act in connection.execute(select(Act).where(Act.id.in_(ids)))}
    found |= {record.key: again[record.key] for record in records if record.key in again}
    number = func.count(Label.id)
    query = select(Label.act_id, number).where(Label.act_id.in_(found.values()))
    counts: dict[int, int] = {
        row[0]: row[1] for row in connection.execute(query.group_by(Label.act_id))
    }
    wanted = {record.key for record in records}
    return {k: _Place(i, counts.get(i, 0)) for k, i in found.items() if k in wanted}


def _taken_ids(connection: Connection, records: Sequence[ActRecord]) -> dict[int, Any]:
    """What stands in the log under the ids of `records`, of which it knows none by its key."""
    ids = [record.id for record in records]
    return {act.id: act for act in connection.execute(select(Act).where(Act.id.in_(ids)))}


def _named(record: ActRecord) -> dict[str, Facts | None]:
    """The contents that an act speaks of, each with what else is known of it."""
    named = {label.sha256: label.media for label in record.labels}
    if record.kind in OF_MEDIA and record.details is not None and "sha256" in record.details:
        named[str(record.details["sha256"])] = record.details.get("media")
    return named


def _media_again(
    connection: Connection, record: ActRecord, known: Mapping[str, int]
) -> dict[str, int]:
    """Rows for those media of an act that the log has not and the journal describes."""
    return {
        sha256: write_again(connection, sha256, facts, record.at)
        for sha256, facts in _named(record).items()
        if facts is not None and sha256 not in known
    }


def _replay(
    connection: Connection, record: ActRecord, place: _Place | None, known: Mapping[str, int]
) -> Replayed:
    named = _named(record)
    media = {sha256: known[sha256] for sha256 in named if sha256 in known}
    outcome = Replayed(waiting=sum(sha256 not in media for sha256 in named))
    if place is None and _sent_again(connection, record):
        return outcome
    for label in record.labels:
        if label.sha256 not in media:
            _know_species(connection, label)
    if named and not media:
        return outcome
    act_id = place.id if place is not None else _write_act(connection, record, media)
    outcome.present.append(act_id)
    outcome.acts = int(place is None)
    if place is None and not record.labels:
        take_effect(connection, record, act_id, media)
    done: set[int] = set()
    if place is not None:
        labels = select(Label.media_id).where(Label.act_id == act_id)
        done = set(connection.execute(labels).scalars())
    for label in record.labels:
        if label.sha256 in media and media[label.sha256] not in done:
            _write_label(connection, act_id, media[label.sha256], label)
            outcome.touched.append(media[label.sha256])
            outcome.labels += 1
    return outcome


def _know_species(connection: Connection, label: LabelRecord) -> None:
    """A label that waits for its media puts its species on the list all the same: what was done to
    the list afterwards must find them."""
    for species, *_ in label.observations:
        resolve_or_add(connection, species, insist=True)


def _media(connection: Connection, shas: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    wanted = list(shas)
    for start in range(0, len(wanted), 500):
        query = select(Media.sha256, Media.id).where(Media.sha256.in_(wanted[start : start + 500]))
        found |= {row.sha256: row.id for row in connection.execute(query)}
    return found


def _sent_again(connection: Connection, record: ActRecord) -> bool:
    """True if the sender sent this act once more by now."""
    if record.request is None:
        return False
    return (
        connection.execute(select(Act.id).where(Act.request == record.request)).first() is not None
    )


def _write_act(connection: Connection, record: ActRecord, media: Mapping[str, int]) -> int:
    is_free = connection.execute(_ACT, {"number": record.id}).first() is None
    details = dict(record.details) if record.details is not None else None
    if details is not None and record.kind in OF_MEDIA:
        details = {"media": media[str(details["sha256"])]}
    names = ("at", "by", "how", "kind", "scope", "request")
    values: dict[str, Any] = {name: getattr(record, name) for name in names}
    if is_free:
        values["id"] = record.id
    else:
        details = {**(details or {}), REPLAYED: record.key}
    return inserted_id(connection.execute(_ADD_ACT, {**values, "details": details}))


def _write_label(connection: Connection, act_id: int, media_id: int, label: LabelRecord) -> None:
    values: dict[str, Any] = {"act_id": act_id, "media_id": media_id}
    if label.withdraws is not None:
        values["withdraws_id"] = _withdrawn(connection, label.withdraws, media_id)
    if connection.execute(_LABEL, {"number": label.id}).first() is None:
        values["id"] = label.id
    label_id = inserted_id(connection.execute(_ADD_LABEL, values))
    for position, (species, *said) in enumerate(label.observations):
        species_id = _species_said(connection, species)
        names = ("count", "sex", "life_stage", "behaviour")
        row: dict[str, Any] = {"label_id": label_id, "position": position, "species_id": species_id}
        row |= dict(zip(names, said, strict=True))
        connection.execute(_ADD_OBSERVATION, row)


def _species_said(connection: Connection, name: str) -> int:
    """The species of this name itself, also where it was merged into another one meanwhile."""
    species_id, _ = resolve_or_add(connection, name, insist=True)
    for merged in connection.execute(_MERGED, {"into": species_id}):
        if fold(merged.name) == fold(name):
            return int(merged.id)
    return species_id


def _withdrawn(connection: Connection, key: str, media_id: int) -> int:
    """The label of a media that the act with this key said."""
    query = select(Act, Label.id.label("label")).join(Label, Label.act_id == Act.id)
    for act in connection.execute(query.where(Label.media_id == media_id)):
        if key_of(act) == key:
            return int(act.label)
    raise LogError("it takes back a label that is neither in the log nor in the journal")
