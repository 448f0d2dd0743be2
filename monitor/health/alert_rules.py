"""What is worth telling people. Pure: no log, no clock, no channel."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from zoneinfo import ZoneInfo

from monitor.core.domain import BLANK, UNKNOWN, RunState, Sighting, Source, parse_iso_utc
from monitor.core.silence import Outage
from monitor.log.alerts import NewAlert
from monitor.log.runs import RunRow

MOST_NAMED = 10
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen:
    """A species in one event at one place, shown by its best frame.

    Attributes:
        probability: None where a person named it.
    """

    species: str
    probability: float | None
    frame: Sighting

    @property
    def key(self) -> str:
        """What the cool-down is about: a species at a place."""
        return f"{self.species}|{self.frame.deployment}"


def species_in(frame: Sighting, min_probability: float) -> list[str]:
    """The animals that a frame shows surely enough to speak of them."""
    if frame.source is Source.LABEL:
        said = [o.species for o in frame.observations]
    elif frame.source is Source.PREDICTION and (frame.probability or 0.0) >= min_probability:
        said = [frame.species] if frame.species else []
    else:
        said = []
    return [name for name in dict.fromkeys(said) if name not in (BLANK, UNKNOWN)]


def seen_in(frames: Iterable[Sighting], min_probability: float) -> list[Seen]:
    """One entry for each species, place and event, the newest first, with its surest frame."""
    best: dict[tuple[str, str, int], Seen] = {}
    for frame in frames:
        for species in species_in(frame, min_probability):
            probability = None if frame.source is Source.LABEL else frame.probability
            event = frame.event_id if frame.event_id is not None else -frame.media_id
            seen = Seen(species, probability, frame)
            known = best.get((species, frame.deployment, event))
            if known is None or _certainty(seen) > _certainty(known):
                best[species, frame.deployment, event] = seen
    return sorted(best.values(), key=lambda seen: seen.frame.captured_at, reverse=True)


def _certainty(seen: Seen) -> float:
    return 2.0 if seen.probability is None else seen.probability


def species_alert(
    seen: Seen, *, is_watched: bool, is_first: bool, first_in_days: float
) -> NewAlert | None:
    """The words about one sighting; None if it is not worth any."""
    if not (is_watched or is_first):
        return None
    frame = seen.frame
    first = f"the first in {first_in_days:g} days"
    subject = f"{seen.species} at {frame.deployment}" + (f", {first}" if is_first else "")
    if seen.probability is None:
        sure = "as a person says"
    else:
        sure = f"{seen.probability:.0%} sure, as model {frame.model_version} says"
    when = frame.captured_local.replace("T", " ")
    body = f"{seen.species} at {frame.deployment} on {when} (clock of the camera), {sure}. "
    body += f"Frame {frame.media_id}."
    return NewAlert("species", seen.key, subject, body, frame.media_id)


def training_alerts(
    runs: Sequence[RunRow], after: int, zone: ZoneInfo
) -> tuple[list[NewAlert], int]:
    """Trainings that failed since the run `after`: the first of each row of failures.

    Args:
        runs: the newest, the newest first.
        zone: in which people read times.

    Returns:
        and the last run that has ended, up to which all is told.
    """
    alerts, failed = [], False
    for run in reversed(runs):
        if run.state is RunState.RUNNING:
            break
        fails = run.state is RunState.FAILED
        if run.id > after:
            after = run.id
            if fails and not failed:
                at = _shown(parse_iso_utc(run.started_at), zone)
                body = f"The training of {at} failed: {run.message}. "
                body += "It is tried again by itself. The live model stays as it is."
                alerts.append(NewAlert("training", "training", "a training failed", body))
        failed = fails
    return alerts, after


def _shown(moment: datetime, zone: ZoneInfo) -> str:
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M %Z}"


def silent_alerts(
    proposed: Sequence[Outage], zone: ZoneInfo, never: Container[str] = ()
) -> list[NewAlert]:
    """Cameras that have newly fallen silent, in one alert: after a storm it may be all of them.

    Args:
        never: those that have sent no frame at all.
    """
    if not proposed:
        return []
    told = [
        f"{o.deployment}: no frame at all since its start, {_shown(o.start, zone)}"
        if o.deployment in never
        else f"{o.deployment}: no frame since {_shown(o.start, zone)}"
        for o in proposed
    ]
    names = [o.deployment for o in proposed]
    one = f"camera {names[0]} is silent"
    subject = one if len(names) == 1 else f"{len(names)} cameras are silent"
    advice = "Was it the battery, the card, or is it gone? Say so: trapwatch deployments outage"
    body = f"{_lines(told)}\n{advice}"
    return [NewAlert("silent", "|".join(names)[:200], subject, body)]


def model_alert(before: str | None, live: str | None, reason: str) -> NewAlert | None:
    """A new version speaks."""
    if live is None or live == before:
        return None
    body = f"{live} is the live model now: {reason}. Past frames are looked at again with it."
    return NewAlert("model", live, f"new model {live} is live", body)


def told_once(
    kind: str, what: str, advice: str, facts: Mapping[str, object] | None
) -> NewAlert | None:
    """A thing that happened once and is remembered in the log with its time and its words."""
    if not facts:
        return None
    words = str(facts.get("words") or facts.get("reason") or what)
    return NewAlert(kind, what, what, f"{words}. {advice}" if advice else words)


def aside_alert(path: str) -> NewAlert:
    """A file that is not read any more."""
    body = f"Reading {path} ended the program twice, so it is not read again as it is. All other "
    body += "frames go on. It is still where it was: look at it on another computer, or delete it."
    return NewAlert("station", f"set aside: {path}"[:200], "a file was set aside", body)


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that the health finds wrong.

    Attributes:
        check: of the health: folders, workers …
        subject: which of those it is about; empty where a check is about one thing alone.
        level: how bad it is, 1 or more.
    """

    check: str
    subject: str
    level: int
    words: str

    @property
    def key(self) -> str:
        """By which it is remembered."""
        return f"{self.check}|{self.subject}" if self.subject else self.check


def trouble_alerts(
    before: Mapping[str, int], now: Mapping[str, Trouble], cooling: Iterable[str]
) -> tuple[list[NewAlert], dict[str, int], list[str]]:
    """What has become worse or well since the last look; all of one check in one alert.

    Args:
        before: key -> the level that people were told.
        now: key -> what is wrong.
        cooling: keys of which they were told just now: these wait.

    Returns:
        and key -> the level that they know after this, and the keys that are told.
    """
    waits, known = frozenset(cooling), dict(before)
    worse = [t for key, t in now.items() if t.level > before.get(key, 0) and key not in waits]
    over = [key for key in before if key not in now and key not in waits]
    known |= {trouble.key: trouble.level for trouble in worse}
    for key in over:
        del known[key]
    alerts = [
        NewAlert("station", check, f"{check}: trouble", _lines(t.words for t in troubles))
        for check, troubles in _by_check(worse, lambda trouble: trouble.check)
    ]
    for check, keys in _by_check(over, lambda key: key.partition("|")[0]):
        subjects = [subject for key in keys if (subject := key.partition("|")[2])]
        lasts = [t for t in now.values() if t.check == check]
        words = f"Over: {_lines(subjects)}" if subjects else "What was told before is over."
        if lasts and not subjects:
            continue  # it was told before its parts were told of one by one
        if lasts:
            words += f"\nNot over:\n{_lines(t.words for t in lasts)}"
        alerts.append(
            NewAlert("station", check, f"{check}: {'better' if lasts else 'well again'}", words)
        )
    return alerts, known, [*(t.key for t in worse), *over]


def _by_check(things: Iterable[T], check: Callable[[T], str]) -> list[tuple[str, list[T]]]:
    found: dict[str, list[T]] = {}
    for thing in things:
        found.setdefault(check(thing), []).append(thing)
    return list(found.items())


def _lines(words: Iterable[str]) -> str:
    """Each in a line of its own; not more than people read."""
    lines = list(words)
    more = len(lines) - MOST_NAMED
    return "\n".join([*lines[:MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])
