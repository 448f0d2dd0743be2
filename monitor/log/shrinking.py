"""Giving room in `features.db` back to the disk, a few megabytes at a time.

SQLite keeps the pages that a deletion leaves for itself. A file that was made with incremental
vacuum can give them back in small steps, each with little room of its own; a file of an older
release cannot, and is written anew once, after most of it was dropped.
"""

from __future__ import annotations

from typing import Any

STEP_ROWS = 500
STEP_BYTES = 4 * 2**20
MOST_REWRITTEN = 64 * 2**20
"""Of an older file so much at most is kept: while it is written anew it needs memory, and the disk
has it twice."""
INCREMENTAL = 2
OLDEST = "DELETE FROM features WHERE rowid IN (SELECT rowid FROM features ORDER BY rowid LIMIT ?)"


def size_of(connection: Any) -> int:
    """Bytes of the database, once all that was written is in its file."""
    return _number(connection, "page_count") * _number(connection, "page_size")


def shrink_once(connection: Any, row_bytes: int) -> bool:
    """Drop some of the oldest rows, and give their room back. False if there was nothing to give.

    Every statement commits by itself: a kill or a full disk between two leaves a sound cache.

    Args:
        row_bytes: about what a row takes up.
    """
    before = size_of(connection)
    if _number(connection, "auto_vacuum") != INCREMENTAL:
        _write_anew(connection, row_bytes)
    else:
        if _number(connection, "freelist_count") * _number(connection, "page_size") < STEP_BYTES:
            connection.execute(OLDEST, [STEP_ROWS])
        pages = max(1, STEP_BYTES // _number(connection, "page_size"))
        connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return size_of(connection) < before


def make_shrinkable(connection: Any) -> None:
    """Of a file that has no table yet, before anything else is written to it."""
    connection.execute(f"PRAGMA auto_vacuum={INCREMENTAL}")


def _write_anew(connection: Any, row_bytes: int) -> None:
    kept = MOST_REWRITTEN // max(1, row_bytes)
    rows = connection.execute("SELECT count(*) FROM features").fetchone()[0]
    while rows > kept:
        dropped = connection.execute(OLDEST, [min(STEP_ROWS, rows - kept)]).rowcount
        rows = rows - dropped if dropped else kept
    connection.execute("PRAGMA temp_store=MEMORY")
    make_shrinkable(connection)
    connection.execute("VACUUM")


def _number(connection: Any, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])
