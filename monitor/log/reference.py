"""Which media a person means by what was typed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, select

from monitor.log.tables import File, Media

LARGEST_ID_DIGITS = 18
SHORTEST_SHA_PREFIX = 4
ENOUGH = 6
"""So many are looked for: more than one is too many anyway."""


def candidates(connection: Connection, reference: str, path_bytes: bytes) -> list[int]:
    """The media that answer to an id, a path, the start of a SHA-256 or the end of a path: those
    of the first kind that any answers to."""
    searches: list[Select[*tuple[Any, ...]]] = []
    plain = reference.isascii() and reference.isdigit()
    if plain and len(reference) <= LARGEST_ID_DIGITS:
        searches.append(select(Media.id).where(Media.id == int(reference)))
    for condition in (File.path_bytes == path_bytes, File.path == reference):
        searches.append(_of_file(condition))
    low = reference.lower()
    if len(low) >= SHORTEST_SHA_PREFIX and set(low) <= set("0123456789abcdef"):
        starts = (Media.sha256 >= low, Media.sha256 < low + "g")
        searches.append(select(Media.id).where(*starts).limit(ENOUGH))
    searches.append(_of_file(File.path.endswith("/" + reference, autoescape=True)))
    for search in searches:
        if found := list(connection.execute(search).scalars()):
            return found
    return []


def _of_file(condition: Any) -> Select[*tuple[Any, ...]]:
    taken_in = File.media_id.is_not(None)
    return select(File.media_id).where(condition, taken_in).distinct().limit(ENOUGH)
