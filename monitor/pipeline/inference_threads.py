"""Frames on their way to their features: read, decoded and put through the backbone.

On a CPU each thread of the pool is a lane: it decodes a few frames and goes on with their forward
pass itself, so that every core is busy and no two fight over one. A GPU has one lane, fed by all
threads. The newest frames go first, also past those that wait for a thread already.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import numpy.typing as npt

from monitor.core.domain import FileStamp, shown_path
from monitor.images.decode import DecodeRules, ImageRejected, decode
from monitor.log.features import FeatureStore, as_kept
from monitor.log.media import PendingMedia
from monitor.log.species_log import SpeciesLog
from monitor.model.backbone import Backbone
from monitor.model.backbone.tail import Tail
from monitor.pipeline.quarantine import Quarantine
from monitor.system.reading import read_verified
from monitor.system.reads import Patience
from monitor.system.workers import Doing

logger = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

CALLS_AHEAD = 16
"""Calls of the backbone, for each lane, that are under way or wait for a thread."""
BATCHES_AHEAD = 2
"""The same where one lane is fed by all threads: batches that are being decoded."""
TAKE_SECONDS = 1.0
"""So often at least, what is done is taken: one commit a second is no load for the log."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame on its way: pixels, then features, or why there are neither.

    Attributes:
        features: float32 (d,), as the cache gives them back.
        is_new: the features were computed now, and are not in the cache yet.
    """

    media: PendingMedia
    pixels: Pixels | None = None
    features: Floats | None = None
    is_new: bool = False
    rejected: str | None = None

    @property
    def is_absent(self) -> bool:
        """True if no path of it had its bytes."""
        return self.pixels is None and self.features is None and self.rejected is None


class InferenceThreads:
    """The threads, the backbone, and what is under way.

    Args:
        features: the cache, of the backbone's layout.
        open_backbone: called when the first frame needs it, and again after each `use`.
        threads: of the pool.
        quarantine: knows of files that end the program.
        patience: reads files.
    """

    def __init__(
        self,
        log: SpeciesLog,
        features: FeatureStore,
        open_backbone: Callable[[Tail | None], Backbone],
        rules: DecodeRules,
        threads: int,
        quarantine: Quarantine,
        patience: Patience,
    ) -> None:
        self._log, self._features, self._rules = log, features, rules
        self._quarantine, self._patience = quarantine, patience
        self._doing = Doing()
        self._open_backbone = open_backbone
        self._backbone: Backbone | None = None
        self._tail: Tail | None = None
        self._threads = threads
        self._pool = _pool_of(threads)
        self._under_way: dict[int, Future[list[Frame]]] = {}

    @property
    def backbone(self) -> Backbone:
        """The backbone, opened at its first use."""
        if self._backbone is None:
            self._backbone = self._open_backbone(self._tail)
            self._tail = None  # 28 MB or more, which the backbone has by now
            logger.info("backbone ready: %s", self._backbone.description)
        return self._backbone

    @property
    def at_once(self) -> int:
        """How many frames are in the backbone when every lane is busy."""
        return self.backbone.batch_size * self.backbone.lanes

    @property
    def window(self) -> int:
        """How many of the newest pending frames `advance` should be given."""
        return self.at_once * (CALLS_AHEAD if self._is_cpu else 1 + BATCHES_AHEAD)

    def doing(self) -> str | None:
        """What takes longest at this moment, in words; None if nothing is under way."""
        return self._doing.longest()

    def use(self, features: FeatureStore, tail: Tail | None) -> None:
        """Go on with another tail, or none, and the features of its layout.

        What is under way is dropped, and computed anew: it is still pending in the log. The old
        backbone is gone before the new one is opened, so that memory holds one.
        """
        self.close()
        self._pool = _pool_of(self._threads)
        self._features, self._tail = features, tail

    def close(self) -> None:
        """End the threads and let go of the backbone."""
        self._under_way.clear()
        self._pool.shutdown(cancel_futures=True)
        if self._backbone is not None:
            self._backbone.close()
            self._backbone = None

    def advance(self, media: Sequence[PendingMedia]) -> list[Frame]:
        """Bring frames on, the first ones first, and give back those that are done.

        Waits until half of them are done, or a second has passed and at least one is; where the
        first has just come, only for that one. The others stay under way; give them again the
        next time, and new ones before, between or behind.

        Raises:
            BackboneError: the backbone cannot be opened or used. A frame that fails for another
                reason is tried again, and told when nothing else is done.
        """
        if not media:
            self._under_way.clear()
            return []
        just_come = media[0].media_id not in self._under_way
        self._schedule(media)
        enough = self.window // 2 if self._is_cpu else self.backbone.batch_size
        done = self._done(media, enough, just_come)
        frames = [self._looked_for_again(frame) for frame in done]
        return self._with_features(frames)

    def features_of(self, media: Sequence[PendingMedia]) -> list[Frame]:
        """All of these, whatever is under way besides; features are kept in the cache by it."""
        parts = self._submitted(media)
        frames = self._with_features([frame for part in parts for frame in part.future.result()])
        self._features.keep(
            [(f.media.sha256, f.features) for f in frames if f.is_new and f.features is not None]
        )
        return frames

    @property
    def _is_cpu(self) -> bool:
        """Whether each thread goes on with the forward pass of what it decoded."""
        return self.backbone.lanes >= self._threads

    def _schedule(self, media: Sequence[PendingMedia]) -> None:
        """Let the pool work on `media`, in this order as far as it has not begun.

        What has begun goes on, also where newer frames have pushed it out of `media`: a card that
        is being taken in brings hundreds of those a second.
        """
        known = self._under_way
        new = next((i for i, one in enumerate(media) if one.media_id not in known), len(media))
        in_turn = {one.media_id for one in media[:new]}
        for media_id, future in known.items():
            if media_id not in in_turn:
                future.cancel()  # no effect on what has begun
        self._under_way = {i: future for i, future in known.items() if not future.cancelled()}
        waiting = set(self._under_way)
        for under_way, run in groupby(media, key=lambda one: one.media_id in waiting):
            if not under_way:  # a frame that has just come shares no part with the backlog's next
                for part in self._submitted(list(run)):
                    self._under_way |= {one.media_id: part.future for one in part.media}

    def _done(self, media: Sequence[PendingMedia], enough: int, hurry: bool) -> list[Frame]:
        """The frames that are done, newest first; waits as `advance` says."""
        deadline = time.monotonic() + TAKE_SECONDS
        of = self._under_way
        futures = list(dict.fromkeys([*(of[one.media_id] for one in media), *of.values()]))
        while open_ones := [future for future in futures if not future.done()]:
            good = sum(_is_good(future) for future in of.values())
            left = deadline - time.monotonic()
            first_is_done = hurry and _is_good(of[media[0].media_id])
            if good >= enough or first_is_done or (good and left <= 0):
                break
            wait(open_ones, max(left, 0.0) if good else None, FIRST_COMPLETED)
        done = sorted((f for f in futures if f.done()), key=lambda f: not _is_good(f))
        if not self._is_cpu:
            done = done[: self.backbone.batch_size]
        self._under_way = {i: future for i, future in of.items() if future not in done}
        frames = [f for future in done if not future.exception() for f in future.result()]
        if not frames:
            done[0].result()  # raises: nothing else is to be had, so let it be told
        return frames

    def _submitted(self, media: Sequence[PendingMedia]) -> list[_Part]:
        """Parts of one backbone call each, given to the pool, evenly over the lanes."""
        cached = self._features.get([one.sha256 for one in media])
        most = self.backbone.batch_size if self._is_cpu else 1
        size = max(1, min(most, math.ceil(len(media) / self._threads)))
        parts = [media[start : start + size] for start in range(0, len(media), size)]
        return [_Part(part, self._pool.submit(self._prepare, part, cached)) for part in parts]

    def _prepare(self, media: Sequence[PendingMedia], cached: dict[str, Floats]) -> list[Frame]:
        """In a thread of the pool: decode, and on a CPU the forward pass too."""
        frames = [
            Frame(one, features=cached[one.sha256]) if one.sha256 in cached else self._decode(one)
            for one in media
        ]
        return self._with_features(frames) if self._is_cpu else frames

    def _looked_for_again(self, frame: Frame) -> Frame:
        """What was not there when its turn came ahead of time may be by now."""
        return self._decode(frame.media) if frame.is_absent else frame

    def _decode(self, media: PendingMedia) -> Frame:
        with self._doing.note(lambda: _words("reading or decoding", [media])):
            try:
                objection = self._quarantine.objection(media.paths)
            except OSError as error:
                logger.warning("media %d waits: %s", media.media_id, error)
                return Frame(media)
            if objection is not None:
                return Frame(media, rejected=objection)
            data = read_verified(
                media.paths,
                media.sha256,
                lambda path, stamp: self._note_changed(media, path, stamp),
                lambda path, error: None,
                self._patience.read,
            )
            return Frame(media) if data is None else self._decoded(media, data)

    def _decoded(self, media: PendingMedia, data: bytes) -> Frame:
        with self._quarantine.reading(media.paths[0]):
            try:
                return Frame(media, pixels=decode(data, self._rules))
            except ImageRejected as error:
                return Frame(media, rejected=str(error))

    def _note_changed(self, media: PendingMedia, path: bytes, stamp: FileStamp) -> None:
        """Other bytes behind the very size and time the log knows: no scan can see that, so let
        the log forget that it knows the path, and the next scan takes it in."""
        known = self._log.known_files([path]).get(path)
        if known is not None and known.media_id == media.media_id and known.stamp == stamp:
            problem = "its bytes changed, its size and time did not; it is taken in anew"
            self._log.note_unreadable(path, stamp, problem)

    def _with_features(self, frames: Sequence[Frame]) -> list[Frame]:
        """Run the backbone on the frames that have pixels."""
        pixels = [frame.pixels for frame in frames if frame.pixels is not None]
        if not pixels:
            return list(frames)
        media = [frame.media for frame in frames if frame.pixels is not None]
        with self._doing.note(lambda: _words("the forward pass of", media)):
            vectors = iter(self.backbone.features(np.stack(pixels)))
        return [
            replace(frame, pixels=None, features=as_kept(next(vectors)), is_new=True)
            if frame.pixels is not None
            else frame
            for frame in frames
        ]


def _pool_of(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="lane")


def _words(what: str, media: Sequence[PendingMedia]) -> str:
    first, others = media[0], len(media) - 1
    path = shown_path(first.paths[0]) if first.paths else "no file"
    return f"{what} media {first.media_id} ({path}){f' and {others} more' if others else ''}"


def _is_good(future: Future[list[Frame]]) -> bool:
    return future.done() and future.exception() is None


@dataclass(frozen=True, slots=True)
class _Part:
    media: Sequence[PendingMedia]
    future: Future[list[Frame]]
