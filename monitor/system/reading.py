"""Files read whole and hashed: what is believed of a file is its bytes, never its name or place."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from monitor.core.domain import FileStamp

MAX_FILE_BYTES = 256 * 1024 * 1024
"""Larger files are hashed, and rejected unread: one is held in memory for each thread."""
HEAD_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Content:
    """A file's bytes (only its head, where it is too large) with its true hash and stamp."""

    data: bytes
    sha256: str
    stamp: FileStamp
    too_large: bool = False


def read_content(path: bytes) -> Content:
    """Read a regular file whole and hash it. Never waits for a writer (a FIFO is refused).

    Raises:
        OSError: it cannot be read; ESTALE if it changed while it was read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        digest = hashlib.sha256()
        if before.st_size > MAX_FILE_BYTES:
            data = file.read(HEAD_BYTES)
            digest.update(data)
            while block := file.read(HEAD_BYTES):
                digest.update(block)
        else:
            data = file.read()
            digest.update(data)
        after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise OSError(errno.ESTALE, "the file changed while it was read")
    stamp = FileStamp(after.st_size, after.st_mtime_ns)
    return Content(data, digest.hexdigest(), stamp, before.st_size > MAX_FILE_BYTES)


def read_verified(
    paths: Sequence[bytes],
    sha256: str,
    on_other: Callable[[bytes, FileStamp], None] = lambda path, stamp: None,
    on_error: Callable[[bytes, OSError], None] = lambda path, error: None,
    read: Callable[[bytes], Content] = read_content,
) -> bytes | None:
    """The bytes with this hash from the first of `paths` that still has them, else None.

    Args:
        on_other: called with a path that holds other bytes now, and the stamp of these.
        on_error: called with a path that cannot be read, or is too large to be read whole.
        read: how a file is read.
    """
    for path in paths:
        try:
            content = read(path)
            if content.too_large:
                raise OSError(errno.EFBIG, f"larger than {MAX_FILE_BYTES:,} bytes")
        except OSError as error:
            on_error(path, error)
            continue
        if content.sha256 == sha256:
            return content.data
        on_other(path, content.stamp)
    return None
