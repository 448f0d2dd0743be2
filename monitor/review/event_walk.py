"""Independent sightings in order of time: events of which a frame fits, newest first, in pages."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from monitor.core.domain import Sighting
from monitor.core.events import EventSighting, summarise
from monitor.log.browse import BUDGET_SECONDS, BrowsePage, Cursor
from monitor.log.filters import BrowseFilter
from monitor.log.species_log import SpeciesLog

FRAMES_AT_ONCE = 500
EVENTS_AT_ONCE = 25
Shown = Callable[[EventSighting], bool]


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events, newest first; `next` as in `BrowsePage`."""

    events: tuple[EventSighting, ...]
    next: Cursor | None


def events(
    log: SpeciesLog, wanted: BrowseFilter, limit: int | None = None
) -> Iterator[EventSighting]:
    """The events that hold a frame that fits, newest first; of a species, those that say it.

    Raises:
        UnknownSpecies: no species answers to the name.
    """
    size = min(limit or FRAMES_AT_ONCE, FRAMES_AT_ONCE)
    return islice(_every(log, wanted, size), limit)


def _every(log: SpeciesLog, wanted: BrowseFilter, size: int) -> Iterator[EventSighting]:
    after: Cursor | None = None
    while True:
        page = event_page(log, wanted, size, after, math.inf)
        yield from page.events
        if page.next is None:
            return
        after = page.next


def event_page(
    log: SpeciesLog,
    wanted: BrowseFilter,
    size: int,
    after: Cursor | None = None,
    budget_seconds: float = BUDGET_SECONDS,
    shown: Shown = lambda event: True,
) -> EventPage:
    """At most `size` of the events whose newest frame that fits comes after a place.

    Args:
        shown: events for which this is False are left out.

    Raises:
        UnknownSpecies: no species answers to the name.
    """
    ends_at = time.monotonic() + budget_seconds
    name = log.species_named(wanted.species) if wanted.species else None
    found: list[EventSighting] = []
    while True:
        left = max(ends_at - time.monotonic(), 0)
        page = log.browse(wanted, min(FRAMES_AT_ONCE, 4 * size), after, left)
        for part in _parts(log, page):
            for number, event in _summaries(log, wanted, part, after, name):
                if shown(event):
                    found.append(event)
                if len(found) == size:
                    return EventPage(tuple(found), part[number])
            if time.monotonic() >= ends_at:
                return EventPage(tuple(found), min(part.values()))
        after = page.next
        if after is None or time.monotonic() >= ends_at:
            return EventPage(tuple(found), after)


def _parts(log: SpeciesLog, page: BrowsePage) -> Iterator[dict[int, Cursor]]:
    """The events of a page, each with its newest frame there; a few at a time, newest first."""
    newest: dict[int, Cursor] = {}
    for place, number in log.event_places(page.media_ids):
        newest.setdefault(number, place)
    events = iter(newest.items())
    while part := dict(islice(events, EVENTS_AT_ONCE)):
        yield part


def _summaries(
    log: SpeciesLog,
    wanted: BrowseFilter,
    newest: dict[int, Cursor],
    after: Cursor | None,
    name: str | None,
) -> Iterator[tuple[int, EventSighting]]:
    """Those of these events, by their number, that were not shown before this page."""
    frames = log.event_frames(list(newest))
    before = _already_shown(log, wanted, frames, after)
    for number in newest:
        if number in frames and number not in before:
            summary = summarise(frames[number], about=name)
            if name is None or summary.species == name:
                yield number, summary


def _already_shown(
    log: SpeciesLog, wanted: BrowseFilter, frames: dict[int, list[Sighting]], after: Cursor | None
) -> set[int]:
    """Events of which a frame that fits lies before this page: they were on an earlier one."""
    if after is None:
        return set()
    earlier = {
        frame.media_id: number
        for number, of_event in frames.items()
        for frame in _newer(of_event, after)
    }
    return {earlier[media_id] for media_id in log.which_fit(wanted, list(earlier))}


def _newer(frames: Sequence[Sighting], place: Cursor) -> list[Sighting]:
    return [frame for frame in frames if (frame.captured_at, frame.media_id) >= place]
