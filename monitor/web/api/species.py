"""/api/v1: the station's species list."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from monitor.core.domain import How
from monitor.exchange.species import import_species
from monitor.log.species import LONGEST_NAME
from monitor.log.species_list import SpeciesAct
from monitor.web.api.labels import Line
from monitor.web.context import Here
from monitor.web.people import Admin, Viewer, name_of

router = APIRouter(tags=["species"])

MOST_FOUND = 50
MOST_ACTS = 100
MOST_ROWS = 5000
"""Rows of one import: more would hold up everybody who writes for many seconds."""
MOST_FAULTS = 100
Name = Annotated[Line, StringConstraints(min_length=1, max_length=LONGEST_NAME)]
Language = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,34}$")]


class SpeciesOut(BaseModel):
    """One species of the list."""

    name: str
    scientific_name: str | None
    taxon_key: str | None
    names: dict[str, str] = Field(description="By language.")
    aliases: list[str] = Field(description="Every other name it answers to, in lower case.")
    labels: int = Field(description="Frames that count as it by a person's word.")
    group: str | None
    hotkey: str | None


class SpeciesFound(BaseModel):
    """The list, or what of it fits, the best first."""

    species: list[SpeciesOut]


class SpeciesIn(BaseModel):
    """A species to add, or what a known one lacks. An empty group or hotkey takes it away."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    scientific_name: Name | None = None
    taxon_key: Name | None = None
    names: dict[Language, Name] = Field({}, max_length=50)
    aliases: list[Name] = Field([], max_length=50)
    group: Line | None = Field(None, max_length=100)
    hotkey: Line | None = Field(None, max_length=8)


class Added(BaseModel):
    """Whether the species is new, or was completed."""

    added: bool
    name: str


class Renaming(BaseModel):
    """A new name for a species; the old one goes on answering."""

    model_config = ConfigDict(extra="forbid")

    old: Name
    new: Name


class Merging(BaseModel):
    """Two species that are one; labels keep what they said."""

    model_config = ConfigDict(extra="forbid")

    source: Name
    into: Name


class Named(BaseModel):
    """What the species is called now."""

    name: str


class Imported(BaseModel):
    """What an import came to; a fault says its line."""

    added: int
    completed: int
    faults: list[str]


class Change(BaseModel):
    """One change of the list."""

    act_id: int
    at: str
    by: str
    how: str
    kind: str
    what: str
    details: dict[str, Any]


class History(BaseModel):
    """The last changes of the list, the newest first."""

    acts: list[Change]


@router.get("/species")
def species(
    here: Here, who: Viewer, search: Annotated[str | None, Query(max_length=LONGEST_NAME)] = None
) -> SpeciesFound:
    """The list by name; with `search`, those of which any name fits, the best first."""
    if search is None or not search.strip():
        rows = here.log.species()
    else:
        rows = here.log.search_species(search, MOST_FOUND)
    return SpeciesFound(species=[SpeciesOut(**asdict(row)) for row in rows])


@router.post("/species")
def add(wanted: SpeciesIn, here: Here, who: Admin) -> Added:
    """Add a species, or complete a known one."""
    given = wanted.model_dump() | {"aliases": tuple(wanted.aliases)}
    is_new = here.log.add_species(given.pop("name"), name_of(who), How.WEB, here.clock(), **given)
    return Added(added=is_new, name=here.log.species_named(wanted.name))


@router.post("/species/rename")
def rename(wanted: Renaming, here: Here, who: Admin) -> Named:
    """Give a species a new name."""
    here.log.rename_species(wanted.old, wanted.new, name_of(who), How.WEB, here.clock())
    return Named(name=here.log.species_named(wanted.new))


@router.post("/species/merge")
def merge(wanted: Merging, here: Here, who: Admin) -> Named:
    """Let one species mean another from now on."""
    here.log.merge_species(wanted.source, wanted.into, name_of(who), How.WEB, here.clock())
    return Named(name=here.log.species_named(wanted.into))


@router.post("/species/import")
def import_csv(
    content: Annotated[bytes, Body(media_type="text/csv")], here: Here, who: Admin
) -> Imported:
    """Add a whole list: species[,scientific_name,key,aliases,group,hotkey,de,es,…] in UTF-8."""
    by, now = name_of(who), here.clock()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise HTTPException(400, "the file is UTF-16; save it as CSV in UTF-8")
    text = io.StringIO(content.decode("utf-8-sig", "surrogateescape"), newline="")
    report = import_species(
        text, lambda rows: here.log.add_all_species(rows, by, How.WEB, now), MOST_ROWS
    )
    faults = list(report.faults[:MOST_FAULTS])
    if more := len(report.faults) - len(faults):
        faults.append(f"and {more} more lines")
    return Imported(added=report.added, completed=report.completed, faults=faults)


@router.get("/species/history")
def history(here: Here, who: Viewer) -> History:
    """Who changed the list, when, and what."""
    acts = here.log.species_history(MOST_ACTS)
    return History(acts=[Change(**asdict(act), what=_in_words(act)) for act in acts])


def _in_words(act: SpeciesAct) -> str:
    said = act.details
    if act.kind == "species-rename":
        return f"renamed '{said['old']}' to '{said['new']}'"
    if act.kind == "species-merge":
        return f"merged '{said['source']}' into '{said['into']}'"
    given = [f"{key.replace('_', ' ')}: {_plain(said[key])}" for key in said if key != "species"]
    return f"added or completed '{said['species']}'" + (f" ({'; '.join(given)})" if given else "")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {text}" for key, text in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value or "none")
