"""A duty: what is new in the log since the last look, and what of it people should be told.

What was looked at is remembered in the same transaction as what is told, so that after a sudden end
nothing is told twice and nothing is forgotten.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from monitor.core.clock_check import clock_problem
from monitor.core.config import Settings
from monitor.core.domain import TrapwatchError, iso_utc, parse_iso_utc, shown_path
from monitor.core.privacy import PrivateSpecies
from monitor.core.silence import OutageState
from monitor.health import alert_rules as rules
from monitor.health.alert_channels import ChannelsError, channels_of
from monitor.health.alerts import is_cooling, raise_alert
from monitor.health.verdict import WORST_LAST, Finding, Level, health_of
from monitor.log.alerts import PAGE, NewAlert
from monitor.log.context import Context
from monitor.log.crashing_files import CONDEMNED
from monitor.log.species_log import SpeciesLog

logger = logging.getLogger(__name__)

LOOK_SECONDS = 30.0
FORGET_SECONDS = 86_400.0
KEPT = timedelta(days=366)
STATE_KEY = "alerts seen"
ONCE = {
    "recovery": ("restored", "the log was restored", ""),
    "restart": (
        "station",
        "the service began anew by itself",
        "Nothing is lost by that. If it happens again and again: trapwatch doctor",
    ),
}
"""State of the log -> kind, subject, advice: what happens at a time `at`, and is not told again
within the cool-down."""
OWN_CHECKS = ("alerts", "service")
"""Checks of the health of which no alert could tell."""
ABANDONED = timedelta(days=60)
"""A camera that is silent for so long already when that is noticed, was given up by its people."""
GATHERED = timedelta(minutes=5)
"""So long after the last proposal one waits for more: many at once are one alert."""

IsEnding = Callable[[], bool]
Facts = dict[str, Any]


def look_for_news(context: Context, is_ending: IsEnding = lambda: False) -> None:
    """One look, in bounded steps; the first one ever only notes where the log stands."""
    if not context.settings.alerts.is_on:
        return
    try:
        channels = tuple(channels_of(context.settings))
    except ChannelsError:  # said by the duty that sends
        return
    seen = context.log.state(STATE_KEY)
    if seen is None:
        context.log.put_state(STATE_KEY, _first_look(context), context.clock())
        return
    for alerts, facts in _looks(context, seen):
        wanted = [a for a in alerts if a.kind not in context.settings.alerts.leave_out]
        if wanted or facts != seen:
            context.log.add_alerts(wanted, channels, context.clock(), STATE_KEY, facts)
            seen = facts
        if is_ending():
            return


def tell_of_restored_log(settings: Settings, log: SpeciesLog, report: dict[str, Any]) -> None:
    """Tell people at once that the log was restored, where no look for news would find it."""
    if log.state(STATE_KEY) is not None:
        return  # whoever looks for news finds it; in a log that begins anew he would not
    kind, subject, _ = ONCE["recovery"]
    at = str(report["at"])
    try:
        raise_alert(log, settings, kind, at, subject, report["words"], parse_iso_utc(at))
    except TrapwatchError as error:  # the log is sound again, whoever is told of it
        logger.error("nobody could be told: %s", error)


def forget_old_alerts(context: Context, is_ending: IsEnding = lambda: False) -> None:
    """A duty: of what was told long ago nothing is kept."""
    while not is_ending():
        if context.log.drop_old_alerts(context.clock() - KEPT) < PAGE:
            return


def _first_look(context: Context) -> Facts:
    cursors = context.log.cursors()
    return {
        "prediction": cursors.prediction,
        "label": cursors.label,
        "run": cursors.run,
        "outage": cursors.outage,
        "live": _live(context)[0],
        "trouble": {},
        "once": {key: (context.log.state(key) or {}).get("at") for key in ONCE},
        "aside": sorted(_set_aside(context)),
    }


def _looks(context: Context, seen: Facts) -> Iterator[tuple[list[NewAlert], Facts]]:
    """What each step found to tell, and how far all was looked at by then."""
    now = context.clock()
    has_more = True
    while has_more:
        alerts, seen, has_more = _sightings(context, seen, now)
        yield alerts, seen
    for look in (_station, _deadly, _trouble):
        alerts, seen = look(context, seen, now)
        yield alerts, seen


def _sightings(context: Context, seen: Facts, now: datetime) -> tuple[list[NewAlert], Facts, bool]:
    settings, log = context.settings.alerts, context.log
    fresh = timedelta(hours=settings.fresh_hours)
    news = log.news(seen["prediction"], seen["label"], now - fresh, now + fresh)
    watched = PrivateSpecies(settings.species, log.called_today).names()
    private = PrivateSpecies(context.settings.web.private_species, log.called_today).names()
    alerts: dict[str, NewAlert] = {}
    for found in rules.seen_in(log.sightings_of(news.media_ids), settings.min_probability):
        alert = _worth_telling(context, found, watched, private, now)
        if alert is not None and (alert.key not in alerts or not settings.cool_down):
            alerts[alert.key if settings.cool_down else f"{alert.media_id} {alert.key}"] = alert
    facts = seen | {"prediction": news.prediction, "label": news.label}
    return list(alerts.values()), facts, not news.is_all


def _worth_telling(
    context: Context,
    found: rules.Seen,
    watched: frozenset[str],
    private: frozenset[str],
    now: datetime,
) -> NewAlert | None:
    """Of people and vehicles nobody is told who did not ask for it by name."""
    settings, log, event = context.settings.alerts, context.log, found.frame.event_id
    name, days = found.species.casefold(), settings.first_in_days
    at = parse_iso_utc(found.frame.captured_at)
    alert = rules.species_alert(
        found,
        is_watched=name in watched,
        is_first=days > 0
        and name not in private
        and not log.was_seen(
            found.species, at - timedelta(days=days), at, settings.min_probability, event
        ),
        first_in_days=days,
    )
    if alert is None or is_cooling(
        log.last_alert_at(alert.kind, alert.key), now, settings.cool_down
    ):
        return None
    if event is not None and log.was_told_of_event(alert.kind, alert.key, event):
        return None
    return alert


def _station(context: Context, seen: Facts, now: datetime) -> tuple[list[NewAlert], Facts]:
    """Trainings, the live model, silent cameras, and what happens once."""
    log, zone = context.log, context.settings.station.zone
    alerts, run = rules.training_alerts(log.runs(30), seen["run"], zone)
    live, reason = _live(context)
    if (alert := rules.model_alert(seen["live"], live, reason)) is not None:
        alerts.append(alert)
    once = dict(seen["once"])
    for key, (kind, subject, advice) in ONCE.items():
        facts, pause = log.state(key) or {}, context.settings.alerts.cool_down
        is_told = facts.get("at") == once.get(key)
        if not is_told and not is_cooling(log.last_alert_at(kind, subject), now, pause):
            once[key] = facts.get("at")
            if (alert := rules.told_once(kind, subject, advice, facts)) is not None:
                alerts.append(alert)
    facts = seen | {"run": run, "live": live or seen["live"], "once": once}
    silent, outage = _silent(context, seen["outage"], now)
    return alerts + silent, facts | {"outage": outage}


def _silent(context: Context, after: int, now: datetime) -> tuple[list[NewAlert], int]:
    if clock_problem(now, context.log.newest_written_at()) is not None:
        return [], after
    new = [o for o in context.log.outages() if o.id > after]
    if any(abs(now - o.said_at) < GATHERED for o in new):
        return [], after
    silent = [
        o
        for o in new
        if o.state is OutageState.PROPOSED and o.end is None and now - o.start < ABANDONED
    ]
    last = context.log.last_frames(iso_utc(now)) if silent else ()
    never = frozenset(one.deployment for one in last if one.captured_at is None)
    alerts = rules.silent_alerts(silent, context.settings.station.zone, never)
    return alerts, max((o.id for o in new), default=after)


def _deadly(context: Context, seen: Facts, now: datetime) -> tuple[list[NewAlert], Facts]:
    """Files that are not read any more: each once, as long as its bytes stay what they are."""
    aside, told = _set_aside(context), seen.get("aside", ())
    alerts = [rules.aside_alert(path) for mark, path in aside.items() if mark not in told]
    return alerts, seen | {"aside": sorted(aside)}


def _set_aside(context: Context) -> dict[str, str]:
    """A mark of the file and its bytes -> its path for people."""
    return {
        f"{file.path.hex()} {file.stamp.size} {file.stamp.mtime_ns}": shown_path(file.path)
        for file in context.log.deadly_files()
        if file.deaths >= CONDEMNED
    }


def _trouble(context: Context, seen: Facts, now: datetime) -> tuple[list[NewAlert], Facts]:
    """What the health finds wrong: disk, backup, log, clock, folders, GPU …"""
    found: dict[str, rules.Trouble] = {}
    for reason in health_of(context.settings, context.log, now).reasons:
        if reason.check not in OWN_CHECKS:
            level = WORST_LAST.index(reason.level) - WORST_LAST.index(Level.UNKNOWN)
            words = f"{reason.words}. {reason.advice}"
            trouble = rules.Trouble(reason.check, _subject(context, reason), level, words)
            if (other := found.get(trouble.key)) is not None:
                level, words = max(level, other.level), f"{other.words}\n{words}"
                trouble = replace(trouble, level=level, words=words)
            found[trouble.key] = trouble
    pause, told_at = context.settings.alerts.cool_down, dict(seen.get("trouble_at") or {})
    cooling = [key for key, at in told_at.items() if is_cooling(parse_iso_utc(at), now, pause)]
    alerts, known, told = rules.trouble_alerts(seen["trouble"], found, cooling)
    told_at = {key: told_at[key] for key in cooling} | dict.fromkeys(told, iso_utc(now))
    return alerts, seen | {"trouble": known, "trouble_at": told_at}


def _subject(context: Context, reason: Finding) -> str:
    """What a finding is about, in the same words each time; of a dying disk, not each file."""
    if reason.check != "folders":
        return reason.subject
    named = [shown_path(os.fsencode(folder)) for folder in context.settings.watch.folders]
    return max((name for name in named if name in reason.words), key=len, default="")


def _live(context: Context) -> tuple[str | None, str]:
    version = context.log.live_version()
    return (version.name, version.reason) if version is not None else (None, "")
