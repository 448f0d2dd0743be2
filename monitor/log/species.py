"""Species names: every name a species ever had answers for it, however it is written."""

from __future__ import annotations

import difflib
import unicodedata

from sqlalchemy import Connection, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert

from monitor.log.connection import inserted_id
from monitor.log.engine import LogError
from monitor.log.tables import Species, SpeciesName

LOOKS_LIKE = 0.8
"""Two names at least this alike (difflib ratio) may be one name and a slip of the finger."""


LONGEST_NAME = 200


class UnknownSpecies(LogError):
    """A species name that is nobody's.

    Attributes:
        nearest: the known name that may be meant; None if none is near, or it can be no name.
    """

    def __init__(self, message: str, nearest: str | None = None) -> None:
        super().__init__(message)
        self.nearest = nearest


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
    if any(unicodedata.category(letter) == "Cc" for letter in name):
        raise UnknownSpecies(f"the species name {name!a} holds letters that cannot be seen")
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
            f"write that, or insist on a new species with --new",
            near,
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
        raise UnknownSpecies(f"no species answers to '{name}'{hint}", near)
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
