"""The feature cache: pooled backbone features by content, in `features.db` beside the log.

Bounded and rebuildable: a damaged or foreign file is thrown away, never trusted or backed up. Each
vector carries a CRC-32 of itself and its key, because SQLite does not notice a bit that changed.
"""

from __future__ import annotations

import logging
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from monitor.log.engine import BUSY_SECONDS, LogError, choose_sqlite, in_words
from monitor.log.shrinking import make_shrinkable, shrink_once, size_of

Floats = npt.NDArray[np.float32]
T = TypeVar("T")
PAGE = 500
PAGE_BYTES = 16384
"""Six of VGG16's vectors fill a page of SQLite; of its usual 4096 bytes one would leave a third
empty."""
ROW_BYTES = 120
"""Of a row and its entry in the index, besides the vector."""
SPARE_PAGES = 4
"""For the index, whose pages are split now and then."""
LEAST_FREE_BYTES = 2**20
NO_DAMAGE = ("locked", "is full", "unable to open", "interrupted")
logger = logging.getLogger(__name__)


def as_halves(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float16]:
    """Numbers as a cache keeps them: float16, little-endian, none of them infinite."""
    halves: npt.NDArray[np.float16] = np.clip(values, -65504, 65504).astype("<f2")
    return halves


def as_kept(vector: Floats) -> Floats:
    """A vector as the cache will give it back: whether it was there already changes no answer."""
    return as_halves(vector).astype(np.float32)


class FeatureStore:
    """Features of one layout, float16 on disk, float32 in memory. Safe to share between threads.

    Args:
        path: the cache file; made if missing.
        layout: name of the feature layout; features of another one are not found.
        size: how many numbers a vector has.
        max_bytes: the oldest vectors, of whatever layout, go before the file grows beyond this.
    """

    def __init__(self, path: Path, layout: str, size: int, max_bytes: int) -> None:
        self.path, self.layout, self.size = path, layout, size
        self._file = CacheFile(path, max_bytes)

    def of_layout(self, layout: str) -> FeatureStore:
        """The features of another layout of the same size, in the same file.

        A store never changes its layout: whoever reads this one in another thread goes on to find
        what he looks for. Closing either closes the file.
        """
        other = object.__new__(FeatureStore)
        other.path, other.layout, other.size, other._file = self.path, layout, self.size, self._file
        return other

    def get(self, sha256s: Sequence[str]) -> dict[str, Floats]:
        """The vectors that are there: SHA-256 -> float32 (size,)."""
        return {
            sha.hex(): np.frombuffer(vector, "<f2").astype(np.float32)
            for sha, vector in self._whole([bytes.fromhex(sha) for sha in sha256s])
        }

    def matrix(self, sha256s: Sequence[str]) -> tuple[list[int], Floats]:
        """The vectors that are there, for many at once.

        Returns:
            n places in `sha256s`, and their vectors, float32 (n, size), in the same order.
        """
        keys = [bytes.fromhex(sha) for sha in sha256s]
        places = {key: place for place, key in enumerate(keys)}
        found = list(self._whole(keys))
        halves = np.frombuffer(b"".join([vector for _, vector in found]), "<f2")
        vectors = halves.astype(np.float32).reshape(len(found), self.size)
        return [places[sha] for sha, _ in found], vectors

    def _whole(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """(key, float16 vector) of those that are there and undamaged."""
        for start in range(0, len(keys), PAGE):
            page = keys[start : start + PAGE]
            marks = ",".join("?" * len(page))
            query = (
                f"SELECT sha256, vector, crc FROM features WHERE layout = ? AND sha256 IN ({marks})"
            )
            for sha, vector, crc in self._rows(query, [self.layout, *page]):
                whole = isinstance(vector, bytes) and len(vector) == 2 * self.size
                if whole and crc == _crc(sha, vector):
                    yield sha, vector

    def put(self, items: Sequence[tuple[str, Floats]]) -> None:
        """Keep these vectors, in one transaction."""
        rows = []
        for sha, vector in items:
            kept = as_halves(vector).tobytes()
            key = bytes.fromhex(sha)
            rows.append((self.layout, key, kept, _crc(key, kept)))

        def write(connection: Any) -> None:
            connection.execute("BEGIN IMMEDIATE")
            self._file.make_room(len(rows), 2 * self.size + ROW_BYTES)
            connection.executemany("INSERT OR REPLACE INTO features VALUES (?,?,?,?)", rows)
            connection.execute("COMMIT")

        self._file.work(write)

    def keep(self, items: Sequence[tuple[str, Floats]]) -> None:
        """Keep these vectors if that is possible: what cannot be kept is computed again some day.
        A disk that refuses is told once, until it takes some again."""
        try:
            self.put(items)
        except (LogError, OSError) as error:
            self._file.tell_refusal(error)
        else:
            self._file.tell_refusal(None)

    def shrink(self, is_enough: Callable[[], bool], least_bytes: int) -> int:
        """Give room back to the disk: the oldest vectors go. Until `end_shrinking` the file then
        grows no more.

        Args:
            is_enough: asked between two steps of a few megabytes.
            least_bytes: the file is made no smaller than this.

        Returns:
            how many bytes were given back.
        """
        try:
            return self._file.shrink(2 * self.size + ROW_BYTES, is_enough, least_bytes)
        except LogError as error:
            self._file.tell_refusal(error)
            return 0

    def end_shrinking(self) -> None:
        """There is room again: the file may grow to its bound."""
        self._file.end_shrinking()

    def count(self) -> int:
        """How many vectors of this layout are kept."""
        query = "SELECT count(*) FROM features WHERE layout = ?"
        return int(self._rows(query, [self.layout])[0][0])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        return self._file.work(lambda connection: list(connection.execute(sql, values).fetchall()))


class CacheFile:
    """The file of all layouts: opened, healed and kept within its bounds.

    A file of an older release keeps its smaller pages. One that is larger than its bound already
    keeps its vectors as long as no new ones come, for SQLite would not give back their room.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path, self._max_bytes, self._bound = path, max_bytes, max_bytes
        self._has_refused = False
        self._lock = threading.Lock()
        self._is_open = True
        self._sqlite = choose_sqlite().module
        self._connection = self._open_or_rebuild()

    def work(self, work: Callable[[Any], T]) -> T:
        """Do `work` with the connection, in the place of a damaged file with an empty one.

        Raises LogError where the cache was closed, or the disk refuses.
        """
        with self._lock:
            if not self._is_open:
                raise LogError(f"{self._path} is closed")
            try:
                return work(self._connection)
            except (self._sqlite.DatabaseError, UnicodeDecodeError) as error:
                if not self._is_damage(error):
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise LogError(f"{self._path}: {in_words(error)}") from error
                logger.warning("%s is damaged (%s): it is made anew", self._path, error)
                self._connection.close()
                self._connection = self._open_anew()
                return work(self._connection)

    def make_room(self, rows: int, row_bytes: int) -> None:
        """Within `work`: drop the oldest until so many rows find room without the file growing
        beyond its bound."""
        page = self._number("PRAGMA page_size")
        on_a_page = page // row_bytes
        needed = -(-rows // on_a_page) if on_a_page else rows * -(-row_bytes // page)
        oldest = "SELECT rowid FROM features ORDER BY rowid LIMIT ?"
        dropped = 1
        while dropped and self._free(page) < needed + SPARE_PAGES:
            drop = f"DELETE FROM features WHERE rowid IN ({oldest})"
            dropped = self._connection.execute(drop, [rows]).rowcount

    def tell_refusal(self, error: Exception | None) -> None:
        """Say once that nothing can be kept, and once that it can again (None)."""
        if error is not None and not self._has_refused:
            logger.warning("%s cannot be written (%s): frames go on without it", self._path, error)
        elif error is None and self._has_refused:
            logger.info("%s is written again", self._path)
        self._has_refused = error is not None

    def shrink(self, row_bytes: int, is_enough: Callable[[], bool], least_bytes: int) -> int:
        """See FeatureStore.shrink. Others have their turn between two steps."""
        before = self.work(size_of)
        while not is_enough() and self.work(size_of) > least_bytes:
            if not self.work(lambda connection: shrink_once(connection, row_bytes)):
                break
        after = self.work(size_of)
        self._max_bytes = min(self._bound, max(after, least_bytes))
        return max(0, before - after)

    def end_shrinking(self) -> None:
        """Grow to the bound again."""
        self._max_bytes = self._bound

    def close(self) -> None:
        """Close the file; whoever uses it afterwards is told so, and harms nothing."""
        with self._lock:
            self._is_open = False
            self._connection.close()

    def _free(self, page: int) -> int:
        """How many pages can be filled: unused ones, and those by which the file may grow."""
        growth = self._max_bytes // page - self._number("PRAGMA page_count")
        return max(0, growth) + self._number("PRAGMA freelist_count")

    def _number(self, pragma: str) -> int:
        return int(self._connection.execute(pragma).fetchone()[0])

    def _open_or_rebuild(self) -> Any:
        try:
            return self._open()
        except (self._sqlite.DatabaseError, UnicodeDecodeError) as error:
            if not self._is_damage(error):
                raise LogError(f"{self._path} cannot be opened: {in_words(error)}") from error
            logger.warning("%s is no feature cache (%s): it is made anew", self._path, error)
            return self._open_anew()

    def _is_damage(self, error: Exception) -> bool:
        """True for a file that is broken or foreign (SQLite has a dozen ways to say so); False
        where waiting, space or a permission would help."""
        if "disk I/O error" in str(error):  # so says SQLite, too, if its -shm finds no room
            facts = os.statvfs(self._path.parent)
            return facts.f_bavail * facts.f_frsize >= LEAST_FREE_BYTES
        return not any(sign in str(error) for sign in NO_DAMAGE)

    def _open_anew(self) -> Any:
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        try:
            return self._open()
        except self._sqlite.DatabaseError as error:
            raise LogError(f"{self._path} cannot be made: {in_words(error)}") from error

    def _open(self) -> Any:
        choice = choose_sqlite()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = choice.module.connect(
            str(self._path), timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None
        )
        try:
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")  # of a file that is new
            make_shrinkable(connection)
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
