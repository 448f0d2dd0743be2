"""What an act without labels changes besides being recorded, when it is written again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from monitor.core.domain import ModelState
from monitor.log.act_records import ActRecord
from monitor.log.deployment_acts import DEPLOYMENT_KINDS, replay_deployment_act
from monitor.log.engine import LogError
from monitor.log.species_list import complete, entry_of, merge, rename
from monitor.log.tables import Flag, ModelVersion


def take_effect(
    connection: Connection, record: ActRecord, act_id: int, media: Mapping[str, int]
) -> None:
    """What an act without labels changes besides being recorded."""
    details = record.details or {}
    if record.kind == "species-add":
        complete(connection, entry_of(details))
    elif record.kind == "species-rename":
        rename(connection, str(details["old"]), str(details["new"]))
    elif record.kind == "species-merge":
        merge(connection, str(details["source"]), str(details["into"]))
    elif record.kind in ("flag", "unflag"):
        flagged = media[str(details["sha256"])]
        _flag(connection, flagged, act_id, is_flagged=record.kind == "flag")
    elif record.kind in DEPLOYMENT_KINDS:
        replay_deployment_act(connection, record.kind, details, record.by, record.at)
    elif record.kind in ("go-live", "roll-back"):
        _go_live(connection, record)


def _flag(connection: Connection, media_id: int, act_id: int, *, is_flagged: bool) -> None:
    if is_flagged:
        statement = upsert(Flag).values(media_id=media_id, act_id=act_id)
        connection.execute(statement.on_conflict_do_nothing())
    else:
        connection.execute(delete(Flag).where(Flag.media_id == media_id))


def _go_live(connection: Connection, record: ActRecord) -> None:
    """Let the version be live that was, if its row is there; the gate has judged it then."""
    details = record.details or {}
    name = details["version"] if record.kind == "go-live" else details["to"]
    row = connection.execute(select(ModelVersion).where(ModelVersion.name == name)).first()
    if row is None and name is not None:
        raise LogError(f"model {name} is not in the models directory")
    before = ModelState.RETIRED if record.kind == "go-live" else ModelState.REJECTED
    if details.get("damaged"):
        before = ModelState.DAMAGED
    others = [ModelVersion.state == ModelState.LIVE, ModelVersion.name.is_distinct_from(name)]
    connection.execute(update(ModelVersion).where(*others).values(state=before))
    values: dict[str, Any] = {"state": ModelState.LIVE}
    if record.kind == "go-live":
        values["went_live_at"] = record.at
    connection.execute(update(ModelVersion).where(ModelVersion.name == name).values(**values))
