"""What people ask of the log when they browse it, and what a media must fulfil to be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    UnaryExpression,
    cast,
    exists,
    literal_column,
    select,
)
from sqlalchemy.sql.operators import custom_op

from monitor.core.domain import MediaStatus, Source
from monitor.log.species import _must_resolve, resolve, same_species
from monitor.log.tables import Deployment, Flag, Media, ModelVersion, Observation, Prediction

ONE: ColumnElement[int] = literal_column("1")
"""Written out, so that SQLite sees at once which partial indexes serve."""


@dataclass(frozen=True, slots=True)
class BrowseFilter:
    """Which sightings to show: those that fulfil all that is given.

    Attributes:
        species: any name of a species; a media that shows two is found by either.
        since, until: `iso_utc` text; `until` is exclusive.
        deployment: its name, exactly.
        min_probability, max_probability: of a prediction; a label counts as certain (1), and what
            nobody and no model spoke of has no probability.
        source: who the species comes from.
        status: where the media stands.
        model_version: whose prediction is shown.
        labelled_by: who said the label that counts.
        path: a part of the path, in any case of letters.
        sha256: how the SHA-256 begins.
        unreviewed: only what nobody labelled (and could be read).
        flagged: only what is marked for a second look.
        private: leave out what is hidden from viewers (monitor/core/privacy.py): media that show
            one of these species, and media that nobody and no model spoke of. None leaves out
            nothing.
    """

    species: str | None = None
    since: str | None = None
    until: str | None = None
    deployment: str | None = None
    min_probability: float | None = None
    max_probability: float | None = None
    source: Source | None = None
    status: MediaStatus | None = None
    model_version: str | None = None
    labelled_by: str | None = None
    path: str | None = None
    sha256: str | None = None
    event_id: int | None = None
    media_id: int | None = None
    unreviewed: bool = False
    flagged: bool = False
    private: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A filter whose names were looked up: species with those merged into them."""

    asked: BrowseFilter
    species: tuple[int, ...] | None
    deployment: int | None
    version: int | None
    private: tuple[int, ...]


def look_up(connection: Connection, asked: BrowseFilter) -> Wanted | None:
    """The filter with its names looked up; None where nothing can fit.

    Raises:
        UnknownSpecies: no species answers to the name.
    """
    species = None
    if asked.species is not None:
        species = tuple(same_species(connection, _must_resolve(connection, asked.species)))
    deployment = _id_of(connection, Deployment, asked.deployment)
    version = _id_of(connection, ModelVersion, asked.model_version)
    if 0 in (deployment, version):  # nobody knows the name
        return None
    known = {resolve(connection, name) for name in asked.private or ()} - {None}
    private = tuple(same for one in known if one for same in same_species(connection, one))
    return Wanted(asked, species, deployment, version, private)


def _id_of(connection: Connection, table: Any, name: str | None) -> int | None:
    """The row of that name; 0 if there is none, None if none is asked for."""
    if name is None:
        return None
    return connection.execute(select(table.id).where(table.name == name)).scalar() or 0


def conditions(wanted: Wanted) -> list[Any]:
    """What a row of `media` must fulfil, whoever spoke of it."""
    asked = wanted.asked
    plain = {
        Media.id: asked.media_id,
        Media.event_id: asked.event_id,
        Media.status: asked.status,
        Media.deployment_id: wanted.deployment,
    }
    conditions = [aside(column) == value for column, value in plain.items() if value is not None]
    if asked.unreviewed:
        conditions += [Media.label_id.is_(None), Media.status != MediaStatus.REJECTED]
    if asked.sha256 is not None:
        conditions += begins(aside(Media.sha256), asked.sha256)
    if asked.path is not None:
        conditions.append(_contains(asked.path))
    if asked.flagged:
        conditions.append(exists().where(Flag.media_id == Media.id))
    if asked.private is not None:
        conditions += _is_public(wanted.private)
    return conditions


def _is_public(private: Sequence[int]) -> list[Any]:
    """Somebody or a model spoke of it, and of no private species."""
    shown = exists().where(
        Observation.label_id == Media.label_id, Observation.species_id.in_(private)
    )
    predicted = exists().where(
        Prediction.media_id == Media.id,
        Prediction.current == ONE,
        aside(Prediction.species_id).not_in(private),
    )
    return [~shown, Media.label_id.is_not(None) | predicted]


def begins(sha256: Any, prefix: str) -> list[Any]:
    """The SHA-256 begins so: a stretch of its index."""
    return [sha256 >= prefix.lower(), sha256 < prefix.lower() + "g"]


def aside(column: Any) -> Any:
    """A column that is only looked at: SQLite does not start from an index of it.

    It is written with a plus before it (https://sqlite.org/optoverview.html#uplus).
    """
    return UnaryExpression(column, operator=custom_op("+"), type_=column.type)


def percents(probability: Any) -> Any:
    """A probability's whole percents, cut off, as the index `prediction_by_probability` has them.

    A larger probability never has fewer of them.
    """
    return cast(probability * literal_column("100"), Integer)


def _contains(part: str) -> Any:
    """The path contains `part`. LIKE folds A to Z only; GLOB is told both cases of the others."""
    if part.isascii():
        return Media.path.like("%" + part.translate(_LIKE) + "%", escape="\\")
    pattern = "".join(_either_case(letter) for letter in part)
    return Media.path.op("GLOB")(f"*{pattern}*")


_LIKE = str.maketrans({sign: "\\" + sign for sign in "%_\\"})


def _either_case(letter: str) -> str:
    forms = {form for form in (letter, letter.lower(), letter.upper()) if len(form) == 1}
    if len(forms) > 1 or letter in "*?[":
        return f"[{''.join(sorted(forms))}]"
    return letter
