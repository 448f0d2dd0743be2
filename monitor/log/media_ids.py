"""Ids of media are never given twice, also not by a log that was restored and has forgotten some:
a page that was open meanwhile would label another frame. So a restored log skips ids."""

from __future__ import annotations

import secrets
from datetime import datetime

from sqlalchemy import Connection, func, select, text

from monitor.log.connection import LogPart, count_of, put_state
from monitor.log.tables import Media, State

SKIPPED = 1_000_000
"""At least so many: more frames than a log can have taken in since its backup or its last act."""
KEY = "media ids skipped"

_KNOWN = text("SELECT seq FROM sqlite_sequence WHERE name = 'media'")
_ADD = text("INSERT INTO sqlite_sequence (name, seq) VALUES ('media', :number)")
_RAISE = text("UPDATE sqlite_sequence SET seq = :number WHERE name = 'media'")


class MediaIdQueries(LogPart):
    """Which ids of media are given, and which not."""

    def newest_media_id(self) -> int:
        """The largest id of a media; 0 if there is none."""
        with self._read() as connection:
            return connection.execute(select(func.max(Media.id))).scalar() or 0

    def skip_media_ids(self, known: int, now: datetime) -> None:
        """Give new media only ids far beyond `known` and all in the log. Where that is so already,
        nothing changes.

        By how far is drawn, so that one backup that is restored twice gives no id twice.
        """
        with self._write() as connection:
            there = connection.execute(_KNOWN).scalar()
            newest = connection.execute(select(func.max(Media.id))).scalar() or 0
            least = max(known, newest) + SKIPPED
            if there is not None and there >= least:
                return
            wanted = least + secrets.randbelow(SKIPPED)
            connection.execute(_ADD if there is None else _RAISE, {"number": wanted})
            skipped = [*_skipped(connection), [max(newest, there or 0), wanted]]
            put_state(connection, KEY, {"after_and_until": skipped}, now)


def skipped_between(connection: Connection, after: int, until: int) -> int:
    """How many ids from `after` (exclusive) to `until` were skipped and are free."""
    count = 0
    for skipped_after, skipped_until in _skipped(connection):
        first, last = max(skipped_after, after), min(skipped_until, until)
        if first < last:
            here = (Media.id > first, Media.id <= last)  # few: they came back from the journal
            count += last - first - count_of(connection, Media, *here)
    return count


def _skipped(connection: Connection) -> list[list[int]]:
    value = connection.execute(select(State.value).where(State.key == KEY)).scalar()
    return list(value["after_and_until"]) if value else []
