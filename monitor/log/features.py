"""The feature cache: pooled backbone features by content, in `features.db` beside the log.

Bounded and rebuildable: a damaged or foreign file is thrown away, never trusted or backed up. Each
vector carries a CRC-32 of itself and its key, because SQLite does not notice a bit that changed.
"""

from __future__ import annotations

import logging
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from monitor.log.engine import BUSY_SECONDS, choose_sqlite

Floats = npt.NDArray[np.float32]
T = TypeVar("T")
TRIM_EVERY = 256
PAGE = 500
NO_DAMAGE = ("locked", "is full", "unable to open", "interrupted")
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
        self._puts = TRIM_EVERY  # the first put trims: short-lived processes must do it too
        self._sqlite = choose_sqlite().module
        self._connection = self._open_or_rebuild()

    def get(self, sha256s: Sequence[str]) -> dict[str, Floats]:
        """The vectors that are there: SHA-256 -> float32 (size,)."""
        found: dict[str, Floats] = {}
        for start in range(0, len(sha256s), PAGE):
            page = [bytes.fromhex(sha) for sha in sha256s[start : start + PAGE]]
            marks = ",".join("?" * len(page))
            query = (
                f"SELECT sha256, vector, crc FROM features WHERE layout = ? AND sha256 IN ({marks})"
            )
            for sha, vector, crc in self._rows(query, [self.layout, *page]):
                whole = isinstance(vector, bytes) and len(vector) == 2 * self.size
                if whole and crc == _crc(sha, vector):
                    found[sha.hex()] = np.frombuffer(vector, "<f2").astype(np.float32)
        return found

    def put(self, items: Sequence[tuple[str, Floats]]) -> None:
        """Keep these vectors, in one transaction."""
        rows = []
        for sha, vector in items:
            kept = np.clip(vector, -65504, 65504).astype("<f2").tobytes()
            key = bytes.fromhex(sha)
            rows.append((self.layout, key, kept, _crc(key, kept)))

        def write() -> None:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT OR REPLACE INTO features VALUES (?,?,?,?)", rows)
            self._puts += len(rows)
            if self._puts >= TRIM_EVERY:
                self._puts = 0
                self._trim()
            self._connection.execute("COMMIT")

        self._healing(write)

    def count(self) -> int:
        """How many vectors of this layout are kept."""
        query = "SELECT count(*) FROM features WHERE layout = ?"
        return int(self._rows(query, [self.layout])[0][0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _trim(self) -> None:
        number = self._connection.execute("SELECT count(*) FROM features").fetchone()[0]
        oldest = "SELECT rowid FROM features ORDER BY rowid LIMIT ?"
        excess = max(0, number - self._max_rows)
        self._connection.execute(f"DELETE FROM features WHERE rowid IN ({oldest})", [excess])

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        return self._healing(lambda: list(self._connection.execute(sql, values).fetchall()))

    def _healing(self, work: Callable[[], T]) -> T:
        """Do `work`, in the place of a damaged file with an empty one."""
        with self._lock:
            try:
                return work()
            except (self._sqlite.DatabaseError, UnicodeDecodeError) as error:
                if not _is_damage(error):
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
                logger.warning("%s is damaged (%s): it is made anew", self.path, error)
                self._connection.close()
                self._throw_away()
                self._connection = self._open()
                return work()

    def _open_or_rebuild(self) -> Any:
        try:
            return self._open()
        except (self._sqlite.DatabaseError, UnicodeDecodeError) as error:
            if not _is_damage(error):
                raise
            logger.warning("%s is no feature cache (%s): it is made anew", self.path, error)
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
                "crc INTEGER NOT NULL, UNIQUE (layout, sha256))"
            )
            connection.execute(
                "SELECT layout, sha256, vector, crc FROM features LIMIT 1"
            ).fetchone()
        except BaseException:
            connection.close()
            raise
        return connection


def _crc(sha256: bytes, vector: bytes) -> int:
    return zlib.crc32(vector, zlib.crc32(sha256))


def _is_damage(error: Exception) -> bool:
    """True for a file that is broken or foreign (SQLite has a dozen ways to say so); False where
    waiting, space or a permission would help."""
    return not any(sign in str(error) for sign in NO_DAMAGE)
