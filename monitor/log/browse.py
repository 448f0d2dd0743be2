"""Browsing the log: any mixture of filters, page by page, each page in bounded time.

What fits is found along trails (trails.py). Where one is an index in order of time, it is walked in
stretches until the page is full or its time is used up; the next page goes on from there. So no
filter, however rare what it looks for, ever reads the whole log in one request.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, select

from monitor.core.domain import MediaStatus, Sighting, TrapwatchError
from monitor.log.cursors import Trail, trails_of
from monitor.log.filters import BrowseFilter
from monitor.log.sightings import PAGE, SightingQueries
from monitor.log.tables import Media

BUDGET_SECONDS = 0.15
"""A page is given out after this time, full or not."""
STRETCH_SECONDS = 0.03
"""A stretch is made as long as can be walked in this time."""
FIRST_ROWS = 2000
FEWEST_ROWS, MOST_ROWS = 500, 200_000
FILM_FRAMES = 60
_CURSOR = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z)_([0-9]{1,18})")


class BadCursor(TrapwatchError):
    """Something is no place in the log, though it was sent as one."""


class Cursor(NamedTuple):
    """A place in the log, newest first: what comes after it is older."""

    captured_at: str  # `iso_utc` text
    media_id: int

    def __str__(self) -> str:
        return f"{self.captured_at}_{self.media_id}"

    @classmethod
    def read(cls, text: str) -> Cursor:
        """The inverse of `str`. Raises BadCursor on anything else."""
        parts = _CURSOR.fullmatch(text)
        if parts is None:
            raise BadCursor(
                f"'{text[:60]}' is no cursor; send back `next` of the page before, as it is"
            )
        return cls(parts[1], int(parts[2]))


@dataclass(frozen=True, slots=True)
class BrowsePage:
    """Some of what fits, newest first.

    Attributes:
        media_ids: may be few or none, although more follows.
        next: where to go on; None at the end.
        reached: all that was captured later has been looked at; None at the end.
    """

    media_ids: tuple[int, ...]
    next: Cursor | None

    @property
    def reached(self) -> str | None:
        """`iso_utc` text."""
        return self.next.captured_at if self.next else None


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A piece of the log: before a place (or a time), back to another, that one included."""

    after: Cursor | None
    until: str | None  # where there is no `after`
    since: str | None
    back_to: Cursor | None = None


class BrowseQueries(SightingQueries):
    """What people search and browse."""

    def sightings(
        self, wanted: BrowseFilter = BrowseFilter(), limit: int | None = None
    ) -> Iterator[Sighting]:
        """Sightings that fit, newest capture first; all of them, or at most `limit`.

        Raises:
            UnknownSpecies: no species answers to the name.
        """
        left, after = limit, None
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = self.browse(wanted, size, after, math.inf)
            yield from self.sightings_of(page.media_ids)
            if page.next is None:
                return
            after = page.next
            left = left - len(page.media_ids) if left is not None else None

    def browse(
        self,
        wanted: BrowseFilter,
        size: int,
        after: Cursor | None = None,
        budget_seconds: float = BUDGET_SECONDS,
    ) -> BrowsePage:
        """The media that fit and come after a place, at most `size`.

        Raises:
            UnknownSpecies: no species answers to the name.
        """
        ends_at = time.monotonic() + budget_seconds
        found: list[Cursor] = []
        with self._read() as connection:
            trails = trails_of(connection, wanted)
            ahead = _stretch(wanted, after)
            few = _fitting(connection, [t for t in trails if t.passed is None], ahead, None)
        walks = [trail for trail in trails if trail.passed is not None]
        rows = FIRST_ROWS
        while True:
            started_at = time.monotonic()
            left = size - len(found)
            with self._read() as connection:
                back_to = _back_to(connection, walks, ahead, rows)
                stretch = _Stretch(ahead.after, ahead.until, ahead.since, back_to)
                walked = _fitting(connection, walks, stretch, left)
            known = [place for place in few if _lies_in(place, stretch)]
            found += sorted([*walked, *known], reverse=True)[:left]
            if len(found) == size:
                return _page(found, found[-1])
            now = time.monotonic()
            took = now - started_at
            if back_to is None or now + took >= ends_at:
                return _page(found, back_to)
            ahead = _stretch(wanted, back_to)
            faster = min(4.0, STRETCH_SECONDS / max(took, 1e-6))
            rows = max(FEWEST_ROWS, min(MOST_ROWS, int(rows * faster)))

    def which_fit(self, wanted: BrowseFilter, media_ids: Sequence[int]) -> set[int]:
        """Those of these media that fit."""
        fit: set[int] = set()
        with self._read() as connection:
            for start in range(0, len(media_ids), PAGE):
                trails = trails_of(connection, wanted, media_ids[start : start + PAGE])
                places = _fitting(connection, trails, _stretch(wanted, None), None)
                fit |= {place.media_id for place in places}
        return fit

    def films(self, media_ids: Sequence[int], most: int = FILM_FRAMES) -> dict[int, list[int]]:
        """For each media, the frames of its event, oldest first: at most so many, around it.

        A media without an event, or a rejected one, is alone.
        """
        events: dict[int, list[int]] = {}
        with self._read() as connection:
            of_media = select(Media.id, Media.event_id).where(
                Media.id.in_(media_ids), Media.status != MediaStatus.REJECTED
            )
            event_of = {row.id: row.event_id for row in connection.execute(of_media)}
            frames = (
                select(Media.id, Media.event_id)
                .where(Media.event_id.in_(set(event_of.values()) - {None}))
                .where(Media.status != MediaStatus.REJECTED)
                .order_by(Media.captured_at, Media.id)
            )
            for row in connection.execute(frames):
                events.setdefault(row.event_id, []).append(row.id)
        return {
            media_id: _around(events.get(event_of.get(media_id) or 0, [media_id]), media_id, most)
            for media_id in media_ids
        }

    def dimensions(self, media_ids: Sequence[int]) -> dict[int, tuple[int, int]]:
        """(width, height) in pixels, upright, of the media where they are known."""
        query = select(Media.id, Media.width, Media.height).where(
            Media.id.in_(media_ids), Media.width.is_not(None), Media.height.is_not(None)
        )
        with self._read() as connection:
            return {row.id: (row.width, row.height) for row in connection.execute(query)}

    def event_places(self, media_ids: Sequence[int]) -> list[tuple[Cursor, int]]:
        """(place, event) of these media, newest first; those without an event are left out."""
        query = (
            select(Media.captured_at, Media.id, Media.event_id)
            .where(Media.id.in_(media_ids), Media.event_id.is_not(None))
            .where(Media.status != MediaStatus.REJECTED)
        )
        with self._read() as connection:
            rows = [(Cursor(row[0], row[1]), int(row[2] or 0)) for row in connection.execute(query)]
        return sorted(rows, reverse=True)


def _page(found: list[Cursor], following: Cursor | None) -> BrowsePage:
    return BrowsePage(tuple(place.media_id for place in found), following)


def _stretch(wanted: BrowseFilter, after: Cursor | None) -> _Stretch:
    """All that lies ahead. Only the nearer of two limits is said: SQLite can seek but one."""
    if after is not None and wanted.until is not None and wanted.until <= after.captured_at:
        after = None
    return _Stretch(after, wanted.until if after is None else None, wanted.since)


def _lies_in(place: Cursor, stretch: _Stretch) -> bool:
    """For places that lie ahead; is it in this piece of it?"""
    return (stretch.after is None or place < stretch.after) and (
        stretch.back_to is None or place >= stretch.back_to
    )


def _back_to(
    connection: Connection, walks: Sequence[Trail], ahead: _Stretch, rows: int
) -> Cursor | None:
    """How far back each index can be walked by passing at most so many rows; None: to its end."""
    reached = []
    for trail in walks:
        query = _within(_passed(trail), trail, ahead)
        place = connection.execute(query.limit(1).offset(rows - 1)).first()
        if place is not None:
            reached.append(Cursor(*place))
    return max(reached, default=None)


def _passed(trail: Trail) -> Select[*tuple[Any, ...]]:
    assert trail.passed is not None, "small sets are not walked"
    return trail.passed


def _fitting(
    connection: Connection, trails: Sequence[Trail], stretch: _Stretch, most: int | None
) -> list[Cursor]:
    """What fits in a stretch: the `most` newest of each trail, newest first."""
    places: set[Cursor] = set()
    for trail in trails:
        query = _within(trail.fitting, trail, stretch).limit(most)
        places |= {Cursor(*row) for row in connection.execute(query)}
    return sorted(places, reverse=True)


def _within(
    query: Select[*tuple[Any, ...]], trail: Trail, stretch: _Stretch
) -> Select[*tuple[Any, ...]]:
    at, media_id = trail.at, trail.media_id
    if (after := stretch.after) is not None:
        query = query.where(
            at <= after.captured_at, (at < after.captured_at) | (media_id < after.media_id)
        )
    elif stretch.until is not None:
        query = query.where(at < stretch.until)
    if (last := stretch.back_to) is not None:
        query = query.where(
            at >= last.captured_at, (at > last.captured_at) | (media_id >= last.media_id)
        )
    elif stretch.since is not None:
        query = query.where(at >= stretch.since)
    return query.order_by(at.desc(), media_id.desc())


def _around(frames: list[int], media_id: int, most: int) -> list[int]:
    """At most so many neighbours, this one in their middle where that is possible."""
    if media_id not in frames:
        return [media_id]
    start = frames.index(media_id) - most // 2
    start = max(0, min(start, len(frames) - most))
    return frames[start : start + most]
