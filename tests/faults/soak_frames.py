"""The frames of the soak run: written by the hundred thousand, and the cards emptied after them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from .drill import COLOURS, Drill, draw_frame

FIRST_MOMENT = datetime(2024, 5, 1, 6)
EACH = timedelta(seconds=40)
CAMERAS, FOLDER, LOOKS = 20, 500, 40
AHEAD = 4000
"""So many frames may wait for the service."""


class Feeder:
    """Writes frames, and empties the cards of what the service has done.

    Attributes:
        written: frames so far.
    """

    def __init__(self, drill: Drill) -> None:
        self.written = 0
        self._drill = drill
        self._bases = [(species, base) for species in COLOURS for base in _bases(drill, species)]
        self._folders: list[tuple[int, Path]] = []

    def write(self, count: int) -> None:
        """So many more frames."""
        for _ in range(count):
            number = self.written
            folder = self.path_of(number).parent
            if number % FOLDER < CAMERAS:
                folder.mkdir(parents=True, exist_ok=True)
                self._folders.append((number + FOLDER, folder))
            _, base = self._bases[number % len(self._bases)]
            self.path_of(number).write_bytes(frame_bytes(base, number))
            self.written += 1

    def path_of(self, number: int) -> Path:
        """Where a frame is."""
        camera, card = number % CAMERAS, number // FOLDER
        return self._drill.frames / f"camera{camera:02}" / f"{card:06}" / f"IMG_{number:08}.JPG"

    def species_of(self, number: int) -> str:
        """What a frame shows."""
        return self._bases[number % len(self._bases)][0]

    def empty_cards(self, done: int) -> None:
        """Remove the oldest folders, up to one with a frame that still waits.

        Args:
            done: how many frames are done; newer ones are done before older ones.
        """
        if not self._folders or self._folders[0][0] + 2 * AHEAD >= done:
            return
        rows = self._drill.query(
            "SELECT file.path FROM file JOIN media ON media.id = media_id WHERE status = 'pending'"
        )
        waiting = min((int(path[-12:-4]) for (path,) in rows), default=done)
        while self._folders and self._folders[0][0] + 2 * AHEAD < min(done, waiting + AHEAD):
            shutil.rmtree(self._folders.pop(0)[1])


def frame_bytes(base: bytes, number: int) -> bytes:
    """A JPEG with the number in a comment and its own EXIF time."""
    moment = (FIRST_MOMENT + number * EACH).strftime("%Y:%m:%d %H:%M:%S").encode()
    placed = base.replace(FIRST_MOMENT.strftime("%Y:%m:%d %H:%M:%S").encode(), moment)
    return placed[:2] + b"\xff\xfe" + (10).to_bytes(2, "big") + f"{number:08}".encode() + placed[2:]


def _bases(drill: Drill, species: str) -> Iterator[bytes]:
    path = drill.root / "base.jpg"
    for look in range(LOOKS):
        draw_frame(path, species, FIRST_MOMENT, look)
        yield path.read_bytes()
    path.unlink()
