"""A real disk that is really full: a small file system of its own for a station's data."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHUNK = 64 * 1024


class CannotMount(Exception):
    """This machine lets nobody mount a file system; says why."""


@contextmanager
def small_disk(folder: Path, size_kb: int, files: int | None = None) -> Iterator[SmallDisk]:
    """A tmpfs of this size at `folder`.

    Args:
        files: how many files and folders it can hold; None: as many as the system likes.

    Raises:
        CannotMount: this takes root, and a system that allows it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={size_kb}k" + (f",nr_inodes={files}" if files is not None else "")
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise CannotMount("there is no `mount` here") from None
    if result.returncode:
        raise CannotMount(result.stderr.strip())
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class SmallDisk:
    """A mounted small disk, and the ballast that fills it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._ballast = folder, folder / "ballast"

    def fill(self, leave_bytes: int = 0) -> None:
        """Fill it to the brim, then let so much go (a file system gives whole pages)."""
        with open(self._ballast, "ab", buffering=0) as file:
            for size in (CHUNK, 1024, 1):
                try:
                    while file.write(b"x" * size) == size:
                        pass
                except OSError:
                    continue
            if leave_bytes:
                file.truncate(max(0, file.tell() - leave_bytes))

    def make_room(self) -> None:
        """Take the ballast away."""
        self._ballast.unlink(missing_ok=True)
