"""Groups of look-alikes for reviewers: found once for many requests, each with one person at a
time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from monitor.log.reviewing import Standing
from monitor.log.species_log import SpeciesLog
from monitor.review.groups import MOST_COMPARED, Group, find_groups, keep_groups
from monitor.web.orders import OpenFeatures
from monitor.web.review_queue import LEASE

FRESH = timedelta(seconds=60)
FEWEST = 2
"""Open frames below which a group is none any more."""


class GroupQueue:
    """Which groups come next, for each reviewer. Safe to share between threads."""

    def __init__(
        self, log: SpeciesLog, clock: Callable[[], datetime], features: OpenFeatures
    ) -> None:
        self._log, self._clock, self._features = log, clock, features
        self._found: tuple[list[Group], datetime] | None = None
        self._finding = threading.Lock()

    def free(self, session: str, frames: int, passed: Collection[str] = ()) -> list[Group]:
        """Groups that nobody else looks at, each with its frames that have no label by now.

        Args:
            frames: so many frames are enough; the last group may go beyond.
            passed: ids of groups that are not wanted.
        """
        found: list[Group] = []
        for group, _ in self._free(session, passed):
            if sum(len(one.media_ids) for one in found) >= frames:
                break
            found.append(group)
        return found

    def take(self, session: str, frames: int, passed: Collection[str] = ()) -> list[Group]:
        """As `free`, and their events are the session's own for ten minutes."""
        taken: list[Group] = []
        for group, events in self._free(session, passed):
            if sum(len(one.media_ids) for one in taken) >= frames:
                break
            got = self._log.lease(events, session, len(events), self._clock(), LEASE)
            if len(got) == len(events):
                taken.append(group)
            else:  # somebody was quicker
                self._log.release(got, session)
        return taken

    def hold(self, session: str, media_ids: Sequence[int]) -> None:
        """The session still looks at these frames: their events stay its own."""
        now = self._clock()
        standing = self._log.standing(media_ids, now).values()
        events = sorted({one.event_id for one in standing if one.held_by in (None, session)})
        if events:
            self._log.lease(events, session, len(events), now, LEASE)

    def _free(self, session: str, passed: Collection[str]) -> Iterator[tuple[Group, list[int]]]:
        """(group, its events)."""
        now = self._clock()
        for group in self._groups():
            if group.id in passed:
                continue
            standing = self._log.standing(group.media_ids, now)
            if any(one.held_by not in (None, session) for one in standing.values()):
                continue
            left = tuple(m for m in group.media_ids if m in standing and _open(standing[m]))
            if len(left) >= FEWEST:
                events = sorted({standing[media_id].event_id for media_id in left})
                yield replace(group, media_ids=left), events

    def _groups(self) -> list[Group]:
        """All groups, found a minute ago at most."""
        with self._finding:
            kept = self._found
            if kept is not None and abs(self._clock() - kept[1]) < FRESH:
                return kept[0]
            with self._features() as features:
                candidates = self._log.newest_candidates(MOST_COMPARED)
                found = find_groups(self._log, candidates, features)
            now = self._clock()
            keep_groups(self._log, found, now)
            self._found = found, now
            return found


def _open(standing: Standing) -> bool:
    return not standing.labelled and not standing.rejected
