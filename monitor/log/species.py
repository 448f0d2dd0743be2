"""The station's species list: names, aliases, renames and merges as recorded acts."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from monitor.log.connection import LogPart, inserted_id, new_act
from monitor.log.engine import LogError
from monitor.log.tables import Media, Observation, Species, SpeciesName

LOOKS_LIKE = 0.8
"""Two names at least this alike (difflib ratio) may be one name and a slip of the finger."""


LONGEST_NAME = 200


class UnknownSpecies(LogError):
    """A species name that is nobody's; the message names the nearest known one."""


@dataclass(frozen=True, slots=True)
class SpeciesRow:
    """One species of the list, with every name it answers to."""

    name: str
    scientific_name: str | None
    taxon_key: str | None
    names: dict[str, str]
    aliases: tuple[str, ...]
    labels: int


class SpeciesQueries(LogPart):
    """The species list. Renaming and merging lose nothing: old names go on answering."""

    def species(self) -> list[SpeciesRow]:
        """The list, by name; merged species are not in it."""
        with self._read() as connection:
            rows = connection.execute(
                select(Species).where(Species.merged_into.is_(None)).order_by(Species.name)
            ).all()
            labels = _labels_by_species(connection)
            aliases: dict[int, list[str]] = {}
            for name in connection.execute(select(SpeciesName).order_by(SpeciesName.folded)):
                aliases.setdefault(name.species_id, []).append(name.folded)
            return [
                SpeciesRow(
                    row.name,
                    row.scientific_name,
                    row.taxon_key,
                    row.names,
                    tuple(a for a in aliases.get(row.id, []) if a != fold(row.name)),
                    labels.get(row.id, 0),
                )
                for row in rows
            ]

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
    ) -> bool:
        """Add a species, or complete a known one with what is given. True if it is new."""
        with self._write() as connection:
            known = resolve(connection, name)
            species_id = _insert(connection, name) if known is None else known
            values = {"scientific_name": scientific_name, "taxon_key": taxon_key}
            values = {key: value for key, value in values.items() if value}
            if names:
                before = connection.execute(
                    select(Species.names).where(Species.id == species_id)
                ).scalar_one()
                values["names"] = {**before, **names}  # type: ignore[assignment]
            if values:
                connection.execute(update(Species).where(Species.id == species_id).values(**values))
            for alias in (scientific_name, *(names or {}).values(), *aliases):
                if alias and fold(alias):
                    _answer_to(connection, alias, species_id)
            new_act(connection, "species-add", by, how, now, details={"species": spelled(name)})
        return known is None

    def rename_species(self, old: str, new: str, by: str, how: str, now: datetime) -> None:
        """Give a species a new name; the old one stays an alias."""
        with self._write() as connection:
            species_id = _must_resolve(connection, old)
            taken = resolve(connection, new)
            if taken is not None and taken != species_id:
                raise LogError(f"'{new}' is another species already; join them with: species merge")
            connection.execute(
                update(Species).where(Species.id == species_id).values(name=spelled(new))
            )
            _answer_to(connection, new, species_id)
            new_act(connection, "species-rename", by, how, now, details={"old": old, "new": new})

    def merge_species(self, source: str, into: str, by: str, how: str, now: datetime) -> None:
        """Make `source` and all its names mean `into` from now on; labels keep what they said."""
        with self._write() as connection:
            gone, kept = _must_resolve(connection, source), _must_resolve(connection, into)
            if gone == kept:
                raise LogError(f"'{source}' and '{into}' are one species already")
            for column in (Species.id, Species.merged_into):
                connection.execute(update(Species).where(column == gone).values(merged_into=kept))
            connection.execute(
                update(SpeciesName).where(SpeciesName.species_id == gone).values(species_id=kept)
            )
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


def spelled(name: str) -> str:
    """A name as the list keeps it: composed letters, single blanks.

    Raises:
        UnknownSpecies: it is empty, far too long or not text.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UnknownSpecies(f"the species name {name!a} is not UTF-8 text") from None
    name = " ".join(unicodedata.normalize("NFC", name).split())
    if not fold(name):
        raise UnknownSpecies("a species needs a name")
    if len(name) > LONGEST_NAME:
        raise UnknownSpecies(f"'{name[:40]}…' is longer than a species name can be")
    return name


def fold(name: str) -> str:
    """How names are compared: case, `_`, runs of blanks and the way accents are encoded (macOS
    decomposes them in file names) do not matter."""
    plain = unicodedata.normalize("NFC", name.replace("_", " ")).casefold()
    return " ".join(unicodedata.normalize("NFC", plain).split())


def resolve(connection: Connection, name: str) -> int | None:
    """The species that answers to `name`, after renames and merges. Raises UnknownSpecies if
    that can be no name at all."""
    return connection.execute(
        select(SpeciesName.species_id).where(SpeciesName.folded == fold(spelled(name)))
    ).scalar()


def resolve_or_add(connection: Connection, name: str, insist: bool) -> tuple[int, bool]:
    """The species of a label: a known one, or a new row. Returns (id, whether it is new).

    Raises:
        UnknownSpecies: the name is empty, or nearly a known one and `insist` is False.
    """
    known = resolve(connection, name)
    if known is not None:
        return known, False
    near = _nearest(connection, name)
    if near and not insist:
        raise UnknownSpecies(
            f"'{name}' is not on the species list, but '{near}' is; "
            f"write that, or insist on a new species with --new"
        )
    return _insert(connection, name), True


def species_id_for_class(connection: Connection, name: str) -> int:
    """The species of a class that a model knows by `name`; added if the list lost it."""
    known = resolve(connection, name)
    return known if known is not None else _insert(connection, name)


def same_species(connection: Connection, species_id: int) -> list[int]:
    """A species and all those merged into it."""
    merged = connection.execute(select(Species.id).where(Species.merged_into == species_id))
    return [species_id, *merged.scalars()]


def _must_resolve(connection: Connection, name: str) -> int:
    species_id = resolve(connection, name)
    if species_id is None:
        near = _nearest(connection, name)
        hint = f"; the nearest known one is '{near}'" if near else "; see: trapwatch species list"
        raise UnknownSpecies(f"no species answers to '{name}'{hint}")
    return species_id


def _nearest(connection: Connection, name: str) -> str | None:
    known = list(connection.execute(select(SpeciesName.folded)).scalars())
    close = difflib.get_close_matches(fold(name), known, n=1, cutoff=LOOKS_LIKE)
    return close[0] if close else None


def _insert(connection: Connection, name: str) -> int:
    result = connection.execute(insert(Species).values(name=spelled(name), names={}))
    species_id = inserted_id(result)
    _answer_to(connection, name, species_id)
    return species_id


def _answer_to(connection: Connection, name: str, species_id: int) -> None:
    statement = upsert(SpeciesName).values(folded=fold(name), species_id=species_id)
    connection.execute(statement.on_conflict_do_nothing())
    owner = resolve(connection, name)
    if owner != species_id:
        raise LogError(f"the name '{name}' belongs to another species already")


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
