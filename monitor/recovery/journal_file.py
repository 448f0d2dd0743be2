"""A file of JSON lines that only grows: each line with a checksum, written whole or recognised as
torn, by one process at a time.

Every step on the disk goes through a `Step`: `directly`, or with a limit of time (see `limited`).
"""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monitor.system.files import sync
from monitor.system.limited import Hangs, Step, directly

CHUNK = 65_536
LONGEST_LINE = 256 * 2**20
"""Far above an event of a million frames: a limit for files that are none of ours."""
LOCK_SECONDS = 10.0
"""So long others that write are waited for."""
LOCK_PAUSE_SECONDS = 0.02
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


def read_lines(path: Path, step: Step = directly) -> Iterator[dict[str, Any] | None]:
    """Every line in order, None for one that is torn or changed; nothing where there is no file.

    Raises:
        OSError: it cannot be read.
    """
    try:
        descriptor = step(os.open, path, os.O_RDONLY | os.O_CLOEXEC, late=_close)
    except FileNotFoundError:
        return
    with io.BufferedReader(_Raw(descriptor, step), CHUNK) as file:
        while line := file.readline(LONGEST_LINE):
            if line.strip():
                yield values_of(line)


class _Raw(io.RawIOBase):
    def __init__(self, descriptor: int, step: Step) -> None:
        self._descriptor, self._step = _Descriptor(descriptor, step), step

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._descriptor.ask(os.read, len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._descriptor.close()
        super().close()


class _Descriptor:
    """An open file. A step of it that hangs closes it when it comes back."""

    def __init__(self, number: int, step: Step) -> None:
        self._number, self._step = number, step
        self._is_left = False

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return self._step(
                function, self._number, *arguments, late=lambda _: _close(self._number)
            )
        except Hangs:
            self._is_left = True
            raise

    def close(self) -> None:
        """Close it, and let its lock go, unless a step still hangs."""
        if not self._is_left:
            self._is_left = True
            self._step(os.close, self._number)


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


class JournalFile:
    """The file, open and locked: see `locked`."""

    def __init__(self, file: _Descriptor) -> None:
        self._file = file

    def last(self) -> dict[str, Any] | None:
        """The last sound line; None if there is none."""
        end = self._file.ask(os.fstat).st_size
        start, tail = end, b""
        while start > 0 and len(tail) < LONGEST_LINE:
            size = min(start, max(CHUNK, len(tail)))
            start -= size
            tail = self._file.ask(os.pread, size, start) + tail
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
        end = self._file.ask(os.fstat).st_size
        content = b"".join(line_of(line) for line in lines)
        if end and self._file.ask(os.pread, 1, end - 1) != b"\n":
            content = b"\n" + content  # a line that a power cut tore stays alone
        try:
            while content:
                content = content[self._file.ask(os.write, content) :]
            self._file.ask(os.fsync)
        except Hangs:
            raise  # whatever comes of it, the next line begins behind it
        except OSError:
            self._file.ask(os.ftruncate, end)
            raise


@contextmanager
def locked(path: Path, step: Step = directly) -> Iterator[JournalFile]:
    """Open a journal for appending, made if it is new; other processes are waited for.

    Raises:
        OSError: it cannot be made or opened, or another process does not let it go.
    """
    is_new = not step(path.exists)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    file = _Descriptor(step(os.open, path, flags, 0o640, late=_close), step)
    try:
        _lock(file, path)
        if is_new:
            step(sync, path.parent)
        yield JournalFile(file)
    finally:
        file.close()  # lets the lock go, too


def _lock(file: _Descriptor, path: Path) -> None:
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            file.ask(fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                held = "another program holds it for too long"
                raise OSError(errno.EBUSY, held, str(path)) from None
            time.sleep(LOCK_PAUSE_SECONDS)
