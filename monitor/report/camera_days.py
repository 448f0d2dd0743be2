"""Every deployment with what it sent and for how long it watched, as the command line and the API
tell it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from monitor.core.config import Settings
from monitor.core.days import Effort, effort_of
from monitor.core.domain import iso_utc
from monitor.core.silence import Outage, OutageState
from monitor.log.effort import DeploymentFacts
from monitor.log.species_log import SpeciesLog


def deployments_of(
    settings: Settings,
    log: SpeciesLog,
    now: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[dict[str, Any]]:
    """Every deployment, by name; effort within a period, where one is given."""
    facts = log.deployment_facts(now, settings.effort.rule)
    return [deployment_document(one, now, since, until) for one in facts]


def watched_days(
    settings: Settings,
    log: SpeciesLog,
    now: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
) -> dict[str, float]:
    """Deployment -> camera-days; those that never sent a frame are missing: nothing is known."""
    return {
        one.name: effort.watched_days
        for one in log.deployment_facts(now, settings.effort.rule)
        if (effort := _effort(one, now, since, until)) is not None
    }


def deployment_document(
    facts: DeploymentFacts,
    now: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
) -> dict[str, Any]:
    """One deployment as JSON has it; days are None where it never sent a frame."""
    captures = facts.captures
    effort = _effort(facts, now, since, until)
    return {
        "name": facts.name,
        "start": _text(facts.start),
        "end": _text(facts.end),
        "first_capture": _text(captures.first) if captures else None,
        "last_capture": _text(captures.last) if captures else None,
        "media": facts.media,
        "effort": {
            "since": iso_utc(effort.since),
            "until": iso_utc(effort.until),
            "watched_days": round(effort.watched_days, 3),
            "outage_days": round(effort.outage_days, 3),
        }
        if effort
        else None,
        "clock": {
            "list_shift_seconds": facts.shift_seconds,
            "corrections": [asdict(one) for one in facts.corrections],
            "doubt": effort.doubt if effort else None,
        },
        "outages": [outage_document(one) for one in facts.outages],
    }


def outage_document(outage: Outage) -> dict[str, Any]:
    """One outage as JSON has it."""
    return {
        "id": outage.id,
        "deployment": outage.deployment,
        "start": iso_utc(outage.start),
        "end": _text(outage.end),
        "state": outage.state.value,
        "reason": outage.reason.value if outage.reason is not None else None,
        "note": outage.note,
        "by": outage.by,
        "said_at": iso_utc(outage.said_at),
    }


def still_proposed(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The outages of these deployments that wait for a person's word."""
    return [
        outage
        for document in documents
        for outage in document["outages"]
        if outage["state"] == OutageState.PROPOSED
    ]


def _effort(
    facts: DeploymentFacts, now: datetime, since: datetime | None, until: datetime | None
) -> Effort | None:
    if facts.captures is None:
        return None
    return effort_of(facts.captures, facts.outages, now, since, until, facts.unspoken)


def _text(moment: datetime | None) -> str | None:
    return iso_utc(moment) if moment is not None else None
