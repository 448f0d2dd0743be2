"""The page: station. What it needs from people, what it told them, when cameras did not watch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from fastapi.responses import Response

from monitor.core.domain import iso_utc, parse_iso_utc, shown_path
from monitor.core.pauses import resting_lines
from monitor.core.silence import Outage, OutageState, Reason
from monitor.health.status import TOLD_FOR, status_of
from monitor.log.crashing_files import CONDEMNED
from monitor.report.camera_days import outage_document
from monitor.web import station_words as standing
from monitor.web.api.alerts import channels
from monitor.web.context import Here
from monitor.web.people import Viewer
from monitor.web.rendering import page

router = APIRouter(include_in_schema=False)

ALERTS_SHOWN = 50
SAID_SHOWN = 50
KINDS = {
    "species": "animal",
    "silent": "silent camera",
    "station": "station",
    "restored": "log restored",
    "training": "training",
    "model": "model",
    "channel": "line down",
}
"""Kinds of alert, as people read them."""


@router.get("/station")
def station(request: Request, here: Here, who: Viewer) -> Response:
    """What needs doing, outages to confirm, what was told."""
    now, zone = here.clock(), here.settings.station.zone
    facts = status_of(here.settings, here.log, now)
    outages = sorted(here.log.outages(), key=lambda one: (one.start, one.id), reverse=True)
    said = [one for one in outages if one.state is not OutageState.PROPOSED]
    return page(
        request,
        "station.html",
        facts=facts,
        zone=zone.key,
        words=standing,
        at=partial(standing.moment, zone=zone),
        clock=standing.clock(facts["now"], zone),
        troubles=standing.troubles(facts),
        notes=list(notes(facts, zone)),
        set_aside=[
            shown_path(file.path) for file in here.log.deadly_files() if file.deaths >= CONDEMNED
        ],
        proposed=[_outage(one, now, zone) for one in outages if one.state is OutageState.PROPOSED],
        said=[_outage(one, now, zone) for one in said[:SAID_SHOWN]],
        said_count=len(said),
        reasons=[reason.value for reason in Reason],
        deployments=[row.deployment for row in here.log.last_frames(iso_utc(now))],
        alerts=here.log.alerts(ALERTS_SHOWN),
        channels=channels(here.log),
        kinds=KINDS,
    )


def notes(facts: dict[str, Any], zone: ZoneInfo) -> Iterator[tuple[str, str]]:
    """(what, how it is): what is good to know and asks for nothing.

    Args:
        facts: `status_of`.
    """
    disk, backup = facts["disk"], facts["backup"]
    log, journal = facts["log"]["integrity"] or {}, facts["log"]["journal"] or {}
    yield "service", "running" if facts["service"]["running"] else "not running"
    yield "rests now", "; ".join(resting_lines(facts["rest"])) or "nothing"
    free, total = standing.amount(disk["free_bytes"]), standing.amount(disk["total_bytes"])
    yield "disk", f"{free} free of {total}"
    if not backup["enabled"]:
        yield "last backup", "none is made (backup.enabled)"
    else:
        size = f", {standing.amount(backup['size_bytes'])}" if backup.get("at") else ""
        yield "last backup", (standing.moment(backup.get("at"), zone) or "none yet") + size
    quick, full = (standing.moment(log.get(key), zone) for key in ("quick_at", "full_at"))
    yield "log checked", f"{quick or 'not yet'}{f' (every page: {full})' if full else ''}"
    restored = facts["log"]["recovery"]
    if restored and parse_iso_utc(restored["at"]) > parse_iso_utc(facts["now"]) - TOLD_FOR:
        yield "log restored", f"{standing.moment(restored['at'], zone)}: {restored['words']}"
    if waiting := journal.get("waiting"):
        yield "labels waiting", f"{waiting:,}, for frames that are not there yet"


def _outage(outage: Outage, now: datetime, zone: ZoneInfo) -> dict[str, Any]:
    """One outage as the page shows it; `told` fills its form, with times by the station's clock."""
    facts = outage_document(outage)
    told = {key: facts[key] for key in ("id", "deployment", "reason", "note")}
    for edge in ("start", "end"):
        text = facts[edge]
        told[edge] = standing.there(text, zone).isoformat()[:16] if text else ""
    span = outage.until(now)
    lasted = standing.duration((span.end - span.start).total_seconds())
    return facts | {"lasted": lasted, "told": json.dumps(told)}
