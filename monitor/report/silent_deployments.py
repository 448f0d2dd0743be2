"""Cameras that have been silent for far longer than they are used to."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from monitor.core.domain import iso_utc, parse_iso_utc
from monitor.core.silence import Rule, lasting_silence, usual_gap_days
from monitor.log.species_log import SpeciesLog
from monitor.log.today import HABIT_DAYS, LastFrame


def silent_deployments(log: SpeciesLog, now: datetime, rule: Rule = Rule()) -> list[dict[str, Any]]:
    """Deployments that sent nothing for far longer than they are used to, or nothing since they
    were put up; the latest to fall silent first. Those that have ended are not expected to."""
    last = {
        frame: at
        for frame in log.last_frames(iso_utc(now))
        if (at := _last_sign(frame)) is not None and now - at > rule.after
    }
    longest = rule.gaps * timedelta(days=HABIT_DAYS)  # no habit can be longer: it is not asked for
    habits = log.days_with_frames(frame for frame, at in last.items() if now - at <= longest)
    silent = []
    for frame, at in sorted(last.items(), key=lambda pair: pair[1], reverse=True):
        end, days = frame.end_at, habits.get(frame.deployment)
        ends = parse_iso_utc(end) if end is not None else None
        if lasting_silence(at, ends, days or (), now, rule) is not None:
            silent.append(
                {
                    "deployment": frame.deployment,
                    "last_frame_at": frame.captured_at,
                    "start_at": frame.start_at,
                    "silent_days": (now - at).days,
                    "usual_gap_days": usual_gap_days(days) if days is not None else None,
                }
            )
    return silent


def _last_sign(frame: LastFrame) -> datetime | None:
    """Its last frame, or when it was put up; None: it is not known when to expect anything."""
    if frame.captured_at is not None:
        return parse_iso_utc(frame.captured_at)
    if frame.start_at is not None and not frame.has_sent:
        return parse_iso_utc(frame.start_at)
    return None
