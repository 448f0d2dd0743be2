"""An act of people as a line of the journal, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from monitor.log.act_records import OF_MEDIA, ActRecord, LabelRecord

VERSION = 1
FIELDS = ("count", "sex", "life_stage", "behaviour")


def line_values(record: ActRecord, newest_label: int, newest_media: int) -> dict[str, Any]:
    """What a line says of an act.

    Args:
        newest_label, newest_media: the largest id of a label and of a media so far.
    """
    values = {"v": VERSION, "act": record.id, **asdict(record), "newest_label": newest_label}
    del values["id"]
    values["newest_media"] = newest_media
    if record.kind in OF_MEDIA and values["details"] and "media" in values["details"]:
        values["details"]["media"] = _changes({}, values["details"]["media"])
    values["labels"], before = [], dict[str, Any]()
    for label in record.labels:
        values["labels"].append(_label_values(label, before))
        if label.withdraws is None and label.media is not None:
            before = dict(label.media)
    return values


def _changes(before: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """What is other than before: frames of one event share most."""
    return {name: value for name, value in facts.items() if before.get(name) != value}


def _label_values(label: LabelRecord, before: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {"id": label.id, "sha256": label.sha256}
    if label.withdraws is not None:
        return {**values, "withdraws": f"{label.withdraws}/{label.sha256}"}
    said = [
        {"species": species, **{k: v for k, v in zip(FIELDS, rest, strict=True) if v is not None}}
        for species, *rest in label.observations
    ]
    values["observations"] = said
    return {**values, "media": _changes(before, label.media)} if label.media else values


def record_of(line: dict[str, Any]) -> ActRecord:
    """The inverse of `line_values`."""
    names = ("key", "kind", "at", "by", "how", "scope", "request", "details")
    labels, media = [], dict[str, Any]()
    for values in line["labels"]:
        media = {**media, **values.get("media", {})}
        labels.append(_label_of(values, media if "media" in values else None))
    return ActRecord(id=line["act"], labels=tuple(labels), **{name: line[name] for name in names})


def _label_of(values: dict[str, Any], media: dict[str, Any] | None) -> LabelRecord:
    withdraws = values.get("withdraws")
    said = tuple(
        (o["species"], o.get("count"), o.get("sex"), o.get("life_stage"), o.get("behaviour"))
        for o in values.get("observations", ())
    )
    key = withdraws.partition("/")[0] if withdraws is not None else None
    return LabelRecord(values["id"], values["sha256"], said, key, media)
