"""In which order frames are asked about: worked out once, used by many requests, renewed behind
them. Where a frame stands by now (labelled, held) is looked up when it is handed out."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from monitor.core.domain import Sighting
from monitor.log.features import FeatureStore
from monitor.log.species_log import SpeciesLog
from monitor.review.next_frames import ask_next

FEW, MANY = 2_000, 20_000
"""So many candidates are ordered at first, and where those do not do (a night of waving grass is
one event of thousands of unsure frames): 50 and 250 ms on a million media, and half a second more
to compare their features."""
KEPT_ORDERS = 32
TOO_OLD = 10
"""An order this many times older than it may be is not used any more, not even once."""
OpenFeatures = Callable[[], AbstractContextManager[FeatureStore | None]]
"""Opens the feature cache, if there is one (`monitor.review.features.features_of`)."""


class Queue(StrEnum):
    """What a reviewer wants to look at."""

    INFORMATIVE = "informative"
    NEWEST = "newest"
    FLAGGED = "flagged"
    DISAGREEMENT = "disagreement"
    SUSPECT = "suspect"


UNLABELLED = (Queue.INFORMATIVE, Queue.NEWEST)
FRESH = {
    Queue.INFORMATIVE: timedelta(seconds=60),
    Queue.NEWEST: timedelta(seconds=3),
    Queue.FLAGGED: timedelta(seconds=3),
    Queue.DISAGREEMENT: timedelta(seconds=10),
    Queue.SUSPECT: timedelta(seconds=10),
}
"""How old an order may be before it is renewed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A queue, perhaps only what is predicted as one species, or taken at one deployment."""

    queue: Queue
    species: str | None = None
    deployment: str | None = None


@dataclass(frozen=True, slots=True)
class _Order:
    """`is_whole`: there are no more candidates than were ordered here; `alike`: so many of them are
    not asked about, because they look like others of their event."""

    media_ids: tuple[int, ...]
    limit: int
    made_at: datetime
    is_whole: bool
    alike: int = 0


class Orders:
    """The orders that are in use. Safe to share between threads."""

    def __init__(
        self, log: SpeciesLog, clock: Callable[[], datetime], features: OpenFeatures
    ) -> None:
        self._log, self._clock, self._features = log, clock, features
        self._kept: OrderedDict[Asked, _Order] = OrderedDict()
        self._lock = threading.Lock()
        self._making = threading.Lock()

    def of(self, asked: Asked) -> Iterator[tuple[int, ...]]:
        """The candidates, the best first; then, for one whom these were not enough, a new order,
        and a longer one.

        Raises:
            UnknownSpecies: no species answers to that name.
        """
        kept = self._get(asked)
        if kept is not None:
            yield kept.media_ids
        if kept is None or not (kept.is_whole and self._age(kept) < FRESH[asked.queue]):
            kept = self._make(asked, FEW)
            yield kept.media_ids
        if not kept.is_whole:
            yield self._make(asked, MANY).media_ids

    def alike(self, asked: Asked) -> int:
        """Unlabelled frames that are not asked about, because they look like others of their event
        that are; 0 where the order does not reach so far."""
        kept = self._get(asked)
        return kept.alike if kept is not None else 0

    def renew(self, asked: Asked) -> None:
        """Make the order anew if it is getting old; for after an answer was sent."""
        kept = self._get(asked)
        if kept is None or self._age(kept) < FRESH[asked.queue]:
            return
        if self._making.acquire(blocking=False):  # one at a time is enough
            try:
                self._keep(asked, self._order(asked, kept.limit))
            finally:
                self._making.release()

    def _get(self, asked: Asked) -> _Order | None:
        with self._lock:
            kept = self._kept.get(asked)
            if kept is not None:
                self._kept.move_to_end(asked)
        if kept is not None and self._age(kept) > TOO_OLD * FRESH[asked.queue]:
            return None
        return kept

    def _make(self, asked: Asked, limit: int) -> _Order:
        before = self._get(asked)
        with self._making:
            made = self._get(asked)
            if made is not None and made is not before and made.limit >= limit:
                return made  # somebody else's, while this one waited
            order = self._order(asked, limit)
            self._keep(asked, order)
        return order

    def _keep(self, asked: Asked, order: _Order) -> None:
        with self._lock:
            self._kept[asked] = order
            self._kept.move_to_end(asked)
            while len(self._kept) > KEPT_ORDERS:
                self._kept.popitem(last=False)

    def _age(self, order: _Order) -> timedelta:
        return abs(self._clock() - order.made_at)  # a clock set back makes it old, not young

    def _order(self, asked: Asked, limit: int) -> _Order:
        now = self._clock()
        if asked.queue is Queue.INFORMATIVE:
            candidates = self._log.queue_candidates(limit, asked.species, asked.deployment)
            with self._features() as features:
                ranked = ask_next(self._log, candidates, features, limit)
            whole = len(candidates) < limit
            alike = len(candidates) - len(ranked) if whole else 0
            return _Order(tuple(c.media_id for c in ranked), limit, now, whole, alike)
        found = self._found(asked, limit)
        kept = found if asked.queue in UNLABELLED else self._restricted(found, asked)
        return _Order(tuple(kept), limit, now, len(found) < limit)

    def _found(self, asked: Asked, limit: int) -> list[int]:
        if asked.queue is Queue.NEWEST:
            return self._log.newest_unlabelled(limit, asked.species, asked.deployment)
        if asked.queue is Queue.FLAGGED:
            return self._log.flagged(limit=limit)
        if asked.queue is Queue.SUSPECT:
            return [one.media_id for one in self._log.suspects(limit)]
        return self._log.disagreements(limit)

    def _restricted(self, media_ids: list[int], asked: Asked) -> list[int]:
        """Those of the species (by the best statement there is) and the deployment asked for."""
        if asked.species is None and asked.deployment is None:
            return media_ids
        species = None if asked.species is None else self._log.species_named(asked.species)
        return [
            sighting.media_id
            for sighting in self._log.sightings_of(media_ids)
            if asked.deployment in (None, sighting.deployment)
            and (species is None or species in _named(sighting))
        ]


def _named(sighting: Sighting) -> set[str | None]:
    return {sighting.species, *(o.species for o in sighting.observations)}
