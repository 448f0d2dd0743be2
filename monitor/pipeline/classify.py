"""How media flow: pending frames, newest first, through the lanes and the head into the log.

One thread runs `Pipeline.step()`, one commit each; decoding and the forward pass go on beside it
in the lanes. The queue IS the table: a kill at any instant loses nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt

from monitor.core.domain import shown_path
from monitor.images.decode import DecodeRules
from monitor.log.features import FeatureStore
from monitor.log.media import BatchResult, PendingMedia
from monitor.log.species_log import SpeciesLog
from monitor.model.backbone import Backbone
from monitor.model.backbone.tail import Tail, without_tail
from monitor.model.head import predict
from monitor.pipeline.inference_threads import Frame, InferenceThreads
from monitor.pipeline.live import LiveModel
from monitor.pipeline.quarantine import Quarantine
from monitor.pipeline.rescoring import Rescoring, Speaker
from monitor.system.reads import Patience

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]


class Pipeline:
    """Classifies pending media and re-scores past ones.

    Args:
        features: the cache, of the layout without a tail.
        open_backbone: with a tail or none; called when a frame needs it first, and after a swap.
        live: the live model, followed from batch to batch.
        unknown_below: see `classifier.predict`.
        clock: the present, in UTC.
        threads: of the lanes.
        quarantine: knows of files that end the program.
        patience: reads files.
    """

    def __init__(
        self,
        log: SpeciesLog,
        features: FeatureStore,
        open_backbone: Callable[[Tail | None], Backbone],
        live: LiveModel,
        rules: DecodeRules,
        unknown_below: float,
        clock: Callable[[], datetime],
        threads: int = 2,
        quarantine: Quarantine | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._log, self._features, self._live = log, features, live
        self._unknown_below, self._clock = unknown_below, clock
        quarantine, patience = quarantine or Quarantine(log, rules, clock), patience or Patience(())
        self._lanes = InferenceThreads(
            log, features, open_backbone, rules, threads, quarantine, patience
        )
        self._rescoring = Rescoring(log, self.features_of, unknown_below, clock)

    def warm_up(self) -> None:
        """Open the backbone before the first frame comes.

        Raises:
            BackboneError: it cannot be opened; says why and what to do.
        """
        self._follow()
        _ = self._lanes.backbone

    def doing(self) -> str | None:
        """What takes longest at this moment, in words; None if nothing is under way."""
        return self._lanes.doing()

    def close(self) -> None:
        """End the threads and let go of the backbone."""
        self._rescoring.close()
        self._lanes.close()

    def step(self) -> int:
        """Classify what is pending for a second at most, or re-score one page of past media.

        Returns:
            how many media were brought on; 0 when there is nothing to do.
        """
        self._follow()
        done = self._classify_batch()
        return done + self._rescore_page(may_read_files=done == 0)

    def use(self, tail: Tail | None) -> None:
        """Let `features_of`, and all that comes, be of the network with this tail, or with none.

        Features of several layouts lie beside each other in the cache; the lanes drop what is
        under way. Nothing happens where the tail is in use already.
        """
        base = without_tail(self._features.layout)
        layout = tail.name_on(base) if tail is not None else base
        if layout != self._features.layout:
            logger.info("features are %s from now on", layout)
            self._rescoring.let_go()  # which reads those of before
            self._features = self._features.of_layout(layout)
            self._lanes.use(self._features, tail)

    def _follow(self) -> None:
        """Between two batches: the head that is live now, and the tail that it was trained with."""
        if self._live.follow() and (layout := self._live.layout) is not None:
            tail = self._live.take_tail()
            if without_tail(layout) == without_tail(self._features.layout):
                self.use(tail)

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
        self._features.keep([(f.media.sha256, _have(f)) for f in ready if f.is_new])
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
        """Let the live model speak of one page of past, unlabelled media."""
        name = self._live.name
        head = self._live.head_for(self._features.layout, self._features.size)
        speaker = None
        if name is not None and head is not None:
            speaker = Speaker(name, head, self._features)
        return self._rescoring.step(
            speaker, lambda: self._lanes.at_once, may_read_files=may_read_files
        )


def _have(frame: Frame) -> Floats:
    assert frame.features is not None
    return frame.features
