"""The maps that fine-tuning learns from: each image as it is, and in views that mean the same."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from monitor.images.decode import DecodeRules, ImageRejected, decode
from monitor.images.frame_reader import ReadFrame
from monitor.log.media import PendingMedia
from monitor.model.backbone import MapBackbone
from monitor.system.reading import read_verified
from monitor.training.feature_maps import MapStore

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]
Ints = npt.NDArray[np.int64]
MapName = Literal["block3_pool", "block4_pool"]

AS_IT_IS, MIRRORED = 0, 1
MOST_VIEWS = 4
SMALLEST_CROP = 0.75
"""Of the side; smaller ones may cut the animal away."""
BRIGHTER = 20.0  # grey levels, up or down
STRONGER = 0.2  # of the contrast, up or down
GREY_SHARE = 0.25
"""Of the changed views: day frames as the infrared lamp would show them."""
READ_AHEAD = 32


def view_of(pixels: Pixels, view: int, sha256: str) -> Pixels:
    """One view of an image, always the same for the same image and number.

    0 is the image itself, 1 its mirror image, all others a part of it, mirrored or not, lighter or
    darker, now and then grey.

    Args:
        pixels: uint8 (side, side, 3), RGB.
    """
    if view == AS_IT_IS:
        return pixels
    if view == MIRRORED:
        return np.ascontiguousarray(pixels[:, ::-1])
    rng = np.random.default_rng((view, int(sha256[:15], 16)))
    side = pixels.shape[0]
    length = side * rng.uniform(SMALLEST_CROP, 1.0)
    left, top = rng.uniform(0, side - length, 2)
    box = (left, top, left + length, top + length)
    part = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC, box)
    values = np.asarray(part, np.float32)
    if rng.random() < GREY_SHARE:
        values = np.broadcast_to(values.mean(axis=2, keepdims=True), values.shape)
    contrast = 1 + rng.uniform(-STRONGER, STRONGER)
    changed = (values - 128) * contrast + 128 + rng.uniform(-BRIGHTER, BRIGHTER)
    if rng.random() < 0.5:
        changed = changed[:, ::-1]
    made: Pixels = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
    return made


@dataclass(frozen=True, slots=True)
class Wanted:
    """A media and the views of it that are needed."""

    media: PendingMedia
    views: tuple[int, ...]


def fill_maps(
    store: MapStore,
    wanted: Sequence[Wanted],
    backbone: MapBackbone,
    layer: MapName,
    rules: DecodeRules,
    on_done: Callable[[int], None],
    read: ReadFrame = read_verified,
) -> None:
    """Compute the maps that the store lacks; media that cannot be read are left out.

    Args:
        on_done: told how many of `wanted` have been gone through.
        read: how a file is read.
    """
    missing = [
        Wanted(one.media, views)
        for one in wanted
        if (views := tuple(v for v in one.views if (one.media.sha256, v) not in store))
    ]
    done = len(wanted) - len(missing)
    on_done(done)
    for one, pixels in _decoded(missing, rules, read):
        done += 1
        if pixels is not None:
            sha = one.media.sha256
            images = np.stack([view_of(pixels, view, sha) for view in one.views])
            vectors, maps = backbone.features_and_maps(images, layer)
            for view, vector, layer_map in zip(one.views, vectors, maps, strict=True):
                store.put((sha, view), vector, layer_map)
        on_done(done)


def _decoded(
    wanted: Sequence[Wanted], rules: DecodeRules, read: ReadFrame
) -> Iterator[tuple[Wanted, Pixels | None]]:
    """Read and decode on one more thread, a few images ahead of whoever takes them."""
    with ThreadPoolExecutor(1, thread_name_prefix="views") as pool:
        futures = ((one, pool.submit(_pixels, one.media, rules, read)) for one in wanted)
        ahead = deque(islice(futures, READ_AHEAD))
        while ahead:
            one, future = ahead.popleft()
            ahead.extend(islice(futures, 1))
            yield one, future.result()


def _pixels(media: PendingMedia, rules: DecodeRules, read: ReadFrame) -> Pixels | None:
    data = read(media.paths, media.sha256)
    if data is None:
        return None
    try:
        return decode(data, rules)
    except ImageRejected:
        return None


@dataclass(frozen=True, slots=True)
class StoredMaps:
    """Rows of a training or of the held-out side in the store. A `finetune.MapSource`.

    Attributes:
        before: how many numbers at the start of a vector the tuned blocks do not make.
        views: of each row.
    """

    store: MapStore
    sha256s: tuple[str, ...]
    before: int
    views: int

    def get(self, rows: Ints, views: Ints) -> tuple[Floats, Halves]:
        """See finetune.MapSource.get."""
        keys = [(self.sha256s[r], v) for r, v in zip(rows.tolist(), views.tolist(), strict=True)]
        vectors, maps = self.store.get(keys)
        return vectors[:, : self.before], maps
