"""The one question of all drills: what was lost, doubled or left half done?"""

from __future__ import annotations

import os
from typing import Any

from monitor.core.config import Models
from monitor.model.versions import ModelError, ModelStore

from .drill import Drill

KEPT = Models().keep


def losses(drill: Drill, *, settled: bool = True) -> list[str]:
    """Everything that is not as it must be, in words.

    Args:
        settled: all there is was taken in and classified, so nothing may be missing or pending.
    """
    found = [
        f"integrity: {row[0]}" for row in drill.query("PRAGMA integrity_check") if row[0] != "ok"
    ]
    found += [f"broken reference: {row}" for row in drill.query("PRAGMA foreign_key_check")]
    found += _media_losses(drill, settled=settled)
    found += _label_losses(drill) + _model_losses(drill)
    return found


def _media_losses(drill: Drill, *, settled: bool) -> list[str]:
    media = drill.query(
        "SELECT sha256, status, rejected_reason, event_id, classified_at FROM media"
    )
    by_sha: dict[str, tuple[Any, ...]] = {}
    found = []
    for row in media:
        if row[0] in by_sha:
            found.append(f"media twice: {row[0]}")
        by_sha[row[0]] = row
        if row[1] == "rejected" and not row[2]:
            found.append(f"rejected without a reason: {row[0]}")
        if row[1] == "classified" and not row[4]:
            found.append(f"classified without a time: {row[0]}")
        if row[1] == "pending" and settled:
            found.append(f"still pending: {row[0]}")
        if row[3] is None:
            found.append(f"in no event: {row[0]}")
    known = {
        bytes(path): sha
        for path, sha in drill.query(
            "SELECT path_bytes, sha256 FROM file JOIN media ON media.id = file.media_id"
        )
    }
    for path, sha in drill.files().items() if settled else ():
        if drill.sorted in path.parents:
            continue
        if sha not in by_sha:
            found.append(f"lost: {path}")
        elif known.get(os.fsencode(path)) != sha:
            found.append(f"the path is not known as it is: {path}")
    found += [
        f"{what}: {number}"
        for what, sql in {
            "media with two current predictions": "SELECT count(*) FROM (SELECT media_id FROM "
            "prediction WHERE current GROUP BY media_id HAVING count(*) > 1)",
            "predictions of media that are not classified": "SELECT count(*) FROM prediction JOIN "
            "media ON media.id = media_id WHERE status <> 'classified'",
            "classified media that the live version passed over": LOST_PREDICTIONS,
        }.items()
        if (number := drill.number(sql))
    ]
    return found


LOST_PREDICTIONS = """SELECT count(*) FROM media WHERE status = 'classified' AND EXISTS (
    SELECT 1 FROM model_version WHERE state = 'live' AND went_live_at < classified_at)
    AND NOT EXISTS (SELECT 1 FROM prediction WHERE media_id = media.id)"""


def _label_losses(drill: Drill) -> list[str]:
    checks = {
        "labels without an observation": "SELECT count(*) FROM label WHERE withdraws_id IS NULL "
        "AND NOT EXISTS (SELECT 1 FROM observation WHERE label_id = label.id)",
        "observations without a label": "SELECT count(*) FROM observation WHERE NOT EXISTS "
        "(SELECT 1 FROM label WHERE id = label_id)",
        "acts of labelling without a label": "SELECT count(*) FROM act WHERE kind = 'label' "
        "AND NOT EXISTS (SELECT 1 FROM label WHERE act_id = act.id)",
        "media that do not show their newest label": "SELECT count(*) FROM media WHERE label_id IS "
        "NOT (SELECT max(l.id) FROM label l WHERE l.media_id = media.id AND l.withdraws_id IS NULL "
        "AND NOT EXISTS (SELECT 1 FROM label w WHERE w.withdraws_id = l.id))",
    }
    return [f"{what}: {number}" for what, sql in checks.items() if (number := drill.number(sql))]


def imported_losses(drill: Drill) -> list[str]:
    """After `label import-folder sorted`: each media there was labelled once, and rightly."""
    rows = drill.query(
        "SELECT sha256, coalesce(merged_into, species.id) FROM label "
        "JOIN media ON media.id = label.media_id JOIN act ON act.id = label.act_id "
        "JOIN observation ON observation.label_id = label.id "
        "JOIN species ON species.id = observation.species_id WHERE act.how = 'folder'"
    )
    said: dict[str, list[int]] = {}
    for sha, species in rows:
        said.setdefault(sha, []).append(species)
    names = dict(drill.query("SELECT folded, species_id FROM species_name"))
    found = []
    for path, sha in drill.files().items():
        if drill.sorted in path.parents:
            expected = [names.get(path.parent.name.replace("_", " "))]
            if said.get(sha) != expected:
                found.append(f"{path} is labelled {said.get(sha)}, not {expected}")
    return found


def _model_losses(drill: Drill) -> list[str]:
    store, found = ModelStore(drill.data / "models"), []
    rows = drill.query("SELECT name, weights_sha256, state FROM model_version")
    set_aside = [name for name, _, state in rows if state in ("retired", "rejected")]
    for name, sha, state in rows:
        if name in set_aside[:-KEPT] and not store.has_weights(name):
            continue  # of old versions only the card is kept
        if state == "damaged":
            continue  # which the log knows
        try:
            store.load(name, sha)
            store.card(name)
        except ModelError as error:
            found.append(f"broken model: {error}")
    if sum(state == "live" for _, _, state in rows) > 1:
        found.append("two versions are live")
    return found
