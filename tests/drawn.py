"""Detections and charts for tests: made by hand, read back from what was drawn."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from xml.etree import ElementTree

import numpy as np

from monitor.log.detected import Detections, Place

EPOCH = datetime(1970, 1, 1)


def seen(
    rows: Iterable[tuple[str | None, str, str]],
    places: Iterable[Place] = (),
    *,
    offset_hours: float = 0,
) -> Detections:
    """Detections of (species or None, deployment, local time as ISO text), one event each."""
    listed = sorted(rows, key=lambda row: row[2])
    names = tuple(sorted({name for name, _, _ in listed if name is not None}))
    known = list(places)
    known += [Place(p) for p in sorted({p for _, p, _ in listed} - {one.name for one in known})]
    code = {place.name: number for number, place in enumerate(known)}
    minutes = np.array(
        [int((datetime.fromisoformat(at) - EPOCH).total_seconds() // 60) for _, _, at in listed],
        np.int64,
    )
    count = len(listed)
    return Detections(
        "2026-05-01T12:00:00.000Z",
        names,
        tuple(known),
        np.arange(1, count + 1),
        np.array([-1 if name is None else names.index(name) for name, _, _ in listed], np.int64),
        np.array([code[place] for _, place, _ in listed], np.int64),
        (minutes - int(offset_hours * 60)) * 60,
        minutes,
        minutes,
        np.ones(count, np.int64),
        np.zeros(count, np.int64),
        np.zeros(count, np.bool_),
    )


def texts(svg: bytes) -> list[str]:
    """Everything that is written in an SVG. Raises ParseError if it is not well-formed."""
    written = ((node.text or "").strip() for node in ElementTree.fromstring(svg).iter())
    return [text for text in written if text]


def dangers(svg: bytes) -> list[str]:
    """What an SVG could run or load."""
    found = []
    for node in ElementTree.fromstring(svg).iter():
        tag = node.tag.rpartition("}")[2]
        if tag in ("script", "foreignObject", "image", "iframe", "a", "animate", "set"):
            found.append(tag)
        if tag == "style" and ("url(" in (node.text or "") or "@import" in (node.text or "")):
            found.append(f"style: {node.text}")
        for key, value in node.attrib.items():
            name = key.rpartition("}")[2].lower()
            elsewhere = "url(" in value.replace("url(#", "") or "://" in value
            if name.startswith("on") or elsewhere or (name == "href" and not value.startswith("#")):
                found.append(f"{tag} {key}={value}")
    return found
