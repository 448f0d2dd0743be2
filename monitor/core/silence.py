"""Cameras that fall silent, each by its own rhythm, and what is said of such times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from monitor.core.spans import Span

SILENT_AFTER = timedelta(days=3)
"""No camera counts as silent before, if the config says nothing else."""
SILENT_GAPS = 3.0
"""So many times its usual longest pause a camera may be quiet, if the config says nothing else."""
FUTURE_TOLERANCE = timedelta(days=1)
"""A camera whose frames are from later than this runs ahead (zones and drift make less)."""


class OutageState(StrEnum):
    """What is known of an outage. A dismissed one was none: the camera watched."""

    PROPOSED = "proposed"
    CONFIRMED = "confirmed"
    DISMISSED = "dismissed"


class Reason(StrEnum):
    """Why a camera did not watch."""

    BATTERY = "battery"
    CARD_FULL = "card full"
    MOVED = "moved"
    STOLEN = "stolen"
    CLOCK_WRONG = "clock wrong"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Rule:
    """When a camera counts as silent: after `after`, but never before `gaps` times the pause
    that it usually keeps at most."""

    after: timedelta = SILENT_AFTER
    gaps: float = SILENT_GAPS


@dataclass(frozen=True, slots=True)
class Silence:
    """From a frame to the next one, far longer than this camera is used to; `end` is None while
    it lasts."""

    start: datetime
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which a camera did not watch (or, dismissed, in which it did, though silent).

    Attributes:
        end: None while it lasts.
        by: who said so; None: the station proposes it.
        said_at: when it was proposed or said.
    """

    id: int
    deployment: str
    start: datetime
    end: datetime | None
    state: OutageState
    reason: Reason | None
    note: str | None
    by: str | None
    said_at: datetime

    def until(self, now: datetime) -> Span:
        """Its time so far."""
        return Span(self.start, max(self.start, self.end if self.end is not None else now))


@dataclass(frozen=True, slots=True)
class Captures:
    """When one deployment took frames, by its corrected clock; frames of the future left out.

    Attributes:
        start, end: as a person or the list says; None: nobody said.
        first, last: its first and last frame.
        newest: the latest capture time among the frames that came in last (within a day),
            wherever it lies.
        gaps: pauses between neighbouring frames that are longer than `Rule.after`, in order.
        days_before: start of a gap (and `last`) -> days with frames in the months before.
        first_days: days with frames in the months after `first`.
    """

    deployment: str
    start: datetime | None
    end: datetime | None
    first: datetime
    last: datetime
    newest: datetime
    gaps: Sequence[Span] = ()
    days_before: Mapping[datetime, Sequence[date]] = field(default_factory=dict)
    first_days: Sequence[date] = ()


def usual_gap_days(days: Sequence[date]) -> int:
    """The pause between days with frames that a camera keeps in 95 of 100 cases (nearest rank);
    0 if it sent frames on fewer than two days.

    Args:
        days: on which it sent frames, in order.
    """
    gaps = sorted((later - earlier).days for earlier, later in pairwise(days))
    return gaps[math.ceil(0.95 * len(gaps)) - 1] if gaps else 0


def silent_after(days: Sequence[date], rule: Rule = Rule()) -> timedelta:
    """How long a camera with frames on these days may be quiet before it counts as silent."""
    return max(rule.after, rule.gaps * timedelta(days=usual_gap_days(days)))


def clock_doubt(captures: Captures, now: datetime) -> str | None:
    """Why the camera's clock is not to be believed; None: nothing speaks against it.

    Among what came in last is the newest frame of all, unless the clock fell back (or somebody
    put an old card in: then, too, it is better to propose nothing).
    """
    if captures.newest > now + FUTURE_TOLERANCE:
        return f"what came in last says {captures.newest:%Y-%m-%d}, which is in the future"
    if captures.newest < captures.last - SILENT_AFTER:
        return (
            f"what came in last says {captures.newest:%Y-%m-%d}, "
            f"after frames of {captures.last:%Y-%m-%d} had come in"
        )
    return None


def lasting_silence(
    last: datetime,
    end: datetime | None,
    days: Sequence[date],
    now: datetime,
    rule: Rule = Rule(),
) -> Silence | None:
    """The silence in which a camera is now; None: it is not silent, or nobody expects frames.

    Args:
        last: its last frame.
        end: of the deployment; None: it goes on.
        days: on which it sent frames, in the months before.
    """
    has_ended = end is not None and end <= now
    is_silent = now - last > silent_after(days, rule)
    return Silence(last) if is_silent and not has_ended else None


def silences(captures: Captures, now: datetime, rule: Rule = Rule()) -> list[Silence]:
    """Every silence of a camera up to now, in order; the last one may still last.

    Between its start and its first frame, and between its last one and its end, where people said
    when these were, it may have been as silent as between two frames.
    """
    found = [
        Silence(gap.start, gap.end)
        for gap in captures.gaps
        if gap.end - gap.start > silent_after(captures.days_before.get(gap.start, ()), rule)
    ]
    if captures.start is not None and captures.start < captures.first:
        ends = min(captures.first, captures.end or captures.first)
        if ends - captures.start > silent_after(captures.first_days, rule):
            found.insert(0, Silence(captures.start, ends))
    days, tail = captures.days_before.get(captures.last, ()), tail_of(captures, now)
    lasting = lasting_silence(captures.last, captures.end, days, now, rule)
    if lasting is not None:
        found.append(lasting)
    elif tail is not None and _length(tail) > silent_after(days, rule):
        found.append(tail)
    return found


def tail_of(captures: Captures, now: datetime) -> Silence | None:
    """From the last frame of a deployment that has ended to its end; None: it has not."""
    if captures.end is None or captures.end > now:
        return None
    return Silence(captures.last, max(captures.last, captures.end))


def never_heard(
    start: datetime | None, end: datetime | None, now: datetime, rule: Rule = Rule()
) -> list[Silence]:
    """The silence of a camera that has sent no frame since it was put up; none where nobody said
    when that was, or where it was put up just now."""
    if start is None:
        return []
    has_ended = end is not None and end <= now
    silence = Silence(start, end if has_ended else None)
    return [silence] if _length(silence, now) > rule.after else []


def _length(silence: Silence, now: datetime | None = None) -> timedelta:
    ends = silence.end if silence.end is not None else now
    return ends - silence.start if ends is not None else timedelta.max


@dataclass(frozen=True, slots=True)
class Changes:
    """What the station's own proposals have to become.

    Attributes:
        propose: new ones.
        end: outage id -> its end as the frames tell it (None: it lasts again).
        withdraw: ids of proposals that frames have disproved.
    """

    propose: Sequence[Silence] = ()
    end: Mapping[int, datetime | None] = field(default_factory=dict)
    withdraw: Sequence[int] = ()


def proposals(
    found: Sequence[Silence],
    outages: Sequence[Outage],
    tail: Silence | None = None,
    first: datetime | None = None,
    *,
    is_doubted: bool = False,
) -> Changes:
    """Bring what is proposed into line with the silences that the frames show.

    What a person said of a time stands: nothing is proposed that overlaps it. Only the open end
    of what began as a proposal is filled in when frames come again.

    Args:
        outages: all of this deployment, in any state.
        tail: of a deployment that has ended, from its last frame to its end: what was proposed
            before somebody said that it ended; it is not proposed anew if it is short.
        first: its first frame.
        is_doubted: its clock is not to be believed: all stays as it is.
    """
    if is_doubted:
        return Changes()
    by_start = {silence.start: silence for silence in found}
    if tail is not None:
        by_start.setdefault(tail.start, tail)
    propose, end, withdraw = [], {}, []
    for outage in outages:
        silence = by_start.get(outage.start)
        is_ours = outage.state is OutageState.PROPOSED
        if silence is not None:
            if outage.end != silence.end and (is_ours or outage.end is None):
                end[outage.id] = silence.end
        elif is_ours:
            withdraw.append(outage.id)
        elif first is not None and outage.end is None and outage.start < first:
            end[outage.id] = first
    gone = set(withdraw)
    kept = [replace(o, end=end.get(o.id, o.end)) for o in outages if o.id not in gone]
    for silence in found:
        if not any(_overlap(silence, outage) for outage in kept):
            propose.append(silence)
    return Changes(propose, end, withdraw)


def _overlap(silence: Silence, outage: Outage) -> bool:
    starts_before = silence.end is None or outage.start < silence.end
    ends_after = outage.end is None or outage.end > silence.start
    return outage.start == silence.start or (starts_before and ends_after)
