"""One station's parts, put together from its settings."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from monitor.core.config import Settings
from monitor.core.domain import utc_now
from monitor.core.pauses import CLASSIFY, INTAKE, Rest
from monitor.images.frame_reader import frame_reader
from monitor.log.features import FeatureStore
from monitor.log.species_log import SpeciesLog, open_log
from monitor.log.timeline import EVENT_GAP_KEY
from monitor.model.backbone import (
    Backbone,
    BackboneOptions,
    FeatureLayout,
    layout_of,
    open_backbone,
    usable_threads,
)
from monitor.model.backbone.spare import WithSpare, gpu_gone
from monitor.model.backbone.tail import Tail
from monitor.model.options import backbone_options, decode_rules, engine_facts
from monitor.model.versions import ModelStore
from monitor.pipeline.classify import Pipeline
from monitor.pipeline.deployments import DeploymentRow, Deployments, read_deployments
from monitor.pipeline.intake import Intake
from monitor.pipeline.live import LiveModel
from monitor.pipeline.places import Place, merged, threads_of
from monitor.pipeline.quarantine import Quarantine
from monitor.pipeline.watch import Found, stamp_of
from monitor.recovery.label_journal import keep_journal
from monitor.system.disk import MEGABYTE, DiskGuard
from monitor.system.reads import Patience

if TYPE_CHECKING:
    from monitor.training.bench import Bench

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]

ENGINE_KEY = "engine"


class Station:
    """Everything between the folders and the log, for `run`, `train` and the imports.

    Args:
        settings: validated settings.
        clock: the present, in UTC.
    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime] = utc_now) -> None:
        self.settings, self.clock = settings, clock
        self.rest = Rest()
        """Why some work rests for now."""
        self.disk = DiskGuard(settings, self.rest)
        rows = self._deployment_rows()
        self.log: SpeciesLog = keep_journal(
            open_log(settings.database.url, create=True), settings, clock
        )
        try:
            self._put_together(rows)
        except BaseException:
            self.log.close()  # before anybody puts another log in its place
            raise

    def _put_together(self, rows: Sequence[DeploymentRow]) -> None:
        settings, clock = self.settings, self.clock
        self.log.identity(clock())
        self.gpu_problem: str | None = None
        """Why the GPU is not used any more, in words."""
        self._opened: Backbone | None = None  # which nobody has taken yet
        self.features = self._open_features()
        self.store = ModelStore(settings.models.directory)
        self.live = LiveModel(self.store, self.log, clock)
        self.taken_in = threading.Event()
        """Set when something was taken in, for whoever classifies."""
        threads = usable_threads(settings.classifier.threads)
        gap = timedelta(minutes=settings.deployments.event_gap_minutes)
        deployments = Deployments(settings.deployments.path_pattern, rows)
        rules, folders = decode_rules(settings), settings.watch.folders
        self.quarantine = Quarantine(self.log, rules, clock)
        self.patience = Patience(folders)

        def make_intake(on_changing: Callable[[Found], None], threads: int) -> Intake:
            parts = (self.log, deployments, rules, settings.station.zone, gap, clock)
            return Intake(*parts, on_changing, threads, self.quarantine, self.patience)

        self._make_intake = make_intake
        self.intake = make_intake(lambda found: None, threads)
        self._threads_of_place = threads_of(threads, folders)
        self.pipeline = Pipeline(
            self.log,
            self.features,
            self._open_backbone,
            self.live,
            rules,
            settings.classifier.unknown_below,
            clock,
            threads=threads,
            quarantine=self.quarantine,
            patience=self.patience,
        )
        self._places: list[Place] = []
        self._reports: dict[Path, dict[str, object]] = {}
        self._adopt(rows, gap)

    @property
    def places(self) -> Sequence[Place]:
        """The watched folders, each with a watcher, made when they are first needed."""
        if not self._places:
            self._places = [self._place(folder) for folder in self.settings.watch.folders]
        return tuple(self._places)

    @property
    def quiet(self) -> bool:
        """True once all that is in the folders was taken in."""
        return all(place.quiet for place in self.places)

    def new_place(self, instead_of: Place) -> Place:
        """The same folder, looked at anew."""
        new = self._place(instead_of.folder)
        self._places[self._places.index(instead_of)] = new
        return new

    def close(self) -> None:
        """Let go of threads, files and memory."""
        for place in self._places:
            place.close()
        self.intake.close()
        self.pipeline.close()
        self.patience.close()
        self.features.close()
        self.log.close()

    def rests(self, work: str) -> str | None:
        """Why a kind of work rests now, in words; None if it need not."""
        self.disk.look()
        return self.rest.words(work)

    def watch_step(self) -> bool:
        """Find settled files and take them in. True if there is more to do at once."""
        if self.rests(INTAKE):
            return False
        busy = [place.step() for place in self.places]
        return any(busy)

    def classify_step(self) -> bool:
        """Classify or re-score. True if there may be more to do at once."""
        if self.rests(CLASSIFY):
            return False
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
            self.settings.disk.warn_mb * MEGABYTE,
            frame_reader(tuple(self.settings.watch.folders)).read,
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

    def _place(self, folder: Path) -> Place:
        return Place(
            folder,
            self.settings.watch,
            self.log,
            self._make_intake,
            self.taken_in.set,
            self._report,
            self._threads_of_place,
        )

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
        missed = gpu_gone(self.log.state(ENGINE_KEY) or {}, options, backbone)
        if missed is not None and missed != self.gpu_problem:
            logger.error("%s", missed)
        self._tell_engine(backbone, options, missed)
        if isinstance(backbone, WithSpare):
            backbone.on_lost = lambda reason: self._tell_engine(backbone, options, reason)
        return backbone

    def _tell_engine(
        self, backbone: Backbone, options: BackboneOptions, lost: str | None = None
    ) -> None:
        self.gpu_problem = lost
        facts = engine_facts(backbone, options) | {"gpu_lost": lost}
        self.log.put_state(ENGINE_KEY, facts, self.clock())

    def _report(self, folder: Path, facts: dict[str, object]) -> None:
        self._reports[folder] = facts
        self.log.put_state("watch", merged(self._reports.copy()), self.clock())
