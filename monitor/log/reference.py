"""Which media a person means by what was typed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, select

from monitor.core.domain import shown_path
from monitor.log.connection import LogPart
from monitor.log.engine import LogError
from monitor.log.tables import File, Media

LARGEST_ID_DIGITS = 18
SHORTEST_SHA_PREFIX = 4
ENOUGH = 6
"""So many are looked for: more than one is too many anyway."""


class NoSuchMedia(LogError):
    """Nothing, or more than one media, answers to what a person named."""


class ReferenceQueries(LogPart):
    """From what a person typed to a media."""

    def find(self, reference: str, path_bytes: bytes) -> int:
        """The media a person means by an id, a path or the start of a SHA-256.

        Args:
            reference: what was typed (bytes that are not UTF-8 as surrogates, as in argv).
            path_bytes: the same, as an absolute path.

        Raises:
            NoSuchMedia: none answers, or several do.
        """
        with self._read() as connection:
            found = candidates(connection, shown_path(os.fsencode(reference)), path_bytes)
        if len(found) == 1:
            return found[0]
        if not found:
            raise NoSuchMedia(
                f"no media answers to '{reference}'; give its id, its path, or at least four "
                "characters of its SHA-256 (see: trapwatch sightings)"
            )
        raise NoSuchMedia(
            f"'{reference}' fits more than one media ({', '.join(map(str, found[:5]))} …); "
            "write more of the path or of the SHA-256"
        )

    def media_of_path(self, path_bytes: bytes) -> int | None:
        """The media that was last taken in under exactly this path."""
        with self._read() as connection:
            return connection.execute(
                select(File.media_id).where(File.path_bytes == path_bytes)
            ).scalar()


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


def must_be_there(connection: Connection, media_ids: Sequence[int]) -> None:
    """Raises NoSuchMedia, naming those of `media_ids` that are not in the log."""
    known = set(connection.execute(select(Media.id).where(Media.id.in_(media_ids))).scalars())
    missing = [str(media_id) for media_id in dict.fromkeys(media_ids) if media_id not in known]
    if missing:
        more = " …" if len(missing) > 5 else ""
        raise NoSuchMedia(f"there is no media {', '.join(missing[:5])}{more}")
