"""How media flow: pending frames, newest first, through the lanes and the head into the log.

One thread runs `Pipeline.step()`, one commit each; decoding and the forward pass go on beside it
in the lanes. The queue IS the table: a kill at any instant loses nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from monitor.backbone import Backbone
from monitor.classifier import Head, predict
from monitor.domain import shown_path
from monitor.imaging import DecodeRules
from monitor.lanes import Frame, Lanes
from monitor.live import LiveModel
from monitor.log.features import FeatureStore
from monitor.log.media import BatchResult, PendingMedia
from monitor.log.species_log import SpeciesLog

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
RESCORE_PAGE = 500
RESCORE_AGAIN = timedelta(hours=1)
"""So often past media are looked through once more: a label may have been withdrawn since."""


class Pipeline:
    """Classifies pending media and re-scores past ones.

    Args:
        open_backbone: called once, when the first frame needs it.
        live: the live model, followed from batch to batch.
        unknown_below: see `classifier.predict`.
        clock: the present, in UTC.
        threads: of the lanes.
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
        self._unknown_below, self._clock = unknown_below, clock
        self._lanes = Lanes(log, features, open_backbone, rules, threads)
        self._past = _Past(None)

    def warm_up(self) -> None:
        """Open the backbone before the first frame comes.

        Raises:
            BackboneError: it cannot be opened; says why and what to do.
        """
        _ = self._lanes.backbone

    def close(self) -> None:
        """End the threads and let go of the backbone."""
        self._lanes.close()

    def step(self) -> int:
        """Classify what is pending for a second at most, or re-score one page of past media.

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
        page = self._lanes.at_once
        for start in range(0, len(media_ids), page):
            frames = self._lanes.features_of(self._log.find_media(media_ids[start : start + page]))
            found |= {f.media.sha256: f.features for f in frames if f.features is not None}
            progress(min(start + page, len(media_ids)), len(media_ids))
        return found

    def _classify_batch(self) -> int:
        if not (newest := self._log.pending(1)):
            self._lanes.advance(newest)
            return 0
        frames = self._lanes.advance(self._log.pending(self._lanes.window))
        ready = [f for f in frames if f.features is not None]
        self._features.put([(f.media.sha256, _have(f)) for f in ready if f.is_new])
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

    def _result(self, frames: Sequence[Frame], ready: Sequence[Frame]) -> BatchResult:
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
        limit = self._lanes.at_once if self._past.reading else RESCORE_PAGE
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


def _have(frame: Frame) -> Floats:
    assert frame.features is not None
    return frame.features
