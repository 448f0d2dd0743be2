"""How media flow: pending frames, newest first, through decode, backbone and head into the log.

One thread runs `Pipeline.step()`; decoding of the next batches overlaps with the forward pass
of this one in a small thread pool. The queue IS the table: a kill at any instant loses nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from monitor.backbone import Backbone
from monitor.classifier import Head, predict
from monitor.domain import FileStamp, shown_path
from monitor.imaging import DecodeRules, ImageRejected, decode
from monitor.intake import read_verified
from monitor.live import LiveModel
from monitor.log.features import FeatureStore
from monitor.log.media import BatchResult, PendingMedia
from monitor.log.species_log import SpeciesLog

logger = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
RESCORE_PAGE = 500
BATCHES_AHEAD = 2
FIRST_BATCH = 8
RESCORE_AGAIN = timedelta(hours=1)
"""So often past media are looked through once more: a label may have been withdrawn since."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One frame on its way: pixels, or cached features, or why there are neither."""

    media: PendingMedia
    pixels: Pixels | None = None
    features: Floats | None = None
    rejected: str | None = None

    @property
    def is_absent(self) -> bool:
        """True if no path of it had its bytes."""
        return self.pixels is None and self.features is None and self.rejected is None


class Pipeline:
    """Classifies pending media and re-scores past ones.

    Args:
        open_backbone: called once, when the first frame needs it.
        live: the live model, followed from batch to batch.
        unknown_below: see `classifier.predict`.
        clock: the present, in UTC.
        threads: decode threads.
    """

    def __init__(
        self,
        log: SpeciesLog,
        features: FeatureStore,
        open_backbone: Callable[[], Backbone],
        live: LiveModel,
        rules: DecodeRules,
        unknown_below: float,
        clock: Callable[[], datetime],
        threads: int = 2,
    ) -> None:
        self._log, self._features, self._live = log, features, live
        self._open_backbone = open_backbone
        self._backbone: Backbone | None = None
        self._rules, self._unknown_below, self._clock = rules, unknown_below, clock
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._ahead: dict[int, Future[Decoded]] = {}
        self._past = _Past(None)

    @property
    def backbone(self) -> Backbone:
        """The backbone, opened at its first use."""
        if self._backbone is None:
            self._backbone = self._open_backbone()
            logger.info("backbone ready: %s", self._backbone.description)
        return self._backbone

    def close(self) -> None:
        """End the threads and let go of the backbone."""
        self._ahead.clear()
        self._pool.shutdown(cancel_futures=True)
        if self._backbone is not None:
            self._backbone.close()

    def step(self) -> int:
        """Classify one batch, or re-score one page of past media.

        Returns:
            how many media were brought on; 0 when there is nothing to do.
        """
        self._live.follow()
        done = self._classify_batch()
        return done + self._rescore_page(may_read_files=done == 0)

    def features_of(
        self, media_ids: Sequence[int], progress: Callable[[int, int], None] = lambda i, n: None
    ) -> dict[str, Floats]:
        """Features of given media by SHA-256, computed where the cache lacks them.

        Media whose file is gone or cannot be decoded are left out.
        """
        found: dict[str, Floats] = {}
        size = self.backbone.batch_size
        for start in range(0, len(media_ids), size):
            media = self._log.find_media(media_ids[start : start + size])
            cached = self._features.get([one.sha256 for one in media])
            prepared = self._pool.map(lambda one, known=cached: self._prepare(one, known), media)
            frames = self._with_features(list(prepared))
            found |= {f.media.sha256: f.features for f in frames if f.features is not None}
            progress(min(start + size, len(media_ids)), len(media_ids))
        return found

    def _classify_batch(self) -> int:
        frames = self._next_batch()
        if not frames:
            return 0
        frames = self._with_features(frames)
        ready = [f for f in frames if f.features is not None]
        result = self._result(frames, ready)
        self._log.record(result, self._clock())
        for frame in frames:
            if frame.rejected is not None:
                path = shown_path(frame.media.paths[0])
                logger.warning(
                    "rejected media %d (%s): %s", frame.media.media_id, path, frame.rejected
                )
        self._look_for_new_paths([f.media for f in frames if f.media.media_id in result.absent])
        return len(frames)

    def _look_for_new_paths(self, absent: Sequence[PendingMedia]) -> None:
        """A file that was renamed while its old path was tried is there all the same."""
        tried = {media.media_id: set(media.paths) for media in absent}
        now = self._log.find_media(list(tried)) if tried else []
        moved = [m.media_id for m in now if not tried[m.media_id].issuperset(m.paths)]
        if moved:
            self._log.mark_found(moved)

    def _result(self, frames: Sequence[Decoded], ready: Sequence[Decoded]) -> BatchResult:
        ids = tuple(f.media.media_id for f in ready)
        head = self._live.head_for(self._features.layout, self._features.size)
        predictions = (
            tuple(predict(head, ids, np.stack([_have(f) for f in ready]), self._unknown_below))
            if head is not None and ready
            else ()
        )
        return BatchResult(
            classified=ids,
            predictions=predictions,
            rejected=tuple(
                (f.media.media_id, f.rejected) for f in frames if f.rejected is not None
            ),
            absent=tuple(f.media.media_id for f in frames if f.is_absent),
            version=self._live.name if head is not None else None,
        )

    def _next_batch(self) -> list[Decoded]:
        """The newest pending frames, decoded; the ones after them start to be decoded.

        Asked anew each time, so that a frame that just came goes before those decoded ahead.
        """
        size = self._backbone.batch_size if self._backbone is not None else FIRST_BATCH
        media = self._log.pending(size * (1 + BATCHES_AHEAD))
        new = [one for one in media if one.media_id not in self._ahead]
        cached = self._features.get([one.sha256 for one in new])
        ahead = {one.media_id: self._pool.submit(self._prepare, one, cached) for one in new}
        futures = [self._ahead.get(one.media_id) or ahead[one.media_id] for one in media]
        self._ahead = {
            one.media_id: future for one, future in zip(media[size:], futures[size:], strict=True)
        }
        frames = [future.result() for future in futures[:size]]
        return [  # what was not there when it was decoded ahead may be by now
            self._decode(one) if frame.is_absent else frame
            for one, frame in zip(media, frames, strict=False)
        ]

    def _prepare(self, media: PendingMedia, cached: dict[str, Floats]) -> Decoded:
        if media.sha256 in cached:
            return Decoded(media, features=cached[media.sha256])
        return self._decode(media)

    def _decode(self, media: PendingMedia) -> Decoded:
        data = read_verified(
            media.paths, media.sha256, lambda path, stamp: self._note_changed(media, path, stamp)
        )
        if data is None:
            return Decoded(media)
        try:
            return Decoded(media, pixels=decode(data, self._rules))
        except ImageRejected as error:
            return Decoded(media, rejected=str(error))

    def _note_changed(self, media: PendingMedia, path: bytes, stamp: FileStamp) -> None:
        """Other bytes behind the very size and time the log knows: no scan can see that, so let
        the log forget that it knows the path, and the next scan takes it in."""
        known = self._log.known_files([path]).get(path)
        if known is not None and known.media_id == media.media_id and known.stamp == stamp:
            problem = "its bytes changed, its size and time did not; it is taken in anew"
            self._log.note_unreadable(path, stamp, problem)

    def _with_features(self, frames: Sequence[Decoded]) -> list[Decoded]:
        """Run the backbone on the frames that have pixels, and keep what it says."""
        fresh = [f for f in frames if f.pixels is not None]
        if not fresh:
            return list(frames)
        vectors = self.backbone.features(
            np.stack([f.pixels for f in fresh if f.pixels is not None])
        )
        pairs = list(zip(fresh, vectors, strict=True))
        self._features.put([(f.media.sha256, vector) for f, vector in pairs])
        by_id = {f.media.media_id: vector for f, vector in pairs}
        return [
            Decoded(f.media, features=_as_kept(by_id[f.media.media_id]))
            if f.media.media_id in by_id
            else f
            for f in frames
        ]

    def _rescore_page(self, *, may_read_files: bool) -> int:
        """Let the live model speak of one page of past, unlabelled media: first of all whose
        features are cached, then, when nothing else is to do, of those whose files must be read."""
        name = self._live.name
        head = self._live.head_for(self._features.layout, self._features.size)
        if name != self._past.version or self._past.is_over(self._clock()):
            self._past = _Past(name)
        if head is None or name is None or self._past.done_at is not None:
            return 0
        if self._past.reading and not may_read_files:
            return 0
        limit = self.backbone.batch_size if self._past.reading else RESCORE_PAGE
        page = self._log.to_rescore(name, limit, self._past.after)
        if page:
            self._rescore(name, head, page)
            self._past = replace(self._past, after=page[-1][0])
            return len(page)
        if self._past.reading:
            logger.debug("all past media that could be read were scored by %s", name)
            self._past = replace(self._past, done_at=self._clock())
            return 0
        self._past = _Past(name, reading=True)
        return 1

    def _rescore(self, name: str, head: Head, page: Sequence[tuple[int, str]]) -> None:
        if self._past.reading:
            vectors = self.features_of([media_id for media_id, _ in page])
        else:
            vectors = self._features.get([sha for _, sha in page])
        known = [(media_id, vectors[sha]) for media_id, sha in page if sha in vectors]
        if known:
            ids = [media_id for media_id, _ in known]
            spoken = predict(head, ids, np.stack([v for _, v in known]), self._unknown_below)
            self._log.rescore(name, spoken, self._clock())


@dataclass(frozen=True, slots=True)
class _Past:
    """How far the re-scoring by one version is. `reading`: in its second round, over files."""

    version: str | None
    after: int = 0
    reading: bool = False
    done_at: datetime | None = None

    def is_over(self, now: datetime) -> bool:
        """True when it was done so long ago that it should be done again."""
        return self.done_at is not None and abs(now - self.done_at) >= RESCORE_AGAIN


def _have(frame: Decoded) -> Floats:
    assert frame.features is not None
    return frame.features


def _as_kept(vector: Floats) -> Floats:
    """The vector as the cache will give it back, so that a re-score says the same."""
    return np.clip(vector, -65504, 65504).astype(np.float16).astype(np.float32)
