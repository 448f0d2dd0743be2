"""The map cache: outputs of the last frozen block, which fine-tuning learns from again and again.

One file of records of one length, bounded: when it is full the oldest record gives way. It can be
made anew, so it is never synced or backed up; each record carries a CRC-32, because a write may
have been cut short. Records are read, not mapped: a mapped page counts as memory of the process,
one of the system's cache does not, and both cost the same time.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from monitor.log.features import as_halves

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]
Key = tuple[str, int]
"""SHA-256 of the image, and which view of it: 0 is the image as it is."""

_HEAD = struct.Struct("<4sIQI32s")  # magic, view, sequence, CRC-32 of all that follows, SHA-256
_MAGIC = b"twm1"
FOLDER = "maps"


class MapStore:
    """Maps of one layer of one network. One process writes; others may read meanwhile.

    Args:
        path: the file; made when something is put.
        vector_size: how long the feature vector is that lies beside each map.
        shape: of a map, (height, width, channels).
        max_bytes: of the file.
    """

    def __init__(
        self, path: Path, vector_size: int, shape: tuple[int, int, int], max_bytes: int
    ) -> None:
        self.path, self.shape, self._size = path, shape, vector_size
        self._record = _HEAD.size + 2 * (vector_size + int(np.prod(shape)))
        self.capacity = max_bytes // self._record
        """How many maps it holds at most."""
        self._lock = threading.Lock()
        self._file: int | None = None
        self._slots: dict[Key, int] = {}
        self._keys: dict[int, Key] = {}  # the inverse
        self._next, self._sequence = 0, 0
        if path.is_file():
            self._open(os.O_RDONLY)
            self._read_index()

    def __contains__(self, key: Key) -> bool:
        return key in self._slots

    def __len__(self) -> int:
        return len(self._slots)

    def put(self, key: Key, vector: Floats, layer: Floats | Halves) -> None:
        """Keep one map and the vector beside it, float16 both; the oldest ones give way.

        Raises:
            OSError: the disk refuses.
        """
        body = as_halves(vector).tobytes() + as_halves(layer).tobytes()
        if len(body) + _HEAD.size != self._record:
            raise ValueError(f"a map of shape {layer.shape} does not fit into {self.path.name}")
        sha = bytes.fromhex(key[0])
        with self._lock:
            self._writable()
            assert self._file is not None
            self._sequence += 1
            head = _HEAD.pack(_MAGIC, key[1], self._sequence, zlib.crc32(body), sha)
            slot, self._next = self._next, (self._next + 1) % self.capacity
            self._forget(slot)
            if os.pwrite(self._file, head + body, slot * self._record) < self._record:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            self._slots[key], self._keys[slot] = slot, key

    def get(self, keys: Sequence[Key]) -> tuple[Floats, Halves]:
        """Vectors float32 (n, d) and maps float16 (n, height, width, channels).

        Raises:
            KeyError: one is not there, or was damaged (it is forgotten then).
        """
        vectors = np.empty((len(keys), self._size), np.float32)
        maps = np.empty((len(keys), *self.shape), np.float16)
        for row, key in enumerate(keys):
            body = np.frombuffer(self._body(key), "<f2")
            vectors[row], maps[row] = body[: self._size], body[self._size :].reshape(self.shape)
        return vectors, maps

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _body(self, key: Key) -> bytes:
        slot = self._slots[key]
        assert self._file is not None
        record = os.pread(self._file, self._record, slot * self._record)
        parsed = _parsed(record)
        body = record[_HEAD.size :]
        if parsed is None or parsed[0] != key or zlib.crc32(body) != parsed[2]:
            self._forget(slot)
            raise KeyError(key)
        return body

    def _forget(self, slot: int) -> None:
        key = self._keys.pop(slot, None)
        if key is not None and self._slots.get(key) == slot:
            del self._slots[key]

    def _writable(self) -> None:
        if self._next == 0 and not self._slots:
            self.close()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open(os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        elif self._file is not None and not _is_writable(self._file):
            self.close()
            self._open(os.O_RDWR)

    def _open(self, flags: int) -> None:
        self._file = os.open(self.path, flags | os.O_CLOEXEC, 0o666)

    def _read_index(self) -> None:
        """Which record lies where; the next one goes behind the newest."""
        for slot, (key, sequence, _) in self._records():
            self._slots[key], self._keys[slot] = slot, key
            if sequence > self._sequence:
                self._sequence, self._next = sequence, (slot + 1) % max(self.capacity, 1)

    def _records(self) -> Iterator[tuple[int, tuple[Key, int, int]]]:
        assert self._file is not None
        there = min(os.fstat(self._file).st_size // self._record, self.capacity)
        for slot in range(there):
            head = os.pread(self._file, _HEAD.size, slot * self._record)
            if (parsed := _parsed(head)) is not None:
                yield slot, parsed


def _parsed(record: bytes) -> tuple[Key, int, int] | None:
    """(key, sequence, CRC) of a record; None if it is none."""
    if len(record) < _HEAD.size:
        return None
    magic, view, sequence, crc, sha = _HEAD.unpack_from(record)
    return ((sha.hex(), view), sequence, crc) if magic == _MAGIC else None


def _is_writable(file: int) -> bool:
    import fcntl

    return bool(fcntl.fcntl(file, fcntl.F_GETFL) & os.O_RDWR)
