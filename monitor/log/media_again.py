"""What the journal says of a media beside its content, and its row written again from that: for a
frame whose card has gone when the log breaks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert, select, update

from monitor.core.domain import MediaStatus
from monitor.log.clock_corrections import clock_of, shift_of
from monitor.log.connection import deployment_id, inserted_id
from monitor.log.tables import Deployment, Media
from monitor.log.timeline import event_for, gap_of_events, shown_times

Facts = Mapping[str, Any]

COLUMNS: dict[str, Any] = {  # under short names: a line has them
    "path": Media.path,
    "size": Media.size,
    "width": Media.width,
    "height": Media.height,
    "wall": Media.captured_wall,
    "wall_from": Media.captured_at_source,
    "offset": Media.utc_offset_seconds,
    "offset_from": Media.utc_offset_source,
    "make": Media.camera_make,
    "model": Media.camera_model,
    "serial": Media.camera_serial,
    "celsius": Media.temperature_celsius,
    "taken_in": Media.taken_in_at,
}
FACTS: tuple[Any, ...] = (
    Media.id.label("id"),
    Deployment.name.label("deployment"),
    *COLUMNS.values(),
)
"""To be selected from media joined with their deployments."""


def facts_of(row: Any) -> dict[str, Any]:
    """The facts of a row in which `FACTS` were selected."""
    columns = {name: getattr(row, column.key) for name, column in COLUMNS.items()}
    return {"id": row.id, "deployment": row.deployment, **columns}


def write_again(connection: Connection, sha256: str, facts: Facts, at: str) -> int:
    """A row for a media that the log has not: pending, its file not found so far. When the file
    comes, intake finds the row by the content.

    Args:
        at: when it was spoken of.

    Returns:
        its id: the old one where that is free.
    """
    clock = clock_of(connection, deployment_id(connection, str(facts["deployment"])))
    wall = datetime.fromisoformat(facts["wall"])
    shift = shift_of(wall, clock.base_seconds, clock.corrections)
    offset = timedelta(seconds=facts["offset"])
    local, shown = shown_times(wall, offset, shift)
    values: dict[str, Any] = {c.key: facts.get(name) for name, c in COLUMNS.items()}
    values |= {
        "sha256": sha256,
        "deployment_id": clock.deployment_id,
        "status": MediaStatus.PENDING,
        "captured_at": shown,
        "captured_local": local,
        "absent_since": at,
    }
    values["event_id"] = event_for(
        connection, clock.deployment_id, shown, gap_of_events(connection)
    )
    number = facts["id"]
    if connection.execute(select(Media.id).where(Media.id == number)).first() is None:
        values["id"] = number
    media_id = inserted_id(connection.execute(insert(Media), values))
    if values["event_id"] is None:
        this = update(Media).where(Media.id == media_id)
        connection.execute(this.values(event_id=media_id))
    return media_id
