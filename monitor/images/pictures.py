"""Frames as people see them: upright JPEG in a few sizes, made once, kept in a bounded folder."""

from __future__ import annotations

import io
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Literal

from monitor.core.domain import TrapwatchError, shown_path
from monitor.images.decode import DecodeRules, ImageRejected, shrink
from monitor.images.formats import format_of
from monitor.images.frame_reader import frame_reader
from monitor.images.picture_folder import PictureFolder
from monitor.log.media import PendingMedia
from monitor.system.workers import Worker

logger = logging.getLogger(__name__)

Size = Literal["thumb", "screen"]
PICTURES_FOLDER = "pictures"
"""Beside the log: one cache for pages and reports."""
LONGEST_SIDE: dict[Size, int] = {"thumb": 320, "screen": 1600}  # pixels
QUALITY: dict[Size, int] = {"thumb": 80, "screen": 82}  # JPEG
MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "HEIF": "image/heif",
}
MOST_AHEAD = 500
WAIT_SECONDS = 30.0
"""After so long whoever asked is told to come again: a share that hangs must not hold them all."""
IDLE_SECONDS, HANG_SECONDS, END_SECONDS = 3600.0, 600.0, 5.0

Wish = tuple[int, Size]


class PictureMissing(TrapwatchError):
    """A frame cannot be shown: its file is gone, changed or unreadable; says which."""


class Pictures:
    """The cache of resized pictures. Safe to share between threads.

    Args:
        find_media: `SpeciesLog.find_media`.
        folder: made when first needed; it may be deleted at any time.
        most_bytes: the folder is kept below this.
        rules: what is decoded at all.
        threads: so many pictures that somebody waits for are made at once.
        folders: the watched ones, see `frame_reader.leads_out`.
        is_deadly: see `PoisonQueries.is_set_aside`.
        spare_bytes: nothing is kept where the disk has less free than that.
    """

    def __init__(
        self,
        find_media: Callable[[Sequence[int]], list[PendingMedia]],
        folder: Path,
        most_bytes: int,
        rules: DecodeRules,
        threads: int = 1,
        folders: Sequence[Path] = (),
        spare_bytes: int = 0,
        is_deadly: Callable[[Sequence[bytes]], bool] = lambda paths: False,
    ) -> None:
        self._find_media, self._rules = find_media, rules
        self._reader = frame_reader(tuple(folders))
        self._is_deadly = is_deadly
        self._kept = PictureFolder(folder, most_bytes, spare_bytes)
        self._lock = threading.Lock()
        self._asked: deque[Wish] = deque()
        self._ahead: deque[Wish] = deque()
        self._promised: dict[Wish, Future[bytes]] = {}  # asked for, or being made
        self._making = 0  # of those asked for
        self._started = False
        self._stop = threading.Event()
        self._makers = [_worker(f"pictures-{n}", self.make_one) for n in range(threads)]
        # A thread of its own, so that what is asked for never waits for what is made ahead.
        self._ahead_maker = _worker("pictures-ahead", self.make_one_ahead)
        self._tidier = _worker("pictures-tidy", self._tidy)

    def get(self, media_id: int, size: Size) -> bytes:
        """The JPEG of a frame, made now if it is not kept yet (in a thread of its own).

        Bytes, not a path: the file may be deleted at any time, and a full disk holds none.

        Raises:
            PictureMissing: see there.
        """
        promise = self.promise(media_id, size)
        try:
            return promise.result(WAIT_SECONDS)
        except TimeoutError:
            raise not_ready(media_id) from None

    def promise(self, media_id: int, size: Size) -> Future[bytes]:
        """The same for whoever has better to do than to wait. Never to be cancelled: others may
        wait for it too.

        Raises:
            PictureMissing: see there; also what the future raises.
        """
        media = self._media(media_id)
        kept = self._kept.read(_name(media, size))
        if kept is None:
            return self._promise((media_id, size))
        fulfilled: Future[bytes] = Future()
        fulfilled.set_result(kept)
        return fulfilled

    def make_ahead(self, media_ids: Sequence[int], size: Size) -> None:
        """Make these when nothing asked for is waiting; returns at once.

        The newest call comes first, in its order; of older ones only some hundred are kept.
        """
        wanted: list[Wish] = [(media_id, size) for media_id in dict.fromkeys(media_ids)]
        with self._lock:
            if self._stop.is_set():
                return
            newest = set(wanted)
            rest = [wish for wish in self._ahead if wish not in newest]
            self._ahead = deque([*wanted, *rest][:MOST_AHEAD])
            self._start()
        self._ahead_maker[1].set()

    def original(self, media_id: int) -> tuple[bytes, str]:
        """The file's bytes, their SHA-256 compared with the log, and their media type.

        Raises:
            PictureMissing: see there.
        """
        data = self._bytes(self._media(media_id))
        return data, MEDIA_TYPES.get(format_of(data), "application/octet-stream")

    def close(self) -> None:
        """End the threads; what was queued is dropped."""
        with self._lock:
            self._stop.set()
            for wish in self._asked:
                self._promised.pop(wish).set_exception(_ending())
            self._asked.clear()
            self._ahead.clear()
            started, self._started = self._started, False
        workers = [*self._makers, self._ahead_maker, self._tidier]
        if started:
            for worker, _ in workers:
                worker.stop()
            ended = [worker.join(END_SECONDS) for worker, _ in workers]
            if not all(ended):
                logger.warning("a picture is still being made: a disk or share does not answer")

    def make_one(self) -> bool:
        """Make the picture that was asked for first; False if none is. One step of a thread."""
        with self._lock:
            if not self._asked:
                return False
            wish = self._asked.popleft()
            self._making += 1
        self._fulfil(wish)
        with self._lock:
            self._making -= 1
        self._ahead_maker[1].set()
        return True

    def make_one_ahead(self) -> bool:
        """Make the next picture ahead; False if there is none, or one that is asked for waits."""
        with self._lock:
            if self._asked or self._making or not self._ahead:
                return False
            wish = self._ahead.popleft()
            if wish in self._promised:
                return True
            self._promised[wish] = Future()
        self._fulfil(wish)
        return True

    def _promise(self, wish: Wish) -> Future[bytes]:
        """The picture that is being made already, or is made from now on."""
        with self._lock:
            if self._stop.is_set():
                raise _ending()
            promise = self._promised.get(wish)
            if promise is None:
                promise = self._promised[wish] = Future()
                self._asked.append(wish)
                if wish in self._ahead:
                    self._ahead.remove(wish)
            self._start()
        for _, wake in self._makers:
            wake.set()
        return promise

    def _start(self) -> None:
        """Start the threads, once: a station whose pages nobody opens needs none."""
        if not self._started:
            self._started = True
            for worker, _ in (*self._makers, self._ahead_maker, self._tidier):
                worker.start()

    def _fulfil(self, wish: Wish) -> None:
        promise = self._promised[wish]
        try:
            content = self._made(*wish)
        except Exception as error:  # noqa: BLE001  raised again in the thread that asked
            promise.set_exception(error)
        else:
            promise.set_result(content)
        with self._lock:
            del self._promised[wish]
        if self._kept.is_full:
            self._tidier[1].set()

    def _made(self, media_id: int, size: Size) -> bytes:
        """Decode, resize, encode and keep; another thread may have done so a moment ago."""
        media = self._media(media_id)
        kept = self._kept.read(_name(media, size))
        if kept is not None:
            return kept
        if self._is_deadly(media.paths):
            raise PictureMissing(f"media {media_id} is not shown: reading it ends the program")
        stream = io.BytesIO()
        try:
            picture = shrink(self._bytes(media), self._rules, LONGEST_SIDE[size])
        except ImageRejected as error:
            raise PictureMissing(f"media {media_id} cannot be shown: {error}") from error
        picture.save(stream, "JPEG", quality=QUALITY[size])
        self._kept.keep(_name(media, size), stream.getvalue())
        return stream.getvalue()

    def _media(self, media_id: int) -> PendingMedia:
        found = self._find_media([media_id])
        if not found:
            raise PictureMissing(f"there is no media {media_id}")
        return found[0]

    def _bytes(self, media: PendingMedia) -> bytes:
        """The file's bytes from the first path that has them."""
        problems: dict[bytes, str] = {}
        data = self._reader.read(media.paths, media.sha256, problems)
        if data is None:
            told = "; ".join(f"{shown_path(p)}: {problems[p]}" for p in media.paths[:3])
            raise PictureMissing(
                f"media {media.media_id} cannot be shown: {told or 'no file of it is known'}"
            )
        return data

    def _tidy(self) -> bool:
        self._kept.tidy(self._stop)
        return False


def _worker(name: str, step: Callable[[], bool]) -> tuple[Worker, threading.Event]:
    wake = threading.Event()
    return Worker(name, step, IDLE_SECONDS, HANG_SECONDS, wake), wake


def _name(media: PendingMedia, size: Size) -> str:
    return f"{media.sha256}-{size}.jpg"


def not_ready(media_id: int) -> PictureMissing:
    """What somebody is told who has waited for WAIT_SECONDS."""
    return PictureMissing(
        f"the picture of media {media_id} is not ready after {WAIT_SECONDS:.0f} s (a slow disk or "
        "network share?); ask again later"
    )


def _ending() -> PictureMissing:
    return PictureMissing("trapwatch is ending; ask again when it runs")
