"""A file of JSON lines that only grows: each line with a checksum, written whole or recognised as
torn, by one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monitor.durable import make_folder, sync

CHUNK = 65_536
LONGEST_LINE = 256 * 2**20
"""Far above an event of a million frames: a limit for files that are none of ours."""
_START, _MIDDLE = b'{"crc": "', b'", '
_BODY = len(_START) + 8 + len(_MIDDLE)


def line_of(values: Mapping[str, Any]) -> bytes:
    """One line, its checksum first: `{"crc": "0a1b2c3d", ...}`."""
    body = json.dumps(values, ensure_ascii=False, separators=(", ", ": ")).encode()[1:]
    return _START + f"{zlib.crc32(body):08x}".encode() + _MIDDLE + body + b"\n"


def values_of(line: bytes) -> dict[str, Any] | None:
    """What a line says; None if it is torn or changed."""
    line = line.rstrip(b"\n")
    body = line[_BODY:]
    if line[:_BODY] != _START + f"{zlib.crc32(body):08x}".encode() + _MIDDLE:
        return None
    try:
        values = json.loads(b"{" + body)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None


def read_lines(path: Path) -> Iterator[dict[str, Any] | None]:
    """Every line in order, None for one that is torn or changed; nothing where there is no file."""
    try:
        file = open(path, "rb")  # noqa: SIM115 closed below; a missing file is no error
    except FileNotFoundError:
        return
    with file:
        while line := file.readline(LONGEST_LINE):
            if line.strip():
                yield values_of(line)


class JournalFile:
    """The file, open and locked: see `locked`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def last(self) -> dict[str, Any] | None:
        """The last sound line; None if there is none."""
        end = os.fstat(self._descriptor).st_size
        start, tail = end, b""
        while start > 0 and len(tail) < LONGEST_LINE:
            size = min(start, max(CHUNK, len(tail)))
            start -= size
            tail = os.pread(self._descriptor, size, start) + tail
            whole = tail if start == 0 else tail.partition(b"\n")[2]
            for line in reversed(whole.splitlines()):
                if (values := values_of(line)) is not None:
                    return values
        return None

    def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write these lines behind all others, and wait until they are on the disk.

        Raises:
            OSError: the disk is full or refuses; what was half written is cut off again.
        """
        end = os.fstat(self._descriptor).st_size
        content = b"".join(line_of(line) for line in lines)
        if end and os.pread(self._descriptor, 1, end - 1) != b"\n":
            content = b"\n" + content  # a line that a power cut tore stays alone
        try:
            while content:
                content = content[os.write(self._descriptor, content) :]
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, end)
            raise


@contextmanager
def locked(path: Path) -> Iterator[JournalFile]:
    """Open a journal for appending, made if it is new; other processes wait.

    Raises:
        OSError: it cannot be made or opened.
    """
    make_folder(path.parent)
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if is_new:
            sync(path.parent)
        yield JournalFile(descriptor)
    finally:
        os.close(descriptor)  # lets the lock go, too
