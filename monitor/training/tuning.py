"""One fine-tuning, from labelled media to a tail and its head: maps, epochs, features, checks."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from monitor.log.features import as_kept
from monitor.log.learning import LabelledMedia
from monitor.model.backbone import BackboneOptions, MapBackbone, layout_of, open_backbone
from monitor.model.backbone.architectures import architecture_of
from monitor.model.backbone.keras_runtime import open_runtime
from monitor.model.backbone.quiet import native_noise_held_back
from monitor.model.backbone.tail import Tail, frozen_length
from monitor.model.backbone.weights import load_weights
from monitor.model.head import softmax
from monitor.training.augmentation import AS_IT_IS, StoredMaps
from monitor.training.bench import TRIED, Bench, fill, must_be_there, open_maps
from monitor.training.checkpoint import Checkpoint
from monitor.training.dataset import Dataset, Plan, build_dataset
from monitor.training.feature_maps import MapStore
from monitor.training.finetune import Course, Lesson, NotTuned, Tuned, fine_tune
from monitor.training.folds import make_folds
from monitor.training.head import (
    FittedHead,
    balanced_weights,
    calibrated,
    fit_on,
    samples_of,
)

Floats = npt.NDArray[np.float32]
Progress = Callable[[str, float], None]

TENTHS = 10
"""One part in so many is not learnt from, and calibrates what comes out."""
SHARE_OF_MAPS = 0.4


@dataclass(frozen=True, slots=True, eq=False)
class TunedHead:
    """A fine-tuned version: its tail, its head, and the data in its own features.

    Attributes:
        history: one row an epoch.
    """

    tail: Tail
    fitted: FittedHead
    dataset: Dataset
    history: tuple[dict[str, float], ...]


def prepare(options: BackboneOptions) -> None:
    """Let Keras use all threads in one operation, and start it: once lanes have set it up for
    operations of one thread each, it cannot be changed any more."""
    open_runtime(options.device, options.threads)
    import keras

    with native_noise_held_back():  # of halves, once
        halves = keras.Input((1,), dtype="float16")
        keras.Model(halves, keras.ops.cast(halves, "float32")).predict_on_batch(
            np.zeros((1, 1), np.float16)
        )


def tune(
    bench: Bench, plan: Plan, dataset: Dataset, warm: FittedHead, progress: Progress
) -> TunedHead:
    """Fine-tune from a warm head.

    Args:
        plan: whose media `dataset` holds, in the same order.
        dataset: in the features of the network without a tail.
        warm: fitted on `dataset`.
        progress: told a stage and how much of it all is done (0-1).

    Raises:
        NotTuned: the time, the map cache or the labels do not suffice.
        BackboneError: the network cannot be opened.
    """
    ends_at = time.monotonic() + 60 * bench.training.max_minutes
    store = open_maps(bench, warm.head.layout)
    try:
        views = fill(
            bench, plan, store, ends_at, lambda done: progress("maps", SHARE_OF_MAPS * done)
        )
        must_be_there(plan, store, views)
        return _tune(bench, plan, dataset, warm, store, views, ends_at, progress)
    finally:
        store.close()


def _tune(
    bench: Bench,
    plan: Plan,
    dataset: Dataset,
    warm: FittedHead,
    store: MapStore,
    views: int,
    ends_at: float,
    progress: Progress,
) -> TunedHead:
    network = architecture_of(bench.options.backbone)
    layout = layout_of(bench.options.backbone)
    samples = samples_of(dataset.train, dataset.classes)
    aside = set_aside(make_folds(dataset.train, bench.training.seed, TENTHS) == 0, samples.y)
    start = fit_on(dataset, ~aside, warm)  # it must not have seen what is set aside
    weights = balanced_weights(samples.y, len(dataset.classes), warm.shares)
    source = StoredMaps(
        store, tuple(m.sha256 for m in plan.train), frozen_length(layout, bench.first_block), views
    )
    course = Course(
        bench.first_block,
        bench.training.finetune_epochs,
        bench.training.seed,
        warm.strength * layout.size,
        bench.options.device,
        bench.options.threads,
        ends_at,
    )
    checkpoint = Checkpoint(bench.folder / "finetune.safetensors", _fingerprint(plan, course, warm))
    options = bench.options
    arrays = load_weights(
        network, options.weights, options.weights_cache, download=options.allow_download
    )

    def report(stage: str, done: float) -> None:
        progress(stage, SHARE_OF_MAPS + (1 - SHARE_OF_MAPS) * done)

    lesson = Lesson(source, samples.y, weights, aside)
    tuned = fine_tune(
        network,
        arrays,
        start,
        lesson,
        course,
        checkpoint.keep,
        checkpoint.load(),
        report,
    )
    tail = Tail.of(network.name, tuned.arrays)
    vectors = _features(bench, tail, store, plan.media)
    made = build_dataset(plan, vectors, layout.size)
    checkpoint.drop()
    started = replace(warm, head=start)
    fitted = _fitted(tuned, started, dataset, samples.y, aside, tail.name_on(warm.head.layout))
    return TunedHead(tail, fitted, made, tuned.history)


def set_aside(tenth: npt.NDArray[np.bool_], y: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """What may be set aside of a tenth: a species that would have no label left is learnt instead.

    Args:
        tenth: bool (n,).
        y: int64 (n,), classes.

    Raises:
        NotTuned: nothing is left to be set aside.
    """
    aside = tenth & np.isin(y, y[~tenth])
    if not aside.any():
        raise NotTuned("of each species all labels come from one event: nothing can be set aside")
    return aside


def _fitted(
    tuned: Tuned,
    warm: FittedHead,
    dataset: Dataset,
    y: npt.NDArray[np.int64],
    aside: npt.NDArray[np.bool_],
    layout: str,
) -> FittedHead:
    """The head with a temperature from the rows that were not learnt from."""
    temperature, nll = 1.0, None
    judged = aside & warm.judged
    spoken = np.zeros((len(aside), len(dataset.classes)), np.float32)
    if judged.any():
        logits = tuned.logits[judged[aside]]
        temperature, nll = calibrated(logits, y[judged])
        spoken[judged] = softmax(logits / np.float32(temperature))
    head = replace(
        warm.head, weights=tuned.weights, bias=tuned.bias, temperature=temperature, layout=layout
    )
    return replace(warm, head=head, aside=spoken, judged=judged, aside_nll=nll, engine=tuned.engine)


def _features(
    bench: Bench, tail: Tail, store: MapStore, media: Sequence[LabelledMedia]
) -> dict[str, Floats]:
    """Features of the tuned network as the service computes them, kept in the cache."""
    found: dict[str, Floats] = {}
    backbone = cast(MapBackbone, open_backbone(replace(bench.options, tail=tail)))
    kept = bench.features_with(tail)
    try:
        for start in range(0, len(media), TRIED):
            part = [m.sha256 for m in media[start : start + TRIED]]
            vectors, maps = store.get([(sha, AS_IT_IS) for sha in part])
            made = backbone.features_from_maps(maps, vectors)
            found |= dict(zip(part, made, strict=True))
        kept.keep(list(found.items()))
        return {sha: as_kept(vector) for sha, vector in found.items()}
    finally:
        backbone.close()


def _fingerprint(plan: Plan, course: Course, warm: FittedHead) -> str:
    """Names the course and what is learnt from: it goes on only where nothing has changed."""
    said = [[m.sha256, m.species, m.event_id] for m in plan.train]
    parts = [said, course.first_block, course.epochs, course.seed, warm.head.layout, warm.strength]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
