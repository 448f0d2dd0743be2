"""What a fine-tuning works with: the network without a tail, and maps of all media of its plan."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from monitor.core.config import Training
from monitor.images.decode import DecodeRules
from monitor.images.frame_reader import ReadFrame
from monitor.log.features import FeatureStore
from monitor.log.media import PendingMedia
from monitor.model.backbone import BackboneOptions, MapBackbone, layout_of, open_backbone
from monitor.model.backbone.tail import MAP_SHAPES, Tail
from monitor.system.reading import read_verified
from monitor.training.augmentation import AS_IT_IS, MOST_VIEWS, MapName, Wanted, fill_maps
from monitor.training.dataset import Plan
from monitor.training.feature_maps import FOLDER, MapStore
from monitor.training.finetune import FEWEST_EPOCHS, NotTuned

LAYERS: dict[int, MapName] = {4: "block3_pool", 5: "block4_pool"}
"""The map that goes into a block."""
TRIED = 16
"""Media whose maps are timed before all others, to tell whether the time suffices."""
EPOCH_WORK = {4: 1.2, 5: 0.3}
"""Time of an epoch against one whole pass of all its images: three times (there, back, and once
more for the weights) 39 % and 9 % of VGG16's multiplications."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a fine-tuning works with.

    Attributes:
        options: of the backbone, without a tail.
        folder: for the map cache and the checkpoint.
        features_with: the feature cache of the network with a tail.
        media: ids -> where their files are.
        spare_bytes: so much of the disk is left free of maps.
        read: how a file is read.
    """

    options: BackboneOptions
    rules: DecodeRules
    training: Training
    folder: Path
    features_with: Callable[[Tail], FeatureStore]
    media: Callable[[Sequence[int]], Sequence[PendingMedia]]
    spare_bytes: int = 0
    read: ReadFrame = read_verified

    @property
    def first_block(self) -> int:
        """The block from which on the network is tuned."""
        return 6 - self.training.tuned_blocks


def open_maps(bench: Bench, layout: str) -> MapStore:
    """The cache of the maps that go into the tuned blocks.

    Args:
        layout: name of that of the network without a tail: other weights have other maps.
    """
    block, size = bench.first_block, layout_of(bench.options.backbone).size
    name = f"{layout.replace('/', '-')}-{LAYERS[block]}.maps"
    path = bench.folder / FOLDER / name
    there = path.stat().st_size if path.is_file() else 0
    room = shutil.disk_usage(bench.folder).free - bench.spare_bytes
    most = min(bench.training.map_cache_mb * 1024 * 1024, there + max(0, room))
    return MapStore(path, size, MAP_SHAPES[block], most)


def fill(
    bench: Bench,
    plan: Plan,
    store: MapStore,
    ends_at: float,
    report: Callable[[float], None],
) -> int:
    """The maps of all media of the plan; of the held-out side as they are.

    Returns:
        In how many views those of the training side are there: as many as there is room and time
        for.

    Raises:
        NotTuned: there is no room, or no time.
    """
    try:
        return _filled(bench, plan, store, ends_at, report)
    except OSError as error:
        raise NotTuned(f"{store.path} cannot be written: {error.strerror or error}") from error


def _filled(
    bench: Bench,
    plan: Plan,
    store: MapStore,
    ends_at: float,
    report: Callable[[float], None],
) -> int:
    most = _most_views(store, len(plan.train), len(plan.held_out))
    places = {one.media_id: one for one in bench.media([m.media_id for m in plan.media])}

    def wanted(views: int) -> list[Wanted]:
        train = [m.media_id for m in plan.train if m.media_id in places]
        held_out = [m.media_id for m in plan.held_out if m.media_id in places]
        return [Wanted(places[one], tuple(range(views))) for one in train] + [
            Wanted(places[one], (AS_IT_IS,)) for one in held_out
        ]

    def missing(views: int) -> list[Wanted]:
        return [w for w in wanted(views) if any((w.media.sha256, v) not in store for v in w.views)]

    lacking = missing(most)
    if not lacking:  # as where a killed training goes on: no network is needed
        return most
    layer = LAYERS[bench.first_block]
    backbone = cast(MapBackbone, open_backbone(bench.options))
    try:
        tried, started = lacking[:TRIED], time.monotonic()
        fill_maps(store, tried, backbone, layer, bench.rules, lambda n: None, bench.read)
        each = (time.monotonic() - started) / sum(len(one.views) for one in tried)
        counts = [sum(len(one.views) for one in missing(v)) for v in range(1, most + 1)]
        views = views_in_time(bench.training, each, counts, len(plan.train), ends_at)
        total = len(plan.media)
        fill_maps(
            store,
            wanted(views),
            backbone,
            layer,
            bench.rules,
            lambda n: report(n / total),
            bench.read,
        )
        return views
    finally:
        backbone.close()


def _most_views(store: MapStore, train: int, held_out: int) -> int:
    """How many views of each image of the training side the cache has room for."""
    views = min(MOST_VIEWS, (store.capacity - held_out) // max(train, 1))
    if views < 1:
        raise NotTuned(
            f"the maps of {train + held_out} media do not fit into training.map_cache_mb and what "
            f"the disk can spare: there is room for {store.capacity}"
        )
    return views


def views_in_time(
    training: Training, each: float, missing: Sequence[int], train: int, ends_at: float
) -> int:
    """The most views whose maps leave time for half of the epochs; one may leave it for fewer.

    Args:
        each: seconds that one image takes through the network.
        missing: how many maps of one view, of two, ... are to be computed.

    Raises:
        NotTuned: there is no time for one view and the fewest epochs.
    """
    epoch, left = each * train * EPOCH_WORK[6 - training.tuned_blocks], ends_at - time.monotonic()
    for views in range(len(missing), 1, -1):
        if each * missing[views - 1] + epoch * training.finetune_epochs / 2 <= left:
            return views
    needed = each * missing[0] + epoch * FEWEST_EPOCHS
    if needed <= left:
        return 1
    raise NotTuned(
        f"fine-tuning would take {needed / 60:.0f} minutes and more on this machine "
        f"({1 / each:.1f} images a second); training.max_minutes is {training.max_minutes:g}"
        + ("; training.tuned_blocks: 1 takes a quarter" if training.tuned_blocks > 1 else "")
    )


def must_be_there(plan: Plan, store: MapStore, views: int) -> None:
    """Raise NotTuned if a file went away since its features were taken."""
    keys = [(m.sha256, view) for m in plan.train for view in range(views)]
    keys += [(m.sha256, AS_IT_IS) for m in plan.held_out]
    lost = len({sha for sha, view in keys if (sha, view) not in store})
    if lost:
        raise NotTuned(f"the files of {lost} labelled media cannot be read now")
