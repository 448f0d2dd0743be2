"""One station's parts, put together from its settings."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from monitor.backbone import (
    INPUT_SIZES,
    Backbone,
    BackboneOptions,
    FeatureLayout,
    layout_of,
    open_backbone,
    usable_threads,
)
from monitor.backbone.tail import Tail
from monitor.backbone.trial import remembered
from monitor.config import Settings
from monitor.deployments import DeploymentRow, Deployments, read_deployments
from monitor.domain import utc_now
from monitor.imaging import DecodeRules
from monitor.intake import Intake
from monitor.live import LiveModel
from monitor.log.features import FeatureStore
from monitor.log.species_log import SpeciesLog, open_log
from monitor.models import ModelStore
from monitor.pipeline import Pipeline
from monitor.watch import Found, Watcher, monotonic, stamp_of

if TYPE_CHECKING:
    from monitor.training.bench import Bench

Floats = npt.NDArray[np.float32]

EVENT_GAP_KEY = "event_gap_seconds"
ENGINE_KEY = "engine"


def decode_rules(settings: Settings) -> DecodeRules:
    """What the decoder is told."""
    classifier = settings.classifier
    return DecodeRules(
        max_pixels=classifier.max_pixels,
        accept_truncated=classifier.accept_truncated,
        size=INPUT_SIZES[classifier.backbone],
    )


def backbone_options(settings: Settings) -> BackboneOptions:
    """What the backbone is told."""
    c = settings.classifier
    return BackboneOptions(
        backbone=c.backbone,
        weights=c.weights,
        engine=c.engine,
        device=c.device,
        precision=c.precision,
        threads=c.threads,
        batch_size=c.batch_size,
        weights_cache=settings.data_directory / "weights",
        allow_download=c.allow_download,
    )


def engine_facts(backbone: Backbone, options: BackboneOptions) -> dict[str, object]:
    """Which engine works here and how fast it was in the trial, for `status`."""
    choice = remembered(options) if options.engine == "auto" else None
    return {
        "description": backbone.description,
        "lanes": backbone.lanes,
        "batch_size": backbone.batch_size,
        "trial": str(choice) if choice else None,
    }


class Station:
    """Everything between the folders and the log, for `run`, `train` and the imports.

    Args:
        settings: validated settings.
        clock: the present, in UTC.
    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime] = utc_now) -> None:
        self.settings, self.clock = settings, clock
        rows = self._deployment_rows()
        self.log: SpeciesLog = open_log(settings.database.url, create=True)
        self._opened: Backbone | None = None  # which nobody has taken yet
        self.quiet = False
        """True once all that is in the folders was taken in."""
        self.features = self._open_features()
        self.store = ModelStore(settings.models.directory)
        self.live = LiveModel(self.store, self.log.live_version)
        self.taken_in = threading.Event()
        """Set when something was taken in, for whoever classifies."""
        threads = usable_threads(settings.classifier.threads)
        gap = timedelta(minutes=settings.deployments.event_gap_minutes)
        self.intake = Intake(
            self.log,
            Deployments(settings.deployments.path_pattern, rows),
            decode_rules(settings),
            settings.station.zone,
            gap,
            clock,
            on_changing=self._put_off,
            threads=threads,
        )
        self.pipeline = Pipeline(
            self.log,
            self.features,
            self._open_backbone,
            self.live,
            decode_rules(settings),
            settings.classifier.unknown_below,
            clock,
            threads=threads,
        )
        self._watcher: Watcher | None = None
        self._adopt(rows, gap)

    @property
    def watcher(self) -> Watcher:
        """The watcher, made when it is first needed."""
        if self._watcher is None:
            self._watcher = Watcher(
                self.settings.watch, self.log.known_files, self.log.mark_found, self._report
            )
        return self._watcher

    def close(self) -> None:
        """Let go of threads, files and memory."""
        if self._watcher is not None:
            self._watcher.close()
        self.intake.close()
        self.pipeline.close()
        self.features.close()
        self.log.close()

    def watch_step(self) -> bool:
        """Find settled files and take them in. True if there is more to do at once."""
        settled = self.watcher.step(monotonic())
        if settled:
            self.intake.take(settled)
            self.taken_in.set()
        self.quiet = not settled and self.watcher.idle()
        return self.watcher.busy() or self.watcher.hints.waiting()

    def classify_step(self) -> bool:
        """Classify or re-score. True if there may be more to do at once."""
        return self.pipeline.step() > 0

    def features_of(
        self,
        media_ids: Sequence[int],
        tail: Tail | None,
        progress: Callable[[int, int], None] = lambda done, all_: None,
    ) -> dict[str, Floats]:
        """Features of given media by SHA-256 with a tail, or with none; see Pipeline.features_of.

        For the process that trains. They are kept under the tail's layout, where `features_with`
        finds them; the backbone is opened anew when the tail is another than the last time's.
        """
        self.pipeline.use(tail)
        return self.pipeline.features_of(media_ids, progress)

    def bench(self) -> Bench | None:
        """What fine-tuning works with; None where the backbone has no blocks."""
        from monitor.training.bench import Bench  # only the process that trains needs it

        if self.settings.classifier.backbone == "small":
            return None
        return Bench(
            backbone_options(self.settings),
            decode_rules(self.settings),
            self.settings.training,
            self.settings.data_directory,
            self.features_with,
            self.log.find_media,
        )

    def features_with(self, tail: Tail | None) -> FeatureStore:
        """The cached features of the network with this tail."""
        if tail is None:
            return self.features
        return self.features.of_layout(tail.name_on(self.features.layout))

    def take_in_file(self, path: bytes) -> int | None:
        """The media of a file that a person names, taken in now if the log does not know it.

        Returns:
            None if there is no such file, or it cannot be read.
        """
        stamp = stamp_of(path)
        if stamp is None:
            return None
        folder = self._folder_of(path)
        media_ids = self.intake.take([Found(folder, path, stamp)])
        return media_ids[0] if media_ids else None

    def _folder_of(self, path: bytes) -> Path:
        for folder in self.settings.watch.folders:
            if path.startswith(os.fsencode(folder) + b"/"):
                return folder
        return Path(os.fsdecode(path)).parent

    def _put_off(self, found: Found) -> None:
        if self._watcher is not None:
            seen = stamp_of(found.path)
            if seen is not None:
                self._watcher.put_off(Found(found.folder, found.path, seen), monotonic())

    def _deployment_rows(self) -> list[DeploymentRow]:
        file = self.settings.deployments.file
        return read_deployments(file, self.settings.station.zone) if file else []

    def _adopt(self, rows: Sequence[DeploymentRow], gap: timedelta) -> None:
        """Let the log follow the deployment list and the event gap of the config."""
        self.log.set_deployments([row.values() for row in rows])
        wanted = {"seconds": gap.total_seconds()}
        before = self.log.state(EVENT_GAP_KEY)
        if before != wanted:
            if before is not None:
                self.log.regroup_events(gap)
            self.log.put_state(EVENT_GAP_KEY, wanted, self.clock())

    def _open_features(self) -> FeatureStore:
        classifier = self.settings.classifier
        layout = (
            layout_of(classifier.backbone)
            if classifier.weights == "imagenet"
            else self._layout_of_own_weights()
        )
        path = self.settings.data_directory / "features.db"
        most = classifier.feature_cache_mb * 1024 * 1024
        return FeatureStore(path, layout.name, layout.size, most)

    def _layout_of_own_weights(self) -> FeatureLayout:
        """Their sum is part of its name, so they are read; the backbone is for the pipeline."""
        self._opened = self._open_backbone(None)
        return self._opened.layout

    def _open_backbone(self, tail: Tail | None) -> Backbone:
        opened, self._opened = self._opened, None
        if opened is not None and tail is None:
            return opened
        if opened is not None:
            opened.close()
        options = replace(backbone_options(self.settings), tail=tail)
        backbone = open_backbone(options)
        self.log.put_state(ENGINE_KEY, engine_facts(backbone, options), self.clock())
        return backbone

    def _report(self, facts: dict[str, object]) -> None:
        self.log.put_state("watch", facts, self.clock())
