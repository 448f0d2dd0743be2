"""Labels in the log: append-only acts of people, each on one or more media."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select, update

from monitor.core.domain import MediaStatus, Observation, Scope
from monitor.log.connection import inserted_id, new_act
from monitor.log.engine import LogError
from monitor.log.reference import must_be_there
from monitor.log.species import resolve_or_add
from monitor.log.tables import Act, Label, Media, Species
from monitor.log.tables import Observation as ObservationRow
from monitor.log.undoing import UndoQueries

FIELDS = ("count", "sex", "life_stage", "behaviour")
"""What an observation may say besides the species."""


@dataclass(frozen=True, slots=True)
class LabelOutcome:
    """What a label act came to.

    Attributes:
        media_ids: the media it was said of (empty when all of it had been said before).
        new_species: names that nobody had used before.
        act_id: the act, by which it can be undone; None when nothing was said.
    """

    media_ids: tuple[int, ...]
    new_species: tuple[str, ...]
    act_id: int | None = None


class RequestTaken(LogError):
    """An act was sent under the name of another one: by somebody else, or with other content."""


class LabelQueries(UndoQueries):
    """The one way a label gets into the log, and out of force again."""

    def label(
        self,
        media_ids: Sequence[int],
        observations: Sequence[Observation],
        by: str,
        how: str,
        now: datetime,
        *,
        scope: Scope = Scope.FRAME,
        insist: bool = False,
        once: bool = False,
        keep: bool = True,
        request: str | None = None,
        unlabelled: bool = False,
    ) -> LabelOutcome:
        """Say what is on these media. What an observation leaves out is kept from the label before.

        Args:
            scope: with EVENT, every frame of the events of `media_ids` gets the label.
            insist: accept a new species although its name is nearly a known one.
            once: leave out media of which exactly this was said before in the same way
                (so that an import can be repeated, and does not undo later corrections).
            keep: False: what an observation leaves out is forgotten.
            request: the sender's own name for this act: sent again, it says nothing twice.
            unlabelled: leave out media that carry a label by now.

        Raises:
            UnknownSpecies: see `insist`.
            NoSuchMedia: one of `media_ids` is not in the log; nothing is written.
            RequestTaken: `request` is the name of another act.
            LogError: no observation was given, or a count is not positive.
        """
        _check(observations)
        act, asked = None, _digest(media_ids, observations, scope, keep)
        with self._write() as connection:
            if request is not None and (done := _sent_before(connection, request, by, asked)):
                return done
            must_be_there(connection, media_ids)
            species, new = _species_ids(connection, observations, insist)
            targets = _of_events(connection, media_ids) if scope is Scope.EVENT else media_ids
            targets = tuple(dict.fromkeys(targets))
            if once:
                said = _said_before(connection, targets, species, observations, how)
                targets = tuple(m for m in targets if m not in said)
            if unlabelled:
                carrying = _carrying(connection, targets)
                targets = tuple(m for m in targets if m not in carrying)
            if targets:
                sent = {"asked": asked, "new_species": new} if request is not None else None
                act = new_act(
                    connection, "label", by, how, now, scope=scope, details=sent, request=request
                )
                for media_id in targets:
                    _say(connection, act, media_id, species, observations, keep)
        return LabelOutcome(targets, new, act)


def _check(observations: Sequence[Observation]) -> None:
    if not observations:
        raise LogError("a label needs at least one species")
    for observation in observations:
        if observation.count is not None and not 0 < observation.count < 1_000_000:
            raise LogError(
                f"{observation.species}: a count of {observation.count} cannot be; "
                "write a whole number from 1"
            )


def _species_ids(
    connection: Connection, observations: Sequence[Observation], insist: bool
) -> tuple[list[int], tuple[str, ...]]:
    ids, new = [], []
    for observation in observations:
        species_id, is_new = resolve_or_add(connection, observation.species, insist)
        if species_id in ids:
            raise LogError(f"'{observation.species}' is named twice in one label")
        ids.append(species_id)
        if is_new:
            new.append(" ".join(observation.species.split()))
    return ids, tuple(new)


def _of_events(connection: Connection, media_ids: Sequence[int]) -> list[int]:
    events = select(Media.event_id).where(Media.id.in_(media_ids))
    query = (
        select(Media.id)
        .where(Media.event_id.in_(events), Media.status != MediaStatus.REJECTED)
        .order_by(Media.id)
    )
    return list(connection.execute(query).scalars())


def _carrying(connection: Connection, media_ids: Sequence[int]) -> set[int]:
    query = select(Media.id).where(Media.id.in_(media_ids), Media.label_id.is_not(None))
    return set(connection.execute(query).scalars())


def _say(
    connection: Connection,
    act: int,
    media_id: int,
    species: Sequence[int],
    observations: Sequence[Observation],
    keep: bool,
) -> None:
    before = _current_observations(connection, media_id) if keep else {}
    values = {"act_id": act, "media_id": media_id}
    label_id = inserted_id(connection.execute(insert(Label).values(**values)))
    for position, (species_id, said) in enumerate(zip(species, observations, strict=True)):
        kept = _kept(species_id, said, before, alone=len(observations) == 1)
        connection.execute(
            insert(ObservationRow).values(
                label_id=label_id,
                position=position,
                species_id=species_id,
                count=kept.count,
                sex=kept.sex,
                life_stage=kept.life_stage,
                behaviour=kept.behaviour,
            )
        )
    connection.execute(update(Media).where(Media.id == media_id).values(label_id=label_id))


def _kept(
    species_id: int, said: Observation, before: dict[int, Observation], *, alone: bool
) -> Observation:
    """`said`, with what it does not touch taken from the label before: from the observation of
    the same species, or, where both labels have just one, from that."""
    old = before.get(species_id)
    if old is None and alone and len(before) == 1:
        old = next(iter(before.values()))
    if old is None:
        return said
    return replace(
        said, **{name: getattr(old, name) for name in FIELDS if getattr(said, name) is None}
    )


def _current_observations(connection: Connection, media_id: int) -> dict[int, Observation]:
    query = (
        _observations()
        .join(Media, Media.label_id == ObservationRow.label_id)
        .where(Media.id == media_id)
        .order_by(ObservationRow.position)
    )
    return {row["meant"]: _observation(row) for row in connection.execute(query).mappings()}


def _observations() -> Select[*tuple[Any, ...]]:
    """Observations, with the species each means today (`meant`), after merges."""
    meant = func.coalesce(Species.merged_into, Species.id).label("meant")
    return select(ObservationRow, Species.name, meant).join(
        Species, Species.id == ObservationRow.species_id
    )


def _observation(row: Any) -> Observation:
    return Observation(row["name"], row["count"], row["sex"], row["life_stage"], row["behaviour"])


def _said_before(
    connection: Connection,
    media_ids: Sequence[int],
    species: Sequence[int],
    observations: Sequence[Observation],
    how: str,
) -> set[int]:
    """Media that ever got exactly these observations in this way, withdrawn or not."""
    query = (
        _observations()
        .add_columns(Label.media_id)
        .join(Label, Label.id == ObservationRow.label_id)
        .join(Act, Act.id == Label.act_id)
        .where(Label.media_id.in_(media_ids), Act.how == how)
        .order_by(Label.id, ObservationRow.position)
    )
    found: dict[tuple[int, int], list[tuple[int, Observation]]] = {}
    for row in connection.execute(query).mappings():
        said = found.setdefault((row["label_id"], row["media_id"]), [])
        said.append((row["meant"], _observation(row)))
    wanted = list(zip(species, observations, strict=True))
    return {media_id for (_, media_id), said in found.items() if _same(said, wanted)}


def _same(said: list[tuple[int, Observation]], wanted: list[tuple[int, Observation]]) -> bool:
    """True if `said` is `wanted`, a field that is not wanted standing for any."""
    return len(said) == len(wanted) and all(
        a == b and all(getattr(y, name) in (None, getattr(x, name)) for name in FIELDS)
        for (a, x), (b, y) in zip(said, wanted, strict=True)
    )


def _digest(
    media_ids: Sequence[int], observations: Sequence[Observation], scope: Scope, keep: bool
) -> str:
    """Tells whether two requests ask for the same."""
    said = [list(media_ids), [asdict(o) for o in observations], scope, keep]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _sent_before(connection: Connection, request: str, by: str, asked: str) -> LabelOutcome | None:
    """What the act came to that was sent under this name; None if it never arrived."""
    query = select(Act.id, Act.by, Act.details).where(Act.request == request)
    act = connection.execute(query).first()
    if act is None:
        return None
    details = act.details or {}
    if act.by != by or details.get("asked") != asked:
        raise RequestTaken(
            f"the request '{request}' was sent before by {act.by} with something else in it; "
            "send each act under a name of its own"
        )
    said = select(Label.media_id).where(Label.act_id == act.id).order_by(Label.id)
    media_ids = tuple(connection.execute(said).scalars())
    return LabelOutcome(media_ids, tuple(details.get("new_species", ())), act.id)
