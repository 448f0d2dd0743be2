"""The review desk: hands frames to reviewers, each event to one of them at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from monitor.log.label_errors import MOST_SUSPECTS
from monitor.log.reviewing import Standing, disagree
from monitor.log.species_log import SpeciesLog
from monitor.web.orders import UNLABELLED, Asked, OpenFeatures, Orders, Queue

LEASE = timedelta(minutes=10)
ATTEMPTS = 30
"""Between the look and the lease somebody else may take an event: then it is looked again. Each
time another one got what he wanted, so this is enough for so many who ask at one instant."""
LOOKED_UP = 200
WAITING_FRESH = timedelta(seconds=10)
SESSIONS = 500


class ReviewQueue:
    """Which frames come next, for each reviewer. Safe to share between threads."""

    def __init__(
        self, log: SpeciesLog, clock: Callable[[], datetime], features: OpenFeatures
    ) -> None:
        self._log, self._clock = log, clock
        self._orders = Orders(log, clock, features)
        self._answered = _Answered()
        self._waiting: tuple[int, datetime] | None = None

    def next(
        self, session: str, count: int, holding: Sequence[int], asked: Asked
    ) -> tuple[int, ...]:
        """Up to `count` frames for a session to look at. Their events are its own for `LEASE`,
        and so are those of the frames it still holds.

        In the informative queue one frame of an event comes before a second one of any. What was
        handed out and is not in `holding` any more (an answer that was lost, a page that was
        loaded again) is handed out again.

        Raises:
            UnknownSpecies: no species answers to that name.
        """
        now = self._clock()
        held = {s.event_id for s in self._log.standing(holding, now).values()}
        for _ in range(ATTEMPTS):
            wanted: list[Standing] = []
            for order in self._orders.of(asked):
                wanted = self._pick(order, session, count, holding, held, asked.queue, now)
                if len(wanted) == count:
                    break
            got = self._take(wanted, session, held, asked.queue, now)
            if len(got) == len(wanted):
                break
        return tuple(standing.media_id for standing in got)

    def release(self, session: str, media_ids: Sequence[int]) -> None:
        """The session will not look at these: their events are free."""
        standing = self._log.standing(media_ids, self._clock())
        self._log.release(sorted({s.event_id for s in standing.values()}), session)

    def answered(self, session: str, media_ids: Sequence[int]) -> None:
        """The session labelled these: it is not asked about them again for a while, though they
        may still be flagged or people may still disagree."""
        self._answered.put(session, media_ids, self._clock())

    def waiting(self) -> int:
        """How many classified media nobody labelled, at most a few seconds ago."""
        kept = self._waiting
        if kept is None or abs(self._clock() - kept[1]) > 2 * WAITING_FRESH:
            kept = self._count()
        return kept[0]

    def alike(self, asked: Asked) -> int:
        """As `Orders.alike`."""
        return self._orders.alike(asked)

    def renew(self, asked: Asked) -> None:
        """Work out anew what is getting old; for after an answer was sent."""
        self._orders.renew(asked)
        if self._waiting is None or abs(self._clock() - self._waiting[1]) > WAITING_FRESH:
            self._count()

    def _count(self) -> tuple[int, datetime]:
        self._waiting = counted = (self._log.waiting(), self._clock())
        return counted

    def _pick(
        self,
        order: Sequence[int],
        session: str,
        count: int,
        holding: Sequence[int],
        held: Collection[int],
        queue: Queue,
        now: datetime,
    ) -> list[Standing]:
        """The frames that should come next, as things stand."""
        holds, events = set(holding), set(held)
        first: list[Standing] = []
        second: list[Standing] = []  # of events of which there is one frame already
        for standing in self._fitting(order, session, queue, now):
            if standing.media_id in holds:
                continue
            if queue is Queue.INFORMATIVE and standing.event_id in events:
                second.append(standing)
            else:
                events.add(standing.event_id)
                first.append(standing)
            if len(first) == count:
                break
        return [*first, *second][:count]

    def _fitting(
        self, order: Sequence[int], session: str, queue: Queue, now: datetime
    ) -> Iterator[Standing]:
        """Those of `order` that the session may get and that still belong into the queue."""
        answered = self._answered.of(session, now)
        for start in range(0, len(order), LOOKED_UP):
            part = order[start : start + LOOKED_UP]
            found = self._log.standing(part, now)
            fits = self._belong(part, queue)
            for media_id in part:
                standing = found.get(media_id)
                if standing is None or standing.rejected or media_id not in fits:
                    continue
                done = standing.labelled if queue in UNLABELLED else media_id in answered
                if not done and standing.held_by in (None, session):
                    yield standing

    def _belong(self, media_ids: Sequence[int], queue: Queue) -> Collection[int]:
        if queue is Queue.FLAGGED:
            return set(self._log.flagged(media_ids))
        if queue is Queue.SUSPECT:
            return {one.media_id for one in self._log.suspects(MOST_SUSPECTS)}
        if queue is Queue.DISAGREEMENT:
            said = self._log.statements(media_ids)
            return {media_id for media_id in media_ids if disagree(said.get(media_id, []))}
        return media_ids

    def _take(
        self,
        wanted: Sequence[Standing],
        session: str,
        held: Collection[int],
        queue: Queue,
        now: datetime,
    ) -> list[Standing]:
        """Lease the events of `wanted`, renew `held`; those that the session really got."""
        events = list(dict.fromkeys([*held, *(standing.event_id for standing in wanted)]))
        if not events:
            return []
        mine = set(self._log.lease(events, session, len(events), now, LEASE))
        ids = [standing.media_id for standing in wanted if standing.event_id in mine]
        got = list(self._fitting(ids, session, queue, now))
        needless = mine - {standing.event_id for standing in got} - set(held)
        self._log.release(sorted(needless), session)
        return got


class _Answered:
    """What sessions labelled lately. Only kept here: a service that starts anew asks once more."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, dict[int, datetime]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, session: str, media_ids: Sequence[int], now: datetime) -> None:
        """Do not ask this session about these for as long as a lease."""
        with self._lock:
            kept = {m: until for m, until in self._of(session) if now < until <= now + LEASE}
            self._until[session] = kept | dict.fromkeys(media_ids, now + LEASE)
            self._until.move_to_end(session)
            while len(self._until) > SESSIONS:
                self._until.popitem(last=False)

    def of(self, session: str, now: datetime) -> set[int]:
        """What the session labelled so lately."""
        with self._lock:
            return {m for m, until in self._of(session) if now < until <= now + LEASE}

    def _of(self, session: str) -> Iterable[tuple[int, datetime]]:
        return self._until.get(session, {}).items()
