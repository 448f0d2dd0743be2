"""Labels in the log: append-only acts of people, each on one or more media."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.orm import aliased

from monitor.domain import MediaStatus, Observation, Scope
from monitor.log.connection import LogPart, inserted_id, new_act
from monitor.log.engine import LogError
from monitor.log.species import resolve_or_add
from monitor.log.tables import Act, File, Label, Media, Species
from monitor.log.tables import Observation as ObservationRow


class NoSuchMedia(LogError):
    """Nothing, or more than one media, answers to what a person named."""


@dataclass(frozen=True, slots=True)
class LabelOutcome:
    """What a label act came to.

    Attributes:
        media_ids: the media it was said of (empty when all of it had been said before).
        new_species: names that nobody had used before.
    """

    media_ids: tuple[int, ...]
    new_species: tuple[str, ...]


class LabelQueries(LogPart):
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
    ) -> LabelOutcome:
        """Say what is on these media. What an observation leaves out is kept from the label before.

        Args:
            scope: with EVENT, every frame of the events of `media_ids` gets the label.
            insist: accept a new species although its name is nearly a known one.
            once: leave out media of which exactly this was said before in the same way
                (so that an import can be repeated, and does not undo later corrections).

        Raises:
            UnknownSpecies: see `insist`.
            LogError: no observation was given, or a count is not positive.
        """
        _check(observations)
        with self._write() as connection:
            species, new = _species_ids(connection, observations, insist)
            targets = _of_events(connection, media_ids) if scope is Scope.EVENT else media_ids
            targets = tuple(dict.fromkeys(targets))
            if once:
                said = _said_before(connection, targets, species, observations, how)
                targets = tuple(m for m in targets if m not in said)
            if targets:
                act = new_act(connection, "label", by, how, now, scope=scope)
                for media_id in targets:
                    _say(connection, act, media_id, species, observations)
        return LabelOutcome(targets, new)

    def undo(self, media_id: int | None, by: str, how: str, now: datetime) -> tuple[int, ...]:
        """Withdraw the last label act that still counts (of one media, or of all).

        Returns:
            the media whose label changed.

        Raises:
            LogError: there is nothing to undo.
        """
        withdrawal = aliased(Label)
        last = (
            select(func.max(Label.act_id))
            .outerjoin(withdrawal, withdrawal.withdraws_id == Label.id)
            .where(Label.withdraws_id.is_(None), withdrawal.id.is_(None))
        )
        if media_id is not None:
            last = last.where(Label.media_id == media_id)
        with self._write() as connection:
            undone = connection.execute(last).scalar()
            if undone is None:
                raise LogError("there is no label to undo")
            act = new_act(connection, "undo", by, how, now, details={"act": undone})
            labels = connection.execute(
                select(Label.id, Label.media_id)
                .outerjoin(withdrawal, withdrawal.withdraws_id == Label.id)
                .where(Label.act_id == undone, withdrawal.id.is_(None))
            ).all()
            for label in labels:
                connection.execute(
                    insert(Label).values(act_id=act, media_id=label.media_id, withdraws_id=label.id)
                )
                _point_to_newest(connection, label.media_id)
        return tuple(label.media_id for label in labels)

    def find(self, reference: str, path_bytes: bytes) -> int:
        """The media a person means by an id, a path or the start of a SHA-256.

        Args:
            reference: what was typed.
            path_bytes: the same, as an absolute path.

        Raises:
            NoSuchMedia: none answers, or several do.
        """
        with self._read() as connection:
            found = _candidates(connection, reference, path_bytes)
        if len(found) == 1:
            return found[0]
        if not found:
            raise NoSuchMedia(
                f"no media answers to '{reference}'; give its id, its path, or at least four "
                "characters of its SHA-256 (see: trapwatch sightings)"
            )
        raise NoSuchMedia(
            f"'{reference}' fits more than one media ({', '.join(map(str, found[:5]))} …); "
            "write more of the path or of the SHA-256"
        )

    def media_of_sha(self, sha256: str) -> int | None:
        """The media with exactly these bytes."""
        with self._read() as connection:
            return connection.execute(select(Media.id).where(Media.sha256 == sha256)).scalar()

    def media_of_path(self, path_bytes: bytes) -> int | None:
        """The media that was last taken in under exactly this path."""
        with self._read() as connection:
            return connection.execute(
                select(File.media_id).where(File.path_bytes == path_bytes)
            ).scalar()


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


def _say(
    connection: Connection,
    act: int,
    media_id: int,
    species: Sequence[int],
    observations: Sequence[Observation],
) -> None:
    before = _current_observations(connection, media_id)
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
    names = ("count", "sex", "life_stage", "behaviour")
    return replace(
        said, **{name: getattr(old, name) for name in names if getattr(said, name) is None}
    )


def _current_observations(connection: Connection, media_id: int) -> dict[int, Observation]:
    query = (
        select(ObservationRow, Species.name)
        .join(Species, Species.id == ObservationRow.species_id)
        .join(Media, Media.label_id == ObservationRow.label_id)
        .where(Media.id == media_id)
        .order_by(ObservationRow.position)
    )
    rows = connection.execute(query).mappings()
    return {row["species_id"]: _observation(row) for row in rows}


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
        select(
            Label.id,
            Label.media_id,
            ObservationRow.species_id,
            ObservationRow.count.label("number"),
        )
        .join(Act, Act.id == Label.act_id)
        .join(ObservationRow, ObservationRow.label_id == Label.id)
        .where(Label.media_id.in_(media_ids), Act.how == how)
        .order_by(Label.id, ObservationRow.position)
    )
    found: dict[tuple[int, int], list[tuple[int, int | None]]] = {}
    for row in connection.execute(query):
        found.setdefault((row.id, row.media_id), []).append((row.species_id, row.number))
    wanted = list(zip(species, (o.count for o in observations), strict=True))
    return {media_id for (_, media_id), said in found.items() if _same(said, wanted)}


def _same(said: list[tuple[int, int | None]], wanted: list[tuple[int, int | None]]) -> bool:
    """True if `said` is `wanted`, a count that is not wanted standing for any."""
    return len(said) == len(wanted) and all(
        a[0] == b[0] and (b[1] is None or a[1] == b[1]) for a, b in zip(said, wanted, strict=True)
    )


def _point_to_newest(connection: Connection, media_id: int) -> None:
    """Let the media point to its newest label that was not withdrawn, or to none."""
    withdrawal = aliased(Label)
    newest = (
        select(func.max(Label.id))
        .outerjoin(withdrawal, withdrawal.withdraws_id == Label.id)
        .where(Label.media_id == media_id, Label.withdraws_id.is_(None), withdrawal.id.is_(None))
    )
    label_id = connection.execute(newest).scalar()
    connection.execute(update(Media).where(Media.id == media_id).values(label_id=label_id))


def _candidates(connection: Connection, reference: str, path_bytes: bytes) -> list[int]:
    if reference.isdigit():
        by_id = connection.execute(
            select(Media.id).where(Media.id == min(int(reference), 2**62))
        ).scalar()
        if by_id is not None:
            return [by_id]
    by_path = (File.path_bytes == path_bytes, File.path == reference)
    for condition in by_path:
        found = connection.execute(
            select(File.media_id).where(condition, File.media_id.is_not(None)).distinct()
        ).scalars()
        if ids := [media_id for media_id in found if media_id is not None]:
            return ids
    if len(reference) >= 4 and all(c in "0123456789abcdef" for c in reference.lower()):
        low = reference.lower()
        found_ids = connection.execute(
            select(Media.id).where(Media.sha256 >= low, Media.sha256 < low + "g").limit(6)
        ).scalars()
        if ids := list(found_ids):
            return ids
    ending = File.path.endswith("/" + reference, autoescape=True)
    return [
        media_id
        for media_id in connection.execute(
            select(File.media_id).where(ending, File.media_id.is_not(None)).distinct().limit(6)
        ).scalars()
        if media_id is not None
    ]
