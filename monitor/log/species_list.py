"""The station's species list: what is on it, searched by any name, changed by recorded acts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, update

from monitor.log.connection import LogPart, new_act
from monitor.log.engine import LogError
from monitor.log.search import best_matches
from monitor.log.species import (
    _answer_to,
    _insert,
    _must_resolve,
    fold,
    resolve,
    spelled,
)
from monitor.log.species_keys import claim_key
from monitor.log.tables import Act, Media, Observation, Species, SpeciesName

CHANGES = ("species-add", "species-rename", "species-merge")
"""The kinds of act that change the list."""


@dataclass(frozen=True, slots=True)
class SpeciesRow:
    """One species of the list, with every name it answers to.

    Attributes:
        labels: how many media count as this species by a person's word.
        hotkey: the key that names it while reviewing.
    """

    name: str
    scientific_name: str | None
    taxon_key: str | None
    names: dict[str, str]
    aliases: tuple[str, ...]
    labels: int
    group: str | None = None
    hotkey: str | None = None


@dataclass(frozen=True, slots=True)
class SpeciesEntry:
    """What is to be on the list. None leaves what a known species has; an empty group or hotkey
    takes it away."""

    name: str
    scientific_name: str | None = None
    taxon_key: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)  # by language
    aliases: tuple[str, ...] = ()
    group: str | None = None
    hotkey: str | None = None


@dataclass(frozen=True, slots=True)
class SpeciesAct:
    """One change of the list: who, when, and what as it was asked for."""

    act_id: int
    at: str
    by: str
    how: str
    kind: str
    details: dict[str, Any]


class SpeciesQueries(LogPart):
    """The species list. Renaming and merging lose nothing: old names go on answering."""

    def species(self) -> list[SpeciesRow]:
        """The list, by name; merged species are not in it."""
        with self._read() as connection:
            return list(_rows(connection).values())

    def search_species(self, wanted: str, limit: int) -> list[SpeciesRow]:
        """Species of which any name fits `wanted`, the best first (see `best_matches`)."""
        with self._read() as connection:
            rows = _rows(connection)
            names = {key: (fold(row.name), *row.aliases) for key, row in rows.items()}
            ranks = best_matches(wanted, names)
            found = sorted(ranks, key=lambda key: (ranks[key], -rows[key].labels, rows[key].name))
            return [rows[key] for key in found[:limit]]

    def label_counts(self) -> dict[str, int]:
        """How many media count as each species by a person's word; those with none left out."""
        with self._read() as connection:
            counts = _labels_by_species(connection)
            query = select(Species.id, Species.name).where(Species.id.in_(counts))
            return {row.name: counts[row.id] for row in connection.execute(query)}

    def add_species(
        self,
        name: str,
        by: str,
        how: str,
        now: datetime,
        *,
        scientific_name: str | None = None,
        taxon_key: str | None = None,
        names: Mapping[str, str] | None = None,
        aliases: tuple[str, ...] = (),
        group: str | None = None,
        hotkey: str | None = None,
    ) -> bool:
        """Add a species, or complete a known one with what is given. True if it is new.

        Raises:
            LogError: a name or the hotkey is another species', or cannot be one.
        """
        entry = SpeciesEntry(name, scientific_name, taxon_key, names or {}, aliases, group, hotkey)
        (outcome,) = self.add_all_species([entry], by, how, now)
        if isinstance(outcome, LogError):
            raise outcome
        return outcome

    def add_all_species(
        self, entries: Sequence[SpeciesEntry], by: str, how: str, now: datetime
    ) -> list[bool | LogError]:
        """The same for many at once; those that cannot go in do not keep the others out.

        Returns:
            for each entry whether it is new, or why it was left out.
        """
        outcomes: list[bool | LogError] = []
        with self._write() as connection:
            for entry in entries:
                try:
                    with connection.begin_nested():
                        outcomes.append(_add(connection, entry, by, how, now))
                except LogError as error:
                    outcomes.append(error)
        return outcomes

    def rename_species(self, old: str, new: str, by: str, how: str, now: datetime) -> None:
        """Give a species a new name; the old one stays an alias."""
        with self._write() as connection:
            rename(connection, old, new)
            new_act(connection, "species-rename", by, how, now, details={"old": old, "new": new})

    def merge_species(self, source: str, into: str, by: str, how: str, now: datetime) -> None:
        """Make `source` and all its names mean `into` from now on; labels keep what they said."""
        with self._write() as connection:
            merge(connection, source, into)
            details = {"source": source, "into": into}
            new_act(connection, "species-merge", by, how, now, details=details)

    def species_named(self, name: str) -> str:
        """The list's own name for any name of a species. Raises UnknownSpecies."""
        with self._read() as connection:
            species_id = _must_resolve(connection, name)
            return str(
                connection.execute(select(Species.name).where(Species.id == species_id)).scalar()
            )

    def called_today(self, name: str) -> frozenset[str]:
        """The name that any name of a species stands for today; empty if nobody uses it."""
        with self._read() as connection:
            species_id = resolve(connection, name)
            if species_id is None:
                return frozenset()
            today = select(Species.name).where(Species.id == species_id)
            return frozenset(connection.execute(today).scalars())

    def species_history(self, limit: int) -> list[SpeciesAct]:
        """The last changes of the list, the newest first."""
        columns = (Act.id, Act.at, Act.by, Act.how, Act.kind, Act.details)
        query = select(*columns).where(Act.kind.in_(CHANGES)).order_by(Act.id.desc()).limit(limit)
        with self._read() as connection:
            return [
                SpeciesAct(row.id, row.at, row.by, row.how, row.kind, row.details or {})
                for row in connection.execute(query)
            ]


def rename(connection: Connection, old: str, new: str) -> None:
    """Call a species otherwise. Raises LogError if the name is another one's."""
    species_id = _must_resolve(connection, old)
    taken = resolve(connection, new)
    if taken is not None and taken != species_id:
        raise LogError(f"'{new}' is another species already; join them with: species merge")
    connection.execute(update(Species).where(Species.id == species_id).values(name=spelled(new)))
    _answer_to(connection, new, species_id)


def merge(connection: Connection, source: str, into: str) -> None:
    """Let all names of `source` mean `into`. Raises LogError if they do already."""
    gone, kept = _must_resolve(connection, source), _must_resolve(connection, into)
    if gone == kept:
        raise LogError(f"'{source}' and '{into}' are one species already")
    for column in (Species.id, Species.merged_into):
        connection.execute(update(Species).where(column == gone).values(merged_into=kept))
    connection.execute(
        update(SpeciesName).where(SpeciesName.species_id == gone).values(species_id=kept)
    )


def _rows(connection: Connection) -> dict[int, SpeciesRow]:
    """The list by species id, in order of name."""
    labels = _labels_by_species(connection)
    aliases: dict[int, list[str]] = {}
    for name in connection.execute(select(SpeciesName).order_by(SpeciesName.folded)):
        aliases.setdefault(name.species_id, []).append(name.folded)
    listed = select(Species).where(Species.merged_into.is_(None)).order_by(Species.name)
    return {
        row.id: SpeciesRow(
            row.name,
            row.scientific_name,
            row.taxon_key,
            row.names,
            tuple(a for a in aliases.get(row.id, []) if a != fold(row.name)),
            labels.get(row.id, 0),
            row.group_name,
            row.hotkey,
        )
        for row in connection.execute(listed)
    }


def _add(connection: Connection, entry: SpeciesEntry, by: str, how: str, now: datetime) -> bool:
    is_new, details = complete(connection, entry)
    new_act(connection, "species-add", by, how, now, details=details)
    return is_new


def complete(connection: Connection, entry: SpeciesEntry) -> tuple[bool, dict[str, Any]]:
    """Put a species on the list, or give a known one what it has not. Returns (whether it is new,
    what an act says of it)."""
    known = resolve(connection, entry.name)
    species_id = _insert(connection, entry.name) if known is None else known
    given: dict[str, Any] = {
        "scientific_name": entry.scientific_name or None,
        "taxon_key": entry.taxon_key or None,
        "names": dict(entry.names) or None,
        "group_name": entry.group if entry.group is None else " ".join(entry.group.split()),
        "hotkey": entry.hotkey if entry.hotkey is None else entry.hotkey.strip(),
    }
    given = {column: value for column, value in given.items() if value is not None}
    values: dict[str, Any] = {column: value or None for column, value in given.items()}
    if "names" in values:
        before = select(Species.names).where(Species.id == species_id)
        values["names"] = {**connection.execute(before).scalar_one(), **values["names"]}
    if values.get("hotkey"):
        values["hotkey"] = claim_key(connection, values["hotkey"], species_id)
    if values:
        connection.execute(update(Species).where(Species.id == species_id).values(**values))
    for alias in (entry.scientific_name, *entry.names.values(), *entry.aliases):
        if alias and fold(alias):
            _answer_to(connection, alias, species_id)
    more = {"aliases": list(entry.aliases)} if entry.aliases else {}
    if "group_name" in given:
        given["group"] = given.pop("group_name")
    return known is None, {"species": spelled(entry.name), **given, **more}


def entry_of(details: Mapping[str, Any]) -> SpeciesEntry:
    """The inverse: the entry that an act of this kind says."""
    return SpeciesEntry(
        str(details["species"]),
        details.get("scientific_name"),
        details.get("taxon_key"),
        details.get("names") or {},
        tuple(details.get("aliases", ())),
        details.get("group"),
        details.get("hotkey"),
    )


def _labels_by_species(connection: Connection) -> dict[int, int]:
    """How many media count as each species by a person's word, after merges."""
    meant = func.coalesce(Species.merged_into, Species.id)
    query = (
        select(meant, func.count(Media.id.distinct()))
        .select_from(Media)
        .join(Observation, Observation.label_id == Media.label_id)
        .join(Species, Species.id == Observation.species_id)
        .where(Media.label_id.is_not(None))
        .group_by(meant)
    )
    return {row[0]: row[1] for row in connection.execute(query)}
