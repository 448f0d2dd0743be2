"""The feature cache: pooled backbone features by content, in `features.db` beside the log.

Bounded and rebuildable: a damaged or foreign file is thrown away, never trusted or backed up.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from monitor.log.engine import BUSY_SECONDS, choose_sqlite

Floats = npt.NDArray[np.float32]
TRIM_EVERY = 256
logger = logging.getLogger(__name__)


class FeatureStore:
    """Features of one layout, float16 on disk, float32 in memory. Safe to share between threads.

    Args:
        path: the cache file; made if missing.
        layout: name of the feature layout; features of another one are not found.
        size: how many numbers a vector has.
        max_bytes: the oldest vectors go when the cache grows beyond this.
    """

    def __init__(self, path: Path, layout: str, size: int, max_bytes: int) -> None:
        self.path, self.layout, self.size = path, layout, size
        self._max_rows = max(1, max_bytes // (2 * size + 120))
        self._lock = threading.Lock()
        self._puts = 0
        self._connection = self._open_or_rebuild()

    def get(self, sha256s: Sequence[str]) -> dict[str, Floats]:
        """The vectors that are there: SHA-256 -> float32 (size,)."""
        found: dict[str, Floats] = {}
        with self._lock:
            for start in range(0, len(sha256s), 500):
                page = [bytes.fromhex(sha) for sha in sha256s[start : start + 500]]
                marks = ",".join("?" * len(page))
                rows = self._run(
                    f"SELECT sha256, vector FROM features WHERE layout = ? AND sha256 IN ({marks})",
                    [self.layout, *page],
                )
                for sha, vector in rows:
                    if len(vector) == 2 * self.size:
                        found[sha.hex()] = np.frombuffer(vector, "<f2").astype(np.float32)
        return found

    def put(self, items: Sequence[tuple[str, Floats]]) -> None:
        """Keep these vectors, in one transaction."""
        rows = [
            (
                self.layout,
                bytes.fromhex(sha),
                np.clip(vector, -65504, 65504).astype("<f2").tobytes(),
            )
            for sha, vector in items
        ]
        with self._lock:
            self._run("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", rows)
            self._puts += len(rows)
            if self._puts >= TRIM_EVERY:
                self._puts = 0
                self._trim()
            self._run("COMMIT")

    def count(self) -> int:
        """How many vectors of this layout are kept."""
        with self._lock:
            query = "SELECT count(*) FROM features WHERE layout = ?"
            return int(self._run(query, [self.layout])[0][0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _trim(self) -> None:
        excess = self._run("SELECT count(*) FROM features")[0][0] - self._max_rows
        if excess > 0:
            self._run(
                "DELETE FROM features WHERE rowid IN "
                "(SELECT rowid FROM features ORDER BY rowid LIMIT ?)",
                [excess],
            )

    def _run(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """One statement. A damaged file is thrown away, and the statement run on an empty one."""
        errors = choose_sqlite().module.DatabaseError
        try:
            return list(self._connection.execute(sql, values).fetchall())
        except errors as error:
            if not _is_damage(error):
                raise
            logger.warning("%s is damaged (%s): thrown away, it will be rebuilt", self.path, error)
            self._connection.close()
            self._throw_away()
            self._connection = self._open()
            if sql == "COMMIT":
                return []
            return list(self._connection.execute(sql, values).fetchall())

    def _open_or_rebuild(self) -> Any:
        try:
            return self._open()
        except choose_sqlite().module.DatabaseError as error:
            if not _is_damage(error):
                raise
            logger.warning("%s is no feature cache (%s): made anew", self.path, error)
            self._throw_away()
            return self._open()

    def _throw_away(self) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)

    def _open(self) -> Any:
        choice = choose_sqlite()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = choice.module.connect(
            str(self.path), timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None
        )
        try:
            connection.execute(f"PRAGMA journal_mode={'WAL' if choice.wal else 'DELETE'}")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS features ("
                "layout TEXT NOT NULL, sha256 BLOB NOT NULL, vector BLOB NOT NULL, "
                "UNIQUE (layout, sha256))"
            )
        except BaseException:
            connection.close()
            raise
        return connection


def _is_damage(error: Exception) -> bool:
    text = str(error)
    return "malformed" in text or "not a database" in text or "disk image" in text
