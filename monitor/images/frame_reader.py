"""Files of frames read to be shown or learnt from: only those that somebody meant to show, and with
a limit of time for each watched folder, for one that hangs must not hold up the others."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from monitor.system.reading import Content, read_content, read_verified
from monitor.system.reads import Patience

READ_SECONDS = 20.0
"""A frame of 20 MB comes in that time over 8 Mbit/s."""
LEADS_OUT = (
    "a link that leads out of the watched folders is not followed (list the folder it leads to "
    "in watch.folders)"
)
MOST_STATIONS = 8
"""Readers that a process keeps: one for each list of watched folders, and it has one list."""

ReadFrame = Callable[[Sequence[bytes], str], bytes | None]
"""Paths and SHA-256 -> the bytes; None: no path has them."""


class FrameReader:
    """Reads frames of one station. Safe to share between threads.

    Args:
        folders: the watched ones.
        seconds: so long a read may take in one of them; READ_SECONDS where nothing is said.
    """

    def __init__(self, folders: Sequence[Path], seconds: float | None = None) -> None:
        self._folders = tuple(folders)
        self._patience = Patience(folders, seconds or READ_SECONDS, self._read)

    def read(
        self, paths: Sequence[bytes], sha256: str, problems: dict[bytes, str] | None = None
    ) -> bytes | None:
        """The bytes with this hash from the first of `paths` that has them; None: none has.

        Args:
            problems: is told why a path has not, in words.
        """
        told = problems if problems is not None else {}
        return read_verified(
            paths,
            sha256,
            lambda path, stamp: told.update({path: "its bytes changed since it was taken in"}),
            lambda path, error: told.update({path: error.strerror or str(error)}),
            self._patience.read,
        )

    def _read(self, path: bytes) -> Content:
        if leads_out(path, self._folders):
            raise OSError(errno.ELOOP, LEADS_OUT)
        return read_content(path)


@lru_cache(MOST_STATIONS)
def frame_reader(folders: tuple[Path, ...]) -> FrameReader:
    """The one of this process for these watched folders."""
    return FrameReader(folders)


def leads_out(path: bytes, folders: Sequence[Path]) -> bool:
    """True if a path is, by now, a way to files that nobody meant to show.

    Who may copy cards into a watched folder must not thereby get other files of this machine on
    the page: so what is named as lying below a watched folder must really lie below one. A path
    elsewhere was named by a person of the station (`label import-folder`): it counts as it is
    (its folder may well be behind a link, such as /home on some systems), unless the file itself
    is a link.
    """
    named = os.path.normpath(path)
    own = [folder for folder in folders if named.startswith(_below(os.fsencode(folder)))]
    if not own:
        return os.path.islink(path)
    real = os.path.realpath(path)
    others = (folder for folder in folders if folder not in own)  # which may hang: asked last
    return not any(real.startswith(_below(os.path.realpath(f))) for f in (*own, *others))


def _below(folder: str | bytes) -> bytes:
    return os.path.join(os.fsencode(folder), b"")
