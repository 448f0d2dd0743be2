"""Where a search walks: the index that leads to what fits, newest first, and what is left to check.

What fits is looked for along one or more trails. A trail is either a small set of media, all of
them looked up and put in order, or an index in order of time, of which a stretch is walked. A media
fits on one trail at most: on one media are labelled, on another they are not.

SQLite chooses the index itself, without statistics: what a walk goes along is said plainly, what is
only checked on the way stands `aside`. benchmarks/browse.py measures that it chooses well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, exists, func, literal, select
from sqlalchemy.orm import aliased

from monitor.core.domain import Source
from monitor.log.filters import (
    ONE,
    BrowseFilter,
    Wanted,
    aside,
    begins,
    conditions,
    look_up,
    percents,
)
from monitor.log.tables import Act, Flag, Label, Media, Prediction
from monitor.log.tables import Observation as ObservationRow

FEW = 5000
"""Up to so many media are looked up one by one (15 ms); of more, a stretch of time is walked."""


@dataclass(frozen=True, slots=True)
class Trail:
    """What fits, as far as one index leads to it.

    Attributes:
        fitting: a query for (captured_at, media id) of what fits.
        passed: the same of all that the index passes by, whether it fits or not; None for a small
            set, which is looked up whole.
        at, media_id: the two columns, by which both are ordered.
    """

    fitting: Select[*tuple[Any, ...]]
    passed: Select[*tuple[Any, ...]] | None
    at: Any
    media_id: Any


def trails_of(
    connection: Connection, asked: BrowseFilter, among: Sequence[int] | None = None
) -> list[Trail]:
    """The trails that together lead to all that fits; none if nothing can.

    Args:
        among: only these media are looked at.

    Raises:
        UnknownSpecies: no species answers to the name.
    """
    wanted = look_up(connection, asked)
    if wanted is None:
        return []
    small = None
    if among is not None:
        small = select(Media.id).where(Media.id.in_(among)).correlate(None)
    return [trail for way in _ways(wanted) for trail in way(connection, wanted, small)]


def _ways(wanted: Wanted) -> list[Any]:
    asked = wanted.asked
    by_model = asked.min_probability is not None or asked.max_probability is not None
    said = wanted.species is not None or by_model
    if not said and asked.source is None and asked.labelled_by is None:
        return [_any]
    sources = set(Source) if asked.source is None else {asked.source}
    if asked.labelled_by is not None:
        sources &= {Source.LABEL}
    if asked.unreviewed or (asked.max_probability is not None and asked.max_probability < 1):
        sources -= {Source.LABEL}
    if said:
        sources -= {Source.NONE}
    ways = {Source.PREDICTION: _predicted, Source.LABEL: _labelled, Source.NONE: _unsaid}
    return [way for source, way in ways.items() if source in sources]


def _any(connection: Connection, wanted: Wanted, small: Any) -> Iterator[Trail]:
    """Whatever was said of them."""
    yield _of_media(connection, wanted, small, [], [])


def _unsaid(connection: Connection, wanted: Wanted, small: Any) -> Iterator[Trail]:
    """Media that nobody and no model spoke of."""
    unsaid = [Media.label_id.is_(None), ~_spoken(Media.id)]
    yield _of_media(connection, wanted, small, unsaid, [])


def _labelled(connection: Connection, wanted: Wanted, small: Any) -> Iterator[Trail]:
    """Media whose sighting is a label."""
    fits: list[Any] = [Media.label_id.is_not(None)]
    sets = []
    if wanted.species is not None:
        of_label = ObservationRow.label_id == Media.label_id
        fits.append(exists().where(of_label, ObservationRow.species_id.in_(wanted.species)))
        named = select(Label.media_id).join(ObservationRow, ObservationRow.label_id == Label.id)
        sets.append(named.where(ObservationRow.species_id.in_(wanted.species)))
    if wanted.asked.labelled_by is not None:
        by = Act.by == wanted.asked.labelled_by
        fits.append(exists().where(Label.id == Media.label_id, Act.id == Label.act_id, by))
        sets.append(select(Label.media_id).join(Act, Act.id == Label.act_id).where(by))
    yield _of_media(connection, wanted, small, fits, sets, [Media.label_id.is_not(None)])


def _of_media(
    connection: Connection,
    wanted: Wanted,
    small: Any,
    fits: list[Any],
    sets: list[Any],
    along: list[Any] | None = None,
) -> Trail:
    """Along the media themselves.

    Args:
        fits: what must be true of one, besides `conditions`.
        sets: queries for media ids that hold all that fits.
        along: what is true of all that is passed where all the sets are large.
    """
    fits = [*conditions(wanted), *fits]
    if wanted.version is not None:
        fits.append(_spoken(Media.id, Prediction.model_version_id == wanted.version))
    if wanted.deployment is not None:
        along = [Media.deployment_id == wanted.deployment]
    columns = select(Media.captured_at, Media.id)
    small = small if small is not None else _small(connection, [*_sets(wanted), *sets])
    if small is not None:
        fitting = columns.where(Media.id.in_(small), *fits)
        return Trail(fitting, None, aside(Media.captured_at), aside(Media.id))
    walk = columns.where(*(along or []))
    return Trail(walk.where(*fits), walk, Media.captured_at, aside(Media.id))


def _predicted(connection: Connection, wanted: Wanted, small: Any) -> Iterator[Trail]:
    """Media whose sighting is a prediction: one trail for each species that was merged into one."""
    p = aliased(Prediction)
    media = (Media.id == p.media_id, Media.label_id.is_(None), *conditions(wanted))
    fits = [*_probable(aside(p.probability), wanted), exists().where(*media)]
    if wanted.version is not None:
        fits.append(aside(p.model_version_id) == wanted.version)
    of_species = [aside(p.species_id).in_(wanted.species)] if wanted.species is not None else []
    columns = select(p.captured_at, p.media_id).where(p.current == ONE)
    if small is None:
        small = _small(connection, [*_sets(wanted), *_sets_of_predictions(wanted)])
    if small is not None:
        fitting = columns.where(p.media_id.in_(small), *of_species, *fits)
        yield Trail(fitting, None, aside(p.captured_at), aside(p.media_id))
        return
    walks = [columns]
    if wanted.deployment is not None:
        walks, fits = [columns.where(p.deployment_id == wanted.deployment)], [*of_species, *fits]
    elif wanted.species is not None:
        walks = [columns.where(p.species_id == species) for species in wanted.species]
    for walk in walks:
        yield Trail(walk.where(*fits), walk, p.captured_at, aside(p.media_id))


def _probable(probability: Any, wanted: Wanted) -> list[Any]:
    least, most = wanted.asked.min_probability, wanted.asked.max_probability
    probable = [probability >= least] if least is not None else []
    return [*probable, probability <= most] if most is not None else probable


def _percents(probability: Any, wanted: Wanted) -> list[Any]:
    """The stretch of the index in order of percents in which all lies that is `_probable`."""
    least, most = wanted.asked.min_probability, wanted.asked.max_probability
    found = [percents(probability) >= percents(literal(least))] if least is not None else []
    return [*found, percents(probability) <= percents(literal(most))] if most is not None else found


def _sets_of_predictions(wanted: Wanted) -> list[Any]:
    """As `_sets`, for media that a model spoke of."""
    p = aliased(Prediction)
    said = select(p.media_id).where(p.current == ONE)
    probable = _probable(p.probability, wanted)
    sets = [said.where(*_percents(p.probability, wanted), *probable)] if probable else []
    if wanted.species is not None:
        sets.append(said.where(p.species_id.in_(wanted.species)))
    return sets


def _sets(wanted: Wanted) -> list[Any]:
    """Queries for media ids, each of which finds all that fits, the smallest ones first."""
    asked = wanted.asked
    media = select(Media.id)
    sets: list[Any] = []
    if asked.media_id is not None:
        sets.append(media.where(Media.id == asked.media_id))
    if asked.sha256 is not None:
        sets.append(media.where(*begins(Media.sha256, asked.sha256)))
    if asked.event_id is not None:
        sets.append(media.where(Media.event_id == asked.event_id))
    if asked.flagged:
        sets.append(select(Flag.media_id))
    if asked.status is not None:
        sets.append(media.where(Media.status == asked.status))
    if wanted.version is not None:
        of_version = Prediction.model_version_id == wanted.version
        sets.append(select(Prediction.media_id).where(of_version, Prediction.current == ONE))
    if wanted.deployment is not None:
        sets.append(media.where(Media.deployment_id == wanted.deployment))
    return sets


def _small(connection: Connection, sets: Sequence[Any]) -> Any:
    """The first of these queries that finds few; None if all find many."""
    for query in sets:
        rows = select(func.count()).select_from(query.limit(FEW + 1).subquery())
        if connection.execute(rows).scalar_one() <= FEW:
            return query.correlate(None)
    return None


def _spoken(media_id: Any, *conditions: Any) -> Any:
    """A model's current word on the media exists."""
    return exists().where(Prediction.media_id == media_id, Prediction.current == ONE, *conditions)
