"""Frames as people see them: upright JPEG in a few sizes, made once, kept in a bounded folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from monitor.domain import TrapwatchError
from monitor.imaging import DecodeRules
from monitor.log.media import PendingMedia

Size = Literal["thumb", "screen"]
LONGEST_SIDE: dict[Size, int] = {"thumb": 320, "screen": 1600}  # pixels


class PictureMissing(TrapwatchError):
    """A frame cannot be shown: its file is gone, changed or unreadable; says which."""


class Pictures:
    """The cache of resized pictures. Safe to share between threads.

    Args:
        find_media: `SpeciesLog.find_media`.
        folder: made when first needed; it may be deleted at any time.
        most_bytes: the folder is kept below this.
        rules: what is decoded at all.
        threads: so many pictures are made at once.
    """

    def __init__(
        self,
        find_media: Callable[[Sequence[int]], list[PendingMedia]],
        folder: Path,
        most_bytes: int,
        rules: DecodeRules,
        threads: int = 1,
    ) -> None:
        self._find_media, self._folder, self._most_bytes = find_media, folder, most_bytes
        self._rules, self._threads = rules, threads

    def get(self, media_id: int, size: Size) -> Path:
        """The JPEG file of a frame, made now if it is not there yet (in a thread of its own).

        Raises:
            PictureMissing: see there.
        """
        raise NotImplementedError

    def make_ahead(self, media_ids: Sequence[int], size: Size) -> None:
        """Make these when nothing asked for is waiting; returns at once."""
        raise NotImplementedError

    def original(self, media_id: int) -> tuple[bytes, str]:
        """The file's bytes, their SHA-256 compared with the log, and their media type.

        Raises:
            PictureMissing: see there.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End the threads; what was queued is dropped."""
