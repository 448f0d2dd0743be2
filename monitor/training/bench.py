"""What a fine-tuning works with: the network without a tail, and maps of all media of its plan."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from monitor.backbone import BackboneOptions, MapBackbone, layout_of, open_backbone
from monitor.backbone.tail import MAP_SHAPES, Tail
from monitor.config import Training
from monitor.domain import TrapwatchError
from monitor.feature_maps import FOLDER, MapStore
from monitor.imaging import DecodeRules
from monitor.log.features import FeatureStore
from monitor.log.media import PendingMedia
from monitor.training.dataset import Plan
from monitor.training.views import AS_IT_IS, MOST_VIEWS, MapName, Wanted, fill_maps

LAYERS: dict[int, MapName] = {4: "block3_pool", 5: "block4_pool"}
"""The map that goes into a block."""
TRIED = 16
"""Media whose maps are timed before all others, to tell whether the time suffices."""
EPOCH_WORK = {4: 1.2, 5: 0.3}
"""Time of an epoch against one whole pass of all its images: three times (there, back, and once
more for the weights) 39 % and 9 % of VGG16's multiplications."""


class NotTuned(TrapwatchError):
    """Fine-tuning makes no sense here, or not now; the message says why."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a fine-tuning works with.

    Attributes:
        options: of the backbone, without a tail.
        folder: for the map cache and the checkpoint.
        features_with: the feature cache of the network with a tail.
        media: ids -> where their files are.
    """

    options: BackboneOptions
    rules: DecodeRules
    training: Training
    folder: Path
    features_with: Callable[[Tail], FeatureStore]
    media: Callable[[Sequence[int]], Sequence[PendingMedia]]

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
    most = bench.training.map_cache_mb * 1024 * 1024
    return MapStore(bench.folder / FOLDER / name, size, MAP_SHAPES[block], most)


def views_of(store: MapStore, train: int, held_out: int) -> int:
    """How many views of each image of the training side the cache has room for."""
    views = min(MOST_VIEWS, (store.capacity - held_out) // max(train, 1))
    if views < 1:
        raise NotTuned(
            f"the maps of {train + held_out} media do not fit into training.map_cache_mb, which "
            f"has room for {store.capacity}"
        )
    return views


def fill(
    bench: Bench,
    plan: Plan,
    store: MapStore,
    views: int,
    ends_at: float,
    report: Callable[[float], None],
) -> None:
    """The maps of all media of the plan: of the held-out side as they are."""
    places = {one.media_id: one for one in bench.media([m.media_id for m in plan.media])}
    several = tuple(range(views))
    wanted = [Wanted(places[m.media_id], several) for m in plan.train if m.media_id in places]
    wanted += [
        Wanted(places[m.media_id], (AS_IT_IS,)) for m in plan.held_out if m.media_id in places
    ]
    missing = [w for w in wanted if any((w.media.sha256, v) not in store for v in w.views)]
    if not missing:  # as where a killed training goes on: no network is needed
        return
    layer = LAYERS[bench.first_block]
    backbone = cast(MapBackbone, open_backbone(bench.options))
    try:
        started, count = time.monotonic(), sum(len(w.views) for w in missing[:TRIED])
        fill_maps(store, missing[:TRIED], backbone, layer, bench.rules, lambda n: None)
        each = (time.monotonic() - started) / count
        _must_suffice(bench.training, each, missing, len(plan.train), ends_at)
        total = max(len(wanted), 1)
        fill_maps(
            store,
            wanted,
            backbone,
            layer,
            bench.rules,
            lambda n: report(n / total),
        )
    finally:
        backbone.close()


def _must_suffice(
    training: Training, each: float, missing: Sequence[Wanted], train: int, ends_at: float
) -> None:
    """Raise NotTuned if the maps and one epoch in three would take longer than there is time.

    Args:
        each: seconds that one image takes through the network.
    """
    maps = each * sum(len(w.views) for w in missing[TRIED:])
    epoch = each * train * EPOCH_WORK[6 - training.tuned_blocks]
    needed = maps + epoch * math.ceil(training.finetune_epochs / 3)
    if time.monotonic() + needed > ends_at:
        raise NotTuned(
            f"fine-tuning would take {needed / 60:.0f} minutes and more on this machine "
            f"({1 / each:.1f} images a second); training.max_minutes is {training.max_minutes:g}"
        )


def must_be_there(plan: Plan, store: MapStore, views: int) -> None:
    """Raise NotTuned if a file went away since its features were taken."""
    keys = [(m.sha256, view) for m in plan.train for view in range(views)]
    keys += [(m.sha256, AS_IT_IS) for m in plan.held_out]
    lost = len({sha for sha, view in keys if (sha, view) not in store})
    if lost:
        raise NotTuned(f"the files of {lost} labelled media cannot be read now")
