"""What is new in the log since somebody looked, for whoever tells people of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, true

from monitor.core.domain import iso_utc
from monitor.log.connection import LogPart
from monitor.log.species import resolve, same_species
from monitor.log.tables import (
    Label,
    Media,
    Observation,
    Outage,
    Prediction,
    TrainingRun,
)

PAGE = 5000
"""So many rows are looked at in one step: after a new version speaks there are millions."""


@dataclass(frozen=True, slots=True)
class Cursors:
    """How far one has looked: the last id of each kind."""

    prediction: int = 0
    label: int = 0
    run: int = 0
    outage: int = 0


@dataclass(frozen=True, slots=True)
class News:
    """Media of which something new was said, and how far that goes."""

    media_ids: tuple[int, ...]
    prediction: int
    label: int
    is_all: bool


class NewsQueries(LogPart):
    """Steps from cursor to cursor; each is bounded."""

    def cursors(self) -> Cursors:
        """Of all there is."""
        ids = (Prediction.id, Label.id, TrainingRun.id, Outage.id)
        with self._read() as connection:
            found = [connection.execute(select(func.max(one))).scalar() or 0 for one in ids]
        return Cursors(*found)

    def news(
        self, prediction: int, label: int, since: datetime, until: datetime, page: int = PAGE
    ) -> News:
        """Media captured from `since` to `until` of which a word or a label is newer than these
        ids; at most `page` of each are looked at."""
        fresh = Media.captured_at.between(iso_utc(since), iso_utc(until))
        with self._read() as connection:
            last_word, all_words = _last(connection, Prediction.id, prediction, page)
            last_label, all_labels = _last(connection, Label.id, label, page)
            said = (
                select(Prediction.media_id)
                .join(Media, Media.id == Prediction.media_id)
                .where(Prediction.id > prediction, Prediction.id <= last_word)
                .where(Prediction.current == 1, fresh)
            )
            labelled = (
                select(Label.media_id)
                .join(Media, Media.label_id == Label.id)
                .where(Label.id > label, Label.id <= last_label, fresh)
            )
            media = {*connection.execute(said).scalars(), *connection.execute(labelled).scalars()}
        is_all = all_words and all_labels
        return News(tuple(sorted(media)), last_word, last_label, is_all)

    def was_seen(
        self,
        species: str,
        since: datetime,
        before: datetime,
        min_probability: float,
        not_event: int | None = None,
    ) -> bool:
        """True if some frame captured from `since` on and before `before` shows this species.

        Args:
            min_probability: of predictions that count; labels always do.
            not_event: frames of this event do not count.
        """
        span = (Media.captured_at >= iso_utc(since), Media.captured_at < iso_utc(before))
        elsewhere = true() if not_event is None else Media.event_id.is_distinct_from(not_event)
        with self._read() as connection:
            number = resolve(connection, species)
            if number is None:
                return False
            ids = same_species(connection, number)
            said = (
                select(Prediction.id)
                .join(Media, Media.id == Prediction.media_id)
                .where(Prediction.current == 1, Prediction.species_id.in_(ids))
                .where(Prediction.captured_at >= iso_utc(since))
                .where(Prediction.captured_at < iso_utc(before))
                .where(Prediction.probability >= min_probability)
                .where(Media.label_id.is_(None), elsewhere)
            )
            labelled = (
                select(Media.id)
                .join(Observation, Observation.label_id == Media.label_id)
                .where(Media.label_id.is_not(None), *span, Observation.species_id.in_(ids))
                .where(elsewhere)
            )
            return any(
                connection.execute(query.limit(1)).first() is not None for query in (said, labelled)
            )


def _last(connection: Connection, column: Any, after: int, page: int) -> tuple[int, bool]:
    """The last id of at most `page` ids after one, and whether that is the last of all."""
    newest: int = connection.execute(select(func.max(column))).scalar() or 0
    last = min(newest, after + page)
    return max(last, after), last >= newest
